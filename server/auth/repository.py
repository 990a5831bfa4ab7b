"""What a tenant's database knows about the rights of its agents."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from server.kit.db import Database

RIGHTS = """
SELECT role, state, array(SELECT channel_id FROM channel_members WHERE agent_id = agents.id) AS channel_ids,
       array(SELECT team_id FROM team_members WHERE agent_id = agents.id) AS team_ids
FROM agents WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Rights:
    """An agent's role, state and memberships."""

    role: str
    state: str
    channel_ids: frozenset[uuid.UUID]
    team_ids: frozenset[uuid.UUID]


async def load_rights(database: Database, agent_id: uuid.UUID) -> Rights | None:
    """The rights of an agent now; None when the tenant has no such agent."""
    async with database.connection() as connection:
        row = await connection.fetchrow(RIGHTS, agent_id)
    if row is None:
        return None
    return Rights(
        role=row["role"],
        state=row["state"],
        channel_ids=frozenset(row["channel_ids"]),
        team_ids=frozenset(row["team_ids"]),
    )
