"""A process of its own that gives conversations away as it is told: `python racing_worker.py DSN [unlocked]`, and a line of JSON
for each run. Unlocked, a bug is planted in it: policies read what agents hold without their locks.

{"by_hand": [[conversation, agent], ...], "by_policy": [conversation, ...], "seed": n}: all of it at once, while the queue is drained
as a worker does it. The answer is a line too: {"by_hand": n, "claimed": n, "refused": n, "drained": n}.
Before the first one it says `ready`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from server.agents import loads
from server.assignments import queue, service
from server.assignments.service import NobodyEligible
from server.conversations.service import Changed
from server.kit.db import Database, Write
from server.kit.errors import Contended
from server.log.append import append
from tests.desk import ALL, nobody

# As many as a worker has: everybody comes at once.
CONNECTIONS, REPEATS = 60, 5
Work = Callable[[Write], Awaitable[Changed]]


class Racing:
    """One run of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._done: Counter[str] = Counter()

    async def run(self, told: dict[str, Any]) -> Counter[str]:
        """Everything at once, in an order of chance."""
        calls = [partial(self._by_hand, some, who) for some, who in told["by_hand"]]
        calls += [partial(self._by_policy, some) for some in told["by_policy"]]
        random.Random(told["seed"]).shuffle(calls)
        racing = asyncio.gather(*(call() for call in calls))
        while not racing.done():
            self._done["drained"] += await repeated(partial(drain, self._database))
        await racing
        return self._done

    async def _by_hand(self, some: str, who: str) -> None:
        await self._write(lambda write: service.assign(write, agent_id=uuid.UUID(who), **_asked(some)))
        self._done["by_hand"] += 1

    async def _by_policy(self, some: str) -> None:
        try:
            await self._write(lambda write: service.assign_by_policy(write, present=None, **_asked(some)))
        except NobodyEligible:
            self._done["refused"] += 1
        else:
            self._done["claimed"] += 1

    async def _write(self, work: Work) -> None:
        async def unit(write: Write) -> None:
            await append(write, (await work(write)).events)

        await repeated(partial(self._database.write, unit))


def _asked(some: str) -> dict[str, Any]:
    return {
        "scope": ALL,
        "conversation_id": uuid.UUID(some),
        "origin": nobody(),
        "team_id": None,
        "reason": None,
        "expected_version": None,
    }


async def look(database: Database) -> queue.State:
    """Whether there is anything to give out."""
    async with database.connection() as connection:
        return await queue.state(connection)


async def drain(database: Database) -> int:
    """What a worker does when it looks."""
    state = await look(database)
    return await queue.drain(database, state.head, present=None) if state.wanted else 0


async def repeated(call: Callable[[], Awaitable[Any]]) -> Any:
    """As clients and workers do who are told that too many write at the same place."""
    for _ in range(REPEATS):
        with contextlib.suppress(Contended):
            return await call()
    raise AssertionError("too many writes at the same place, again and again")


async def _unlocked(*_arguments: object) -> None:
    return None


async def main(dsn: str, *planted: str) -> None:
    if planted:
        loads.lock = _unlocked
    database = Database(dsn, pool_size=CONNECTIONS)
    await asyncio.gather(*(look(database) for _ in range(CONNECTIONS)))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await Racing(database).run(json.loads(line))), flush=True)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
