"""Sets, cancels and fires timers. A timer knows a kind, a key and a payload; `runner.py` alone maps kinds to what they do."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import structlog
from prometheus_client import Counter, Histogram
from switchboard.v1 import actor_pb2

from server.kit.db import Connection, Database, Write
from server.kit.edge import attempt
from server.kit.errors import DatabaseUnavailable
from server.log.append import append
from server.log.event import SYSTEM, Cause, NewEvent, Origin

log = structlog.get_logger(__name__)

# Timers of one transaction: they share its locks on conversations and the head, so it is kept to some tens of milliseconds.
BATCH = 64
# One that fails is tried again after these; after the last one it is dead: ten attempts within four hours.
RETRIES = tuple(timedelta(seconds=seconds) for seconds in (2, 8, 32, 128, 512, 2048, 3600, 3600, 3600))
# What the state says may be later than a timer by so much without setting it anew: databases keep whole microseconds.
EARLY = timedelta(milliseconds=1)
# Kinds that only a newer release knows are looked at so often, in case such a worker has come.
UNKNOWN_AGAIN = timedelta(minutes=1)

FIRED = Counter("switchboard_timers_fired_total", "Timers that fired.", ["kind"])
FAILED = Counter(
    "switchboard_timers_failed_total", "Firings that failed; each is tried again later.", ["kind", "error"]
)
DEAD = Counter("switchboard_timers_dead_total", "Timers given up after their last attempt. Should be 0.", ["kind"])
LATE = Histogram(
    "switchboard_timers_late_seconds",
    "From the intended time of a timer to the commit of what it did.",
    ["kind"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600),
)

SET = """
INSERT INTO timers (kind, key, due_time, generation, payload)
SELECT $1::text, u.key, u.due_time, $4::bigint, $5::jsonb FROM unnest($2::uuid[], $3::timestamptz[]) AS u (key, due_time) ORDER BY u.key
ON CONFLICT (kind, key) DO UPDATE SET due_time = excluded.due_time, generation = excluded.generation,
    payload = excluded.payload, attempt = 0, retry_time = NULL, dead_time = NULL, error = NULL
"""
CANCEL = "DELETE FROM timers WHERE kind = $1 AND key = ANY($2::uuid[])"
DUE = """
SELECT kind, key, due_time, generation, attempt FROM timers
WHERE coalesce(retry_time, due_time) <= clock_now() AND dead_time IS NULL AND kind = ANY($1::text[])
ORDER BY coalesce(retry_time, due_time), kind, key LIMIT $2
"""
# What fires deletes the rows in its own transaction: two workers cannot both fire one, a crash leaves it due.
TAKE = """
WITH locked AS (
    SELECT t.kind, t.key FROM timers t JOIN unnest($1::text[], $2::uuid[]) AS u (kind, key) ON u.kind = t.kind AND u.key = t.key
    WHERE coalesce(t.retry_time, t.due_time) <= clock_now() AND t.dead_time IS NULL
    ORDER BY t.kind, t.key FOR UPDATE OF t
)
DELETE FROM timers t USING locked WHERE t.kind = locked.kind AND t.key = locked.key
RETURNING t.kind, t.key, t.due_time, t.generation, t.payload, clock_now() - t.due_time AS late
"""
FIRST = """
SELECT kind, coalesce(retry_time, due_time) AS time, clock_now() AS now FROM timers
WHERE dead_time IS NULL AND ($1::text[] IS NULL OR kind = ANY($1)) ORDER BY coalesce(retry_time, due_time), kind, key LIMIT 1
"""
# Only the very timer that failed, and each try once: it may have been set anew, and two workers may have tried together.
FAIL = """
UPDATE timers SET attempt = attempt + 1, error = $5, retry_time = clock_now() + $6::interval,
    dead_time = CASE WHEN $6::interval IS NULL THEN clock_now() END
WHERE kind = $1 AND key = $2 AND due_time = $3 AND generation = $4 AND attempt = $7
"""
LIST = """
SELECT kind, key, due_time, attempt, retry_time, dead_time, error FROM timers
WHERE (NOT $1 OR attempt > 0) AND ($2::text IS NULL OR (kind, key) > ($2, $3)) ORDER BY kind, key LIMIT $4
"""
REARM = """
UPDATE timers SET attempt = 0, retry_time = NULL, dead_time = NULL, error = NULL
WHERE attempt > 0 AND ($1::text IS NULL OR kind = $1) AND ($2::uuid IS NULL OR key = $2)
"""


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer that fires. due_time: when it was meant to, however late it is."""

    kind: str
    key: uuid.UUID
    due_time: datetime
    generation: int
    payload: Mapping[str, Any]

    @property
    def origin(self) -> Origin:
        """The system, because of this timer."""
        return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_TIMER, id=f"{self.kind}/{self.key}"))


class Firing(Protocol):
    """What the timers of one transaction do. fire acts on one and returns its events; save, once, writes what they changed."""

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Called in the order of the due times."""

    async def save(self) -> None:
        """Called after the last one; the events are appended after it."""


# Locks and loads what timers with these keys are about, before the timers themselves are taken: conversations come first in
# the order of locks. Kinds with the same opener share a transaction.
Opener = Callable[[Write, Sequence[uuid.UUID]], Awaitable[Firing]]
Handlers = Mapping[str, Opener]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run came to. more: there were as many due as it takes at once, so probably there are more."""

    fired: int
    failed: int
    more: bool


@dataclass(frozen=True, slots=True)
class Next:
    """When the next timer is due, and how long that is from now by the database's clock; not positive when it is due."""

    time: datetime
    wait: timedelta


@dataclass(frozen=True, slots=True)
class _Due:
    kind: str
    key: uuid.UUID
    due_time: datetime
    generation: int
    attempt: int


async def set_timer(
    connection: Connection,
    *,
    kind: str,
    key: uuid.UUID,
    due_time: datetime,
    generation: int = 0,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Sets a timer; the new time replaces the old."""
    stored = None if payload is None else json.dumps(payload)
    await connection.execute(SET, kind, [key], [due_time], generation, stored)


async def set_timers(connection: Connection, *, kind: str, due_times: Mapping[uuid.UUID, datetime]) -> None:
    """Sets several timers of a kind, by key."""
    if due_times:
        await connection.execute(SET, kind, list(due_times), list(due_times.values()), 0, None)


async def cancel(connection: Connection, *, kind: str, keys: list[uuid.UUID]) -> None:
    """Cancels timers."""
    await connection.execute(CANCEL, kind, keys)


async def next_due(connection: Connection, *, kinds: Sequence[str]) -> Next | None:
    """When the next timer is due. One of a kind that is not among `kinds` counts as due a minute from now at the earliest."""
    first = await connection.fetchrow(FIRST, None)
    if first is None or first["kind"] in kinds or first["time"] - first["now"] > UNKNOWN_AGAIN:
        return _next(first)
    ours = await connection.fetchrow(FIRST, kinds)
    again = Next(first["now"] + UNKNOWN_AGAIN, UNKNOWN_AGAIN)
    return again if ours is None else min(again, _next(ours) or again, key=lambda item: item.time)


def _next(record: Any) -> Next | None:
    return None if record is None else Next(record["time"], record["time"] - record["now"])


async def run_due(database: Database, handlers: Handlers, *, limit: int = BATCH) -> Ran:
    """Fires up to `limit` of what is due, in the order of the due times, in one transaction for all that open alike.

    A transaction that fails is halved until what fails is alone: that is tried again later, its siblings go on. Kinds that
    this release does not know stay for one that does. DatabaseUnavailable.
    """
    async with database.connection() as connection:
        due = [_Due(**record) for record in await connection.fetch(DUE, list(handlers), limit)]
    fired = failed = 0
    for opener, batch in _by_opener(due, handlers):
        ran = await _run(database, opener, batch)
        fired, failed = fired + ran.fired, failed + ran.failed
    return Ran(fired, failed, more=len(due) == limit)


def _by_opener(due: Sequence[_Due], handlers: Handlers) -> Iterator[tuple[Opener, list[_Due]]]:
    batches: dict[Opener, list[_Due]] = {}
    for item in due:
        batches.setdefault(handlers[item.kind], []).append(item)
    yield from batches.items()


async def _run(database: Database, opener: Opener, batch: Sequence[_Due]) -> Ran:
    fired = await attempt(_fire(database, opener, batch))
    if isinstance(fired, DatabaseUnavailable):
        raise fired
    if not isinstance(fired, Exception):
        return Ran(fired, 0, more=False)
    if len(batch) == 1:
        (failed,) = batch
        log.error("timer.failed", kind=failed.kind, key=str(failed.key), attempt=failed.attempt + 1, exc_info=fired)
        await _fail(database, failed, fired)
        return Ran(0, 1, more=False)
    half = len(batch) // 2
    first, second = await _run(database, opener, batch[:half]), await _run(database, opener, batch[half:])
    return Ran(first.fired + second.fired, first.failed + second.failed, more=False)


async def _fire(database: Database, opener: Opener, batch: Sequence[_Due]) -> int:
    began = time.monotonic()
    taken = await database.write(partial(_unit, opener=opener, batch=batch))
    for record in taken:
        FIRED.labels(record["kind"]).inc()
        LATE.labels(record["kind"]).observe(record["late"].total_seconds() + time.monotonic() - began)
    return len(taken)


async def _unit(write: Write, *, opener: Opener, batch: Sequence[_Due]) -> list[Any]:
    firing = await opener(write, sorted({item.key for item in batch}))
    taken = await take(write.connection, [(item.kind, item.key) for item in batch])
    events: list[NewEvent] = []
    for record in taken:
        events += await firing.fire(_fired(record))
    await firing.save()
    await append(write, events)
    return taken


async def take(connection: Connection, wanted: Sequence[tuple[str, uuid.UUID]]) -> list[Any]:
    """Deletes those that are still due and returns them in the order of their due times."""
    found = await connection.fetch(TAKE, [kind for kind, _ in wanted], [key for _, key in wanted])
    return sorted(found, key=lambda record: (record["due_time"], record["kind"], record["key"]))


def _fired(record: Any) -> Fired:
    payload = json.loads(record["payload"]) if record["payload"] else {}
    return Fired(record["kind"], record["key"], record["due_time"], record["generation"], payload)


async def _fail(database: Database, failed: _Due, error: Exception) -> None:
    said = f"{type(error).__name__} {getattr(error, 'sqlstate', '')}".strip()
    again = RETRIES[failed.attempt] if failed.attempt < len(RETRIES) else None

    async def unit(write: Write) -> None:
        arguments = (failed.kind, failed.key, failed.due_time, failed.generation)
        await write.connection.execute(FAIL, *arguments, said, again, failed.attempt)

    await database.write(unit)
    FAILED.labels(failed.kind, type(error).__name__).inc()
    if again is None:
        DEAD.labels(failed.kind).inc()
        log.error("timer.dead", kind=failed.kind, key=str(failed.key), error=said)


@dataclass(frozen=True, slots=True)
class Listed:
    """A timer as an operator sees it. attempt: how often it failed; error: what it failed with last."""

    kind: str
    key: uuid.UUID
    due_time: datetime
    attempt: int
    retry_time: datetime | None
    dead_time: datetime | None
    error: str | None


async def list_timers(
    connection: Connection, *, failed: bool, after: tuple[str, uuid.UUID] | None = None, limit: int = 1000
) -> list[Listed]:
    """Timers by kind and key. failed: only those that failed at least once. after: kind and key of the last one seen."""
    kind, key = after or (None, None)
    return [Listed(**record) for record in await connection.fetch(LIST, failed, kind, key, limit)]


async def rearm(connection: Connection, *, kind: str | None, key: uuid.UUID | None) -> int:
    """Makes timers that failed, dead ones too, due as if they never had; returns how many."""
    done: str = await connection.execute(REARM, kind, key)
    return int(done.rpartition(" ")[2])
