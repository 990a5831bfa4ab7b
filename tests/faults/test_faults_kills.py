from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from faults_stack import Faults

from server.simulator.payloads import InboundText

pytestmark = pytest.mark.faults

STORED = "SELECT p.provider_message_id AS wamid, count(*) AS n FROM message_parts p WHERE p.provider_message_id = ANY($1) GROUP BY 1"
RECEIVED = "SELECT count(*) FROM stream_event WHERE kind = 20"


def texts(count: int, *, customers: int = 5, prefix: str = "49151") -> list[InboundText]:
    now = int(time.time())
    base = uuid.uuid4().int % 10**6
    return [
        InboundText(text=f"message {index}", timestamp=now, phone=f"{prefix}{base:06d}{index % customers:03d}")
        for index in range(count)
    ]


async def until_stored(faults: Faults, wamids: list[str], *, within: float) -> float:
    """Waits until every message is stored once; returns how long it took."""
    began = time.monotonic()
    while True:
        found = {row["wamid"]: row["n"] for row in await faults.sql(STORED, wamids)}
        assert all(count == 1 for count in found.values()), found
        if len(found) == len(wamids):
            return time.monotonic() - began
        if time.monotonic() - began > within:
            raise AssertionError(f"{len(wamids) - len(found)} of {len(wamids)} are missing after {within} s")
        await asyncio.sleep(0.1)


async def assert_gapless(faults: Faults) -> None:
    (row,) = await faults.sql(
        "SELECT h.head, count(e.seq) AS n, min(e.seq) AS first, max(e.seq) AS last"
        " FROM stream_head h LEFT JOIN stream_event e ON true GROUP BY h.head"
    )
    assert (row["n"], row["first"], row["last"]) == (row["head"], 1, row["head"])


@pytest.mark.timeout(900)
async def test_what_was_answered_200_appears_once_although_the_process_dies_at_once(faults: Faults) -> None:
    everything: list[str] = []
    worst = 0.0
    for round_number in range(20):
        server = f"serve-{round_number % 2 + 1}"
        messages = texts(10)
        await asyncio.to_thread(faults.post, server, messages)
        faults.stack.kill(server)
        wamids = [message.wamid for message in messages]
        worst = max(worst, await until_stored(faults, wamids, within=10))
        everything += wamids
        await asyncio.to_thread(faults.stack.restart, server)
    await until_stored(faults, everything, within=1)
    received = {row["id"] for row in await faults.sql("SELECT event_id AS id FROM stream_event WHERE kind = 20")}
    (messages_count,) = await faults.sql("SELECT count(*) AS n FROM messages WHERE direction = 'inbound'")
    assert len(received) == messages_count["n"] == len(everything)
    await assert_gapless(faults)
    print(f"20 kills, {len(everything)} messages, slowest {worst:.1f} s")


@pytest.mark.timeout(600)
async def test_a_stranger_who_writes_fifty_times_at_once_to_two_processes_is_one_person(faults: Faults) -> None:
    with ThreadPoolExecutor(16) as pool:
        for round_number in range(100):
            phone = f"4917{round_number:03d}{uuid.uuid4().int % 10**6:06d}"
            now = int(time.time())
            messages = [InboundText(text=f"first {index}", timestamp=now, phone=phone) for index in range(50)]
            list(pool.map(faults.post, ["serve-1", "serve-2"] * 25, [[message] for message in messages]))
            await until_stored(faults, [message.wamid for message in messages], within=10)
            (row,) = await faults.sql(
                "SELECT count(DISTINCT a.identity_id) AS identities, count(DISTINCT i.contact_id) AS contacts,"
                " count(DISTINCT c.id) AS conversations, max(c.inbound_count) AS inbound"
                " FROM identity_aliases a JOIN identities i ON i.id = a.identity_id"
                " JOIN conversations c ON c.identity_id = i.id WHERE a.kind = 'wa_id' AND a.value = $1",
                phone,
            )
            assert tuple(row) == (1, 1, 1, 50)
    await assert_gapless(faults)


@pytest.mark.timeout(300)
async def test_timers_of_a_worker_that_was_down_fire_once_with_their_intended_time(faults: Faults) -> None:
    messages = texts(100, customers=100, prefix="49160")
    await asyncio.to_thread(faults.post, "serve-1", messages)
    await until_stored(faults, [message.wamid for message in messages], within=10)
    rows = await faults.sql(
        "SELECT conversation_id FROM message_parts WHERE provider_message_id = ANY($1)",
        [item.wamid for item in messages],
    )
    due = datetime.now(UTC) + timedelta(seconds=10)
    snooze = {"status": "CONVERSATION_STATUS_SNOOZED", "snoozeUntilTime": due.isoformat()}
    with ThreadPoolExecutor(8) as pool:
        paths = [f"/v1/conversations/{row['conversation_id']}/status" for row in rows]
        list(pool.map(lambda path: faults.call("PATCH", path, snooze), paths))
    assert datetime.now(UTC) < due
    faults.stack.kill("work")
    await asyncio.sleep(30)
    await asyncio.to_thread(faults.stack.restart, "work")
    ids = [row["conversation_id"] for row in rows]
    woken = "SELECT count(*) AS n FROM conversations WHERE id = ANY($1) AND status = 'open'"
    for _ in range(200):
        (found,) = await faults.sql(woken, ids)
        if found["n"] == 100:
            break
        await asyncio.sleep(0.1)
    events = await faults.sql(
        "SELECT conversation_id, cause_id, payload FROM stream_event WHERE kind = 33 AND conversation_id = ANY($1) AND cause_kind = 3",
        ids,
    )
    assert len(events) == len({row["conversation_id"] for row in events}) == 100
    from switchboard.v1 import event_pb2

    for row in events:
        changed = event_pb2.InboxEvent.FromString(row["payload"]).conversation_status_changed
        assert abs(changed.intended_time.ToDatetime(tzinfo=UTC) - due) < timedelta(milliseconds=1)


@pytest.mark.timeout(120)
async def test_a_post_of_a_hundred_messages_is_answered_within_a_second_and_ten_more_change_nothing(
    faults: Faults,
) -> None:
    messages = texts(100, customers=20, prefix="49170")
    await asyncio.to_thread(faults.post, "serve-1", texts(1))
    began = time.monotonic()
    await asyncio.to_thread(faults.post, "serve-1", messages)
    answered = time.monotonic() - began
    wamids = [message.wamid for message in messages]
    stored = await until_stored(faults, wamids, within=10)
    (head,) = await faults.sql("SELECT head FROM stream_head")
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(faults.post, ["serve-1", "serve-2"] * 5, [messages] * 10))
    await asyncio.sleep(4)
    assert await faults.sql("SELECT head FROM stream_head") == [head]
    await until_stored(faults, wamids, within=1)
    print(f"answered in {answered * 1000:.0f} ms, stored {stored * 1000:.0f} ms later")
    assert answered < 1
