"""Writes who has which conversation: the row, the ledger, the event. For whoever chose, and for policies alike.

The conversations are locked; what their agents hold is counted with the row. Many are written as cheaply as one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations import convert, repository, rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin

# The agent is gone, for a while or for good; the conversation stays its team's.
AGENT_LOST = ("reclaimed", "agent_disabled")
# Never before it began, whatever the clocks of two processes say.
CLOSE = """
UPDATE conversation_assignments SET end_time = greatest(start_time, $2), end_reason = $3, ended_by_kind = $4, ended_by_id = $5,
    end_text = $6
WHERE conversation_id = ANY($1::uuid[]) AND end_time IS NULL
"""
OPEN = """
INSERT INTO conversation_assignments (
    id, conversation_id, agent_id, team_id, type, reason, assigned_by_kind, assigned_by_id, start_time, from_agent_id, from_team_id,
    policy_id, waiting_since, decision
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::smallint[], $8::uuid[], $9::timestamptz[],
    $10::uuid[], $11::uuid[], $12::uuid[], $13::timestamptz[], $14::jsonb[]
)
RETURNING *
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A locked conversation and whom it is given to. type: a strategy's word, or manual. decision: why, for a policy's choice."""

    row: ConversationRow
    agent_id: uuid.UUID | None
    team_id: uuid.UUID | None
    time: datetime
    type: str = "manual"
    reason: str | None = None
    policy_id: uuid.UUID | None = None
    decision: Mapping[str, Any] | None = None


async def give(write: Write, given: Sequence[Given], *, origin: Origin) -> list[NewEvent]:
    """Writes that conversations changed hands; each stands once in `given`, and its agent or team changes."""
    if not given:
        return []
    ids = [item.row.id for item in given]
    by = origin.actor
    await write.connection.execute(CLOSE, ids, given[0].time, "reassigned", by.kind, by.id, None)
    columns = zip(*(_columns(item, origin) for item in given), strict=True)
    records = {row["conversation_id"]: row for row in await write.connection.fetch(OPEN, *map(list, columns))}
    events = [_assigned(item, records[item.row.id], origin) for item in given]
    await repository.save_many(write.connection, [item.row for item in given])
    return events


async def take(
    write: Write, rows: Sequence[ConversationRow], *, origin: Origin, now: datetime, why: str, reason: str | None
) -> list[NewEvent]:
    """Takes locked conversations from their agents; from their teams too, unless their agents lost them."""
    if not rows:
        return []
    by = origin.actor
    await write.connection.execute(CLOSE, [row.id for row in rows], now, why, by.kind, by.id, reason)
    events = []
    for row in rows:
        before = row.routing
        row.assignee_id, row.team_id = None, row.team_id if why in AGENT_LOST else None
        rules.touch(row, now)
        body = event_pb2.ConversationUnassigned(
            conversation=convert.conversation(row),
            previous_agent_id=_text(before.assignee_id),
            previous_team_id=_text(before.team_id),
            reason=reason,
            end_reason=convert.END_REASON.number(why),
        )
        wrapped = event_pb2.InboxEvent(conversation_unassigned=body)
        events.append(conversation_event(origin, row, wrapped, before=before))
    await repository.save_many(write.connection, rows)
    return events


def _columns(item: Given, origin: Origin) -> tuple[Any, ...]:
    row, by = item.row, origin.actor
    decision = None if item.decision is None else json.dumps(item.decision)
    return (
        *(new_id(), row.id, item.agent_id, item.team_id, item.type, item.reason, by.kind, by.id, item.time),
        *(row.assignee_id, row.team_id, item.policy_id, row.waiting_since, decision),
    )


def _assigned(item: Given, record: Any, origin: Origin) -> NewEvent:
    row, before = item.row, item.row.routing
    row.assignee_id, row.team_id = item.agent_id, item.team_id
    rules.touch(row, item.time)
    body = event_pb2.ConversationAssigned(
        conversation=convert.conversation(row),
        assignment=convert.assignment(record),
        previous_agent_id=_text(before.assignee_id),
        previous_team_id=_text(before.team_id),
    )
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_assigned=body), before=before)


async def page(
    connection: Connection, conversation_id: uuid.UUID, *, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """The ledger of a conversation that the caller has been shown to see, newest first."""
    records: list[Any] = await connection.fetch(PAGE, conversation_id, uuid.UUID(after[0]) if after else None, limit)
    return records


PAGE = """
SELECT * FROM conversation_assignments WHERE conversation_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
