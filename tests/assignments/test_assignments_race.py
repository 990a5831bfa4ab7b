"""Two workers give out a queue while fifty people give away conversations by hand.

Ten agents of capacity five, 200 conversations that wait. Whatever the order in which it happens, policies put nobody above the
capacity, no conversation has two agents, and who is left waits in the order of waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from assignments_office import Office, open_office

from server.assignments import queue
from server.assignments.service import NobodyEligible
from server.kit.db import Database
from server.kit.errors import Contended
from tests.desk import Desk, phone

AGENTS, CAPACITY, QUEUED, BY_HAND, BY_POLICY = 10, 5, 200, 50, 20
RUNS, SECONDS, REPEATS = 100, 10, 5


@pytest.fixture
async def workers(own_desk: Desk) -> AsyncIterator[list[Database]]:
    """Two processes, each with connections for everybody at once."""
    made = [Database(own_desk.dsn, pool_size=40) for _ in range(2)]
    yield made
    for database in made:
        await database.close()


async def crowd(desk: Desk) -> tuple[Office, list[uuid.UUID], list[uuid.UUID]]:
    """A new channel with its agents, and its queue in order."""
    office = await open_office(desk)
    await office.policy(strategy="load_based")
    agents = [await office.new_agent(str(number), capacity=CAPACITY) for number in range(AGENTS)]
    writer = desk.writer()
    await asyncio.gather(*(writer.submit(desk.receive(office.channel, phone())) for _ in range(QUEUED)))
    rows = await desk.rows(
        "SELECT id FROM conversations WHERE channel_id = $1 ORDER BY coalesce(waiting_since, create_time), id",
        office.channel.id,
    )
    return office, agents, [row["id"] for row in rows]


async def clash(desk: Desk, workers: list[Database], *, seed: int) -> float:
    """One run; returns the seconds of it. In every other one people choose only among those whose turn does not come."""
    chance = random.Random(seed)
    office, agents, some = await crowd(desk)
    before, calm = (await desk.head())[1], seed % 2 == 0
    by_hand = chance.sample(some[QUEUED // 2 :] if calm else some, BY_HAND)
    by_policy = [] if calm else chance.sample(some, BY_POLICY)

    async def choose(index: int, each: uuid.UUID) -> None:
        await repeated(partial(office.assign, each, chance.choice(agents), database=workers[index % 2]))

    async def ask(index: int, each: uuid.UUID) -> None:
        with contextlib.suppress(NobodyEligible):
            await repeated(partial(office.by_policy, each, database=workers[index % 2]))

    calls: list[Any] = [choose(index, each) for index, each in enumerate(by_hand)]
    calls += [ask(index, each) for index, each in enumerate(by_policy)]
    calls += [repeated(partial(office.drain, database=worker)) for worker in (*workers, *workers)]
    chance.shuffle(calls)
    began = time.monotonic()
    await asyncio.gather(*calls)
    while await office.drain():
        pass
    took = time.monotonic() - began
    await judge(desk, office, some, by_hand if calm else None, after=before)
    return took


async def repeated(call: Callable[[], Awaitable[Any]]) -> None:
    """As clients and workers do who are told that too many write at the same place."""
    for _ in range(REPEATS):
        with contextlib.suppress(Contended):
            await call()
            return
    raise AssertionError("too many writes at the same place, again and again")


async def judge(
    desk: Desk, office: Office, some: list[uuid.UUID], by_hand: list[uuid.UUID] | None, *, after: int
) -> None:
    await nobody_over_capacity(desk, after=after)
    doubled = (
        "SELECT conversation_id FROM conversation_assignments WHERE end_time IS NULL GROUP BY 1 HAVING count(*) > 1"
    )
    assert await desk.rows(doubled) == []
    await desk.check_counters()
    rows = {
        row["id"]: row for row in await desk.rows("SELECT id, assignee_id FROM conversations WHERE id = ANY($1)", some)
    }
    held = Counter(row["assignee_id"] for row in rows.values())
    assert all(held[agent_id] >= CAPACITY for agent_id in office.names), "somebody has room while others wait"
    left = [each for each in some if rows[each]["assignee_id"] is None]
    async with desk.database.connection() as connection:
        assert await connection.fetch(queue.NEXT, *queue.FIRST, QUEUED) == [], "nobody has room"
    await office.new_agent("late", capacity=QUEUED)
    async with desk.database.connection() as connection:
        waiting = [row["id"] for row in await connection.fetch(queue.NEXT, *queue.FIRST, QUEUED)]
    assert waiting == left, "who is left waits in the order of waiting"
    if by_hand is not None:
        given = [each for each in some if rows[each]["assignee_id"] is not None and each not in by_hand]
        assert given == some[: len(given)], "policies gave those who waited longest"
    await desk.execute("DELETE FROM assignment_policies")


async def nobody_over_capacity(desk: Desk, *, after: int) -> None:
    """Reads the log in its order: after each choice of a policy its agent holds no more than its capacity."""
    held: dict[uuid.UUID, set[uuid.UUID]] = {}
    for seq, event in await desk.events(after=after):
        name = event.WhichOneof("body")
        if name not in ("conversation_assigned", "conversation_unassigned"):
            continue
        body = getattr(event, name)
        conversation = uuid.UUID(body.conversation.id)
        if body.HasField("previous_agent_id"):
            held[uuid.UUID(body.previous_agent_id)].discard(conversation)
        if name == "conversation_assigned" and body.assignment.HasField("agent_id"):
            theirs = held.setdefault(uuid.UUID(body.assignment.agent_id), set())
            theirs.add(conversation)
            assert body.assignment.HasField("policy_id") <= (len(theirs) <= CAPACITY), seq


async def test_policies_put_nobody_above_the_capacity(own_desk: Desk, workers: list[Database]) -> None:
    for seed in range(2):
        await clash(own_desk, workers, seed=seed)
    await own_desk.check()


@pytest.mark.faults
@pytest.mark.timeout(1500)
async def test_policies_put_nobody_above_the_capacity_a_hundred_times(
    own_desk: Desk, workers: list[Database], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = []
    for seed in range(RUNS):
        seconds.append(await clash(own_desk, workers, seed=seed))
        assert seconds[-1] < SECONDS
        if seed % 10 == 9:
            with capsys.disabled():
                print(
                    f"run {seed + 1} of {RUNS}: {max(seconds):.2f} s at most, {sum(seconds) / len(seconds):.2f} s on average"
                )
    await own_desk.check_log()
    await own_desk.check_counters()
