"""Where a stream may begin in a log whose floor has risen: at each edge, live and in pages, exactly what the contract says."""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import pytest
from grpc import StatusCode, aio
from switchboard.v1 import inbox_service_pb2 as inbox

from server.log.cursor import MAX_SEQ
from server.log.retention import keep
from tests.inbox.inbox_bench import Process, Tenant
from tests.inbox.test_inbox_resume import place, reason, refused

HEAD, FLOOR = 20, 12
EXPIRED, DIVERGED = "CURSOR_EXPIRED", "CURSOR_DIVERGED"
# Position after which to go on: what is shown, or the refusal.
EDGES: dict[int, str | range] = {
    0: EXPIRED,
    1: EXPIRED,
    FLOOR - 2: EXPIRED,
    FLOOR - 1: range(FLOOR, HEAD + 1),
    FLOOR: range(FLOOR + 1, HEAD + 1),
    FLOOR + 1: range(FLOOR + 2, HEAD + 1),
    HEAD - 1: range(HEAD, HEAD + 1),
    HEAD: range(0),
    HEAD + 1: DIVERGED,
    HEAD + 10**6: DIVERGED,
    MAX_SEQ: DIVERGED,
}


@dataclass
class Log:
    """A tenant, and the ids of its events, also of those that are gone."""

    tenant: Tenant
    ids: dict[int, uuid.UUID]

    async def cursor(self, process: Process, seq: int) -> str:
        """As a client got it when the event was still there."""
        return await place(self.tenant, process, seq, event_id=self.ids.get(seq))


@pytest.fixture
async def kept(tenant: Tenant) -> Log:
    """Twenty events in transactions of four, of which the oldest eleven are gone."""
    for _ in range(HEAD // 4):
        await tenant.say(count=4)
    ids = await tenant.value("SELECT array_agg(event_id ORDER BY seq) FROM stream_event")
    log = Log(tenant, dict(enumerate(ids, start=1)))
    await tenant.execute("UPDATE stream_event SET create_time = create_time - interval '8 days' WHERE seq < $1", FLOOR)
    assert (await keep(tenant.database, retention=timedelta(days=7))).floor == FLOOR
    return log


@pytest.mark.parametrize("seq", EDGES)
async def test_a_stream_begins_at_each_edge_or_is_refused(process: Process, kept: Log, seq: int) -> None:
    cursor, key, expected = await kept.cursor(process, seq), process.credentials.key(kept.tenant), EDGES[seq]
    if isinstance(expected, str):
        assert await refused(process.watch(key, cursor=cursor)) == (StatusCode.OUT_OF_RANGE, expected)
        return
    async with process.watch(key, cursor=cursor) as watcher:
        await watcher.control("caught_up")
        assert watcher.seqs == list(expected)
        await kept.tenant.say()
        await watcher.to_seq(HEAD + 1)
    assert watcher.seqs == [*expected, HEAD + 1]


@pytest.mark.parametrize("seq", EDGES)
async def test_a_page_begins_at_each_edge_or_is_refused(process: Process, kept: Log, seq: int) -> None:
    cursor, key, expected = await kept.cursor(process, seq), process.credentials.key(kept.tenant), EDGES[seq]
    if isinstance(expected, str):
        with pytest.raises(aio.AioRpcError) as caught:
            await process.page(key, cursor=cursor)
        assert (caught.value.code(), reason(caught.value)) == (StatusCode.OUT_OF_RANGE, expected)
    else:
        assert [event.seq for event in (await process.page(key, cursor=cursor)).events] == list(expected)


async def test_the_earliest_start_is_the_floor(process: Process, kept: Log) -> None:
    key = process.credentials.key(kept.tenant)
    async with process.watch(key, start=inbox.WATCH_START_EARLIEST) as watcher:
        hello = await watcher.control("hello")
        assert (hello.floor, hello.head, hello.retention.seconds) == (FLOOR, HEAD, 7 * 86_400)
        await watcher.control("caught_up")
    assert watcher.seqs == list(range(FLOOR, HEAD + 1))
    page = await process.page(key, start=inbox.WATCH_START_EARLIEST)
    assert [event.seq for event in page.events] == watcher.seqs


async def test_a_log_that_lost_all_its_events_goes_on_from_its_head(process: Process, kept: Log) -> None:
    cursor = await kept.cursor(process, HEAD)
    await kept.tenant.execute("UPDATE stream_event SET create_time = create_time - interval '8 days'")
    assert (await keep(kept.tenant.database)).floor == HEAD + 1
    async with process.watch(process.credentials.key(kept.tenant), cursor=cursor) as watcher:
        await watcher.control("caught_up")
        await kept.tenant.say(count=2)
        await watcher.to_seq(HEAD + 2)
    assert watcher.seqs == [HEAD + 1, HEAD + 2]
