"""What became of the items of payloads: each item is recorded once, however often it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from server.kit.db import Connection


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The columns of journal_items. state: applied, duplicate, ignored, parked or failed; result: ids or a short reason."""

    id: uuid.UUID
    journal_id: uuid.UUID
    channel_id: uuid.UUID | None
    kind: str
    provider_id: str
    discriminator: str
    provider_time: datetime | None
    state: str
    parser_version: int
    result: str | None
    create_time: datetime


KINDS = ("uuid", "uuid", "uuid", "text", "text", "text", "timestamptz", "text", "integer", "text", "timestamptz")
# Many items from parallel arrays; what is recorded already stays as it is.
INSERT_FROM = """
INSERT INTO journal_items (
    id, journal_id, channel_id, kind, provider_id, discriminator, provider_time, state, parser_version, result, create_time
)
SELECT * FROM unnest({arrays}) WHERE {guard}
ON CONFLICT DO NOTHING
"""
INSERT = INSERT_FROM.format(
    arrays=", ".join(f"${index + 1}::{kind}[]" for index, kind in enumerate(KINDS)), guard="TRUE"
)


def columns(rows: Sequence[ItemRow]) -> list[list[Any]]:
    """The arrays of insert_sql, in one order for everybody: two that record the same items must not wait for each other."""
    flat = [astuple(row) for row in sorted(rows, key=_key)]
    return [[row[index] for row in flat] for index in range(len(KINDS))]


def _key(row: ItemRow) -> tuple[str, ...]:
    return str(row.channel_id), row.kind, row.provider_id, row.discriminator, str(row.provider_time)


async def insert(connection: Connection, rows: Sequence[ItemRow]) -> None:
    """Records items."""
    if rows:
        await connection.execute(INSERT, *columns(rows))
