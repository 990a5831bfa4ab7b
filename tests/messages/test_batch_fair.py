"""The batch writer between callers: nobody waits behind another's queue, and a batch's troubles stay with who brought them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from server.kit.ids import new_id
from server.messages import queue
from server.messages.items import Send, Stored
from server.messages.queue import FairQueue, QueueFull
from server.messages.unit import Unit
from server.rpc.errors import status_of
from tests.desk import Desk, nobody, phone


def test_a_queue_takes_from_everybody_in_turn_and_keeps_each_callers_order() -> None:
    waiting: FairQueue[str] = FairQueue()
    busy, other, third = new_id(), new_id(), None
    for number in range(5):
        waiting.put(busy, f"busy {number}")
    waiting.put(other, "other 0")
    waiting.put(third, "third 0")
    waiting.put(third, "third 1")
    assert waiting.take(4) == ["busy 0", "other 0", "third 0", "busy 1"]
    waiting.put(other, "other 1")
    assert waiting.take(9) == ["third 1", "busy 2", "other 1", "busy 3", "busy 4"]
    assert (len(waiting), waiting.take(1)) == (0, [])


async def test_who_queues_thousands_delays_nobody_else(desk: Desk) -> None:
    rows = [await desk.started(await desk.new_channel()) for _ in range(2)]
    writer, busy = desk.writer(), nobody()
    crowd = [writer.enqueue(desk.send(rows[0].id, str(number), by=busy)) for number in range(3000)]
    await writer.submit(desk.send(rows[1].id, "one only"))
    ahead = sum(future.done() for future in crowd)
    # At most the batch that ran already, and the one that this send was in.
    assert ahead <= 2 * 128, f"{ahead} of the crowd went first"
    await asyncio.gather(*crowd)
    found = await desk.rows(
        "SELECT text FROM messages WHERE conversation_id = $1 AND direction = 'outbound' ORDER BY sequence", rows[0].id
    )
    assert [item["text"] for item in found] == [str(number) for number in range(3000)]


async def test_messages_of_customers_and_a_caller_take_turns(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    writer, sender = desk.writer(), phone()
    crowd = [writer.enqueue(desk.receive(channel, sender, str(number))) for number in range(1000)]
    await writer.submit(desk.send(row.id))
    assert sum(future.done() for future in crowd) <= 2 * 128
    await asyncio.gather(*crowd)


async def test_a_full_queue_refuses_its_caller_and_says_when_to_come_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await desk.started(await desk.new_channel())
    writer, busy, other = desk.writer(), nobody(), nobody()
    monkeypatch.setattr(queue, "CALLER_MOST", 3)
    monkeypatch.setattr(queue, "ALL_MOST", 5)
    taken = [writer.enqueue(desk.send(row.id, by=busy)) for _ in range(3)]
    with pytest.raises(QueueFull) as refused:
        writer.enqueue(desk.send(row.id, by=busy))
    taken += [writer.enqueue(desk.send(row.id, by=other)) for _ in range(2)]
    with pytest.raises(QueueFull):
        writer.enqueue(desk.send(row.id, by=nobody()))
    status = status_of(refused.value)
    delay = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(delay) for detail in status.details)
    assert (status.code, delay.retry_delay.ToTimedelta()) == (
        grpc.StatusCode.UNAVAILABLE.value[0],
        timedelta(seconds=1),
    )
    assert all(isinstance(result, Stored) for result in await asyncio.gather(*taken))
    assert isinstance(await writer.submit(desk.send(row.id, by=busy)), Stored), "there is room again"


async def test_a_fault_of_ours_hits_the_item_that_brings_it_about_and_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await desk.started(await desk.new_channel())
    right = Unit._sendable

    def planted(self: Unit, item: Send, locked: Any) -> Any:
        return {}["a bug"] if item.text == "cursed" else right(self, item, locked)

    monkeypatch.setattr(Unit, "_sendable", planted)
    writer = desk.writer()
    texts = [("cursed" if number == 13 else str(number)) for number in range(40)]
    waiting = [writer.submit(desk.send(row.id, text)) for text in texts]
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
    assert [type(result) for result in results].count(Stored) == 39
    assert isinstance(results[13], KeyError), "no Refusal, so the edge answers INTERNAL with an incident"
    await desk.check_counters()


async def test_two_processes_that_write_to_the_same_conversations_lose_nothing(desk: Desk) -> None:
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(3)]
    before = (await desk.head())[1]
    writers = [desk.writer(), desk.writer(desk.beside)]
    sends = [
        writers[number % 2].submit(desk.send(rows[number % 3].id, str(number), by=nobody())) for number in range(300)
    ]
    results = await asyncio.gather(*sends)
    assert all(isinstance(result, Stored) and not result.duplicate for result in results)
    assert [(await desk.conversation(row.id)).message_count for row in rows] == [101, 101, 101]
    assert (await desk.kinds(after=before)).count("message_created") == 300
    await desk.check_log()
    await desk.check_counters()


async def test_what_was_read_before_somebody_changed_it_is_not_written(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    head = await desk.head()
    send = desk.send(row.id)

    async with desk.database.held() as held:

        async def work(write: Any) -> Any:
            unit = Unit(write, [send], desk.providers)
            read = unit._read_at_once

            async def read_and_lose(sends: Any) -> Any:
                found = await read(sends)
                # Not even the version changes: the row is another all the same.
                await desk.execute("UPDATE conversations SET contact_name = 'Renamed' WHERE id = $1", row.id)
                return found

            unit._read_at_once = read_and_lose  # type: ignore[method-assign]
            return await unit.run_at_once()

        assert await held.write_at_once(work) is None
    assert await desk.head() == head
    assert await desk.value("SELECT count(*) FROM messages WHERE id = $1", send.message_id) == 0
    assert (await desk.conversation(row.id)).contact_name == "Renamed"
    assert isinstance(await desk.writer().submit(send), Stored)


async def test_a_send_that_waits_for_a_lock_in_vain_is_run_again(
    desk: Desk, postgres_errors: Callable[[], list[str]]
) -> None:
    row = await desk.started(await desk.new_channel())
    async with desk.beside.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", row.id)
        waiting = asyncio.ensure_future(desk.writer().submit(desk.send(row.id)))
        while not any("lock timeout" in line for line in postgres_errors()):
            await asyncio.sleep(0.1)
    assert isinstance(await asyncio.wait_for(waiting, 30), Stored)
