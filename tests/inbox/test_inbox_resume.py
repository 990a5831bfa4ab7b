"""Resuming: exact from every cursor, refused by name from everywhere else."""

import asyncio
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from switchboard.v1 import inbox_service_pb2 as inbox

from server.kit.ids import new_id
from server.log.cursor import MAX_SEQ
from tests.inbox.conftest import SLOW, StartProcess
from tests.inbox.inbox_bench import Process, Tenant


async def refused(watching: Any) -> tuple[StatusCode, str]:
    """Code and reason of a stream that is refused before its first item."""
    with pytest.raises(aio.AioRpcError) as caught:
        async with watching as watcher:
            await watcher.next()
    return caught.value.code(), reason(caught.value)


def reason(error: aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    status.details[0].Unpack(info)
    return info.reason


async def place(tenant: Tenant, process: Process, seq: int, *, event_id: Any = None) -> str:
    """A cursor that we would have written at this seq."""
    epoch = await tenant.value("SELECT epoch FROM stream_head")
    event_id = event_id or await tenant.value("SELECT event_id FROM stream_event WHERE seq = $1", seq)
    return process.cursors.encode(tenant.id, epoch, seq, event_id)


async def test_resuming_at_every_cursor_gives_exactly_the_rest(start: StartProcess, tenant: Tenant) -> None:
    first, second = await start(tenant), await start(tenant)
    for count in (1, 3, 2, 5, 1):
        await tenant.say(count=count)
    async with first.watch(first.credentials.key(tenant), start=inbox.WATCH_START_EARLIEST) as watcher:
        caught_up = await watcher.control("caught_up")
        hello = watcher.items[0].hello
    cursors = [hello.cursor, *(event.cursor for event in watcher.events)]
    for seq, cursor in enumerate(cursors):
        async with second.watch(second.credentials.key(tenant), cursor=cursor) as resumed:
            await resumed.control("caught_up")
        assert resumed.seqs == list(range(seq + 1, 13))
        assert [event.id for event in watcher.events[seq:]] == [event.id for event in resumed.events]
    assert caught_up.cursor == cursors[-1]


async def test_resuming_at_the_edges_of_what_is_kept(process: Process, tenant: Tenant) -> None:
    for _ in range(20):
        await tenant.say()
    cursors = {seq: await place(tenant, process, seq) for seq in range(21)}
    await tenant.execute("UPDATE stream_head SET floor = 11")
    await tenant.execute("DELETE FROM stream_event WHERE seq < 11")
    key = process.credentials.key(tenant)
    for seq in (0, 1, 8, 9):
        assert await refused(process.watch(key, cursor=cursors[seq])) == (StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    for seq in (10, 11, 12, 19, 20):
        async with process.watch(key, cursor=cursors[seq]) as watcher:
            await watcher.control("caught_up")
        assert watcher.seqs == list(range(seq + 1, 21))
    async with process.watch(key, start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.control("caught_up")
    assert watcher.seqs == list(range(11, 21))


@pytest.mark.parametrize("beyond", [1, 10**6, MAX_SEQ - 20])
async def test_a_position_beyond_the_head_has_diverged(process: Process, tenant: Tenant, beyond: int) -> None:
    await tenant.say(count=20)
    cursor = await place(tenant, process, 20 + beyond, event_id=new_id())
    key = process.credentials.key(tenant)
    assert await refused(process.watch(key, cursor=cursor)) == (StatusCode.OUT_OF_RANGE, "CURSOR_DIVERGED")


async def test_a_position_the_tail_has_not_reached_is_looked_for_in_the_database(
    start: StartProcess, tenant: Tenant
) -> None:
    process = await start(tenant, pace=SLOW)
    key = process.credentials.key(tenant)
    async with process.watch(key) as watcher:
        await watcher.control("caught_up")
        await tenant.say(count=3)
        async with process.watch(key, cursor=await place(tenant, process, 3)) as ahead:
            assert (await ahead.control("hello")).head >= 3
            await ahead.control("caught_up")
            assert ahead.seqs == []


async def test_foreign_and_forged_cursors_are_refused(
    start: StartProcess, tenant: Tenant, other_tenant: Tenant
) -> None:
    process = await start(tenant, other_tenant)
    await tenant.say(count=3)
    await other_tenant.say(count=3)
    key = process.credentials.key(tenant)
    foreign, own = await place(other_tenant, process, 2), await place(tenant, process, 2)
    flipped = own[:10] + ("A" if own[10] != "A" else "B") + own[11:]
    assert await refused(process.watch(key, cursor=foreign)) == (StatusCode.INVALID_ARGUMENT, "CURSOR_FOREIGN")
    assert await refused(process.watch(key, cursor=flipped)) == (StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID")
    assert await refused(process.watch(key, cursor="x")) == (StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID")
    with pytest.raises(aio.AioRpcError) as caught:
        await process.page(key, cursor=foreign)
    assert reason(caught.value) == "CURSOR_FOREIGN"


async def test_another_event_at_the_same_number_is_another_log(process: Process, tenant: Tenant) -> None:
    await tenant.say(count=3)
    cursor = await place(tenant, process, 3, event_id=new_id())
    key = process.credentials.key(tenant)
    assert await refused(process.watch(key, cursor=cursor)) == (StatusCode.OUT_OF_RANGE, "CURSOR_DIVERGED")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE stream_head SET epoch = gen_random_uuid()",
        "WITH lost AS (DELETE FROM stream_event WHERE seq > 3)"
        " UPDATE stream_head SET head = 3, head_event_id = (SELECT event_id FROM stream_event WHERE seq = 3)",
        "UPDATE stream_head SET head_event_id = gen_random_uuid()",
    ],
    ids=["restored", "failed over with a loss", "the lost number used again"],
)
async def test_streams_of_a_log_that_was_exchanged_end_and_cannot_resume(
    process: Process, tenant: Tenant, change: str
) -> None:
    await tenant.say(count=5)
    key = process.credentials.key(tenant)
    async with process.watch(key, start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.to_seq(5)
        await tenant.execute(change)
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CURSOR_DIVERGED
    assert end.cursor == ""
    async with process.watch(key) as again:
        await again.control("caught_up")


async def test_retention_that_overtakes_a_catch_up_ends_it(process: Process, tenant: Tenant) -> None:
    for _ in range(4):
        await tenant.say("x" * 3000, count=600)
    key = process.credentials.key(tenant)
    async with process.watch(key, start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.next()
        await tenant.execute("UPDATE stream_head SET floor = 2300")
        # Nothing is read for a moment, so that the server stands within the part that goes.
        await asyncio.sleep(0.3)
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CURSOR_EXPIRED
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))


async def test_catching_up_while_writers_write_meets_the_ring_without_a_gap(
    start: StartProcess, tenant: Tenant
) -> None:
    process = await start(tenant)
    for _ in range(3):
        await tenant.say(count=500)

    async def write() -> None:
        for _ in range(40):
            await tenant.say(count=3)

    writing = asyncio.ensure_future(write())
    async with process.watch(process.credentials.key(tenant), start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.to_seq(1620)
    await writing
    assert watcher.seqs == list(range(1, 1621))


async def test_pages_end_where_the_tail_has_read_so_that_no_change_of_rights_is_passed_unseen(
    start: StartProcess, tenant: Tenant
) -> None:
    process = await start(tenant, pace=SLOW)
    await tenant.say(count=3)
    tail = await process.tails.attach(tenant.id)
    await tenant.say(count=2)
    assert [outgoing.event.seq for outgoing in await tail.page(0)] == [1, 2, 3]
