"""The counters of what agents hold, kept by whatever changes who has a conversation, its status or its weight.

In the order of locks they come after the conversations, by agent id, and before the head of the log.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from server.kit.db import Connection

# Who holds a conversation, and what it weighs for him in percent of a unit; nobody and 0 when it is not live.
Holding = tuple[uuid.UUID | None, int]

LOCK = "SELECT agent_id FROM agent_loads WHERE agent_id = ANY($1::uuid[]) ORDER BY agent_id FOR UPDATE"
# The rows are locked in their order before the update, which takes them in whatever order it finds them. A counter that somebody
# spoiled past us must not keep a conversation from being resolved: it stops at 0, and `doctor` tells.
MOVE = """
WITH locked AS (SELECT agent_id FROM agent_loads WHERE agent_id = ANY($1::uuid[]) ORDER BY agent_id FOR UPDATE)
UPDATE agent_loads l SET load = greatest(l.load + u.load, 0), conversations = greatest(l.conversations + u.conversations, 0),
    idle_since = CASE WHEN u.conversations = 0 THEN l.idle_since ELSE greatest(l.idle_since, clock_now()) END
FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS u (agent_id, load, conversations)
WHERE l.agent_id = u.agent_id AND (SELECT count(*) FROM locked) > 0
"""


def differences(changes: Iterable[tuple[Holding, Holding]]) -> dict[uuid.UUID, tuple[int, int]]:
    """What conversations that were held so, and now so, add to each agent's load and number of conversations."""
    found: dict[uuid.UUID, tuple[int, int]] = {}
    for before, after in changes:
        if before == after:
            continue
        for (agent_id, load), sign in ((before, -1), (after, 1)):
            if agent_id is not None:
                old = found.get(agent_id, (0, 0))
                found[agent_id] = old[0] + sign * load, old[1] + sign
    return {agent_id: change for agent_id, change in found.items() if change != (0, 0)}


async def move(connection: Connection, changes: Mapping[uuid.UUID, tuple[int, int]]) -> None:
    """Adds to the counters. Their conversations are locked."""
    if changes:
        ids = sorted(changes)
        await connection.execute(MOVE, ids, [changes[key][0] for key in ids], [changes[key][1] for key in ids])


async def lock(connection: Connection, agent_ids: Iterable[uuid.UUID]) -> None:
    """Locks the counters of agents: what is read of them after this holds until the commit."""
    await connection.execute(LOCK, sorted(set(agent_ids)))
