"""Notes: remarks of agents, never sent to a customer."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from switchboard.v1 import event_pb2

from server.agents import mentions as agents
from server.conversations import convert, repository, rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import NotFound
from server.log.event import ActorKind, NewEvent, Origin
from server.rpc.call import Scope

DETAIL_LIMIT = 100
INSERT = """
INSERT INTO conversation_notes (
    id, conversation_id, author_id, text, pinned, create_time, mentioned_agent_ids, mentioned_team_ids, notified_agent_ids)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING *
"""
UPDATE = """
UPDATE conversation_notes
SET text = coalesce($3, text), pinned = coalesce($4, pinned), update_time = $5,
    mentioned_agent_ids = coalesce($6, mentioned_agent_ids), mentioned_team_ids = coalesce($7, mentioned_team_ids),
    notified_agent_ids = notified_agent_ids || $8::uuid[]
WHERE id = $2 AND conversation_id = $1
RETURNING *
"""
PAGE = """
SELECT * FROM conversation_notes
WHERE conversation_id = $1 AND ($2::boolean IS NULL OR (pinned, id) < ($2, $3::uuid))
ORDER BY pinned DESC, id DESC LIMIT $4
"""


MENTIONED = (
    "SELECT mentioned_team_ids, notified_agent_ids FROM conversation_notes WHERE id = $2 AND conversation_id = $1"
)


@dataclass(frozen=True, slots=True)
class Mentions:
    """Agents and teams to be told of a note."""

    agent_ids: Sequence[uuid.UUID] = ()
    team_ids: Sequence[uuid.UUID] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """A note after a change (None once deleted), and the events to append."""

    note: Any
    events: Sequence[NewEvent] = field(default_factory=tuple)


async def add(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    note_id: uuid.UUID,
    text: str,
    pinned: bool,
    mentions: Mentions = Mentions(),
) -> Noted:
    """Adds a note, and tells those it mentions. NotFound, ConversationArchived, InvalidFields."""
    row = await _locked(write, scope, conversation_id)
    author = _author(origin)
    told = await _to_tell(write.connection, mentions, mentions.team_ids, but=[author])
    ids = (list(mentions.agent_ids), list(mentions.team_ids), told)
    note = await write.connection.fetchrow(INSERT, note_id, row.id, author, text, pinned, utc_now(), *ids)
    await repository.save(write.connection, row)
    body = event_pb2.NoteAdded(note=convert.note(note), conversation=convert.conversation(row))
    added = conversation_event(origin, row, event_pb2.InboxEvent(note_added=body))
    return Noted(note, [added, *(_mentioned(origin, row, note, agent_id) for agent_id in told)])


def _author(origin: Origin) -> uuid.UUID | None:
    return origin.actor.id if origin.actor.kind == ActorKind.ACTOR_KIND_AGENT else None


async def _to_tell(
    connection: Connection, mentions: Mentions, new_team_ids: Sequence[uuid.UUID], *, but: Sequence[uuid.UUID | None]
) -> list[uuid.UUID]:
    """Whom a mention reaches, each once: the agents, and whoever is in a team that was not mentioned before."""
    await agents.check_mentioned(connection, agent_ids=mentions.agent_ids, team_ids=mentions.team_ids)
    members = await agents.active_members(connection, new_team_ids)
    return sorted({*mentions.agent_ids, *members} - set(but))


def _mentioned(origin: Origin, row: ConversationRow, note: Any, agent_id: uuid.UUID) -> NewEvent:
    """agent_mentioned: where the conversation stands is its routing before, whom it is for its assignee after."""
    body = event_pb2.AgentMentioned(
        agent_id=str(agent_id), note=convert.note(note), conversation=convert.conversation(row)
    )
    event = conversation_event(origin, row, event_pb2.InboxEvent(agent_mentioned=body))
    return dataclasses.replace(event, after=dataclasses.replace(row.routing, assignee_id=agent_id))


async def update(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    note_id: uuid.UUID,
    *,
    origin: Origin,
    text: str | None,
    pinned: bool | None,
    mentions: Mentions | None = None,
) -> Noted:
    """Changes a note; None leaves text, pin or mentions alone. Those who were told of it before are not told again. NotFound,
    ConversationArchived, InvalidFields."""
    row = await _locked(write, scope, conversation_id)
    before = await write.connection.fetchrow(MENTIONED, row.id, note_id)
    if before is None:
        raise NotFound("note")
    told: list[uuid.UUID] = []
    if mentions is not None:
        new_teams = [team_id for team_id in mentions.team_ids if team_id not in before["mentioned_team_ids"]]
        known = [_author(origin), *before["notified_agent_ids"]]
        told = await _to_tell(write.connection, mentions, new_teams, but=known)
    ids = (None, None) if mentions is None else (list(mentions.agent_ids), list(mentions.team_ids))
    note = await write.connection.fetchrow(UPDATE, row.id, note_id, text, pinned, utc_now(), *ids, told)
    await repository.save(write.connection, row)
    body = event_pb2.NoteUpdated(note=convert.note(note), conversation=convert.conversation(row))
    updated = conversation_event(origin, row, event_pb2.InboxEvent(note_updated=body))
    return Noted(note, [updated, *(_mentioned(origin, row, note, agent_id) for agent_id in told)])


async def delete(
    write: Write, scope: Scope, conversation_id: uuid.UUID, note_id: uuid.UUID, *, origin: Origin
) -> Noted:
    """Deletes a note. NotFound, ConversationArchived."""
    row = await _locked(write, scope, conversation_id)
    deleted = await write.connection.fetchval(
        "DELETE FROM conversation_notes WHERE id = $2 AND conversation_id = $1 RETURNING id", row.id, note_id
    )
    if deleted is None:
        raise NotFound("note")
    await repository.save(write.connection, row)
    body = event_pb2.NoteDeleted(note_id=str(note_id), conversation=convert.conversation(row))
    return Noted(None, [conversation_event(origin, row, event_pb2.InboxEvent(note_deleted=body))])


async def _locked(write: Write, scope: Scope, conversation_id: uuid.UUID) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_writable(row)
    rules.touch(row, utc_now())
    return row


async def page(
    connection: Connection, conversation_id: uuid.UUID, *, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """Notes of a conversation that the caller has been shown to see: pinned first, then newest first."""
    pinned, note_id = (after[0], uuid.UUID(after[1])) if after else (None, None)
    records: list[Any] = await connection.fetch(PAGE, conversation_id, pinned, note_id, limit)
    return records


async def get(connection: Connection, note_id: uuid.UUID) -> Any:
    """A note by its id; NotFound when it was deleted since."""
    record = await connection.fetchrow("SELECT * FROM conversation_notes WHERE id = $1", note_id)
    if record is None:
        raise NotFound("note")
    return record
