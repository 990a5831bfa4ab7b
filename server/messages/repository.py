"""Statements on messages, parts and receipts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from server.conversations import repository as conversations
from server.journal import items as journal_items
from server.kit.db import Connection
from server.kit.errors import NotFound
from server.log.append import append_sql
from server.log.cursor import HeadRow
from server.messages.row import FIRST_PART, SELECTED, STORED, AttachmentRow, MessageRow, from_record
from server.rpc.call import Scope

_MESSAGES = """
INSERT INTO messages (
    id, conversation_id, channel_id, direction, type, status, sequence, arrival, text, details, author_kind, author_id,
    request_id, request_hash, create_time, provider_time
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::integer[], $9::text[],
    $10::jsonb[], $11::smallint[], $12::uuid[], $13::text[], $14::bytea[], $15::timestamptz[], $16::timestamptz[]
)
"""
_PARTS = """
INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, provider_message_id, status)
SELECT id, message_id, conversation_id, channel_id, 0, provider_message_id, status
FROM unnest($17::uuid[], $18::uuid[], $19::uuid[], $20::uuid[], $21::text[], $22::text[])
    AS u (id, message_id, conversation_id, channel_id, provider_message_id, status)
"""
_DELIVERIES = """
INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)
SELECT id, 'send', part_id, conversation_id, channel_id, position, 'queued', clock_now(), create_time
FROM unnest($23::uuid[], $24::uuid[], $25::uuid[], $26::uuid[], $27::bigint[], $28::timestamptz[])
    AS u (id, part_id, conversation_id, channel_id, position, create_time)
"""
_TIMERS = """
INSERT INTO timers (kind, key, due_time, generation)
SELECT kind, key, due_time, 0 FROM unnest($29::text[], $30::uuid[], $31::timestamptz[]) AS u (kind, key, due_time)
ON CONFLICT (kind, key) DO NOTHING
"""
_READS = """
INSERT INTO read_positions (conversation_id, agent_id, arrival, inbound_count, update_time)
SELECT * FROM unnest($32::uuid[], $33::uuid[], $34::integer[], $35::integer[], $36::timestamptz[])
ON CONFLICT (conversation_id, agent_id) DO UPDATE
SET arrival = excluded.arrival, inbound_count = excluded.inbound_count, update_time = excluded.update_time
WHERE read_positions.arrival < excluded.arrival
"""
FIRST_JOURNAL_ITEM = 37
FIRST_CONVERSATION = FIRST_JOURNAL_ITEM + journal_items.WIDTH
FIRST_EVENT = FIRST_CONVERSATION + 1 + len(conversations.CHANGED)
FIRST_ATTACHMENT = FIRST_EVENT + 15
_ATTACHMENTS = """
INSERT INTO message_attachments (
    id, message_id, position, kind, mime_type, file_name, size_bytes, state, provider_media_id, sha256
)
SELECT * FROM unnest(
    ${}::uuid[], ${}::uuid[], ${}::smallint[], ${}::text[], ${}::text[], ${}::text[], ${}::bigint[], ${}::text[], ${}::text[],
    ${}::text[]
)
""".format(*range(FIRST_ATTACHMENT, FIRST_ATTACHMENT + 10))
# The head waits, by data, for every part: Postgres runs the parts of a WITH in any order, and the head row is locked last.
PARTS = (
    "messages_in",
    "parts_in",
    "attachments_in",
    "deliveries_in",
    "timers_in",
    "reads_in",
    "items_in",
    "conversations_in",
)
WRITE = f"""
WITH messages_in AS ({_MESSAGES} RETURNING 1),
parts_in AS ({_PARTS} RETURNING 1),
attachments_in AS ({_ATTACHMENTS} RETURNING 1),
deliveries_in AS ({_DELIVERIES} RETURNING 1),
timers_in AS ({_TIMERS} RETURNING 1),
reads_in AS ({_READS} RETURNING 1),
items_in AS ({journal_items.insert_sql(FIRST_JOURNAL_ITEM)} RETURNING 1),
conversations_in AS ({conversations.save_sql(FIRST_CONVERSATION)} RETURNING 1),
{append_sql(first=FIRST_EVENT, after="0 * (" + " + ".join(f"(SELECT count(*) FROM {name})" for name in PARTS) + ")")}
"""

KNOWN_PROVIDER_IDS = """
SELECT p.channel_id, p.provider_message_id FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN message_parts p USING (channel_id, provider_message_id)
"""
# Two look-ups by index, not one condition with OR, which would read the whole table.
REPEATED = f"""
SELECT {SELECTED} FROM messages m {FIRST_PART} WHERE m.id = ANY($1::uuid[])
UNION ALL
SELECT {SELECTED} FROM unnest($2::uuid[], $3::text[]) AS k (author_id, request_id)
JOIN messages m ON m.author_id = k.author_id AND m.request_id = k.request_id {FIRST_PART}
"""
CANDIDATES = """
SELECT DISTINCT ON (c.channel_id, c.identity_id) c.id
FROM unnest($1::uuid[], $2::uuid[]) AS k (channel_id, identity_id)
JOIN conversations c USING (channel_id, identity_id)
ORDER BY c.channel_id, c.identity_id,
    (c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL) DESC, c.create_time DESC, c.id DESC
"""
LIVE = """
SELECT c.channel_id, c.identity_id, c.id
FROM unnest($1::uuid[], $2::uuid[]) AS k (channel_id, identity_id)
JOIN conversations c USING (channel_id, identity_id)
WHERE c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL
"""
TAKEN = """
SELECT k.conversation_id, k.base, max(m.sequence) AS sequence
FROM unnest($1::uuid[], $2::bigint[]) AS k (conversation_id, base)
JOIN messages m ON m.conversation_id = k.conversation_id AND m.sequence >= k.base AND m.sequence < k.base + 4096
GROUP BY k.conversation_id, k.base
"""
NEWEST = "SELECT id FROM messages WHERE conversation_id = $1 ORDER BY arrival DESC LIMIT 1"
ARRIVALS = "SELECT id, conversation_id, arrival FROM messages WHERE id = ANY($1::uuid[])"
ATTACHMENTS = "SELECT * FROM message_attachments WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, position"
PAGE = f"""
SELECT l.*, h.epoch, h.head, h.floor, h.head_event_id
FROM stream_head h LEFT JOIN LATERAL (
    SELECT {SELECTED} FROM messages m {FIRST_PART}
    WHERE m.conversation_id = $1 AND ($2::bigint IS NULL OR m.sequence < $2)
    ORDER BY m.sequence DESC LIMIT $3
) l ON TRUE
"""
GET = f"""
SELECT {SELECTED}, c.team_id, c.assignee_id, c.delete_time
FROM messages m {FIRST_PART} JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1
"""
STATUS_UPDATES = """
SELECT * FROM message_status_updates
WHERE message_id = $1 AND ($2::timestamptz IS NULL OR (create_time, id) > ($2, $3::uuid))
ORDER BY create_time, id LIMIT $4
"""


def transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as parallel arrays."""
    return [[row[index] for row in rows] for index in range(width)]


def message_columns(rows: Sequence[MessageRow]) -> list[list[Any]]:
    """The arrays of _MESSAGES."""
    return [[getattr(row, name) for row in rows] for name in STORED]


async def known_provider_ids(
    connection: Connection, keys: Sequence[tuple[uuid.UUID, str]]
) -> set[tuple[uuid.UUID, str]]:
    """Which of these provider messages are stored."""
    if not keys:
        return set()
    records = await connection.fetch(KNOWN_PROVIDER_IDS, *transposed(keys, 2))
    return {(record["channel_id"], record["provider_message_id"]) for record in records}


async def repeated(
    connection: Connection, message_ids: Sequence[uuid.UUID], requests: Sequence[tuple[uuid.UUID, str]]
) -> list[MessageRow]:
    """Messages that a send with one of these ids, or one of these (author, request id), made before."""
    records = await connection.fetch(REPEATED, list(message_ids), *transposed(requests, 2))
    return [from_record(record) for record in records]


async def candidates(connection: Connection, keys: Iterable[tuple[uuid.UUID, uuid.UUID]]) -> list[uuid.UUID]:
    """Of each (channel, identity) the live conversation, else the newest."""
    return [record["id"] for record in await connection.fetch(CANDIDATES, *transposed(sorted(keys), 2))]


async def live(
    connection: Connection, keys: Iterable[tuple[uuid.UUID, uuid.UUID]]
) -> dict[tuple[uuid.UUID, uuid.UUID], uuid.UUID]:
    """The live conversation of each (channel, identity) that has one."""
    records = await connection.fetch(LIVE, *transposed(sorted(keys), 2))
    return {(record["channel_id"], record["identity_id"]): record["id"] for record in records}


async def taken(connection: Connection, keys: Sequence[tuple[uuid.UUID, int]]) -> dict[tuple[uuid.UUID, int], int]:
    """The highest sequence of a conversation in the millisecond that starts at a base."""
    records = await connection.fetch(TAKEN, *transposed(keys, 2)) if keys else []
    return {(record["conversation_id"], record["base"]): record["sequence"] for record in records}


async def newest(connection: Connection, conversation_id: uuid.UUID) -> uuid.UUID | None:
    """The message of a conversation that arrived last."""
    found: uuid.UUID | None = await connection.fetchval(NEWEST, conversation_id)
    return found


async def arrivals(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[uuid.UUID, int]]:
    """Conversation and arrival of messages."""
    records = await connection.fetch(ARRIVALS, list(ids)) if ids else []
    return {record["id"]: (record["conversation_id"], record["arrival"]) for record in records}


def attachment_columns(rows: Sequence[MessageRow]) -> list[list[Any]]:
    """The arrays of _ATTACHMENTS."""
    flat = [
        (
            a.id,
            row.id,
            a.position,
            a.kind,
            a.mime_type,
            a.file_name,
            a.size_bytes,
            a.state,
            a.provider_media_id,
            a.sha256,
        )
        for row in rows
        for a in row.attachments
    ]
    return transposed(flat, 10)


async def _with_attachments(connection: Connection, rows: list[MessageRow]) -> list[MessageRow]:
    wanted = [row.id for row in rows if row.type not in ("text", "unsupported")]
    found: dict[uuid.UUID, list[AttachmentRow]] = {}
    for record in await connection.fetch(ATTACHMENTS, wanted) if wanted else []:
        values = {name: record[name] for name in AttachmentRow.__slots__}
        found.setdefault(record["message_id"], []).append(AttachmentRow(**values))
    for row in rows:
        row.attachments = found.get(row.id, ())
    return rows


async def page(
    connection: Connection, conversation_id: uuid.UUID, *, before: int | None, limit: int
) -> tuple[list[MessageRow], HeadRow]:
    """Messages of a conversation that the caller has been shown to see, newest first, and the head."""
    records = await connection.fetch(PAGE, conversation_id, before, limit)
    rows = [from_record(record) for record in records if record["id"] is not None]
    return await _with_attachments(connection, rows), HeadRow.of(records[0])


async def get_visible(connection: Connection, scope: Scope, message_id: uuid.UUID) -> MessageRow:
    """A message whose conversation the caller may see. NotFound."""
    record = await connection.fetchrow(GET, message_id)
    if record is None or record["delete_time"] is not None:
        raise NotFound("message")
    if not scope.sees(channel_id=record["channel_id"], team_id=record["team_id"], assignee_id=record["assignee_id"]):
        raise NotFound("message")
    return (await _with_attachments(connection, [from_record(record)]))[0]


async def status_updates(
    connection: Connection, message_id: uuid.UUID, *, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """The audit trail of a message that the caller has been shown to see, in the order it came."""
    time, update_id = (datetime.fromisoformat(after[0]), uuid.UUID(after[1])) if after else (None, None)
    records: list[Any] = await connection.fetch(STATUS_UPDATES, message_id, time, update_id, limit)
    return records
