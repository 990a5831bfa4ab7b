"""What providers are still to be told of as read: of each conversation the newest message, once.

Unlike a send this may be repeated: a provider that has marked a message read says so again. So there is no unknown: an attempt moves
the due time on for as long as it may take, and whoever looks then tries again. Marking a message marks those before it, so a later
mark replaces one that waits, and one that was told in the meantime ends nothing but its own.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from server.kit.db import Connection

# Longer than a request may take from its claim on.
LEASE = timedelta(seconds=60)

KINDS = ("uuid", "uuid", "text")
# `{arrays}` are conversations, their channels and messages, `{guard}` is one more condition. Nothing where the tenant wants none told.
WANT_FROM = """
INSERT INTO read_marks AS m (conversation_id, channel_id, provider_message_id, due_time)
SELECT u.*, clock_now() FROM unnest({arrays}) AS u CROSS JOIN tenant_settings s WHERE s.read_receipts AND {guard}
ON CONFLICT (conversation_id) DO UPDATE
SET provider_message_id = excluded.provider_message_id, due_time = excluded.due_time, attempt = 0
WHERE m.provider_message_id <> excluded.provider_message_id
"""
WANT = WANT_FROM.format(arrays="ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::text]", guard="TRUE")
CLAIM = """
WITH due AS (
    SELECT d.conversation_id FROM channels c CROSS JOIN LATERAL (
        SELECT conversation_id, due_time FROM read_marks WHERE channel_id = c.id AND due_time <= clock_now()
        ORDER BY due_time, conversation_id LIMIT $1 FOR UPDATE SKIP LOCKED
    ) d WHERE c.state = 'active' ORDER BY d.due_time, d.conversation_id LIMIT $1
)
UPDATE read_marks m SET due_time = clock_now() + $2::interval, attempt = m.attempt + 1
FROM due, channels c WHERE m.conversation_id = due.conversation_id AND c.id = m.channel_id
RETURNING m.conversation_id, m.channel_id, m.provider_message_id, m.attempt, c.provider, c.account_id, c.details, c.access_token
"""
END = "DELETE FROM read_marks WHERE conversation_id = $1 AND provider_message_id = $2"
AGAIN = """
UPDATE read_marks SET due_time = clock_now() + $4::interval, attempt = attempt - $5::integer
WHERE conversation_id = $1 AND provider_message_id = $2 AND attempt = $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark that was taken. attempt: counted from 1; details: JSON, of the account; access_token: sealed."""

    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    provider_message_id: str = field(repr=False)
    attempt: int
    provider: str
    account_id: str
    details: str
    access_token: Any = field(repr=False)


async def want(
    connection: Connection, conversation_id: uuid.UUID, *, channel_id: uuid.UUID, provider_message_id: str
) -> None:
    """The provider is to be told that this message, and all before it, were read. The conversation is locked."""
    await connection.execute(WANT, conversation_id, channel_id, provider_message_id)


async def claim(connection: Connection, *, limit: int) -> list[Mark]:
    """Takes what is due on channels that are active, the longest due first. Committed before anybody is told."""
    return [Mark(**record) for record in await connection.fetch(CLAIM, limit, LEASE)]


async def end(connection: Connection, mark: Mark) -> None:
    """It was told, or is told no more; a later mark of the conversation stays."""
    await connection.execute(END, mark.conversation_id, mark.provider_message_id)


async def again(connection: Connection, mark: Mark, *, after: timedelta, counts: bool = True) -> None:
    """It is tried again after a time. counts: whether the attempt is spent."""
    free = 0 if counts else 1
    await connection.execute(AGAIN, mark.conversation_id, mark.provider_message_id, mark.attempt, after, free)
