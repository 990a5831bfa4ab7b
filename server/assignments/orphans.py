"""Conversations that came back to life with an agent who is disabled, or in the queue of a team that is deleted.

An agent gives back what it holds when it is disabled, and a team that has something stays. What was closed then keeps both as
history; only when somebody opens or restores that does it need an agent, or a queue, that there is.
"""

from __future__ import annotations

from server.agents import loads
from server.assignments import ledger
from server.conversations import repository
from server.kit.clock import utc_now
from server.kit.db import Write
from server.log.append import append
from server.log.event import Origin

FIND = """
SELECT c.id FROM agent_loads l JOIN agents a ON a.id = l.agent_id AND a.state = 'disabled'
JOIN conversations c ON c.assignee_id = l.agent_id AND c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL
WHERE l.conversations > 0
UNION ALL
SELECT c.id FROM teams t
JOIN conversations c ON c.team_id = t.id AND c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL
WHERE t.delete_time IS NOT NULL AND c.assignee_id IS NULL
ORDER BY id LIMIT $1
"""
DISABLED = "SELECT id FROM agents WHERE id = ANY($1::uuid[]) AND state = 'disabled' ORDER BY id FOR SHARE"
DELETED = "SELECT id FROM teams WHERE id = ANY($1::uuid[]) AND delete_time IS NOT NULL"
AGENT_GONE, TEAM_GONE = "the agent is disabled", "the team is deleted"


async def adopt(write: Write, *, origin: Origin, limit: int) -> int:
    """Takes what is live from disabled agents and deleted teams, at most so many; returns how many it looked at.

    What a disabled agent of a deleted team had is looked at twice: first it is its team's, as any other agent's.
    """
    ids = [record["id"] for record in await write.connection.fetch(FIND, limit)]
    if not ids:
        return 0
    rows = [row for row in (await repository.lock_many(write.connection, ids)).values() if row.live]
    holders = sorted({row.assignee_id for row in rows if row.assignee_id})
    await loads.lock(write.connection, holders)
    disabled = {record["id"] for record in await write.connection.fetch(DISABLED, holders)}
    teams = sorted({row.team_id for row in rows if row.team_id and not row.assignee_id})
    deleted = {record["id"] for record in await write.connection.fetch(DELETED, teams)}
    left = [row for row in rows if row.assignee_id in disabled]
    lost = [row for row in rows if row.assignee_id is None and row.team_id in deleted]
    now = utc_now()
    events = await ledger.take(write, left, origin=origin, now=now, why="agent_disabled", reason=AGENT_GONE)
    events += await ledger.take(write, lost, origin=origin, now=now, why="unassigned", reason=TEAM_GONE)
    await append(write, events)
    return len(ids)
