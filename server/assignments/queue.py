"""The queue: conversations that wait for an agent and whose policy chooses one. A follower of the log drains it.

The generation is a seq of the log: everything up to it has been looked at. It is read before a drain and kept after it, so what
frees an agent while the drain runs is seen by the next one. The log says that something happened; what is done about it is read
from the tables, under their locks.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from prometheus_client import Counter
from switchboard.v1 import actor_pb2, event_pb2

from server.agents.roles import MAY_REPLY
from server.assignments import facts, ledger, orphans, policies, reclaim
from server.assignments.decision import Policy, next_look
from server.assignments.ledger import Given
from server.conversations import repository
from server.conversations.row import ConversationRow
from server.kit.db import Connection, Database, Write
from server.log.append import append
from server.log.event import SYSTEM, Cause, Origin

# Conversations of one transaction: their agents are locked meanwhile.
PAGE = 32
# The generation is kept at least so often, or each look would read the same events again.
KEEP_EVERY = 1000
# An agent whose heartbeats are missing may be back without a word.
PRESENCE_AGAIN = timedelta(seconds=15)
GIVEN = Counter("switchboard_assignments_total", "Conversations that policies gave to agents.")

# What may free an agent, or add to the queue. An assignment frees whom it took the conversation from, and one to a team alone
# waits for somebody of the team.
WAKING = tuple(
    event_pb2.EventType.Value(f"EVENT_TYPE_{name}")
    for name in (
        *("CONVERSATION_CREATED", "CONVERSATION_DELETED", "CONVERSATION_RESTORED", "CONVERSATION_STATUS_CHANGED"),
        *("CONVERSATION_UNASSIGNED", "AGENT_AVAILABILITY_CHANGED", "AGENT_CAPACITY_CHANGED"),
        *("ASSIGNMENT_POLICY_CHANGED", "ASSIGNMENT_POLICY_DELETED", "SCOPE_CHANGED"),
    )
)
STATE = """
SELECT q.generation, h.head, h.floor, q.look_time, q.look_time <= clock_now() AS due,
    q.generation > h.head OR q.generation < h.floor - 1 OR EXISTS (
        SELECT FROM stream_event e WHERE e.seq > q.generation AND e.seq <= h.head AND (e.kind = ANY($1::smallint[])
            OR e.kind = $2 AND (e.assignee_before IS NOT NULL OR e.assignee_after IS NULL))
    ) AS woken
FROM assignment_queue q CROSS JOIN stream_head h WHERE q.id = 1 AND h.id = 1
"""
SETTLE = "UPDATE assignment_queue SET generation = $1, look_time = $2 WHERE id = 1"
# Pools of which nobody has anything left are left out: then a long queue costs nothing.
NEXT = f"""
WITH free AS (
    SELECT DISTINCT m.pool FROM (
        SELECT team_id AS pool, agent_id FROM team_members UNION ALL SELECT channel_id, agent_id FROM channel_members
    ) m JOIN agent_loads l ON l.agent_id = m.agent_id
    JOIN agents a ON a.id = m.agent_id LEFT JOIN roles r ON r.id = a.role_id
    WHERE a.state = 'active' AND {MAY_REPLY} AND l.availability = 'online' AND l.lost_time IS NULL AND l.load < l.capacity * 100
)
SELECT c.id, w.rank, c.waiting_since IS NULL AS quiet, coalesce(c.waiting_since, c.create_time) AS since
FROM conversations c
JOIN assignment_policies p ON p.id = coalesce(
    (SELECT t.id FROM assignment_policies t WHERE t.team_id = c.team_id),
    (SELECT t.id FROM assignment_policies t WHERE t.channel_id = c.channel_id))
CROSS JOIN LATERAL (SELECT CASE p.queue_order WHEN 'priority' THEN -c.priority::integer ELSE -1 END AS rank) w
WHERE c.assignee_id IS NULL AND c.status IN ('new', 'open') AND c.delete_time IS NULL AND p.strategy <> 'manual'
    AND coalesce(c.team_id, c.channel_id) IN (SELECT pool FROM free)
    AND ($1::integer IS NULL
        OR (w.rank, c.waiting_since IS NULL, coalesce(c.waiting_since, c.create_time), c.id) > ($1, $2, $3, $4::uuid))
ORDER BY w.rank, c.waiting_since IS NULL, coalesce(c.waiting_since, c.create_time), c.id LIMIT $5
"""
Place = tuple[int | None, bool | None, datetime | None, uuid.UUID | None]
FIRST: Place = (None, None, None, None)


@dataclass(frozen=True, slots=True)
class State:
    """head: the generation that a drain which begins now reaches. wanted: whether there is reason for one."""

    head: int
    generation: int
    wanted: bool
    look_time: datetime | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A page of the queue. last: where the next one begins, None after the last. look_time: when
    somebody may take what nobody could, though nothing happens."""

    given: int
    last: Place | None
    look_time: datetime | None


async def state(connection: Connection) -> State:
    """Whether something happened since the last drain began."""
    row: Any = await connection.fetchrow(STATE, WAKING, event_pb2.EVENT_TYPE_CONVERSATION_ASSIGNED)
    behind = row["head"] - row["generation"] >= KEEP_EVERY
    return State(row["head"], row["generation"], row["woken"] or bool(row["due"]) or behind, row["look_time"])


async def drain(database: Database, generation: int, *, present: frozenset[uuid.UUID] | None) -> int:
    """Gives out what waits, in its order, page by page; then keeps the generation, which was read before. Returns how many.

    A conversation that nobody can take does not hold up those behind it. A crash in between repeats the drain.
    """
    given, place, looks = 0, FIRST, list[datetime]()
    while await database.write(partial(orphans.adopt, origin=_origin(generation), limit=PAGE)):
        pass
    while True:
        claimed = await database.write(partial(claim, place=place, generation=generation, present=present))
        given += claimed.given
        GIVEN.inc(claimed.given)
        looks += [] if claimed.look_time is None else [claimed.look_time]
        if claimed.last is None:
            break
        place = claimed.last
    await database.write(partial(settle, generation=generation, look_time=min(looks, default=None)))
    return given


async def settle(write: Write, *, generation: int, look_time: datetime | None) -> None:
    """Keeps up to where everything was looked at, and when to look though nothing happens.

    Whoever is away and got something meanwhile, from a customer who came back, is asked to give it back as others are.
    """
    await write.connection.execute(SETTLE, generation, look_time)
    await reclaim.follow(write.connection, missing=True)


async def next_due(connection: Connection) -> datetime | None:
    """When to look though nothing happens; None when there is no need."""
    found: datetime | None = await connection.fetchval("SELECT look_time FROM assignment_queue WHERE id = 1")
    return found


async def claim(write: Write, *, place: Place, generation: int, present: frozenset[uuid.UUID] | None) -> Claimed:
    """One transaction: locks the conversations by id, then the agents by id, decides, writes, appends."""
    records = await write.connection.fetch(NEXT, *place, PAGE)
    if not records:
        return Claimed(0, None, None)
    rows = await repository.lock_many(write.connection, [record["id"] for record in records])
    choosing = await policies.choosing(write.connection)
    ordered = [rows[record["id"]] for record in records if record["id"] in rows]
    waiting = [(row, policy) for row in ordered if _waits(row) and (policy := choosing.of(row)) is not None]
    given, look_time = await _decide(write, waiting, generation=generation, present=present)
    last = records[-1]
    more = (last["rank"], last["quiet"], last["since"], last["id"]) if len(records) == PAGE else None
    return Claimed(given, more, look_time)


def _waits(row: ConversationRow) -> bool:
    """Whether nobody has it now that it is locked: whom somebody chose meanwhile keeps it."""
    return row.assignee_id is None and row.status in ("new", "open") and row.delete_time is None


async def _decide(
    write: Write,
    waiting: Sequence[tuple[ConversationRow, Policy]],
    *,
    generation: int,
    present: frozenset[uuid.UUID] | None,
) -> tuple[int, datetime | None]:
    rows, used = [row for row, _ in waiting], {policy.id: policy for _, policy in waiting}
    pools = sorted({facts.pool_of(row) for row in rows})
    found = await facts.read(write.connection, rows, list(used.values()), pools=pools, present=present, lock=True)
    given, looks, turns = list[Given](), list[datetime](), facts.Turns()
    for row, policy in waiting:
        decision = found.decide(policy, row, pool=facts.pool_of(row))
        if decision.agent_id is None:
            again = next_look(policy, decision, now=found.now, presence_again=PRESENCE_AGAIN)
            looks += [] if again is None else [again]
            continue
        time = turns[policy.id, decision.agent_id] = found.took(decision, row)
        given.append(
            Given(
                row=row,
                agent_id=decision.agent_id,
                team_id=row.team_id,
                time=time,
                type=policy.strategy,
                policy_id=policy.id,
                decision=decision.record(),
            )
        )
    await _write(write, given, turns, generation=generation)
    return len(given), min(looks, default=None)


async def _write(write: Write, given: Sequence[Given], turns: facts.Turns, *, generation: int) -> None:
    if not given:
        return
    events = await ledger.give(write, given, origin=_origin(generation))
    await facts.store_turns(write.connection, turns)
    await append(write, events)


def _origin(generation: int) -> Origin:
    return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_EVENT, id=str(generation)))
