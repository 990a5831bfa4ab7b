"""The journal as an operator looks at it: payloads and items with their outcome; bodies only where they are asked for."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from server.journal.items import ItemRow
from server.kit.db import Connection

_COLUMNS = """
j.id, j.receive_time, j.provider, j.meta_app_id, j.state, j.attempts, j.due_time, j.error, j.parser_version, j.apply_time,
j.secret_index, j.split, octet_length(j.body) AS size
"""
LIST = f"""
SELECT {_COLUMNS} FROM journal j
WHERE j.receive_time >= $1 AND j.receive_time < $2 AND ($3::text IS NULL OR j.state = $3)
    AND (NOT $4 OR j.state = 'failed' OR EXISTS (SELECT FROM journal_items i WHERE i.journal_id = j.id AND i.state = 'failed'))
ORDER BY j.receive_time DESC, j.id DESC LIMIT $5
"""
ONE = f"SELECT {_COLUMNS} FROM journal j WHERE j.id = $1"
BODY = "SELECT body FROM journal WHERE id = $1"
ITEMS = """
SELECT id, journal_id, channel_id, kind, provider_id, discriminator, provider_time, state, parser_version, result, create_time
FROM journal_items WHERE journal_id = ANY($1::uuid[]) ORDER BY journal_id, create_time, id
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload without its body. size: of the body, in bytes."""

    id: uuid.UUID
    receive_time: datetime
    provider: str
    meta_app_id: str
    state: str
    attempts: int
    due_time: datetime | None
    error: str | None
    parser_version: int | None
    apply_time: datetime | None
    secret_index: int
    split: bool
    size: int

    @property
    def signed_with(self) -> str:
        """Which of the app's secrets the signature was made with."""
        return "present secret" if self.secret_index == 0 else "previous secret"


async def entries(
    connection: Connection, *, since: datetime, until: datetime, state: str | None, failed: bool, limit: int
) -> list[Entry]:
    """Payloads, the newest first. failed: those that are, or that have an item that is."""
    return [Entry(**record) for record in await connection.fetch(LIST, since, until, state, failed, limit)]


async def entry(connection: Connection, payload_id: uuid.UUID) -> Entry | None:
    """One payload."""
    record = await connection.fetchrow(ONE, payload_id)
    return None if record is None else Entry(**record)


async def body(connection: Connection, payload_id: uuid.UUID) -> bytes:
    """The payload as it came: customer data."""
    found: bytes = await connection.fetchval(BODY, payload_id)
    return found


async def items(connection: Connection, payload_ids: Sequence[uuid.UUID]) -> list[ItemRow]:
    """What was first found in these payloads. provider_id and discriminator are customer data."""
    return [ItemRow(**record) for record in await connection.fetch(ITEMS, list(payload_ids))]
