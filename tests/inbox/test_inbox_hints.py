"""Hints make the stream quick. Without them, or with wrong ones, it is slower and still complete."""

import asyncio
import random
import socket
import time
from contextlib import AsyncExitStack
from datetime import timedelta

from server.inbox.tail import Pace
from server.log.append import Appended
from server.log.cursor import fingerprint
from server.log.hints import PREFIX, READ
from tests.inbox.conftest import FAST, StartProcess
from tests.inbox.inbox_bench import Process, Tenant, Valkey

LAZY = Pace(verify=30, poll=0.1, freshness=10)


async def healthy(*processes: Process) -> None:
    async with asyncio.timeout(30):
        while not all(process.hints.healthy for process in processes):
            await asyncio.sleep(0.02)


async def test_a_commit_is_shown_at_once_by_the_process_itself_and_by_others_after_a_hint(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    writer = await start(tenant, valkey_url=shared_valkey.url, pace=LAZY)
    reader = await start(tenant, valkey_url=shared_valkey.url, pace=LAZY)
    written = writer.writes(tenant)
    async with (
        writer.watch(writer.credentials.key(tenant)) as here,
        reader.watch(reader.credentials.key(tenant)) as there,
    ):
        await here.control("caught_up")
        await there.control("caught_up")
        await healthy(writer, reader)
        for seq in range(1, 21):
            await written.say()
            await here.to_seq(seq, within=15)
            await there.to_seq(seq, within=15)
    assert here.seqs == there.seqs == list(range(1, 21))
    assert reader.value(reader.metrics.repairs) == 0


async def test_lost_hints_are_found_by_verification_and_counted(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    reader = await start(tenant, valkey_url=shared_valkey.url, pace=Pace(verify=0.7, poll=0.05, freshness=2))
    async with reader.watch(reader.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await healthy(reader)
        await tenant.say(count=3)
        await watcher.to_seq(3)
        async with asyncio.timeout(30):
            while reader.value(reader.metrics.repairs) == 0:
                await asyncio.sleep(0.05)
        # A process that was told nothing polls for a while.
        assert reader.tails._tails[tenant.id]._degraded_until > time.monotonic()
        await tenant.say()
        await watcher.to_seq(4)


async def test_wrong_hints_change_nothing(start: StartProcess, tenant: Tenant, shared_valkey: Valkey) -> None:
    reader = await start(tenant, valkey_url=shared_valkey.url, pace=FAST)
    chance = random.Random(7)
    async with reader.watch(reader.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await healthy(reader)
        with socket.create_connection(("127.0.0.1", shared_valkey.port)) as raw:
            for number in range(200):
                head = (await tenant.say(count=chance.choice((1, 3)))).new_head if number % 4 == 0 else number
                # Lost, repeated, late, of a head that is not there yet.
                for new_head in chance.choices((head, head, head - 5, head + 1000), k=chance.randrange(4)):
                    raw.sendall(f"PUBLISH {PREFIX}{tenant.id} 1:{new_head - 1}:{new_head}\r\n".encode())
        head = await tenant.value("SELECT head FROM stream_head")
        await watcher.to_seq(head)
        bookmark = await watcher.control("bookmark")
    assert watcher.seqs == list(range(1, head + 1))
    assert bookmark.head == head
    assert reader.value(reader.metrics.violations) == 0


async def test_a_false_hint_far_ahead_does_not_hide_that_hints_are_lost(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    reader = await start(tenant, valkey_url=shared_valkey.url, pace=Pace(verify=0.7, poll=0.05, freshness=2))
    async with reader.watch(reader.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await healthy(reader)
        with socket.create_connection(("127.0.0.1", shared_valkey.port)) as raw:
            raw.sendall(f"PUBLISH {PREFIX}{tenant.id} 1:0:1000000\r\n".encode())
            assert raw.recv(64)
        await asyncio.sleep(0.1)
        await tenant.say()
        await watcher.to_seq(1)
        async with asyncio.timeout(30):
            while reader.value(reader.metrics.repairs) == 0:
                await asyncio.sleep(0.05)


async def test_what_one_process_finds_by_verification_the_others_hear_of(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    quick = await start(tenant, valkey_url=shared_valkey.url, pace=Pace(verify=0.3, poll=0.05, freshness=10))
    lazy = await start(tenant, valkey_url=shared_valkey.url, pace=Pace(verify=30, poll=30, freshness=10))
    async with quick.watch(quick.credentials.key(tenant)) as here, lazy.watch(lazy.credentials.key(tenant)) as there:
        await here.control("caught_up")
        await there.control("caught_up")
        await healthy(quick, lazy)
        await tenant.say(count=2)
        await here.to_seq(2)
        await there.to_seq(2, within=15)
    assert there.seqs == [1, 2]


async def test_processes_verify_an_idle_tenant_together(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    pace = Pace(verify=0.5, poll=0.05, freshness=10)
    processes = [await start(tenant, valkey_url=shared_valkey.url, pace=pace) for _ in range(4)]
    async with AsyncExitStack() as stack:
        for process in processes:
            watcher = await stack.enter_async_context(process.watch(process.credentials.key(tenant)))
            await watcher.control("caught_up")
        await healthy(*processes)
        await asyncio.sleep(0.5)
        before = [process.value(process.metrics.reads) for process in processes]
        await asyncio.sleep(3)
        reads = [process.value(process.metrics.reads) - was for process, was in zip(processes, before, strict=True)]
    # Alone, each would read six times; now and then two find it due in the same moment.
    assert 3 <= sum(reads) <= 16, reads


async def test_a_log_said_to_be_unchanged_is_read_before_bookmarks_would_be_too_old(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    reader = await start(tenant, valkey_url=shared_valkey.url, pace=Pace(verify=0.5, poll=0.05, freshness=1.5))
    async with reader.watch(reader.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await healthy(reader)
        first = await tenant.say()
        await watcher.to_seq(1)
        said = asyncio.create_task(say_unchanged(shared_valkey, tenant, first))
        # Out of the time in which a process polls that was not told of an event.
        reader.tails._tails[tenant.id]._degraded_until = 0.0
        await asyncio.sleep(0.5)
        await tenant.say()
        await watcher.to_seq(2)
        said.cancel()


async def say_unchanged(valkey: Valkey, tenant: Tenant, last: Appended) -> None:
    """Again and again, whatever is true."""
    mark = int.from_bytes(fingerprint(last.epoch, last.new_head, last.new[-1].id), "big")
    with socket.create_connection(("127.0.0.1", valkey.port)) as raw:
        while True:
            raw.sendall(f"PUBLISH {PREFIX}{tenant.id} {READ}:{last.new_head}:{mark}\r\n".encode())
            await asyncio.sleep(0.05)


async def test_a_tenant_that_nobody_watches_any_more_is_not_read(
    start: StartProcess, tenant: Tenant, shared_valkey: Valkey
) -> None:
    process = await start(
        tenant, valkey_url=shared_valkey.url, pace=Pace(verify=0.05, poll=0.05), linger=timedelta(minutes=1)
    )
    key = process.credentials.key(tenant)
    async with process.watch(key) as watcher:
        await watcher.control("caught_up")
    async with asyncio.timeout(30):
        while process.value(process.metrics.open) > 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    before = process.value(process.metrics.reads)
    await asyncio.sleep(0.5)
    assert process.value(process.metrics.reads) == before
    await tenant.say()
    async with process.watch(key) as watcher:
        await watcher.control("caught_up")
        await tenant.say()
        await watcher.to_seq(2)


async def test_streams_go_on_while_valkey_is_away_and_after_it_came_back(
    start: StartProcess, tenant: Tenant, valkey: Valkey
) -> None:
    pace = Pace(verify=3, poll=0.1, freshness=6)
    writer = await start(tenant, valkey_url=valkey.url, pace=pace)
    reader = await start(tenant, valkey_url=valkey.url, pace=pace)
    written = writer.writes(tenant)
    async with reader.watch(reader.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await healthy(reader, writer)
        await written.say()
        await watcher.to_seq(1)
        valkey.kill()
        for _ in range(30):
            await written.say()
            await asyncio.sleep(0.02)
        await watcher.to_seq(31)
        await watcher.control("bookmark")
        valkey.start()
        await healthy(reader, writer)
        await written.say()
        await watcher.to_seq(32)
    assert watcher.seqs == list(range(1, 33))


async def test_a_process_that_never_had_valkey_serves(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, valkey_url="redis://127.0.0.1:1/0")
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await tenant.say(count=2)
        await watcher.to_seq(2)
        await watcher.control("bookmark")


async def test_one_read_starts_the_tail_of_many_streams(start: StartProcess, tenant: Tenant) -> None:
    await tenant.say(count=200)
    process = await start(tenant, per_caller=100)
    key = process.credentials.key(tenant)
    page = await process.page(key, start=1, page_size=50)

    async def watch() -> list[int]:
        async with process.watch(key, cursor=page.next_cursor) as watcher:
            await watcher.control("caught_up", within=10)
            return watcher.seqs

    assert await asyncio.gather(*(watch() for _ in range(40))) == [list(range(51, 201))] * 40
    assert process.value(process.metrics.pages) == 0
