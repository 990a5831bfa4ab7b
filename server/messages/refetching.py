"""Files of customers' messages that did not come, fetched once more; and telling that a message's files are other than they were."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from switchboard.v1 import event_pb2

from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.convert import conversation as convert_conversation
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import Refusal
from server.log.event import NewEvent, Origin
from server.messages import convert, repository
from server.messages.row import FIRST_PART, SELECTED, from_record
from server.rpc.call import Scope

MESSAGE = f"SELECT {SELECTED} FROM messages m {FIRST_PART} WHERE m.id = $1"
# One that the provider itself could not fetch has no id to ask by.
AGAIN = """
UPDATE message_attachments SET state = 'fetching', error = NULL
WHERE message_id = $1 AND ($2::smallint IS NULL OR position = $2) AND state IN ('failed', 'expired')
    AND media_id IS NULL AND provider_media_id IS NOT NULL
RETURNING id
"""
FETCH = """
INSERT INTO media_fetches (attachment_id, due_time, attempt) SELECT id, clock_now(), 0 FROM unnest($1::uuid[]) AS u (id)
ON CONFLICT (attachment_id) DO UPDATE SET due_time = clock_now()
"""


class AttachmentNotRetryable(Refusal):
    """Nothing is to be fetched."""

    status = "FAILED_PRECONDITION"
    reason = "ATTACHMENT_NOT_RETRYABLE"

    def __init__(self) -> None:
        super().__init__("none of the files failed or expired at the provider")


async def again(
    write: Write, scope: Scope, message_id: uuid.UUID, position: int | None, *, origin: Origin
) -> list[NewEvent]:
    """Has the files of a message fetched that failed or expired. NotFound, AttachmentNotRetryable."""
    connection = write.connection
    message = await repository.get_visible(connection, scope, message_id)
    rows = await conversations.lock_many(connection, [message.conversation_id])
    found = [record["id"] for record in await connection.fetch(AGAIN, message_id, position)]
    if not found:
        raise AttachmentNotRetryable
    await connection.execute(FETCH, found)
    return await updated(connection, origin, [message_id], rows)


async def updated(
    connection: Connection, origin: Origin, message_ids: Iterable[uuid.UUID], rows: Mapping[uuid.UUID, ConversationRow]
) -> list[NewEvent]:
    """That the files of messages are other than they were. rows: their conversations, locked."""
    events = []
    for message_id in dict.fromkeys(message_ids):
        records = [from_record(record) for record in await connection.fetch(MESSAGE, message_id)]
        (message,) = await repository.with_attachments(connection, records)
        conversation = rows.get(message.conversation_id)
        if conversation is None:
            continue
        rules.touch(conversation, utc_now())
        await conversations.save(connection, conversation)
        body = event_pb2.MessageUpdated(
            message=convert.message(message),
            conversation=convert_conversation(conversation),
            changed_fields=["attachments"],
        )
        event = event_pb2.InboxEvent(message_updated=body)
        events.append(conversation_event(origin, conversation, event))
    return events
