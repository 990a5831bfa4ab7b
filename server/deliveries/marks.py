"""What providers are still to be told that may be told again: how far a conversation was read, that somebody writes, a reaction.

Unlike a send this may be repeated: a provider that has marked a message read says so again. So there is no unknown: an attempt moves
the due time on for as long as it may take, and whoever looks then tries again. There is one mark of a kind for each key: of a
conversation the newest message that was read, or that somebody writes, and of a message its reaction. A later mark replaces one that
waits (reading a message reads those before it), and one that was told in the meantime ends nothing but its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from server.kit.db import Connection
from server.providers.contract import MarkKind

# Longer than a request may take from its claim on.
LEASE = timedelta(seconds=60)

KINDS = ("uuid", "uuid", "text")
# `{arrays}` are conversations, their channels and messages, `{guard}` is one more condition. Nothing where the tenant wants none told.
WANT_FROM = """
INSERT INTO marks AS m (kind, key, conversation_id, channel_id, provider_message_id, due_time)
SELECT 'read', u.id, u.*, clock_now() FROM unnest({arrays}) AS u (id, channel_id, provider_message_id)
CROSS JOIN tenant_settings s WHERE s.read_receipts AND {guard}
ON CONFLICT (kind, key) DO UPDATE
SET provider_message_id = excluded.provider_message_id, due_time = excluded.due_time, attempt = 0
WHERE m.provider_message_id <> excluded.provider_message_id
"""
# What says that somebody writes is of no use a little later, and until then it is said once.
WANT_MARK = """
INSERT INTO marks AS m (kind, key, conversation_id, channel_id, provider_message_id, emoji, due_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, clock_now(), clock_now() + $7::interval)
ON CONFLICT (kind, key) DO UPDATE
SET provider_message_id = excluded.provider_message_id, emoji = excluded.emoji, due_time = excluded.due_time,
    expire_time = excluded.expire_time, attempt = 0
WHERE m.expire_time IS NULL OR m.expire_time <= clock_now()
RETURNING true
"""
WANT = WANT_FROM.format(arrays="ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::text]", guard="TRUE")
CLAIM = """
WITH due AS (
    SELECT d.kind, d.key FROM channels c CROSS JOIN LATERAL (
        SELECT kind, key, due_time FROM marks WHERE channel_id = c.id AND {due}
        ORDER BY due_time, key LIMIT $1 FOR UPDATE SKIP LOCKED
    ) d WHERE c.state = {state} ORDER BY d.due_time, d.key LIMIT $1
)
UPDATE marks m SET due_time = clock_now() + $2::interval, attempt = m.attempt + 1
FROM due, channels c WHERE m.kind = due.kind AND m.key = due.key AND c.id = m.channel_id
RETURNING m.kind, m.key, m.conversation_id, m.channel_id, m.provider_message_id, m.emoji, m.attempt,
    coalesce(m.expire_time <= clock_now(), false) AS expired, c.provider, c.account_id, c.details, c.access_token
"""
ACTIVE = CLAIM.format(state="'active'", due="due_time <= clock_now()")
DISCONNECTED = CLAIM.format(state="'disconnected'", due="expire_time IS NULL")
OWN = "kind = $1 AND key = $2 AND provider_message_id = $3 AND emoji IS NOT DISTINCT FROM $4"
END = f"DELETE FROM marks WHERE {OWN} AND (expire_time IS NULL OR expire_time <= clock_now())"
REST = f"UPDATE marks SET due_time = expire_time WHERE {OWN} AND expire_time > clock_now()"
# One that was taken before is not looked for any more: the customer sees the last.
REACTED = """
INSERT INTO sent_reactions AS r (message_id, conversation_id, channel_id, provider_message_id, emoji, create_time)
VALUES ($1, $2, $3, $4, $5, clock_now())
ON CONFLICT (message_id) DO UPDATE
SET provider_message_id = excluded.provider_message_id, emoji = excluded.emoji, create_time = excluded.create_time
"""
REACTIONS = """
SELECT r.* FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN sent_reactions r USING (channel_id, provider_message_id)
"""
CHANGING = "SELECT EXISTS (SELECT FROM marks WHERE kind = 'reaction' AND key = $1)"
FORGET = "DELETE FROM sent_reactions WHERE create_time < clock_now() - $1::interval"
AGAIN = f"""
UPDATE marks SET due_time = clock_now() + $6::interval, attempt = attempt - $7::integer WHERE {OWN} AND attempt = $5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark that was taken. key: of the conversation, of a reaction the message. emoji: of a reaction, None to take it away.

    attempt: counted from 1; expired: it is of no use any more; details: JSON, of the account; access_token: sealed.
    """

    kind: MarkKind
    key: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    provider_message_id: str = field(repr=False)
    emoji: str | None = None
    attempt: int
    expired: bool = False
    provider: str
    account_id: str
    details: str
    access_token: Any = field(repr=False)


async def want(
    connection: Connection, conversation_id: uuid.UUID, *, channel_id: uuid.UUID, provider_message_id: str
) -> None:
    """The provider is to be told that this message, and all before it, were read. The conversation is locked."""
    await connection.execute(WANT, conversation_id, channel_id, provider_message_id)


async def want_mark(
    connection: Connection,
    kind: MarkKind,
    key: uuid.UUID,
    *,
    conversation_id: uuid.UUID,
    channel_id: uuid.UUID,
    provider_message_id: str,
    emoji: str | None = None,
    lasts: timedelta | None = None,
) -> bool:
    """The provider is to be told this of a message; False when that was so already, for the time that it lasts.

    lasts: for how long it is of use, None for ever. The conversation is locked.
    """
    about = (conversation_id, channel_id, provider_message_id)
    return bool(await connection.fetchval(WANT_MARK, kind, key, *about, emoji, lasts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """The last reaction to a message that the provider took. emoji: None where it took one away."""

    message_id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    provider_message_id: str = field(repr=False)
    emoji: str | None
    create_time: datetime


async def reacted(connection: Connection, mark: Mark, provider_message_id: str) -> None:
    """The provider took a reaction. The conversation is locked."""
    about = (mark.key, mark.conversation_id, mark.channel_id)
    await connection.execute(REACTED, *about, provider_message_id, mark.emoji)


async def reactions(connection: Connection, channel_ids: Sequence[uuid.UUID], ids: Sequence[str]) -> list[Reaction]:
    """The reactions of these ids at the provider."""
    return [Reaction(**record) for record in await connection.fetch(REACTIONS, channel_ids, ids)]


async def changing(connection: Connection, message_id: uuid.UUID) -> bool:
    """Whether the provider is still to be told of another reaction to the message."""
    found: bool = await connection.fetchval(CHANGING, message_id)
    return found


async def forget_reactions(connection: Connection, *, after: timedelta) -> None:
    """Forgets what the provider took so long ago that it says no more of it."""
    await connection.execute(FORGET, after)


async def claim(connection: Connection, *, limit: int) -> list[Mark]:
    """Takes what is due on channels that are active, the longest due first. Committed before anybody is told."""
    return [Mark(**record) for record in await connection.fetch(ACTIVE, limit, LEASE)]


async def claim_ended(connection: Connection, *, limit: int) -> list[Mark]:
    """The same, due or not, on channels that were disconnected: nobody is told. What is of no use a little later ends by itself."""
    return [Mark(**record) for record in await connection.fetch(DISCONNECTED, limit, LEASE)]


async def end(connection: Connection, mark: Mark) -> None:
    """It was told, or is told no more; a later mark stays, and one that lasts stays for its time."""
    await connection.execute(REST, *_own(mark))
    await connection.execute(END, *_own(mark))


async def again(connection: Connection, mark: Mark, *, after: timedelta, counts: bool = True) -> None:
    """It is tried again after a time. counts: whether the attempt is spent."""
    await connection.execute(AGAIN, *_own(mark), mark.attempt, after, 0 if counts else 1)


def _own(mark: Mark) -> tuple[str, uuid.UUID, str, str | None]:
    return mark.kind, mark.key, mark.provider_message_id, mark.emoji
