"""Bugs that the state machine of assignment must find, each planted in this process only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from server.agents import loads
from server.assignments import availability, facts, queue, reclaim
from server.conversations.row import ConversationRow
from server.kit.db import Write


def _sql(module: Any, name: str, old: str, new: str) -> Callable[[], AbstractContextManager[Any]]:
    """A statement with a part of it replaced."""
    statement = getattr(module, name)
    assert old in statement, name
    return partial(mock.patch.object, module, name, statement.replace(old, new))


@contextlib.contextmanager
def _checked_before_the_lock() -> Iterator[None]:
    read = facts.read

    async def slow(*arguments: Any, **more: Any) -> facts.Facts:
        found = await read(*arguments, **more)
        await asyncio.sleep(0.03)
        return found

    with _sql(loads, "LOCK", "FOR UPDATE", "")(), mock.patch.object(facts, "read", slow):
        yield


def _wake_up_lost() -> AbstractContextManager[Any]:
    async def settle(write: Write, *, generation: int, look_time: Any) -> None:
        head = await write.connection.fetchval("SELECT greatest($1, head) FROM stream_head", generation)
        await write.connection.execute(queue.SETTLE, head, look_time)

    return mock.patch.object(queue, "settle", settle)


def _waiting_weighs_as_much() -> AbstractContextManager[Any]:
    def holding(row: ConversationRow) -> loads.Holding:
        return (row.assignee_id, row.weight) if row.assignee_id and row.live else (None, 0)

    return mock.patch.object(ConversationRow, "holding", property(holding))


def _the_first_holds_up_the_rest() -> AbstractContextManager[Any]:
    claim = queue.claim

    async def impatient(write: Write, **more: Any) -> queue.Claimed:
        claimed = await claim(write, **more)
        return claimed if claimed.given else queue.Claimed(0, None, claimed.look_time)

    both = contextlib.ExitStack()
    both.enter_context(mock.patch.object(queue, "PAGE", 1))
    both.enter_context(mock.patch.object(queue, "claim", impatient))
    return both


@contextlib.contextmanager
def _taken_from_whom_somebody_gave_it() -> Iterator[None]:
    manual = "AND a.type <> 'manual'"
    with _sql(reclaim, "GIVEN", manual, "")(), _sql(reclaim, "DUE", manual, "")():
        yield


async def _forget(*_arguments: Any, **_more: Any) -> None:
    return None


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "capacity is checked before the lock": _checked_before_the_lock,
    "a wake-up during a drain is lost": _wake_up_lost,
    "one that waits for its customer weighs as much": _waiting_weighs_as_much,
    "one that nobody can take holds up those behind it": _the_first_holds_up_the_rest,
    "whom somebody chose meanwhile is overridden": partial(mock.patch.object, queue, "_waits", return_value=True),
    "the queue is given out newest first": _sql(
        queue,
        "NEXT",
        "ORDER BY w.rank, c.waiting_since IS NULL, coalesce(c.waiting_since, c.create_time), c.id",
        "ORDER BY w.rank, c.waiting_since IS NULL, coalesce(c.waiting_since, c.create_time) DESC, c.id DESC",
    ),
    "what somebody gave is taken back": _taken_from_whom_somebody_gave_it,
    "turns are not kept": partial(mock.patch.object, facts, "store_turns", _forget),
    "the silent get conversations": _sql(
        facts, "AGENTS", "CASE WHEN l.lost_time IS NULL THEN l.availability ELSE 'offline' END", "l.availability"
    ),
    "fairness forgets what somebody gave": _sql(
        facts, "AGENTS", "g.from_agent_id IS DISTINCT", "g.type <> 'manual' AND g.from_agent_id IS DISTINCT"
    ),
    "resolving frees nobody": _sql(loads, "MOVE", "greatest(l.load + u.load, 0)", "l.load + greatest(u.load, 0)"),
    "who says away in another way begins anew": _sql(
        availability, "SET", "WHEN availability IN ('away', 'offline') THEN availability_time", ""
    ),
    "who went away is asked too late": partial(mock.patch.object, reclaim, "follow", _forget),
}
