"""What a decision is made of, read at once for some conversations: their pools, the agents in them, whose turn it is.

Under the agents' locks, for a claim: whoever else takes or gives back waits until it is committed. Without, for a preview.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from server.agents import loads
from server.agents.roles import MAY_REPLY
from server.assignments.decision import Candidate, Decision, Demand, Policy, decide
from server.conversations.row import ConversationRow
from server.kit.db import Connection

MEMBERS = """
SELECT team_id AS pool, agent_id FROM team_members WHERE team_id = ANY($1::uuid[])
UNION ALL SELECT channel_id, agent_id FROM channel_members WHERE channel_id = ANY($2::uuid[])
"""
AGENTS = f"""
SELECT l.agent_id, a.state = 'active' AND {MAY_REPLY} AS may_reply, l.capacity, l.load, l.skills, l.idle_since,
    CASE WHEN l.lost_time IS NULL THEN l.availability ELSE 'offline' END AS availability,
    ARRAY(
        SELECT g.start_time FROM conversation_assignments g
        WHERE g.agent_id = l.agent_id AND g.start_time > clock_now() - $2::interval AND g.from_agent_id IS DISTINCT FROM g.agent_id
        ORDER BY g.start_time DESC LIMIT $3
    ) AS recent
FROM agent_loads l JOIN agents a ON a.id = l.agent_id LEFT JOIN roles r ON r.id = a.role_id WHERE l.agent_id = ANY($1::uuid[])
"""
TURNS = "SELECT policy_id, agent_id, last_time FROM assignment_turns WHERE policy_id = ANY($1::uuid[])"
# Who last had another conversation of the contact.
KNOWN = """
SELECT c.id, (
    SELECT a.agent_id FROM conversations o JOIN conversation_assignments a ON a.conversation_id = o.id
    WHERE o.contact_id = c.contact_id AND o.id <> c.id AND a.agent_id IS NOT NULL ORDER BY a.start_time DESC, a.id DESC LIMIT 1
) AS agent_id FROM conversations c WHERE c.id = ANY($1::uuid[])
"""
TURN = """
INSERT INTO assignment_turns (policy_id, agent_id, last_time) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
ON CONFLICT (policy_id, agent_id) DO UPDATE SET last_time = excluded.last_time
"""
TICK = timedelta(microseconds=1)
Turns = dict[tuple[uuid.UUID, uuid.UUID], datetime]


def pool_of(row: ConversationRow, *, team_id: uuid.UUID | None = None) -> uuid.UUID:
    """Whose members may get it: its team's, or its channel's while it has none."""
    return team_id or row.team_id or row.channel_id


@dataclass(slots=True)
class Facts:
    """Kept up to date by `took`, so that one set serves the conversations of a whole transaction in turn."""

    now: datetime
    agents: dict[uuid.UUID, Candidate]
    pools: Mapping[uuid.UUID, Sequence[uuid.UUID]]
    turns: Turns
    known: Mapping[uuid.UUID, uuid.UUID | None]

    def decide(self, policy: Policy, row: ConversationRow, *, pool: uuid.UUID) -> Decision:
        """Who gets it now."""
        holder_id, held_weight = row.counted
        weight = row.weight if row.status in ("new", "open") else row.waiting_weight
        demand = Demand(weight, holder_id, held_weight, self.known.get(row.id))
        candidates = [
            replace(self.agents[agent_id], turn=self.turns.get((policy.id, agent_id)))
            for agent_id in self.pools.get(pool, ())
            if agent_id in self.agents
        ]
        return decide(policy, demand, candidates, now=self.now)

    def took(self, decision: Decision, row: ConversationRow) -> datetime:
        """An agent gets a conversation: the next decision sees it. Returns the time of it, different for each."""
        assert decision.agent_id is not None
        newest = max(
            (time for (policy_id, _), time in self.turns.items() if policy_id == decision.policy.id), default=None
        )
        time = self.now if newest is None else max(self.now, newest + TICK)
        self.turns[decision.policy.id, decision.agent_id] = time
        agent = self.agents[decision.agent_id]
        load = agent.load + (row.weight if row.status in ("new", "open") else row.waiting_weight)
        self.agents[decision.agent_id] = replace(agent, load=load, idle_since=time, recent=[time, *agent.recent])
        return time


async def read(
    connection: Connection,
    rows: Sequence[ConversationRow],
    policies: Sequence[Policy],
    *,
    pools: Sequence[uuid.UUID],
    present: frozenset[uuid.UUID] | None,
    lock: bool,
) -> Facts:
    """What decisions about some conversations need. present: see Presence.present. lock: the agents' counters, for a claim."""
    members: dict[uuid.UUID, list[uuid.UUID]] = {}
    for record in await connection.fetch(MEMBERS, list(pools), list(pools)):
        members.setdefault(record["pool"], []).append(record["agent_id"])
    ids = sorted({agent_id for pool in members.values() for agent_id in pool})
    if lock:
        # What is read after this sees all that was committed under the locks before.
        await loads.lock(connection, ids)
    window = max((policy.fairness_window or timedelta(0) for policy in policies), default=timedelta(0))
    most = max((policy.fairness_most or 0 for policy in policies), default=0)
    agents = {
        record["agent_id"]: _candidate(record, present) for record in await connection.fetch(AGENTS, ids, window, most)
    }
    turns = await connection.fetch(TURNS, [policy.id for policy in policies])
    sticky = any(policy.sticky for policy in policies)
    known = await connection.fetch(KNOWN, [row.id for row in rows]) if sticky else []
    return Facts(
        now=await connection.fetchval("SELECT clock_now()"),
        agents=agents,
        pools=members,
        turns={(record["policy_id"], record["agent_id"]): record["last_time"] for record in turns},
        known={record["id"]: record["agent_id"] for record in known},
    )


async def store_turns(connection: Connection, turns: Turns) -> None:
    """Keeps whose turn it was."""
    keys = sorted(turns)
    await connection.execute(TURN, [key[0] for key in keys], [key[1] for key in keys], [turns[key] for key in keys])


def _candidate(record: Any, present: frozenset[uuid.UUID] | None) -> Candidate:
    return Candidate(
        agent_id=record["agent_id"],
        may_reply=record["may_reply"],
        availability=record["availability"],
        present=None if present is None else record["agent_id"] in present,
        skills=frozenset(record["skills"]),
        capacity=record["capacity"],
        load=record["load"],
        idle_since=record["idle_since"],
        recent=tuple(record["recent"]),
    )
