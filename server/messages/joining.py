"""A message of ours that was told of as written elsewhere before its own id was known: the two become one.

An echo may overtake the answer to the send that it is of, and an answer may be lost: then the provider's id stands at a copy. Whoever
brings it together with our own joins them. Of the copy an empty row stays, which no list shows and which says where to look: it has
been counted, and clients have seen it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.row import ConversationRow
from server.kit.db import Write
from server.log.event import SYSTEM, NewEvent, Origin
from server.messages import changes, content
from server.messages.row import MessageRow

FREE = "UPDATE message_parts SET provider_message_id = NULL WHERE id = $1"
TRAIL = """
SELECT status, provider_time, error_code, error_message, member FROM message_status_updates
WHERE message_id = $1 AND source = 'receipt' ORDER BY create_time, id
"""
# Those that quote the copy came after it.
QUOTING = """
SELECT id FROM messages WHERE conversation_id = $1 AND arrival > $2 AND details ->> 'reply_to_message_id' = $3 ORDER BY arrival
"""
LAST = """
SELECT id, text, CASE WHEN details ? 'delete_time' THEN 'deleted' ELSE type END AS type, coalesce(provider_time, create_time) AS time
FROM messages WHERE conversation_id = $1 AND NOT coalesce(details ? 'same_as_message_id', FALSE) ORDER BY sequence DESC LIMIT 1
"""
LAST_OUTBOUND = """
SELECT arrival, author_id FROM messages
WHERE conversation_id = $1 AND direction = 'outbound' AND details ->> 'origin' IS DISTINCT FROM 'history'
    AND NOT coalesce(details ? 'same_as_message_id', FALSE)
ORDER BY arrival DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it. steps: how far receipts, or a history, had told that the copy came, in their order."""

    events: list[NewEvent]
    steps: list[dict[str, Any]]


async def join(
    write: Write, *, copy_part_id: uuid.UUID, copy_id: uuid.UUID, message_id: uuid.UUID, origin: Origin
) -> Joined | None:
    """Takes the copy into the message, and the provider's id from the copy's part. None when it is no copy, and stays what it is.

    Their conversations and parts are locked.
    """
    copy, message = await changes.locked(write.connection, copy_id), await changes.locked(write.connection, message_id)
    held = json.loads(copy.details or "{}")
    if "origin" not in held or content.SAME_AS in held:
        return None
    connection, by = write.connection, Origin(actor=SYSTEM, cause=origin.cause)
    await connection.execute(FREE, copy_part_id)
    steps = [dict(record) for record in await connection.fetch(TRAIL, copy.id)]
    if not steps and copy.status != "sent":
        steps = [{"status": copy.status}]
    rows = await conversations.lock_many(connection, sorted({copy.conversation_id, message.conversation_id}))
    events = await _take(write, rows, copy, held, message, origin=by)
    events += await _empty(write, rows[copy.conversation_id], copy, held, message.id, origin=by)
    for record in await connection.fetch(QUOTING, copy.conversation_id, copy.arrival, str(copy.id)):
        events += await _quote(write, rows[copy.conversation_id], record["id"], message.id, origin=by)
    return Joined(events, steps)


async def _take(
    write: Write,
    rows: dict[uuid.UUID, ConversationRow],
    copy: MessageRow,
    held: dict[str, Any],
    message: MessageRow,
    *,
    origin: Origin,
) -> list[NewEvent]:
    """What people did to the copy was done to the message."""
    details = json.loads(message.details or "{}")
    later = {name: held[name] for name in changes.LATER if name in held and name not in details}
    if not later:
        return []
    message.details = json.dumps({**details, **later})
    changed = [name for name in (changes.REACTIONS, content.REPLY_TO, changes.DELETE_TIME) if name in later]
    if changes.VERSIONS in later or changes.DELETE_TIME in later:
        message.text = copy.text
        changed += ["text", *(["edit_time"] if changes.VERSIONS in later else [])]
    return await changes.saved(write, rows[message.conversation_id], message, changed, origin)


async def _empty(
    write: Write,
    row: ConversationRow,
    copy: MessageRow,
    held: dict[str, Any],
    message_id: uuid.UUID,
    *,
    origin: Origin,
) -> list[NewEvent]:
    """Nothing of the copy is shown any more, in its conversation neither."""
    connection = write.connection
    had = [*(["text"] if copy.text is not None else []), *(["attachments"] if copy.attachments else [])]
    await connection.execute(changes.FORGET_FILES, copy.id)
    copy.text, copy.attachments = None, ()
    copy.details = json.dumps({"origin": held["origin"], content.SAME_AS: str(message_id)})
    await connection.execute(changes.SAVE, copy.id, copy.text, copy.details)
    outbound = await connection.fetchrow(LAST_OUTBOUND, row.id)
    row.last_outbound_arrival = 0 if outbound is None else outbound["arrival"]
    row.last_outbound_author_id = None if outbound is None else outbound["author_id"]
    if row.last_message_id == copy.id:
        _show(row, await connection.fetchrow(LAST, row.id))
    return await changes.saved(write, row, copy, [content.SAME_AS, *had], origin)


def _show(row: ConversationRow, last: Any) -> None:
    if last is None:
        row.last_message_id, row.last_message_preview = None, ""
        return
    row.last_message_id, row.last_message_time = last["id"], last["time"]
    row.last_message_preview = rules.preview(last["text"], last["type"])


async def _quote(
    write: Write, row: ConversationRow, quoting_id: uuid.UUID, message_id: uuid.UUID, *, origin: Origin
) -> list[NewEvent]:
    message = await changes.locked(write.connection, quoting_id)
    message.details = json.dumps({**json.loads(message.details or "{}"), content.REPLY_TO: str(message_id)})
    return await changes.saved(write, row, message, [content.REPLY_TO], origin)
