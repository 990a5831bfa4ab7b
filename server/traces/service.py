"""Keeps a traceparent beside a row: by a payload's id, a customer's message's, and by the part of a message that is sent.

Written and asked for only where traces are on. Nothing depends on a row being there, so none of this is part of a transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

import asyncpg
import structlog

from server.kit import tracing
from server.kit.db import Connection, Database
from server.kit.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)
STORE = """
INSERT INTO traces (id, traceparent, create_time)
SELECT id, traceparent, now() FROM unnest($1::uuid[], $2::text[]) AS t (id, traceparent) ON CONFLICT DO NOTHING
"""
FIND = "SELECT id, traceparent FROM traces WHERE id = ANY($1::uuid[])"
# What is traced goes on without its trace.
FAILURES = (DatabaseUnavailable, asyncpg.PostgresError)
DROP = "DELETE FROM traces WHERE create_time < clock_now() - interval '7 days'"


async def store(database: Database, contexts: Mapping[uuid.UUID, str | None]) -> None:
    """Keeps contexts by the ids of their rows; those without one are left out."""
    kept = {key: value for key, value in contexts.items() if value is not None}
    if not kept:
        return
    try:
        async with database.connection() as connection:
            await connection.execute(STORE, list(kept), list(kept.values()))
    except FAILURES as error:
        log.warning("traces.not_stored", error=type(error).__name__)


async def find(database: Database, ids: Iterable[uuid.UUID | None]) -> dict[uuid.UUID, str]:
    """The contexts of rows, as far as they are known."""
    wanted = [key for key in ids if key is not None]
    if not tracing.on() or not wanted:
        return {}
    try:
        async with database.connection() as connection:
            return {row["id"]: row["traceparent"] for row in await connection.fetch(FIND, wanted)}
    except FAILURES as error:
        log.warning("traces.not_found", error=type(error).__name__)
        return {}


async def drop_old(connection: Connection) -> None:
    """Forgets what is older than seven days; receipts come no later."""
    await connection.execute(DROP)
