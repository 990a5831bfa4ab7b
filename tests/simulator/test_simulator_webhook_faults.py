"""Faults of the webhooks: copies, disorder, late repeats, receipts that never come."""

import asyncio
import json

from simulator_bench import CUSTOMER, Start, text

DAY = 86_400


async def test_a_webhook_is_sent_more_often_byte_by_byte(start: Start) -> None:
    meta = await start()
    await meta.fault("duplicate", times=3, count=1)

    await meta.inbound(text="once")
    await meta.inbound(text="another")
    await meta.receiver.wait(5)
    await asyncio.sleep(0.05)

    bodies = [webhook.raw for webhook in meta.receiver.seen]
    assert sorted(bodies.count(body) for body in set(bodies)) == [1, 4]
    assert await meta.fired() == {"duplicate": 1}


async def test_copies_are_spread_over_a_time(start: Start) -> None:
    meta = await start()
    await meta.fault("duplicate", times=5, withinMs=3_600_000, seed=1)

    await meta.inbound()
    await asyncio.sleep(0.05)
    at_first = len(meta.receiver.seen)
    await meta.control("POST", "clock", {"advance": 3600})
    await meta.receiver.wait(6)

    assert at_first == 1


async def test_webhooks_are_shuffled_within_a_window(start: Start) -> None:
    meta = await start(webhooks={"concurrency": 1})
    await meta.fault("reorder", windowMs=60_000, of="messages", seed=3)

    sending = [asyncio.create_task(meta.inbound(text=f"{turn}")) for turn in range(8)]
    await asyncio.sleep(0.1)
    at_first = len(meta.receiver.seen)
    await meta.control("POST", "clock", {"advance": 60})
    answers = await asyncio.gather(*sending)

    order = [webhook.value["messages"][0]["text"]["body"] for webhook in meta.receiver.seen]
    assert at_first == 0
    assert [answer["webhookStatus"] for answer in answers] == [200] * 8
    assert sorted(order) == [f"{turn}" for turn in range(8)]
    assert order != sorted(order)


async def test_a_webhook_comes_again_after_days(start: Start) -> None:
    meta = await start()
    await meta.fault("late_retry", afterSeconds=6 * DAY)

    await meta.inbound()
    await meta.control("POST", "clock", {"advance": 5 * DAY})
    await asyncio.sleep(0.05)
    after_five = len(meta.receiver.seen)
    await meta.control("POST", "clock", {"advance": DAY + 1})
    first, second = await meta.receiver.wait(2)

    assert after_five == 1
    assert first.raw == second.raw


async def test_receipts_are_dropped(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": 10, "read_ms": 20})
    await meta.inbound()
    await meta.fault("drop_receipts", statuses=["delivered"])

    await meta.post(text())
    await meta.receiver.wait(3)
    await meta.fault("drop_receipts", filter={"recipient": CUSTOMER})
    await meta.post(text())
    await asyncio.sleep(0.1)

    assert [status["status"] for status in meta.receiver.statuses()] == ["sent", "read"]


async def test_a_fault_may_be_for_messages_or_receipts_only(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": None})
    await meta.fault("duplicate", of="statuses")

    await meta.inbound()
    await meta.post(text())
    await meta.receiver.wait(3)
    await asyncio.sleep(0.05)

    kinds = ["messages" if "messages" in webhook.value else "statuses" for webhook in meta.receiver.seen]
    assert kinds == ["messages", "statuses", "statuses"]


async def test_a_webhook_is_hit_by_its_customer_and_its_path(start: Start) -> None:
    meta = await start()
    await meta.fault("duplicate", filter={"recipient": CUSTOMER, "path": "/webhooks"})
    await meta.fault("duplicate", filter={"path": "/elsewhere"})

    await meta.inbound()
    await meta.inbound(**{"from": "16505559999"})
    await meta.receiver.wait(3)
    await asyncio.sleep(0.05)

    assert len(meta.receiver.seen) == 3


async def test_retries_of_a_refused_webhook_go_by_the_clock(start: Start) -> None:
    meta = await start(webhooks={"retry_first_ms": 3_600_000, "retry_longest_ms": 86_400_000})
    meta.receiver.answers = [503, 503, 503]

    await meta.inbound()
    await meta.receiver.wait(2)
    for hours, seen in ((0.9, 2), (0.2, 3), (1.0, 3), (1.1, 4)):
        await meta.control("POST", "clock", {"advance": hours * 3600})
        await asyncio.sleep(0.05)
        assert len(meta.receiver.seen) == seen
    assert len({json.loads(webhook.raw)["entry"][0]["id"] for webhook in meta.receiver.seen}) == 1
