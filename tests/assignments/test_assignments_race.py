"""Two workers, processes of their own, race: 50 claims by policy and 50 assignments by hand at once, while both drain the queue.

Ten agents of capacity five, 200 conversations that wait. Whatever the order in which it happens, policies put nobody above the
capacity, no conversation has two agents, and who is left waits in the order of waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from assignments_office import Office, open_office

from server.assignments import queue
from tests.desk import Desk, phone

AGENTS, CAPACITY, QUEUED, BY_HAND, BY_POLICY = 10, 5, 200, 50, 50
WORKERS, RUNS, SECONDS = 2, 100, 10
Worker = asyncio.subprocess.Process


@asynccontextmanager
async def started(desk: Desk, *planted: str) -> AsyncIterator[list[Worker]]:
    """Two processes, each with connections for everybody at once."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = str(Path(__file__).with_name("racing_worker.py"))
    pipe = asyncio.subprocess.PIPE
    made = [
        await asyncio.create_subprocess_exec(
            sys.executable, program, desk.dsn, *planted, stdin=pipe, stdout=pipe, env=environment
        )
        for _ in range(WORKERS)
    ]
    try:
        for worker in made:
            assert worker.stdout is not None
            assert await worker.stdout.readline() == b"ready\n"
        yield made
    finally:
        for worker in made:
            assert worker.stdin is not None
            worker.stdin.close()
    assert [await asyncio.wait_for(worker.wait(), 30) for worker in made] == [0] * WORKERS


@pytest.fixture
async def workers(own_desk: Desk) -> AsyncIterator[list[Worker]]:
    async with started(own_desk) as made:
        yield made


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


async def clash(desk: Desk, workers: list[Worker], *, seed: int) -> tuple[float, Counter[str]]:
    """One run; returns its seconds, and how often what was done. In every other one people and claims are about those alone
    whose turn does not come, no two about the same."""
    chance = random.Random(seed)
    office, agents, some = await crowd(desk)
    before, calm = (await desk.head())[1], seed % 2 == 0
    late = chance.sample(some[QUEUED // 2 :], QUEUED // 2)
    by_hand = late[:BY_HAND] if calm else chance.sample(some, BY_HAND)
    by_policy = late[BY_HAND:] if calm else chance.sample(some, BY_POLICY)
    # People crowd some of the agents: the others have room for policies.
    liked = chance.sample(agents, chance.randint(2, AGENTS))
    given = [(str(each), str(chance.choice(liked))) for each in by_hand]
    asked = [str(each) for each in by_policy]
    told = [
        {"by_hand": given[number::WORKERS], "by_policy": asked[number::WORKERS], "seed": seed}
        for number in range(WORKERS)
    ]
    began = time.monotonic()
    done = sum(await asyncio.gather(*map(run, workers, told)), Counter[str]())
    while await office.drain():
        pass
    took = time.monotonic() - began
    assert (done["by_hand"], done["claimed"] + done["refused"]) == (BY_HAND, BY_POLICY)
    await judge(desk, office, some, [*by_hand, *by_policy] if calm else None, after=before)
    return took, done


async def run(worker: Worker, told: dict[str, Any]) -> Counter[str]:
    """One run in a worker."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(told).encode() + b"\n")
    return Counter(json.loads(await worker.stdout.readline()))


async def judge(
    desk: Desk, office: Office, some: list[uuid.UUID], chosen: list[uuid.UUID] | None, *, after: int
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
    if chosen is not None:
        given = [each for each in some if rows[each]["assignee_id"] is not None and each not in chosen]
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


async def clashes(desk: Desk, workers: list[Worker], runs: int) -> None:
    for seed in range(runs):
        await clash(desk, workers, seed=seed)


async def test_policies_put_nobody_above_the_capacity(own_desk: Desk, workers: list[Worker]) -> None:
    await clashes(own_desk, workers, 2)
    await own_desk.check()


@pytest.mark.faults
@pytest.mark.timeout(1500)
async def test_policies_put_nobody_above_the_capacity_a_hundred_times(
    own_desk: Desk, workers: list[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds, done = list[float](), Counter[str]()
    for seed in range(RUNS):
        took, counted = await clash(own_desk, workers, seed=seed)
        seconds.append(took)
        done += counted
        assert took < SECONDS
        if seed % 10 == 9:
            shown = f"{max(seconds):.2f} s at most, {sum(seconds) / len(seconds):.2f} s on average; {dict(done)}"
            with capsys.disabled():
                print(f"run {seed + 1} of {RUNS}: {shown}")
    assert done["claimed"], "claims have their turn"
    assert done["drained"], "drains have theirs"
    await own_desk.check_log()
    await own_desk.check_counters()


@pytest.mark.faults
async def test_claims_without_locks_are_found_out(own_desk: Desk) -> None:
    async with started(own_desk, "unlocked") as workers:
        with pytest.raises(AssertionError):
            await clashes(own_desk, workers, 10)
