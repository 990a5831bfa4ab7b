"""What became of the items of payloads: each item is recorded once, however often it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from server.kit.db import Connection


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The columns of journal_items. state: applied, duplicate, ignored, parked, failed or superseded; result: ids or a short reason."""

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

    @property
    def key(self) -> tuple[str, ...]:
        """What tells items apart."""
        return str(self.channel_id), self.kind, self.provider_id, self.discriminator, str(self.provider_time)


NAMES = tuple(field.name for field in fields(ItemRow))
KINDS = ("uuid", "uuid", "uuid", "text", "text", "text", "timestamptz", "text", "integer", "text", "timestamptz")
# Many items from parallel arrays. What is recorded already stays as it is, except where an item had failed before.
INSERT_FROM = """
INSERT INTO journal_items (
    id, journal_id, channel_id, kind, provider_id, discriminator, provider_time, state, parser_version, result, create_time
)
SELECT * FROM unnest({arrays}) WHERE {guard}
ON CONFLICT (channel_id, kind, provider_id, discriminator, provider_time) DO UPDATE
SET id = excluded.id, journal_id = excluded.journal_id, state = excluded.state, parser_version = excluded.parser_version,
    result = excluded.result
WHERE journal_items.state = 'failed' AND excluded.state <> 'failed'
"""
INSERT = INSERT_FROM.format(
    arrays=", ".join(f"${index + 1}::{kind}[]" for index, kind in enumerate(KINDS)), guard="TRUE"
)


def columns(rows: Sequence[ItemRow]) -> list[list[Any]]:
    """The arrays of INSERT: each item once, and in one order for everybody, so that two that record the same do not deadlock."""
    once: dict[tuple[str, ...], ItemRow] = {}
    for row in rows:
        # The same message twice in one payload is applied and a duplicate: what it did counts.
        if row.key not in once or once[row.key].state == "duplicate":
            once[row.key] = row
    ordered = [once[key] for key in sorted(once)]
    # Not by astuple, which copies every value deeply: it took more time than all the rules together.
    return [[getattr(row, name) for row in ordered] for name in NAMES]


async def insert(connection: Connection, rows: Sequence[ItemRow]) -> None:
    """Records items."""
    if rows:
        await connection.execute(INSERT, *columns(rows))


# Three look-ups by index: no condition on both a value and its absence could use one.
HELD = """
SELECT i.id, i.journal_id, i.channel_id, i.kind, i.provider_id, i.discriminator, i.provider_time, i.state, i.parser_version,
    i.result, i.create_time
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (channel_id, kind, provider_id)
JOIN journal_items i ON i.channel_id = k.channel_id AND i.kind = k.kind AND i.provider_id = k.provider_id
UNION
SELECT i.id, i.journal_id, i.channel_id, i.kind, i.provider_id, i.discriminator, i.provider_time, i.state, i.parser_version,
    i.result, i.create_time
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (channel_id, kind, provider_id)
JOIN journal_items i ON i.channel_id IS NULL AND i.kind = k.kind AND i.provider_id = k.provider_id
WHERE k.channel_id IS NULL
UNION
SELECT id, journal_id, channel_id, kind, provider_id, discriminator, provider_time, state, parser_version, result, create_time
FROM journal_items WHERE journal_id = ANY($4::uuid[])
"""
SUPERSEDE = """
UPDATE journal_items SET state = 'superseded', parser_version = $2
WHERE id = ANY($1::uuid[]) AND state IN ('failed', 'ignored')
"""
REREAD = "UPDATE journal_items SET parser_version = $2 WHERE id = $1 AND parser_version < $2"


async def held(
    connection: Connection, *, journal_ids: Sequence[uuid.UUID], keys: Sequence[tuple[uuid.UUID | None, str, str]]
) -> list[ItemRow]:
    """Items that these payloads brought, and those of these channels, kinds and provider ids that others brought."""
    columns = [[key[index] for key in keys] for index in range(3)]
    return [ItemRow(**record) for record in await connection.fetch(HELD, *columns, list(journal_ids))]


async def supersede(connection: Connection, item_ids: Sequence[uuid.UUID], *, parser_version: int) -> None:
    """Items that a later parser takes for something else, which is recorded beside them."""
    if item_ids:
        await connection.execute(SUPERSEDE, list(item_ids), parser_version)


async def mark_reread(connection: Connection, item_id: uuid.UUID, *, parser_version: int) -> None:
    """The item's message says now what this parser reads."""
    await connection.execute(REREAD, item_id, parser_version)
