"""InboxService: opens streams, and answers the same log as pages."""

from __future__ import annotations

import time
import uuid

from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import inbox_service_pb2_grpc as inbox_grpc

from server.inbox.index import Reader
from server.inbox.match import Matcher, Selection, uses_providers
from server.inbox.pages import read_events
from server.inbox.providers import load_providers
from server.inbox.ring import Place
from server.inbox.stream import InboxStream, StreamLimits
from server.inbox.streams import Streams
from server.inbox.subscriber import Subscriber
from server.inbox.tail import TenantTail
from server.inbox.tails import Tails
from server.log.cursor import Cursors, Position
from server.rpc.call import Call


class InboxServicer(inbox_grpc.InboxServiceServicer):
    """streams: the process's admission; the composition root drains it when the process stops."""

    def __init__(self, tails: Tails, cursors: Cursors, streams: Streams, *, limits: StreamLimits | None = None) -> None:
        self._tails = tails
        self._cursors = cursors
        self._streams = streams
        self._limits = limits or StreamLimits()

    async def WatchInbox(self, request: inbox.WatchInboxRequest, call: Call) -> None:
        """Writes the stream through the call's context and returns after its end item."""
        position = self._position(request.cursor, call)
        # Before the database is touched, the filter is checked with no channels known.
        Selection(request.filter, request.event_types, agent_id=call.scope.agent_id, providers={})
        with self._streams.admitted(call):
            began = time.monotonic()
            tail = await self._tails.attach(call.tenant_id)
            reader = Reader(_nobody_waits)
            tail.subscribe(reader, frozenset(), None)
            try:
                await tail.refresh(began)
                stream = await self._open(request, call, tail, reader, position)
                with self._streams.running(stream):
                    await stream.run()
            finally:
                tail.unsubscribe(reader)
                self._tails.detached(tail)

    async def ListInboxEvents(self, request: inbox.ListInboxEventsRequest, call: Call) -> inbox.ListInboxEventsResponse:
        """One page of what a stream from the same position would show."""
        position = self._position(request.cursor, call)
        providers: dict[uuid.UUID, int] = {}
        selection = Selection(request.filter, request.event_types, agent_id=call.scope.agent_id, providers=providers)
        if uses_providers(request.filter):
            async with call.database.connection() as connection:
                await load_providers(connection, providers)
        return await read_events(
            call=call,
            position=position,
            earliest=request.start == inbox.WATCH_START_EARLIEST,
            selection=selection,
            page_size_asked=request.page_size,
            cursors=self._cursors,
            rights=self._tails.rights,
        )

    def _position(self, cursor: str, call: Call) -> Position | None:
        return self._cursors.decode(call.tenant_id, cursor) if cursor else None

    async def _open(
        self,
        request: inbox.WatchInboxRequest,
        call: Call,
        tail: TenantTail,
        reader: Reader,
        position: Position | None,
    ) -> InboxStream:
        # The rights are read after the tail was seen at the head: a change beyond is met in the log, one before is known.
        start = await place_of(tail, position, earliest=request.start == inbox.WATCH_START_EARLIEST)
        verified = await self._tails.rights.renew(call.verified)
        selection = Selection(
            request.filter, request.event_types, agent_id=call.scope.agent_id, providers=tail.providers
        )
        matcher = Matcher(selection, verified.scope)
        asked = request.bookmark_interval.ToTimedelta() if request.HasField("bookmark_interval") else None
        return InboxStream(
            call=call,
            verified=verified,
            tail=tail,
            reader=reader,
            subscriber=Subscriber(start, matcher, principal_id=call.caller.id),
            selection=selection,
            rights=self._tails.rights,
            metrics=self._tails.metrics,
            limits=self._limits,
            bookmark_interval=asked or self._limits.bookmark_interval,
            freshness=self._tails.pace().freshness,
        )


def _nobody_waits() -> None:
    """The wake of a reader whose stream is not open yet."""


async def place_of(tail: TenantTail, position: Position | None, *, earliest: bool) -> Place:
    """Where a stream starts. CursorDiverged, CursorExpired, DatabaseUnavailable."""
    if position is not None:
        head, event_id = await tail.place(position.seq)
        position.check(head, event_id)
        return Place(position.seq, event_id)
    seq = tail.floor - 1 if earliest else tail.ready
    _, event_id = await tail.place(seq)
    return Place(seq, event_id)
