"""Which delivery goes next, who has it, and what becomes of it when its worker does not come back."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from server.deliveries import claiming
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.kit.db import Database
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.contract import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Refused
from tests.desk import Desk

OK = Accepted(provider_id="wamid.x")


class Queue:
    """A channel's sends, by their texts."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def put(self, conversation_id: Any, *names: str) -> None:
        writer = self.desk.writer()
        for name in names:
            assert isinstance(await writer.submit(self.desk.send(conversation_id, name)), Stored)

    async def claim(self, *, worker: str = "w", limit: int = 10, database: Database | None = None) -> list[Claimed]:
        async with (database or self.desk.database).connection() as connection:
            providers = self.desk.providers
            claim = await claiming.claim(connection, worker=worker, limit=limit, providers=providers)
            return claim.claimed

    async def name(self, claimed: Claimed) -> str:
        return str(
            await self.desk.value(
                "SELECT m.text FROM message_parts p JOIN messages m ON m.id = p.message_id WHERE p.id = $1",
                claimed.part_id,
            )
        )

    async def names(self, claims: list[Claimed]) -> list[str]:
        return sorted([await self.name(claimed) for claimed in claims])

    async def settle(self, claimed: Claimed, outcome: Outcome) -> None:
        if isinstance(outcome, Accepted):
            outcome = Accepted(provider_id=f"wamid.{claimed.part_id}")
        await Sender(self.desk.database, self.desk.tenant.secrets, self.desk.providers).settle(claimed, outcome)

    async def state(self, name: str) -> dict[str, Any]:
        (row,) = await self.desk.rows(
            "SELECT d.*, d.due_time <= now() AS due, m.status, p.error_code AS part_error FROM deliveries d"
            " JOIN message_parts p ON p.id = d.part_id JOIN messages m ON m.id = p.message_id WHERE m.text = $1",
            name,
        )
        return dict(row)

    async def expire(self) -> None:
        await self.desk.execute(
            "UPDATE deliveries SET lease_until = now() - interval '1 second' WHERE state = 'in_flight'"
        )


@pytest.fixture
def queue(own_desk: Desk) -> Queue:
    return Queue(own_desk)


async def two(queue: Queue) -> tuple[Any, Any]:
    channel = await queue.desk.new_channel()
    return (await queue.desk.started(channel)).id, (await queue.desk.started(channel)).id


async def test_a_conversations_sends_go_one_after_the_other(queue: Queue) -> None:
    a, b = await two(queue)
    await queue.put(a, "a1", "a2", "a3")
    await queue.put(b, "b1", "b2")
    for expected in (["a1", "b1"], ["a2", "b2"], ["a3"]):
        claims = await queue.claim()
        assert await queue.names(claims) == expected
        assert await queue.claim() == [], "nothing else goes while they are under way"
        for claimed in claims:
            await queue.settle(claimed, OK)
    assert await queue.claim() == []


async def test_a_send_that_waits_to_be_tried_again_holds_up_its_conversation_only(queue: Queue) -> None:
    a, b = await two(queue)
    await queue.put(a, "a1", "a2")
    await queue.put(b, "b1")
    claims = {await queue.name(claimed): claimed for claimed in await queue.claim()}
    await queue.settle(claims["a1"], NotSent("connection refused"))
    await queue.settle(claims["b1"], OK)
    assert await queue.claim() == []
    state = await queue.state("a1")
    assert (state["state"], state["attempt"], state["due"], state["status"]) == ("queued", 1, False, "pending")
    await queue.desk.execute("UPDATE deliveries SET due_time = now()")
    (again,) = await queue.claim()
    assert (await queue.name(again), again.attempt) == ("a1", 2)


async def test_two_workers_never_take_the_same(queue: Queue) -> None:
    desk = queue.desk
    channel = await desk.new_channel()
    writer = desk.writer()
    rows = [await desk.started(channel) for _ in range(30)]
    sends = [desk.send(row.id, f"{index} {number}") for number in range(3) for index, row in enumerate(rows)]
    await asyncio.gather(*(writer.submit(item) for item in sends))
    taken: list[str] = []

    async def work(name: str, database: Database) -> None:
        sender = Sender(database, desk.tenant.secrets, desk.providers)
        while len(taken) < len(sends):
            for claimed in await queue.claim(worker=name, limit=5, database=database):
                taken.append(await queue.name(claimed))
                await sender.settle(claimed, Accepted(provider_id=f"wamid.{claimed.part_id}"))

    await asyncio.wait_for(
        asyncio.gather(work("one", desk.database), work("two", desk.beside), work("three", desk.beside)), 20
    )
    assert sorted(taken) == sorted(item.text for item in sends), "each once"
    for index in range(30):
        assert [name for name in taken if name.split()[0] == str(index)] == [f"{index} {number}" for number in range(3)]
    await desk.check_log()


async def test_a_worker_that_does_not_come_back_leaves_an_unknown_send_that_is_never_queued_again(queue: Queue) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1")
    (claimed,) = await queue.claim()
    async with queue.desk.database.connection() as connection:
        assert await deliveries.expired(connection) == [], "its lease runs still"
    await queue.expire()
    sender = Sender(queue.desk.database, queue.desk.tenant.secrets, queue.desk.providers)
    async with queue.desk.database.connection() as connection:
        left = await deliveries.expired(connection)
    assert left == [claimed]
    await asyncio.gather(*(sender.expire(claimed) for _ in range(3)))
    state = await queue.state("a1")
    assert (state["state"], state["status"], state["attempt"]) == ("unknown", "unknown", 1)
    await queue.desk.execute(
        "UPDATE deliveries SET hold_until = now() - interval '1 day', due_time = now() - interval '1 day'"
    )
    assert await queue.claim() == []
    updates = await queue.desk.rows("SELECT status, source FROM message_status_updates")
    assert [tuple(row) for row in updates] == [("unknown", "system")]


@pytest.mark.parametrize(
    ("outcome", "state", "status"),
    [
        (NotSent("refused"), "unknown", "unknown"),
        (Refused(error_class=ErrorClass.RETRY, code="2", message="later"), "unknown", "unknown"),
        (Refused(error_class=ErrorClass.PERMANENT, code="131026", message="no"), "failed", "failed"),
    ],
)
async def test_a_worker_that_comes_back_too_late_does_not_queue_what_is_unknown(
    queue: Queue, outcome: Outcome, state: str, status: str
) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1")
    (claimed,) = await queue.claim()
    await queue.settle(claimed, Ambiguous("the lease ended"))
    await queue.settle(claimed, outcome)
    found = await queue.state("a1")
    assert (found["state"], found["status"]) == (state, status)
    assert await queue.claim() == []


async def test_an_answer_that_comes_too_late_resolves_what_is_unknown(queue: Queue) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1", "a2")
    (claimed,) = await queue.claim()
    await queue.settle(claimed, Ambiguous("the lease ended"))
    await queue.settle(claimed, OK)
    state = await queue.state("a1")
    assert (state["state"], state["status"]) == ("accepted", "sent")
    assert await queue.names(await queue.claim()) == ["a2"]


async def test_a_claim_whose_answer_was_lost_is_taken_back_by_its_worker_alone(queue: Queue) -> None:
    a, b = await two(queue)
    await queue.put(a, "a1")
    await queue.put(b, "b1")
    claims = {await queue.name(claimed): claimed for claimed in await queue.claim(worker="w")}
    async with queue.desk.database.connection() as connection:
        await deliveries.take_back(connection, worker="another", sending=[])
        assert await queue.claim() == []
        await deliveries.take_back(connection, worker="w", sending=[claims["a1"].id])
    (again,) = await queue.claim(worker="w")
    assert (await queue.name(again), again.attempt, again.tries) == ("b1", 2, 1)
    assert (await queue.state("a1"))["state"] == "in_flight"


@pytest.mark.parametrize(
    ("outcome", "word"),
    [(OK, "sent"), (Refused(error_class=ErrorClass.PERMANENT, code="131026", message="Undeliverable"), "failed")],
)
async def test_an_outcome_stored_by_a_commit_without_an_answer_is_not_stored_again(
    queue: Queue, outcome: Outcome, word: str
) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1")
    (claimed,) = await queue.claim()
    sender = Sender(queue.desk.database, queue.desk.tenant.secrets, queue.desk.providers)
    await sender.settle(claimed, outcome, repeat=True)
    await sender.settle(claimed, outcome, repeat=True)
    recorded = await queue.desk.rows("SELECT status FROM message_status_updates WHERE part_id = $1", claimed.part_id)
    assert [row["status"] for row in recorded] == [word]


async def test_an_unknown_send_holds_its_conversation_for_a_minute(queue: Queue) -> None:
    a, b = await two(queue)
    await queue.put(a, "a1", "a2")
    await queue.put(b, "b1")
    claims = {await queue.name(claimed): claimed for claimed in await queue.claim()}
    await queue.settle(claims["a1"], Ambiguous("cut"))
    await queue.settle(claims["b1"], OK)
    await queue.put(b, "b2")
    assert await queue.names(await queue.claim()) == ["b2"]
    held = await queue.desk.value("SELECT hold_until - now() FROM deliveries WHERE state = 'unknown'")
    assert 55 < held.total_seconds() <= 60
    assert await queue.claim() == []
    assert await queue.desk.value(
        "SELECT due_time = (SELECT hold_until FROM deliveries WHERE state = 'unknown') FROM"
        " deliveries WHERE state = 'queued'"
    ), "it is looked at when the minute is over"
    await queue.desk.execute(
        "UPDATE deliveries SET hold_until = hold_until - interval '1 minute', due_time = due_time - interval '1 minute'"
    )
    assert await queue.names(await queue.claim()) == ["a2"]
    assert (await queue.state("a1"))["state"] == "unknown"


async def test_a_final_failure_lets_the_next_one_go(queue: Queue) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1", "a2")
    (claimed,) = await queue.claim()
    await queue.settle(claimed, Refused(error_class=ErrorClass.PERMANENT, code="131026", message="undeliverable"))
    state = await queue.state("a1")
    assert (state["state"], state["status"], state["error_code"], state["part_error"]) == (
        "failed",
        "failed",
        "131026",
        "131026",
    )
    assert await queue.names(await queue.claim()) == ["a2"]


async def test_a_token_error_pauses_the_channel_and_keeps_queue_and_attempts(queue: Queue) -> None:
    desk = queue.desk
    broken, sound = await desk.new_channel(), await desk.new_channel()
    rows = [(await desk.started(broken)).id for _ in range(5)]
    other = (await desk.started(sound)).id
    for index, row in enumerate(rows):
        await queue.put(row, f"a{index}")
    await queue.put(other, "b")
    before = (await desk.head())[1]
    claims = await queue.claim()
    assert len(claims) == 6
    revoked = Refused(error_class=ErrorClass.STOP_CHANNEL, code="190", message="the token was revoked")
    await asyncio.gather(*(queue.settle(item, revoked) for item in claims if item.channel_id == broken.id))
    assert await queue.names([item for item in claims if item.channel_id == sound.id]) == ["b"]
    assert (await desk.kinds(after=before)) == ["channel_health_changed"], "said once"
    state = await queue.state("a0")
    assert (state["state"], state["attempt"] - state["uncounted"], state["status"]) == ("queued", 0, "pending")
    assert await desk.value("SELECT state FROM channels WHERE id = $1", broken.id) == "paused"
    assert await queue.claim() == []
    async with desk.database.connection() as connection:
        coming = await claiming.upcoming(connection, {})
    leases = await desk.value("SELECT min(lease_until) FROM deliveries WHERE state = 'in_flight'")
    assert (coming.send, coming.lease) == (None, leases), "what a paused channel holds is not due"
    await desk.execute("UPDATE channels SET state = 'active'")
    again = await queue.claim()
    assert [item.tries for item in again] == [1] * 5


@pytest.mark.parametrize("error_class", [ErrorClass.RETRY, ErrorClass.WAIT])
async def test_a_passing_error_is_tried_again_not_before_its_time(queue: Queue, error_class: ErrorClass) -> None:
    a, _ = await two(queue)
    await queue.put(a, "a1")
    (claimed,) = await queue.claim()
    after = timedelta(seconds=30)
    await queue.settle(claimed, Refused(error_class=error_class, code="130429", message="slow down", retry_after=after))
    state = await queue.state("a1")
    assert (state["state"], state["status"], state["error_code"], state["worker"]) == (
        "queued",
        "pending",
        "130429",
        None,
    )
    wait = await queue.desk.value("SELECT due_time - now() FROM deliveries")
    assert after - timedelta(seconds=2) < wait <= after * 1.2
