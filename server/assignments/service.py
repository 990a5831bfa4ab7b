"""Gives conversations to agents and teams, and takes them back. Works inside the caller's unit of work."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.agents import service as agents
from server.conversations import convert, repository, rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import Origin, Routing
from server.rpc.call import Scope

CLOSE = "UPDATE conversation_assignments SET end_time = $2 WHERE conversation_id = $1 AND end_time IS NULL"
OPEN = """
INSERT INTO conversation_assignments (
    id, conversation_id, agent_id, team_id, type, reason, assigned_by_kind, assigned_by_id, start_time
) VALUES ($1, $2, $3, $4, 'manual', $5, $6, $7, $8)
RETURNING *
"""
PAGE = """
SELECT * FROM conversation_assignments WHERE conversation_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""


async def assign(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    agent_id: uuid.UUID | None,
    team_id: uuid.UUID | None,
    reason: str | None,
    expected_version: int | None,
) -> Changed:
    """Gives a conversation to an agent, a team, or both; None leaves one alone. NotAssignable, ConversationArchived, NotFound."""
    row = await _locked(write, scope, conversation_id, expected_version)
    await agents.check_assignable(write.connection, agent_id=agent_id, team_id=team_id)
    before = row.routing
    row.assignee_id, row.team_id = agent_id or row.assignee_id, team_id or row.team_id
    if row.routing == before:
        return Changed(row)
    now = await _close(write.connection, row)
    by = origin.actor
    ledger = await write.connection.fetchrow(
        OPEN, new_id(), row.id, row.assignee_id, row.team_id, reason, by.kind, by.id, now
    )
    await repository.save(write.connection, row)
    body = event_pb2.ConversationAssigned(
        conversation=convert.conversation(row),
        assignment=convert.assignment(ledger),
        previous_agent_id=_text(before.assignee_id),
        previous_team_id=_text(before.team_id),
    )
    event = conversation_event(origin, row, event_pb2.InboxEvent(conversation_assigned=body), before=before)
    return Changed(row, [event])


async def unassign(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    reason: str | None,
    expected_version: int | None,
) -> Changed:
    """Takes a conversation from its agent and team; nothing happens when nobody has it."""
    row = await _locked(write, scope, conversation_id, expected_version)
    before = row.routing
    if row.assignee_id is None and row.team_id is None:
        return Changed(row)
    row.assignee_id = row.team_id = None
    await _close(write.connection, row)
    await repository.save(write.connection, row)
    return Changed(row, [_unassigned(origin, row, before, reason)])


def _unassigned(origin: Origin, row: ConversationRow, before: Routing, reason: str | None) -> Any:
    body = event_pb2.ConversationUnassigned(
        conversation=convert.conversation(row),
        previous_agent_id=_text(before.assignee_id),
        previous_team_id=_text(before.team_id),
        reason=reason,
    )
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_unassigned=body), before=before)


async def _locked(
    write: Write, scope: Scope, conversation_id: uuid.UUID, expected_version: int | None
) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_version(row, expected_version)
    rules.check_writable(row)
    return row


async def _close(connection: Connection, row: ConversationRow) -> datetime:
    """Ends the open assignment and counts the change."""
    now = utc_now()
    await connection.execute(CLOSE, row.id, now)
    rules.touch(row, now)
    return now


async def page(
    connection: Connection, conversation_id: uuid.UUID, *, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """The ledger of a conversation that the caller has been shown to see, newest first."""
    records: list[Any] = await connection.fetch(PAGE, conversation_id, uuid.UUID(after[0]) if after else None, limit)
    return records


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)
