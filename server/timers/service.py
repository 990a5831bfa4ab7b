"""Sets, cancels and fires timers. A timer knows a kind, a key and a payload; `worker.py` alone maps kinds to functions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import structlog
from switchboard.v1 import actor_pb2

from server.kit.db import Connection, Database, Write
from server.kit.errors import Refusal
from server.log.event import SYSTEM, Cause, Origin

log = structlog.get_logger(__name__)

SET = """
INSERT INTO timers (kind, key, due_time, generation, payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, key) DO UPDATE SET due_time = excluded.due_time, generation = excluded.generation, payload = excluded.payload
"""
# A lazy timer is written when there is none; one that fires early is set again by what it fires.
SET_IF_ABSENT = """
INSERT INTO timers (kind, key, due_time, generation)
SELECT kind, key, due_time, 0 FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) AS u (kind, key, due_time)
ON CONFLICT (kind, key) DO NOTHING
"""
CANCEL = "DELETE FROM timers WHERE kind = $1 AND key = ANY($2::uuid[])"
DUE = "SELECT kind, key FROM timers WHERE due_time <= clock_now() AND kind = ANY($1::text[]) ORDER BY due_time LIMIT $2"
# What fires deletes the row in its own transaction: two workers cannot both fire it, a crash leaves it due.
TAKE = "DELETE FROM timers WHERE kind = $1 AND key = $2 AND due_time <= clock_now() RETURNING due_time, generation, payload"
NEXT = "SELECT min(due_time) FROM timers"


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


# Locks what the timer is about, before the timer itself is taken: conversations come first in the order of locks.
Prepare = Callable[[Write, uuid.UUID], Awaitable[Any]]
Fire = Callable[[Write, Fired, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handler:
    """What a kind of timer does: prepare(write, key) locks and loads, fire(write, fired, loaded) acts and appends."""

    prepare: Prepare
    fire: Fire


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
    await connection.execute(SET, kind, key, due_time, generation, None if payload is None else json.dumps(payload))


async def cancel(connection: Connection, *, kind: str, keys: list[uuid.UUID]) -> None:
    """Cancels timers."""
    await connection.execute(CANCEL, kind, keys)


async def next_due(connection: Connection) -> datetime | None:
    """When the next timer is due."""
    found: datetime | None = await connection.fetchval(NEXT)
    return found


async def run_due(database: Database, handlers: Mapping[str, Handler], *, limit: int = 200) -> int:
    """Fires what is due, each in a transaction of its own; returns how many did not fail.

    One that fails is logged and stays due; its siblings go on. Kinds that this release does not know stay for one that does.
    """
    async with database.connection() as connection:
        due = await connection.fetch(DUE, list(handlers), limit)
    fired = 0
    for record in due:
        try:
            await _fire(database, handlers[record["kind"]], kind=record["kind"], key=record["key"])
            fired += 1
        except (Refusal, asyncpg.PostgresError) as error:
            log.warning("timer.failed", kind=record["kind"], key=str(record["key"]), error=type(error).__name__)
    return fired


async def _fire(database: Database, handler: Handler, *, kind: str, key: uuid.UUID) -> None:
    async def unit(write: Write) -> None:
        loaded = await handler.prepare(write, key)
        taken = await write.connection.fetchrow(TAKE, kind, key)
        if taken is None:
            return
        payload = json.loads(taken["payload"]) if taken["payload"] else {}
        fired = Fired(kind=kind, key=key, due_time=taken["due_time"], generation=taken["generation"], payload=payload)
        await handler.fire(write, fired, loaded)

    await database.write(unit)
