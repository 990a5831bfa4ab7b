"""Bugs that the state machine of statistics must find; they are planted in the test's process alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from server.conversations.statistics import facts, follow, known
from server.conversations.statistics.sketch import bin_of
from server.kit.clock import utc_now


def _code(module: Any, name: str, wrong: Callable[..., Any]) -> Callable[[], AbstractContextManager[Any]]:
    return partial(mock.patch.object, module, name, wrong)


def _reopen_counted_twice() -> AbstractContextManager[Any]:
    """The customer's message that reopens is taken for a reopening, and so is the change of status that comes with it."""
    right = facts.count

    def wrong(tally: facts.Tally, item: known.Known, event: Any) -> None:
        resolved = item.status == "resolved"
        right(tally, item, event)
        if resolved and event.WhichOneof("body") == "message_received" and item.status == "open":
            tally.happened("reopened", utc_now(), item, credit=item.assignee_id)

    return mock.patch.object(facts, "count", wrong)


def _reopen_not_added() -> AbstractContextManager[Any]:
    """A conversation that is reopened leaves "resolved" and does not arrive at "open"."""
    right = facts.count

    def wrong(tally: facts.Tally, item: known.Known, event: Any) -> None:
        resolved = item.status == "resolved"
        right(tally, item, event)
        if resolved and item.status == "open":
            tally.move(item, -1)

    return mock.patch.object(facts, "count", wrong)


def _sql(name: str, old: str, new: str) -> Callable[[], AbstractContextManager[Any]]:
    statement = getattr(follow, name)
    assert old in statement
    return partial(mock.patch.object, follow, name, statement.replace(old, new))


def _outside_the_transaction() -> AbstractContextManager[Any]:
    """The cursor is moved by a commit of its own, after that of the effect."""
    right = follow._store

    async def wrong(connection: Any, tally: facts.Tally) -> None:
        await right(connection, tally)
        await connection.execute("COMMIT")
        await connection.execute("BEGIN")

    return mock.patch.object(follow, "_store", wrong)


def _open_since_the_beginning() -> AbstractContextManager[Any]:
    right = facts._moved

    def wrong(tally: facts.Tally, item: known.Known, body: Any) -> None:
        since = item.open_since
        right(tally, item, body)
        item.open_since = since

    return mock.patch.object(facts, "_moved", wrong)


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "off by one on reopen": _reopen_counted_twice,
    "a reopened conversation is not added again": _reopen_not_added,
    "resolution is measured from the beginning though it was reopened": _open_since_the_beginning,
    "the cursor moves in another transaction": _outside_the_transaction,
    "two followers do not wait for each other": _sql("POSITION", " FOR UPDATE", ""),
    "what was counted in a quarter is replaced": _sql(
        "ADD", "count = b.count + excluded.count", "count = excluded.count"
    ),
    "sketches are a bin off": _code(facts, "bin_of", lambda seconds: bin_of(seconds) + 1),
    "an archived conversation does not come back": _code(
        facts, "LIVE_STATUSES", ("new", "open", "pending", "archived")
    ),
}
