"""What a tenant's database knows about the rights of its agents."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from server.agents.roles import permissions_of
from server.kit.db import Database

RIGHTS = """
SELECT a.id, a.role, a.state, r.permissions, coalesce(c.ids, '{}') AS channel_ids, coalesce(t.ids, '{}') AS team_ids
FROM agents a
LEFT JOIN roles r ON r.id = a.role_id
LEFT JOIN (SELECT agent_id, array_agg(channel_id) AS ids FROM channel_members GROUP BY agent_id) c ON c.agent_id = a.id
LEFT JOIN (SELECT agent_id, array_agg(team_id) AS ids FROM team_members GROUP BY agent_id) t ON t.agent_id = a.id
"""


@dataclass(frozen=True, slots=True)
class Rights:
    """What an agent may do, its state and memberships."""

    permissions: frozenset[int]
    state: str
    channel_ids: frozenset[uuid.UUID]
    team_ids: frozenset[uuid.UUID]


async def load_rights(database: Database, agent_id: uuid.UUID) -> Rights | None:
    """The rights of an agent now; None when the tenant has no such agent."""
    async with database.connection() as connection:
        row = await connection.fetchrow(f"{RIGHTS} WHERE a.id = $1", agent_id)
    return None if row is None else _rights(row)


async def load_all_rights(database: Database) -> dict[uuid.UUID, Rights]:
    """The rights of all agents of a tenant, in one statement however many of them have streams."""
    async with database.connection() as connection:
        rows = await connection.fetch(RIGHTS)
    return {row["id"]: _rights(row) for row in rows}


def _rights(row: Any) -> Rights:
    return Rights(
        permissions=permissions_of(row["role"], row["permissions"]),
        state=row["state"],
        channel_ids=frozenset(row["channel_ids"]),
        team_ids=frozenset(row["team_ids"]),
    )
