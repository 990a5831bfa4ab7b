"""The follower: keeps the words of conversations as the next events of the log say, and moves its cursor in the same transaction.

What is written adds its words. What takes words away, or may, has its conversations read anew from their tables: that is rare, and
whatever the tables say by then the log says later. Where the log does not reach back, all conversations are read so, the newest first.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations.text.words import words_of
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.read import PAGE_EVENTS

CONSUMER = "text"
# Conversations without a log that are read in one transaction.
READ_AT_ONCE = 50
ALL = uuid.UUID(int=2**128 - 1)
BEHIND = """
SELECT EXISTS (SELECT FROM unread_texts) OR h.head > coalesce((SELECT seq FROM consumers WHERE name = $1), 0) FROM stream_head h
"""
# One that was given up goes on. The row is locked in any case: one follows at a time.
START = """
INSERT INTO consumers AS c (name, seq, update_time) SELECT $1, floor - 1, $2 FROM stream_head
ON CONFLICT (name) DO UPDATE SET seq = greatest(c.seq, excluded.seq), broken_time = NULL
WHERE c.seq < excluded.seq OR c.broken_time IS NOT NULL
RETURNING new.seq > coalesce(old.seq, 0) AS missed
"""
READ_ALL = "INSERT INTO unread_texts (id, below) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET below = excluded.below"
POSITION = "SELECT seq FROM consumers WHERE name = $1"
NEXT = """
SELECT seq, conversation_id, CASE WHEN kind = ANY($3::smallint[]) THEN payload END AS payload
FROM stream_event WHERE seq > $1 AND seq <= $1 + $2 ORDER BY seq
"""
ADVANCE = "UPDATE consumers SET seq = $2, update_time = $3 WHERE name = $1"
ADD = """
INSERT INTO conversation_words (conversation_id, word) SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING
"""
OF_CONTACTS = "SELECT id FROM conversations WHERE contact_id = ANY($1::uuid[])"
TEXTS = """
SELECT conversation_id, text FROM messages WHERE conversation_id = ANY($1::uuid[]) AND text IS NOT NULL
UNION ALL SELECT conversation_id, text FROM conversation_notes WHERE conversation_id = ANY($1)
UNION ALL SELECT c.id, ct.name FROM conversations c JOIN contacts ct ON ct.id = c.contact_id WHERE c.id = ANY($1)
"""
REMOVE = """
DELETE FROM conversation_words w WHERE w.conversation_id = ANY($1::uuid[]) AND NOT EXISTS (
    SELECT FROM unnest($2::uuid[], $3::text[]) AS u (conversation_id, word)
    WHERE u.conversation_id = w.conversation_id AND u.word = w.word)
"""
UNREAD = """
SELECT c.id FROM unread_texts u CROSS JOIN LATERAL (
    SELECT c.id FROM conversations c WHERE c.id < u.below ORDER BY c.id DESC LIMIT $1
) c
"""
GO_ON = "UPDATE unread_texts SET below = $1"
END = "DELETE FROM unread_texts"


@dataclass(slots=True)
class Told:
    """What some events say: words of conversations, and whose words are to be read anew."""

    words: set[tuple[uuid.UUID, str]] = field(default_factory=set)
    anew: set[uuid.UUID] = field(default_factory=set)
    contacts: set[uuid.UUID] = field(default_factory=set)

    def add(self, conversation_id: uuid.UUID, text: str) -> None:
        """A text of a conversation."""
        self.words |= {(conversation_id, word) for word in words_of(text)}


async def behind(connection: Connection) -> bool:
    """Whether there are texts whose words are not kept yet."""
    found: bool = await connection.fetchval(BEHIND, CONSUMER)
    return found


async def follow(write: Write, *, limit: int = PAGE_EVENTS) -> int:
    """Keeps the words of the next events and moves the cursor; returns how many there were, `limit` while others remain to be read."""
    connection = write.connection
    if await connection.fetchval(START, CONSUMER, utc_now()):
        await connection.execute(READ_ALL, ALL)
    seq = await connection.fetchval(POSITION, CONSUMER)
    records = await connection.fetch(NEXT, seq, limit, list(KINDS))
    if records:
        await _keep(connection, _told(records))
        await connection.execute(ADVANCE, CONSUMER, records[-1]["seq"], utc_now())
    return limit if await _read_on(connection) else len(records)


def _told(records: Sequence[Any]) -> Told:
    told = Told()
    for record in records:
        if record["payload"] is not None:
            event = event_pb2.InboxEvent.FromString(record["payload"])
            _TELL[str(event.WhichOneof("body"))](told, record["conversation_id"], event)
    return told


async def _keep(connection: Connection, told: Told) -> None:
    if told.contacts:
        told.anew |= {row["id"] for row in await connection.fetch(OF_CONTACTS, list(told.contacts))}
    await _add(connection, {pair for pair in told.words if pair[0] not in told.anew})
    await _read(connection, told.anew)


async def _add(connection: Connection, words: Collection[tuple[uuid.UUID, str]]) -> None:
    if words:
        await connection.execute(ADD, *map(list, zip(*sorted(words), strict=True)))


async def _read(connection: Connection, ids: Collection[uuid.UUID]) -> None:
    """Makes the words of conversations those of their tables; what was purged has none."""
    if not ids:
        return
    told = Told()
    for row in await connection.fetch(TEXTS, list(ids)):
        told.add(row["conversation_id"], row["text"])
    words = sorted(told.words)
    await connection.execute(REMOVE, list(ids), [pair[0] for pair in words], [pair[1] for pair in words])
    await _add(connection, words)


async def _read_on(connection: Connection) -> bool:
    """Reads the next conversations that the log does not tell of; whether there may be more."""
    ids = [row["id"] for row in await connection.fetch(UNREAD, READ_AT_ONCE)]
    await _read(connection, ids)
    if len(ids) == READ_AT_ONCE:
        await connection.execute(GO_ON, ids[-1])
        return True
    await connection.execute(END)
    return False


def _of_message(name: str) -> Any:
    def tell(told: Told, conversation_id: uuid.UUID, event: event_pb2.InboxEvent) -> None:
        told.add(conversation_id, getattr(event, name).message.text.body)

    return tell


def _tell_name(told: Told, conversation_id: uuid.UUID, event: event_pb2.InboxEvent) -> None:
    told.add(conversation_id, event.conversation_created.conversation.contact.name)


def _tell_note(told: Told, conversation_id: uuid.UUID, event: event_pb2.InboxEvent) -> None:
    told.add(conversation_id, event.note_added.note.text)


def _tell_anew(told: Told, conversation_id: uuid.UUID, _event: event_pb2.InboxEvent) -> None:
    told.anew.add(conversation_id)


def _tell_updated(told: Told, conversation_id: uuid.UUID, event: event_pb2.InboxEvent) -> None:
    if "contact" in event.conversation_updated.changed_fields:
        told.anew.add(conversation_id)


def _tell_contact(told: Told, _conversation_id: uuid.UUID | None, event: event_pb2.InboxEvent) -> None:
    told.contacts.add(uuid.UUID(event.contact_updated.contact.id))


_TELL = {
    "message_received": _of_message("message_received"),
    "message_created": _of_message("message_created"),
    "conversation_created": _tell_name,
    "note_added": _tell_note,
    "message_updated": _tell_anew,
    "note_updated": _tell_anew,
    "note_deleted": _tell_anew,
    "conversation_purged": _tell_anew,
    "conversation_updated": _tell_updated,
    "contact_updated": _tell_contact,
}
KINDS = tuple(event_pb2.InboxEvent.DESCRIPTOR.fields_by_name[name].number for name in _TELL)
