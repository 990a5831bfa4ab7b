"""ListInboxEvents: the log as pages, under the same rules as the stream."""

from __future__ import annotations

from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox.match import Matcher, Selection
from server.inbox.rights import Rights
from server.inbox.ring import Place
from server.inbox.subscriber import Subscriber
from server.inbox.wire import Encoder, Outgoing
from server.log.cursor import CursorDiverged, Cursors, HeadRow, Position
from server.log.read import PAGE_EVENTS, read_page, read_place
from server.rpc.call import Call
from server.rpc.paging import MAX_BYTES, page_size

SCANNED_MOST = 4000


async def read_events(
    *,
    call: Call,
    position: Position | None,
    earliest: bool,
    selection: Selection,
    page_size_asked: int,
    cursors: Cursors,
    rights: Rights,
) -> inbox.ListInboxEventsResponse:
    """A page of whole transactions; one that is larger than the page is continued on the next, as last_of_transaction says.

    A page may be short, even empty, and still not be the last: at most 4,000 events are examined for it.
    """
    head, start = await _start(call, position, earliest=earliest)
    size = page_size(page_size_asked)
    encoder = Encoder(cursors, call.tenant_id, head.epoch)
    subscriber = Subscriber(
        start,
        Matcher(selection, call.scope),
        principal_id=None,
        most_events=size,
        most_bytes=MAX_BYTES,
    )
    # Without a filter the first read is all that is needed.
    limit, full = size, False
    while not full and subscriber.position.seq < head.head:
        if subscriber.at_boundary and subscriber.position.seq - start.seq >= SCANNED_MOST:
            break
        async with call.database.connection() as connection:
            page = await read_page(connection, after=subscriber.position.seq, limit=limit)
        if page.head.epoch != head.epoch:
            raise CursorDiverged()
        # The rights are read after the events: none of them is shown under rights that were gone before it.
        rights.invalidate(call.tenant_id)
        subscriber.matcher = Matcher(selection, (await rights.renew(call.verified)).scope)
        head, limit = page.head, PAGE_EVENTS
        full = subscriber.take([Outgoing(event, encoder) for event in page.events]) < len(page.events)
    result = inbox.ListInboxEventsResponse.FromString(subscriber.batch())
    result.next_cursor = encoder.cursor(subscriber.position.seq, subscriber.position.event_id)
    result.head = head.head
    return result


async def _start(call: Call, position: Position | None, *, earliest: bool) -> tuple[HeadRow, Place]:
    async with call.database.connection() as connection:
        if position is not None:
            head, event_id = await read_place(connection, position.seq)
            position.check(head, event_id)
            return head, Place(position.seq, event_id)
        head, event_id = await read_place(connection, 0)
        if not earliest:
            return head, Place(head.head, head.head_event_id)
        head, event_id = await read_place(connection, head.floor - 1)
    return head, Place(head.floor - 1, event_id)
