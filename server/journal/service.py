"""Stores payloads before the provider gets its 200, and finds those that are not applied yet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from server.kit.clock import utc_now
from server.kit.db import Connection, Write, ensure

KEEP = timedelta(days=30)
# Whoever stored a payload applies it at once; a worker takes over what is still received after this.
TAKE_OVER_AFTER = timedelta(seconds=2)

STORE = """
INSERT INTO journal (id, receive_time, provider, meta_app_id, body, sha256, split, secret_index, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'received') ON CONFLICT DO NOTHING
"""
LOAD = "SELECT id, receive_time, provider, meta_app_id, body, sha256, split, secret_index FROM journal WHERE id = $1 AND receive_time = $2"
LEFT = """
SELECT id, receive_time FROM journal
WHERE state = 'received' AND receive_time < clock_now() - $1::interval ORDER BY receive_time LIMIT $2
"""
APPLIED = """
UPDATE journal SET state = 'applied', parser_version = $3, apply_time = $4 WHERE id = $1 AND receive_time = $2
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


async def left(connection: Connection, *, limit: int) -> list[tuple[uuid.UUID, datetime]]:
    """Payloads that whoever stored them did not apply: ids and receive times, oldest first."""
    records = await connection.fetch(LEFT, TAKE_OVER_AFTER, limit)
    return [(record["id"], record["receive_time"]) for record in records]


async def mark_applied(connection: Connection, payload: Payload, *, parser_version: int) -> None:
    """Every item of the payload is recorded."""
    await connection.execute(APPLIED, payload.id, payload.receive_time, parser_version, utc_now())


async def drop_old(connection: Connection, *, today: date) -> int:
    """Drops whole days that are older than 30 days; returns how many."""
    dropped: int = await connection.fetchval("SELECT drop_journal_before($1)", today - KEEP)
    return dropped
