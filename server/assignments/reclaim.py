"""Takes back what policies gave to agents who went away, once they are away for as long as the policy says.

A timer of each such agent, which asks the database when it fires. What somebody gave them on purpose they keep.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from server.agents import loads
from server.assignments import ledger
from server.conversations import repository
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.event import NewEvent
from server.timers import service as timers
from server.timers.service import EARLY, Fired, Handlers

RECLAIM = "assignment_reclaim"
AWAY = ("away", "offline")
HELD = """
SELECT c.id FROM conversations c
WHERE c.assignee_id = ANY($1::uuid[]) AND c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL ORDER BY c.id
"""
# What policies gave to these agents, and how long the policy that it goes by now lets them be away.
GIVEN = """
SELECT c.id, p.reclaim_after FROM conversations c
JOIN conversation_assignments a ON a.conversation_id = c.id AND a.end_time IS NULL AND a.type <> 'manual'
JOIN assignment_policies p ON p.id = coalesce(
    (SELECT t.id FROM assignment_policies t WHERE t.team_id = c.team_id),
    (SELECT t.id FROM assignment_policies t WHERE t.channel_id = c.channel_id))
WHERE c.id = ANY($1::uuid[]) AND p.reclaim_after IS NOT NULL
"""
AGENTS = "SELECT * FROM agent_loads WHERE agent_id = ANY($1::uuid[])"
# When the first of what they were given is due, of these agents, or of all; missing: of those who have no timer yet.
DUE = """
SELECT l.agent_id, min(s.since + p.reclaim_after) AS due_time FROM agent_loads l
CROSS JOIN LATERAL (
    SELECT CASE WHEN l.availability IN ('away', 'offline') THEN l.availability_time ELSE l.lost_time END AS since
) s
JOIN conversations c ON c.assignee_id = l.agent_id AND c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL
JOIN conversation_assignments a ON a.conversation_id = c.id AND a.end_time IS NULL AND a.type <> 'manual'
JOIN assignment_policies p ON p.id = coalesce(
    (SELECT t.id FROM assignment_policies t WHERE t.team_id = c.team_id),
    (SELECT t.id FROM assignment_policies t WHERE t.channel_id = c.channel_id))
WHERE s.since IS NOT NULL AND l.conversations > 0 AND p.reclaim_after IS NOT NULL AND ($1::uuid[] IS NULL OR l.agent_id = ANY($1))
    AND NOT ($2 AND EXISTS (SELECT FROM timers t WHERE t.kind = $3 AND t.key = l.agent_id))
GROUP BY l.agent_id
"""


def away_since(record: Any) -> datetime | None:
    """Since when an agent is away; None while it is at work."""
    since: datetime | None = record["availability_time"] if record["availability"] in AWAY else record["lost_time"]
    return since


async def follow(
    connection: Connection, agent_ids: Sequence[uuid.UUID] | None = None, *, missing: bool = False
) -> None:
    """Sets the timers of those among these agents, or all, who are away and hold what a policy takes back.

    missing: only where there is none: a customer came back to somebody who had gone with nothing in hand.
    """
    ids = None if agent_ids is None else list(agent_ids)
    found = await connection.fetch(DUE, ids, missing, RECLAIM)
    due_times = {record["agent_id"]: record["due_time"] for record in found}
    await timers.set_timers(connection, kind=RECLAIM, due_times=due_times)


class ReclaimTimers:
    """The timers of some agents who went away. Their conversations are locked, and then their counters."""

    def __init__(
        self,
        write: Write,
        agents: Mapping[uuid.UUID, Any],
        rows: Mapping[uuid.UUID, ConversationRow],
        delays: Mapping[uuid.UUID, timedelta],
    ) -> None:
        self._write = write
        self._agents = agents
        self._rows = rows
        self._delays = delays
        self._again: dict[uuid.UUID, datetime] = {}

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Takes back what is due, and asks again when the next one is; nothing when the agent is back."""
        agent = self._agents.get(fired.key)
        since = None if agent is None else away_since(agent)
        if since is None:
            return []
        held = [row for row in self._rows.values() if row.assignee_id == fired.key and row.id in self._delays]
        due = [row for row in held if since + self._delays[row.id] <= fired.due_time + EARLY]
        later = [since + self._delays[row.id] for row in held if row not in due]
        if later:
            self._again[fired.key] = min(later)
        reason = "the agent was away"
        return await ledger.take(self._write, due, origin=fired.origin, now=utc_now(), why="reclaimed", reason=reason)

    async def save(self) -> None:
        """Sets the timers for what is due later."""
        await timers.set_timers(self._write.connection, kind=RECLAIM, due_times=self._again)


async def open_away(write: Write, keys: Sequence[uuid.UUID]) -> ReclaimTimers:
    """Locks the conversations of agents by id, then the agents' counters by id."""
    ids = [record["id"] for record in await write.connection.fetch(HELD, list(keys))]
    rows = await repository.lock_many(write.connection, ids)
    await loads.lock(write.connection, keys)
    agents = {record["agent_id"]: record for record in await write.connection.fetch(AGENTS, list(keys))}
    given = {record["id"]: record["reclaim_after"] for record in await write.connection.fetch(GIVEN, ids)}
    live = {row.id: row for row in rows.values() if row.live}
    return ReclaimTimers(write, agents, live, given)


HANDLERS: Handlers = {RECLAIM: open_away}
