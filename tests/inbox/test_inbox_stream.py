"""What every stream promises: hello, order, whole transactions, bookmarks that are true."""

import asyncio
import random
from datetime import timedelta

import pytest
from google.protobuf import duration_pb2
from switchboard.v1 import event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from tests.inbox.conftest import StartProcess
from tests.inbox.inbox_bench import Process, Tenant, body


async def test_a_stream_says_hello_then_caught_up_then_what_happens(process: Process, tenant: Tenant) -> None:
    await tenant.say(count=3)
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await tenant.say("a")
        await watcher.to_seq(4)
    assert watcher.controls[:2] == ["hello", "caught_up"]
    assert watcher.seqs == [4]
    event = watcher.events[0]
    assert event.conversation_updated.changed_fields == ["a"]
    assert event.last_of_transaction
    assert event.transition == event_pb2.TRANSITION_UNSPECIFIED
    assert event.create_time.seconds
    assert event.actor.kind == 6
    assert (event.cause.kind, event.cause.id) == (1, "test")
    assert event.conversation_version == 1


async def test_hello_tells_where_the_log_stands_and_what_to_expect(process: Process, tenant: Tenant) -> None:
    await tenant.say(count=3)
    async with process.watch(process.credentials.key(tenant)) as watcher:
        hello = await watcher.control("hello")
    assert (hello.head, hello.floor) == (3, 1)
    assert hello.cursor
    assert hello.stream_id
    assert hello.bookmark_interval.ToTimedelta() == timedelta(seconds=1)
    assert hello.freshness.ToTimedelta() == timedelta(seconds=1)
    assert hello.max_lifetime.ToTimedelta() == timedelta(minutes=60)


async def test_many_writers_make_one_order_without_gaps_on_every_stream(start: StartProcess, tenant: Tenant) -> None:
    processes = [await start(tenant), await start(tenant)]

    async def write(number: int) -> None:
        for _ in range(15):
            await asyncio.sleep(random.uniform(0, 0.01))
            await tenant.say(f"w{number}", count=random.choice((1, 1, 1, 2, 5)))

    async def watch(process: Process) -> list[tuple[int, str]]:
        async with process.watch(process.credentials.key(tenant)) as watcher:
            await watcher.control("caught_up")
            ready.release()
            await written.wait()
            head = await tenant.value("SELECT head FROM stream_head")
            await watcher.to_seq(head)
            return [(event.seq, event.id) for event in watcher.events]

    ready, written = asyncio.Semaphore(0), asyncio.Event()
    watching = [asyncio.ensure_future(watch(process)) for process in processes for _ in range(5)]
    for _ in watching:
        await ready.acquire()
    await asyncio.gather(*(write(number) for number in range(12)))
    written.set()
    seen = await asyncio.gather(*watching)
    async with tenant.database.connection() as connection:
        rows = await connection.fetch("SELECT seq, event_id FROM stream_event ORDER BY seq")
    truth = [(row["seq"], str(row["event_id"])) for row in rows]
    assert [seq for seq, _ in truth] == list(range(1, len(truth) + 1))
    assert all(one == truth for one in seen)


async def test_a_transaction_comes_in_one_item(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        for count in (40, 40, 64, 1):
            await tenant.say(count=count)
        await watcher.to_seq(145)
    ends = {40, 80, 144, 145}
    assert {event.seq for event in watcher.events if event.last_of_transaction} == ends
    assert all(item.events[-1].seq in ends for item in watcher.items if item.events)


async def test_a_transaction_larger_than_an_item_is_flagged_at_its_end_alone(process: Process, tenant: Tenant) -> None:
    await tenant.say(count=700)
    async with process.watch(process.credentials.key(tenant), start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.control("caught_up")
    assert watcher.seqs == list(range(1, 701))
    assert [event.seq for event in watcher.events if event.last_of_transaction] == [700]
    assert max(len(item.events) for item in watcher.items) == 64


async def test_the_last_shown_event_of_a_transaction_is_flagged_for_each_stream(
    process: Process, tenant: Tenant
) -> None:
    other = await tenant.new_channel()
    async with process.watch(
        process.credentials.key(tenant), filter={"channel_id": [str(tenant.channels[0])]}
    ) as watcher:
        await watcher.control("caught_up")
        await tenant.commit(
            tenant.event(body("a")), tenant.event(body("b"), channel_id=other), tenant.event(body("c")),
            tenant.event(body("d"), channel_id=other),
        )  # fmt: skip
        await tenant.commit(tenant.event(body("e")), tenant.event(body("f"), channel_id=other))
        await watcher.to_seq(5)
    assert [(event.seq, event.last_of_transaction) for event in watcher.events] == [(1, False), (3, True), (5, True)]


@pytest.mark.parametrize("size", [100, 5_000, 60_000])
async def test_items_are_small(process: Process, tenant: Tenant, size: int) -> None:
    for _ in range(20):
        await tenant.say("x" * size)
    async with process.watch(process.credentials.key(tenant), start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.control("caught_up")
    assert watcher.seqs == list(range(1, 21))
    assert max(item.ByteSize() for item in watcher.items) < (64 << 10) + size + 1024


async def test_event_types_select(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant), event_types=[event_pb2.EVENT_TYPE_NOTE_ADDED]) as watcher:
        await watcher.control("caught_up")
        await tenant.say()
        await tenant.commit(tenant.event(body(note_added=event_pb2.NoteAdded())))
        await watcher.to_seq(2)
        bookmark = await watcher.control("bookmark")
    assert watcher.seqs == [2]
    assert bookmark.head == 2


async def test_a_kind_that_this_release_does_not_know_is_passed_on(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await tenant.say(count=2)
        await watcher.to_seq(2)
        await tenant.execute(
            "INSERT INTO stream_event SELECT 3, 3, gen_random_uuid(), 199, now(), 6, NULL, 1, '', gen_random_uuid(), 1,"
            " channel_id, NULL, NULL, NULL, NULL, $1 FROM stream_event WHERE seq = 2",
            bytes([0xBA, 0x0C, 0x02, 0x08, 0x01]),
        )
        await tenant.execute(
            "UPDATE stream_head SET head = 3, head_event_id = (SELECT event_id FROM stream_event WHERE seq = 3)"
        )
        await watcher.to_seq(3)
    event = watcher.events[-1]
    assert event.WhichOneof("body") is None
    assert event.cursor
    assert bytes([0xBA, 0x0C, 0x02, 0x08, 0x01]) in event.SerializeToString()


async def test_a_bookmark_moves_past_what_is_not_shown(process: Process, tenant: Tenant) -> None:
    credential = process.credentials.key(tenant)
    async with process.watch(credential, event_types=[event_pb2.EVENT_TYPE_NOTE_ADDED]) as watcher:
        await watcher.control("caught_up")
        await tenant.say(count=30)
        bookmark = await watcher.control("bookmark")
    assert bookmark.head == 30
    async with process.watch(credential, cursor=bookmark.cursor) as watcher:
        await watcher.control("caught_up")
        assert watcher.seqs == []


async def test_no_bookmark_while_the_head_cannot_be_read(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("bookmark")
        async with tenant.database.connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE stream_head IN ACCESS EXCLUSIVE MODE")
            # One may be due while the last proof is still fresh.
            assert len(await watcher.listen(1.3)) <= 1
            assert await watcher.listen(1.5) == []
        await watcher.control("bookmark")


async def test_the_bookmark_interval_is_the_callers(process: Process, tenant: Tenant) -> None:
    interval = duration_pb2.Duration(seconds=2)
    async with process.watch(process.credentials.key(tenant), bookmark_interval=interval) as watcher:
        began = asyncio.get_running_loop().time()
        await watcher.control("bookmark")
        assert asyncio.get_running_loop().time() - began > 1.6


async def test_pages_show_what_the_stream_shows(process: Process, tenant: Tenant) -> None:
    for count in (3, 50, 1, 7, 60, 2):
        await tenant.say(count=count)
    credential = process.credentials.key(tenant)
    async with process.watch(credential, start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.control("caught_up")
    listed: list[event_pb2.InboxEvent] = []
    page = await process.page(credential, start=inbox.WATCH_START_EARLIEST, page_size=20)
    while page.events:
        assert len(page.events) <= 20
        listed += page.events
        page = await process.page(credential, cursor=page.next_cursor, page_size=20)
    assert listed == watcher.events
    assert page.head == 123
    assert page.next_cursor == listed[-1].cursor


async def test_a_page_ends_with_a_whole_transaction_when_one_fits(process: Process, tenant: Tenant) -> None:
    for _ in range(6):
        await tenant.say(count=4)
    page = await process.page(process.credentials.key(tenant), start=inbox.WATCH_START_EARLIEST, page_size=10)
    assert [event.seq for event in page.events] == list(range(1, 9))


async def test_a_page_without_a_cursor_is_empty_and_stands_at_the_head(process: Process, tenant: Tenant) -> None:
    await tenant.say(count=3)
    credential = process.credentials.key(tenant)
    page = await process.page(credential)
    assert not page.events
    await tenant.say("next")
    assert [event.seq for event in (await process.page(credential, cursor=page.next_cursor)).events] == [4]
