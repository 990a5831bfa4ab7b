"""Whom a mention reaches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from server.kit.db import Connection
from server.kit.errors import FieldViolation, InvalidFields

KNOWN = {
    "agent_ids": "SELECT id FROM agents WHERE id = ANY($1::uuid[]) AND state = 'active'",
    "team_ids": "SELECT id FROM teams WHERE id = ANY($1::uuid[]) AND delete_time IS NULL",
}
MEMBERS = """
SELECT DISTINCT m.agent_id FROM team_members m JOIN agents a ON a.id = m.agent_id
WHERE m.team_id = ANY($1::uuid[]) AND a.state = 'active'
"""


async def check_mentioned(
    connection: Connection, *, agent_ids: Sequence[uuid.UUID], team_ids: Sequence[uuid.UUID]
) -> None:
    """Refuses agents that are unknown or disabled, and unknown teams. InvalidFields."""
    for name, ids in (("agent_ids", agent_ids), ("team_ids", team_ids)):
        found = {record["id"] for record in await connection.fetch(KNOWN[name], list(ids))} if ids else set()
        unknown = [index for index, item in enumerate(ids) if item not in found]
        if unknown:
            raise InvalidFields(*(FieldViolation(f"mentions.{name}[{index}]", "is not known") for index in unknown))


async def active_members(connection: Connection, team_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """The active agents of some teams."""
    if not team_ids:
        return set()
    return {record["agent_id"] for record in await connection.fetch(MEMBERS, list(team_ids))}
