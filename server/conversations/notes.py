"""Notes: remarks of agents, never sent to a customer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from switchboard.v1 import event_pb2

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
INSERT INTO conversation_notes (id, conversation_id, author_id, text, pinned, create_time) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING *
"""
UPDATE = """
UPDATE conversation_notes
SET text = coalesce($3, text), pinned = coalesce($4, pinned), update_time = $5
WHERE id = $2 AND conversation_id = $1
RETURNING *
"""
PAGE = """
SELECT * FROM conversation_notes
WHERE conversation_id = $1 AND ($2::boolean IS NULL OR (pinned, id) < ($2, $3::uuid))
ORDER BY pinned DESC, id DESC LIMIT $4
"""


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
) -> Noted:
    """Adds a note. NotFound, ConversationArchived."""
    row = await _locked(write, scope, conversation_id)
    author = origin.actor.id if origin.actor.kind == ActorKind.ACTOR_KIND_AGENT else None
    note = await write.connection.fetchrow(INSERT, note_id, row.id, author, text, pinned, utc_now())
    await repository.save(write.connection, row)
    body = event_pb2.NoteAdded(note=convert.note(note), conversation=convert.conversation(row))
    return Noted(note, [conversation_event(origin, row, event_pb2.InboxEvent(note_added=body))])


async def update(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    note_id: uuid.UUID,
    *,
    origin: Origin,
    text: str | None,
    pinned: bool | None,
) -> Noted:
    """Changes a note; None leaves text or pin alone. NotFound, ConversationArchived."""
    row = await _locked(write, scope, conversation_id)
    note = await write.connection.fetchrow(UPDATE, row.id, note_id, text, pinned, utc_now())
    if note is None:
        raise NotFound("note")
    await repository.save(write.connection, row)
    body = event_pb2.NoteUpdated(note=convert.note(note), conversation=convert.conversation(row))
    return Noted(note, [conversation_event(origin, row, event_pb2.InboxEvent(note_updated=body))])


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
