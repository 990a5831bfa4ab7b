"""An event is the same bytes for ever and for everybody: live and replayed, from memory and from the database, as stream and as pages."""

from collections.abc import Iterable

from switchboard.v1 import event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.log.event import Routing
from tests.inbox.conftest import StartProcess
from tests.inbox.inbox_bench import Process, Tenant, Valkey, body

EVENTS = 60


async def commit_some(tenant: Tenant) -> None:
    """Transactions of one to four events, with all kinds of routing, and attributes, which are a map."""
    row = {"id": "1", "attributes": {f"key {number}": number for number in range(20)}}
    for count in (1, 4, 2, 3) * (EVENTS // 10):
        what = body(conversation_updated={"conversation": row, "changed_fields": ["attributes"]})
        before = Routing(channel_id=tenant.channels[0])
        await tenant.commit(*(tenant.event(what, before=before, assignee_id=tenant.id) for _ in range(count)))


def as_bytes(events: Iterable[event_pb2.InboxEvent]) -> list[tuple[int, bytes]]:
    """The client has parsed them, and a map has no order then; apart from that these are the bytes that came."""
    return [(event.seq, event.SerializeToString(deterministic=True)) for event in events]


async def pages(process: Process, key: str, size: int) -> list[event_pb2.InboxEvent]:
    found: list[event_pb2.InboxEvent] = []
    page = await process.page(key, start=inbox.WATCH_START_EARLIEST, page_size=size)
    while page.events:
        found += page.events
        page = await process.page(key, cursor=page.next_cursor, page_size=size)
    return found


async def test_live_and_replayed_from_memory_and_database_in_one_process_and_another(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    writer, other = [await start(tenant, valkey_url=shared_valkey.url) for _ in range(2)]
    key, other_key = writer.credentials.key(tenant), other.credentials.key(tenant)
    async with writer.watch(key) as own, other.watch(other_key) as hinted:
        await own.control("caught_up")
        await hinted.control("caught_up")
        await commit_some(writer.writes(tenant))
        live = [as_bytes((await watcher.to_seq(EVENTS)).events) for watcher in (own, hinted)]
        # From the memory of both, then from a process that has read nothing yet.
        fresh = await start(tenant)
        replayed = []
        for process in (writer, other, fresh):
            credential = process.credentials.key(tenant)
            async with process.watch(credential, start=inbox.WATCH_START_EARLIEST) as again:
                replayed.append(as_bytes((await again.to_seq(EVENTS)).events))
    listed = [as_bytes(await pages(fresh, fresh.credentials.key(tenant), size)) for size in (200, 7)]
    assert [seq for seq, _ in live[0]] == list(range(1, EVENTS + 1))
    for found in (*live, *replayed, *listed):
        assert found == live[0]


async def test_what_a_narrow_stream_shows_is_what_its_pages_show(start: StartProcess, tenant: Tenant) -> None:
    """ENTERED and LEFT too, whose bytes differ from stream to stream, but not between a stream and its pages."""
    process = await start(tenant)
    agent = await tenant.new_agent()
    credential = process.credentials.agent(tenant, agent)
    mine, nobodys = Routing(channel_id=tenant.channels[0], assignee_id=agent), Routing(channel_id=tenant.channels[0])
    writes = process.writes(tenant)
    async with process.watch(credential) as live:
        await live.control("caught_up")
        for before, after in ((nobodys, nobodys), (nobodys, mine), (mine, mine), (mine, nobodys), (nobodys, mine)) * 3:
            event = tenant.event(body(), before=before, assignee_id=after.assignee_id)
            await writes.commit(event, tenant.event(body(), before=nobodys))
        await live.until(lambda watcher: len(watcher.events) == 12)
    assert {event.transition for event in live.events} == {0, 1, 2}
    assert as_bytes(await pages(process, credential, 200)) == as_bytes(live.events)
