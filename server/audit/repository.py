"""The trail as it is read: pages, and what is recorded beside changes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.kit.db import Connection

SETTINGS = "SELECT reads FROM audit_head WHERE id = 1"
SET = "UPDATE audit_head SET reads = $1 WHERE id = 1"
PAGE = """
SELECT * FROM audit_entries
WHERE ($1::bigint IS NULL OR number < $1) AND {conditions}
ORDER BY number DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; None leaves one out."""

    actor_id: uuid.UUID | None = None
    method: str | None = None
    resource_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        """As SQL, with its parameters from the third on."""
        asked: list[tuple[str, Any]] = [
            ("actor_id = ${}", self.actor_id),
            ("method = ${}", self.method),
            ("resource_ids @> ARRAY[${}::text]", self.resource_id),
            ("create_time >= ${}", self.start),
            ("create_time < ${}", self.end),
        ]
        told = [(text, value) for text, value in asked if value is not None]
        parts = [text.format(n) for n, (text, _) in enumerate(told, start=3)]
        return " AND ".join(parts) or "TRUE", [value for _, value in told]


async def page(connection: Connection, wanted: Wanted, *, before: int | None, limit: int) -> list[Any]:
    """Entries with smaller numbers, newest first."""
    conditions, values = wanted.conditions()
    records: list[Any] = await connection.fetch(PAGE.format(conditions=conditions), before, limit, *values)
    return records


async def reads(connection: Connection) -> bool:
    """Whether reads are recorded."""
    found: bool = await connection.fetchval(SETTINGS)
    return found


async def set_reads(connection: Connection, to: bool) -> None:
    """Sets whether they are."""
    await connection.execute(SET, to)
