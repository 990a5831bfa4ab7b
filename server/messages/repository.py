"""Statements on messages, parts and receipts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from server.conversations.repository import MARK
from server.conversations.row import COLUMNS
from server.conversations.rules import SEQUENCE_BITS
from server.kit.db import Connection
from server.kit.errors import NotFound
from server.log.cursor import HeadRow
from server.messages.row import FIRST_PART, SELECTED, AttachmentRow, MessageRow, from_record
from server.rpc.call import Scope

# One row for each send, in their order, with all that decides about it. Each look-up stands apart, so that none of them can
# become a scan in a plan that was made, and kept, while a tenant's tables were still empty.
FOR_SENDS = f"""
SELECT {", ".join(f"c.{name}" for name in COLUMNS)}, c.mark, ch.state AS channel_state,
    live.id AS live_id, earlier.id AS earlier_id, seen.conversation_id AS seen_conversation_id, seen.arrival AS seen_arrival
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) WITH ORDINALITY
    AS k (conversation_id, author_id, request_id, seen_id, n)
LEFT JOIN LATERAL (SELECT *, {MARK} AS mark FROM conversations WHERE id = k.conversation_id LIMIT 1) c ON TRUE
LEFT JOIN LATERAL (SELECT state FROM channels WHERE id = c.channel_id LIMIT 1) ch ON TRUE
LEFT JOIN LATERAL (
    SELECT l.id FROM conversations l
    WHERE c.status = 'resolved' AND l.channel_id = c.channel_id AND l.identity_id = c.identity_id
        AND l.status IN ('new', 'open', 'pending', 'snoozed') AND l.delete_time IS NULL LIMIT 1
) live ON TRUE
LEFT JOIN LATERAL (
    SELECT id FROM messages WHERE author_id = k.author_id AND request_id = k.request_id LIMIT 1
) earlier ON TRUE
LEFT JOIN LATERAL (SELECT conversation_id, arrival FROM messages WHERE id = k.seen_id LIMIT 1) seen ON TRUE
ORDER BY k.n
"""
# What was stored and purged since is known by the journal alone; LATERAL keeps that a look-up by index.
KNOWN_PROVIDER_IDS = """
SELECT p.channel_id, p.provider_message_id FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN message_parts p USING (channel_id, provider_message_id)
UNION ALL
SELECT k.channel_id, k.provider_id FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_id) CROSS JOIN LATERAL (
    SELECT FROM journal_items i
    WHERE i.channel_id = k.channel_id AND i.kind IN ('message', 'message_copy') AND i.provider_id = k.provider_id
        AND i.state = 'applied' LIMIT 1
) i
"""
# Two look-ups by index, not one condition with OR, which would read the whole table; LATERAL keeps them look-ups whatever the
# size of the tables was when the plan was made.
REPEATED = f"""
SELECT {SELECTED} FROM (
    SELECT f.* FROM unnest($1::uuid[]) AS k (id), LATERAL (SELECT * FROM messages WHERE id = k.id LIMIT 1) f
    UNION ALL
    SELECT f.* FROM unnest($2::uuid[], $3::text[]) AS k (author_id, request_id),
        LATERAL (SELECT * FROM messages WHERE author_id = k.author_id AND request_id = k.request_id LIMIT 1) f
) m CROSS JOIN LATERAL (SELECT * FROM message_parts WHERE message_id = m.id AND position = 0 LIMIT 1) p
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
MILLISECOND = 1 << SEQUENCE_BITS
TAKEN = f"""
SELECT k.conversation_id, k.base, max(m.sequence) AS sequence
FROM unnest($1::uuid[], $2::bigint[]) AS k (conversation_id, base)
JOIN messages m ON m.conversation_id = k.conversation_id AND m.sequence >= k.base AND m.sequence < k.base + {MILLISECOND}
GROUP BY k.conversation_id, k.base
"""
NEWEST_OF = """
SELECT m.conversation_id, m.id FROM unnest($1::uuid[]) AS k (id) CROSS JOIN LATERAL (
    SELECT conversation_id, id FROM messages WHERE conversation_id = k.id ORDER BY arrival DESC LIMIT 1
) m
"""
NEWEST = "SELECT id FROM messages WHERE conversation_id = $1 ORDER BY arrival DESC LIMIT 1"
ARRIVALS = "SELECT id, conversation_id, arrival FROM messages WHERE id = ANY($1::uuid[])"
ATTACHMENTS = "SELECT * FROM message_attachments WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, position"
PART_ERRORS = """
SELECT DISTINCT ON (message_id) message_id, error_code, error_message FROM message_parts
WHERE message_id = ANY($1::uuid[]) AND status = 'failed' ORDER BY message_id, position
"""
PAGE = f"""
SELECT l.*, h.epoch, h.head, h.floor, h.head_event_id
FROM stream_head h LEFT JOIN LATERAL (
    SELECT {SELECTED} FROM messages m {FIRST_PART}
    WHERE m.conversation_id = $1 AND ($2::bigint IS NULL OR m.sequence < $2)
        AND NOT coalesce(m.details ? 'same_as_message_id', FALSE)
    ORDER BY m.sequence DESC LIMIT $3
) l ON TRUE
"""
GET = f"""
SELECT {SELECTED}, c.team_id, c.assignee_id, c.delete_time
FROM messages m {FIRST_PART} JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1
"""
STATUS_UPDATES = """
SELECT * FROM message_status_updates
WHERE message_id = $1 AND ($2::timestamptz IS NULL OR (create_time, id) > ($2, $3::uuid)) AND ($5::integer IS NULL OR position = $5)
ORDER BY create_time, id LIMIT $4
"""


def transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as parallel arrays."""
    return [[row[index] for row in rows] for index in range(width)]


async def known_provider_ids(
    connection: Connection, keys: Sequence[tuple[uuid.UUID, str]]
) -> set[tuple[uuid.UUID, str]]:
    """Which of these provider messages are stored, or were until they were purged."""
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


async def for_sends(
    connection: Connection, keys: Sequence[tuple[uuid.UUID, uuid.UUID | None, str | None, uuid.UUID | None]]
) -> list[Any]:
    """What decides about sends, one row each: keys are conversation, author, request id and the last message seen."""
    records: list[Any] = await connection.fetch(FOR_SENDS, *transposed(keys, 4))
    return records


async def live(
    connection: Connection, keys: Iterable[tuple[uuid.UUID, uuid.UUID]]
) -> dict[tuple[uuid.UUID, uuid.UUID], uuid.UUID]:
    """The live conversation of each (channel, identity) that has one."""
    records = await connection.fetch(LIVE, *transposed(sorted(keys), 2))
    return {(record["channel_id"], record["identity_id"]): record["id"] for record in records}


async def taken(connection: Connection, keys: Sequence[tuple[uuid.UUID, int]]) -> dict[tuple[uuid.UUID, int], int]:
    """The highest sequence of a conversation in the millisecond that starts at a base.

    Where that millisecond is full, those of its messages that found no place go on in the next ones: the highest of the last of these.
    """
    found: dict[tuple[uuid.UUID, int], int] = {}
    asked = {key: key[1] for key in keys}
    while asked:
        looked = sorted({(key[0], base) for key, base in asked.items()})
        records = await connection.fetch(TAKEN, *transposed(looked, 2))
        highest = {(record["conversation_id"], record["base"]): record["sequence"] for record in records}
        full: dict[tuple[uuid.UUID, int], int] = {}
        for key, base in asked.items():
            sequence = highest.get((key[0], base), base - 1)
            if sequence == base + MILLISECOND - 1:
                full[key] = base + MILLISECOND
            elif sequence >= key[1]:
                found[key] = sequence
        asked = full
    return found


async def newest(connection: Connection, conversation_id: uuid.UUID) -> uuid.UUID | None:
    """The message of a conversation that arrived last."""
    found: uuid.UUID | None = await connection.fetchval(NEWEST, conversation_id)
    return found


async def newest_of(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """Of conversations the message that arrived last; those without one are missing."""
    records = await connection.fetch(NEWEST_OF, list(ids))
    return {record["conversation_id"]: record["id"] for record in records}


async def arrivals(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[uuid.UUID, int]]:
    """Conversation and arrival of messages."""
    records = await connection.fetch(ARRIVALS, list(ids)) if ids else []
    return {record["id"]: (record["conversation_id"], record["arrival"]) for record in records}


async def with_attachments(connection: Connection, rows: list[MessageRow]) -> list[MessageRow]:
    """Messages with their files filled in."""
    wanted = [row.id for row in rows if row.type not in ("text", "unsupported")]
    found: dict[uuid.UUID, list[AttachmentRow]] = {}
    for record in await connection.fetch(ATTACHMENTS, wanted) if wanted else []:
        values = {name: record[name] for name in AttachmentRow.__slots__}
        found.setdefault(record["message_id"], []).append(AttachmentRow(**values))
    for row in rows:
        row.attachments = found.get(row.id, ())
    await _with_errors([row for row in rows if row.status == "failed" and len(row.attachments) > 1], connection)
    return rows


async def _with_errors(rows: Sequence[MessageRow], connection: Connection) -> None:
    """Of messages with several parts, why the first of those failed that did."""
    records = await connection.fetch(PART_ERRORS, [row.id for row in rows]) if rows else []
    errors = {record["message_id"]: record for record in records}
    for row in rows:
        if row.id in errors:
            row.error_code, row.error_message = errors[row.id]["error_code"], errors[row.id]["error_message"]


async def page(
    connection: Connection, conversation_id: uuid.UUID, *, before: int | None, limit: int
) -> tuple[list[MessageRow], HeadRow]:
    """Messages of a conversation that the caller has been shown to see, newest first, and the head."""
    records = await connection.fetch(PAGE, conversation_id, before, limit)
    rows = [from_record(record) for record in records if record["id"] is not None]
    return await with_attachments(connection, rows), HeadRow.of(records[0])


async def get_visible(connection: Connection, scope: Scope, message_id: uuid.UUID) -> MessageRow:
    """A message whose conversation the caller may see. NotFound."""
    record = await connection.fetchrow(GET, message_id)
    if record is None or record["delete_time"] is not None:
        raise NotFound("message")
    if not scope.sees(channel_id=record["channel_id"], team_id=record["team_id"], assignee_id=record["assignee_id"]):
        raise NotFound("message")
    return (await with_attachments(connection, [from_record(record)]))[0]


async def status_updates(
    connection: Connection, message_id: uuid.UUID, *, part: int | None, after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """The audit trail of a message that the caller has been shown to see, or of one of its parts, in the order it came."""
    time, update_id = (datetime.fromisoformat(after[0]), uuid.UUID(after[1])) if after else (None, None)
    records: list[Any] = await connection.fetch(STATUS_UPDATES, message_id, time, update_id, limit, part)
    return records
