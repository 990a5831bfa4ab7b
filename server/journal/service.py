"""Stores payloads before the provider gets its 200, and finds those that are not applied yet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from server.kit.clock import utc_now
from server.kit.db import Connection, Write, ensure

KEEP = timedelta(days=30)
# Whoever stores a payload applies it at once. After 2 s somebody else may, then after 8 s, 32 s and so on, an hour at most:
# what brings a process down, or a database to its knees, must not do so in a loop.
ATTEMPTS = 8

STORE = """
INSERT INTO journal (id, receive_time, provider, meta_app_id, body, sha256, split, secret_index, state, due_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'received', clock_now() + interval '2 seconds') ON CONFLICT DO NOTHING
"""
LOAD = """
SELECT id, receive_time, provider, meta_app_id, body, sha256, split, secret_index FROM journal
WHERE id = $1 AND receive_time = $2
"""
# The attempt is counted before it begins, so that one which ends with its process counts too.
TAKE = """
WITH due AS (
    SELECT id, receive_time FROM journal WHERE state = 'received' AND due_time <= clock_now()
    ORDER BY due_time LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE journal j SET attempts = attempts + 1,
    due_time = clock_now() + least(interval '1 hour', interval '2 seconds' * power(4, attempts)),
    state = CASE WHEN attempts >= $1 THEN 'failed' ELSE 'received' END
FROM due WHERE j.id = due.id AND j.receive_time = due.receive_time
RETURNING j.id, j.receive_time, j.state
"""
_IN_RANGE = """
receive_time >= $1 AND receive_time < $2 AND (cardinality($3::uuid[]) = 0 OR id = ANY($3::uuid[]))
"""
COUNT = f"SELECT count(*) FROM journal WHERE {_IN_RANGE}"
PAGE = f"""
SELECT id, receive_time, provider, meta_app_id, body, sha256, split, secret_index FROM journal
WHERE {_IN_RANGE} AND (receive_time, id) > ($4, $5) ORDER BY receive_time, id LIMIT $6
"""
NEXT_DUE = "SELECT min(due_time) FROM journal WHERE state = 'received'"
APPLIED = """
UPDATE journal SET state = 'applied', parser_version = $3, apply_time = $4, error = NULL
WHERE id = $1 AND receive_time = $2 AND (state <> 'applied' OR parser_version IS DISTINCT FROM $3)
"""
NOT_APPLIED = """
UPDATE journal SET error = $3, state = CASE WHEN attempts >= $4 THEN 'failed' ELSE state END
WHERE id = $1 AND receive_time = $2 AND state = 'received'
"""
WAIT = """
UPDATE journal SET due_time = clock_now() + $3::interval, attempts = greatest(attempts - 1, 1)
WHERE id = $1 AND receive_time = $2 AND state = 'received'
"""


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload, or a tenant's part of one. sha256: of the whole body, also when it was split."""

    id: uuid.UUID
    receive_time: datetime
    provider: str
    meta_app_id: str
    body: bytes
    sha256: bytes
    split: bool
    secret_index: int


async def store(write: Write, payload: Payload) -> None:
    """Stores a payload; storing it again changes nothing."""
    await ensure(write, "SELECT ensure_journal_day($1)", payload.receive_time.date())
    await write.connection.execute(
        STORE,
        *(payload.id, payload.receive_time, payload.provider, payload.meta_app_id, payload.body),
        *(payload.sha256, payload.split, payload.secret_index),
    )


async def load(connection: Connection, payload_id: uuid.UUID, receive_time: datetime) -> Payload | None:
    """A payload."""
    record = await connection.fetchrow(LOAD, payload_id, receive_time)
    return None if record is None else Payload(**record)


async def take(connection: Connection) -> tuple[uuid.UUID, datetime] | None:
    """A payload to apply now, whose earlier attempts came to nothing: its id and receive time; the longest due first.

    It is this caller's until its next attempt is due. One that had all its attempts is marked failed and not given out.
    """
    while record := await connection.fetchrow(TAKE, ATTEMPTS):
        if record["state"] == "received":
            return record["id"], record["receive_time"]
    return None


async def next_due(connection: Connection) -> datetime | None:
    """When the next payload may be taken."""
    found: datetime | None = await connection.fetchval(NEXT_DUE)
    return found


async def mark_applied(connection: Connection, payload: Payload, *, parser_version: int) -> None:
    """Every item of the payload is recorded."""
    await connection.execute(APPLIED, payload.id, payload.receive_time, parser_version, utc_now())


async def mark_not_applied(
    connection: Connection, payload_id: uuid.UUID, receive_time: datetime, *, error: str
) -> None:
    """An attempt went wrong; failed after the last one. error: a kind of exception, no customer data."""
    await connection.execute(NOT_APPLIED, payload_id, receive_time, error, ATTEMPTS)


async def wait(connection: Connection, payload: Payload, *, for_: timedelta) -> None:
    """The payload can be applied later; this attempt does not count."""
    await connection.execute(WAIT, payload.id, payload.receive_time, for_)


@dataclass(frozen=True, slots=True)
class Range:
    """Payloads by receive time, the first one included and the last one not; ids: these alone, all when empty."""

    since: datetime
    until: datetime
    ids: tuple[uuid.UUID, ...] = ()


async def count(connection: Connection, wanted: Range) -> int:
    """How many payloads there are in a range."""
    found: int = await connection.fetchval(COUNT, wanted.since, wanted.until, list(wanted.ids))
    return found


async def page(
    connection: Connection, wanted: Range, *, after: tuple[datetime, uuid.UUID] | None, limit: int
) -> list[Payload]:
    """Payloads of a range in the order they were received."""
    last = after or (wanted.since, uuid.UUID(int=0))
    records = await connection.fetch(PAGE, wanted.since, wanted.until, list(wanted.ids), *last, limit)
    return [Payload(**record) for record in records]


async def drop_old(connection: Connection, *, today: date) -> int:
    """Drops whole days that are older than 30 days; returns how many."""
    dropped: int = await connection.fetchval("SELECT drop_journal_before($1)", today - KEEP)
    return dropped
