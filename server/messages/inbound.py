"""What a customer's message says, as a message of ours holds it; and saying it anew when a later parser reads it better."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.convert import conversation as convert_conversation
from server.conversations.events import conversation_event
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.messages import changes, content, convert, repository
from server.messages.row import FIRST_PART, SELECTED, AttachmentRow, MessageRow, from_record
from server.providers.contract import InboundMessage, MessageCopy

BY_PROVIDER_ID = f"""
SELECT {SELECTED} FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN message_parts p USING (channel_id, provider_message_id) JOIN messages m ON m.id = p.message_id
WHERE m.direction = 'inbound'
"""
LOCKED = f"SELECT {SELECTED} FROM messages m {FIRST_PART} WHERE m.id = $1 FOR UPDATE OF m"
SAVE = "UPDATE messages SET type = $2, text = $3, details = $4 WHERE id = $1"
ADD_ATTACHMENTS = """
INSERT INTO message_attachments (
    id, message_id, position, kind, mime_type, file_name, size_bytes, state, provider_media_id, sha256, voice, animated,
    error
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_OF_FILE = ("position", "kind", "mime_type", "file_name", "provider_media_id", "sha256", "voice", "animated")


def details_of(inbound: InboundMessage, *, quoted: uuid.UUID | None = None) -> str | None:
    """The column `details`: what has no column of its own, as JSON. quoted: the message that it quotes, where that is known."""
    details = dict(inbound.details)
    if inbound.reply_to_id is not None:
        details["reply_to_id"] = inbound.reply_to_id
    if quoted is not None:
        details[content.REPLY_TO] = str(quoted)
    return json.dumps(details) if details else None


def attachments_of(inbound: InboundMessage | MessageCopy) -> list[AttachmentRow]:
    """Rows of its files, with new ids. One without an id at the provider is one that the provider could not fetch itself."""
    return [
        AttachmentRow(
            id=new_id(),
            position=position,
            kind=found.kind,
            mime_type=found.mime_type,
            file_name=found.file_name,
            size_bytes=found.size_bytes,
            state="failed" if found.provider_media_id is None else "fetching",
            error="not_at_provider" if found.provider_media_id is None else None,
            provider_media_id=found.provider_media_id,
            sha256=found.sha256,
            voice=found.voice,
            animated=found.animated,
        )
        for position, found in enumerate(inbound.attachments)
    ]


async def stored(
    connection: Connection, keys: Sequence[tuple[uuid.UUID, str]]
) -> dict[tuple[uuid.UUID, str], MessageRow]:
    """Customers' messages by channel and provider's id, with their files."""
    records = await connection.fetch(BY_PROVIDER_ID, *repository.transposed(keys, 2)) if keys else []
    rows = await repository.with_attachments(connection, [from_record(record) for record in records])
    return {(row.channel_id, row.provider_message_id or ""): row for row in rows}


def changed_fields(row: MessageRow, inbound: InboundMessage) -> list[str]:
    """The fields in which a message differs from what its payload says; not of one that the customer took back."""
    held = _object(row.details)
    if changes.DELETE_TIME in held:
        return []
    names = ("type",) if changes.VERSIONS in held else ("type", "text")
    changed = [name for name in names if getattr(row, name) != getattr(inbound, name)]
    if _object(_anew(row, inbound)) != held:
        changed.append("details")
    if _files(row.attachments) != _files(attachments_of(inbound)):
        changed.append("attachments")
    return changed


def _anew(row: MessageRow, inbound: InboundMessage) -> str | None:
    """The column `details` as the payload has it, with what was added to the message later."""
    held = _object(row.details)
    whole = _object(details_of(inbound)) | {name: held[name] for name in changes.LATER if name in held}
    return json.dumps(whole) if whole else None


def _object(details: str | None) -> Any:
    return {} if details is None else json.loads(details)


def _files(rows: Sequence[AttachmentRow]) -> list[tuple[Any, ...]]:
    return [tuple(getattr(row, name) for name in _OF_FILE) for row in rows]


async def reread(
    write: Write, conversation_id: uuid.UUID, message_id: uuid.UUID, inbound: InboundMessage, *, origin: Origin
) -> list[NewEvent]:
    """Makes a message say what its payload says; no event when it does already.

    Its place, its times and its status stay, and so does what it did to the conversation: nobody writes it a second time.
    """
    connection, now = write.connection, utc_now()
    row = (await conversations.lock_many(connection, [conversation_id]))[conversation_id]
    records = [from_record(record) for record in await connection.fetch(LOCKED, message_id)]
    (message,) = await repository.with_attachments(connection, records)
    changed = changed_fields(message, inbound)
    if not changed:
        return []
    message.type, message.details = inbound.type, _anew(message, inbound)
    if "text" in changed:
        message.text = inbound.text
    await connection.execute(SAVE, message.id, message.type, message.text, message.details)
    if "attachments" in changed:
        message.attachments = await replace_attachments(connection, message_id, inbound)
    if row.last_message_id == message.id:
        row.last_message_preview = rules.preview(message.text, message.type)
    rules.touch(row, now)
    await conversations.save(connection, row)
    # `details` has no field in the contract.
    shown = [name for name in changed if name != "details"]
    body = event_pb2.MessageUpdated(
        message=convert.message(message), conversation=convert_conversation(row), changed_fields=shown
    )
    return [conversation_event(origin, row, event_pb2.InboxEvent(message_updated=body))]


async def replace_attachments(
    connection: Connection, message_id: uuid.UUID, inbound: InboundMessage | MessageCopy
) -> list[AttachmentRow]:
    """Gives a message the files that its payload has, in place of those it had."""
    rows = attachments_of(inbound)
    await connection.execute("DELETE FROM message_attachments WHERE message_id = $1", message_id)
    for a in rows:
        place = (a.id, message_id, a.position, a.kind, a.mime_type, a.file_name)
        told = (a.size_bytes, a.state, a.provider_media_id, a.sha256, a.voice, a.animated, a.error)
        await connection.execute(ADD_ATTACHMENTS, *place, *told)
    return rows
