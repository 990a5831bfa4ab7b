"""The follower: counts the next events of the log, and moves its cursor in the transaction of what it counted.

Killed at any moment, it has counted an event and knows that it has, or neither. Where it does not know the log's beginning it starts
from the tables, as far as they tell.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations.statistics import facts, known
from server.conversations.statistics.periods import QUARTER, quarter_of
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.read import PAGE_EVENTS, LogBroken

CONSUMER = "statistics"
PURGED = event_pb2.EVENT_TYPE_CONVERSATION_PURGED
KINDS = tuple(
    field.number
    for field in event_pb2.InboxEvent.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.message_type is not None
    and ("conversation" in field.message_type.fields_by_name or field.name == "message_status_updated")
)
BEHIND = """
SELECT h.head > coalesce((SELECT CASE WHEN broken_time IS NULL THEN seq ELSE h.head END FROM consumers WHERE name = $1), 0)
FROM stream_head h
"""
POSITION = (
    "SELECT seq, broken_time, (SELECT since FROM statistics_starts) AS since FROM consumers WHERE name = $1 FOR UPDATE"
)
START = """
INSERT INTO consumers (name, seq, update_time) SELECT $1, floor - 1, $2 FROM stream_head ON CONFLICT DO NOTHING RETURNING seq
"""
FLOOR_TIME = "SELECT create_time FROM stream_event WHERE seq = $1"
SINCE = "INSERT INTO statistics_starts (id, since) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET since = excluded.since"
# Conversations that no event of the log shows any more: they stand as the table has them.
SILENT = """
SELECT c.id AS conversation_id, c.channel_id, c.provider, c.status, c.team_id, c.assignee_id, c.tags, c.priority,
    c.inbound_count > c.team_read_count AS unread, c.delete_time IS NOT NULL AS hidden,
    EXISTS (
        SELECT FROM messages m WHERE m.conversation_id = c.id AND m.direction = 'outbound' AND m.author_kind IN (1, 5)
    ) AS answered,
    c.waiting_since, CASE WHEN c.resolve_time IS NULL THEN c.create_time END AS open_since, a.agent_id, a.start_time
FROM conversations c
LEFT JOIN conversation_assignments a ON a.conversation_id = c.id AND a.end_time IS NULL AND a.agent_id IS NOT NULL
WHERE NOT EXISTS (SELECT FROM stream_event e WHERE e.conversation_id = c.id)
"""
FORGET = ("DELETE FROM conversation_counts", "DELETE FROM counted_conversations", "DELETE FROM statistics_starts")
RECOUNTED = "DELETE FROM statistics_buckets WHERE $1::timestamptz IS NULL OR bucket_time >= $1"
NEXT = """
SELECT seq, kind, create_time, conversation_id, payload FROM stream_event WHERE seq > $1 AND seq <= $1 + $2 ORDER BY seq
"""
ADVANCE = "UPDATE consumers SET seq = $2, update_time = $3 WHERE name = $1"
ADD = """
INSERT INTO statistics_buckets AS b (dimension, bucket_time, channel_id, value, measure, bin, count, total)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::numeric[])
ON CONFLICT (dimension, bucket_time, channel_id, value, measure, bin)
DO UPDATE SET count = b.count + excluded.count, total = b.total + excluded.total
"""
# The row that is proposed must be a legal one even where it is not inserted: Postgres checks it before it finds the conflict.
MAKE = """
INSERT INTO conversation_counts (channel_id, dimension, value, status, provider, count, unassigned, unread, unattended)
SELECT u.*, 0, 0, 0, 0 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u ON CONFLICT DO NOTHING
"""
CHANGE = """
UPDATE conversation_counts c
SET count = c.count + u.count, unassigned = c.unassigned + u.unassigned, unread = c.unread + u.unread,
    unattended = c.unattended + u.unattended
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
) AS u (channel_id, dimension, value, status, count, unassigned, unread, unattended)
WHERE (c.channel_id, c.dimension, c.value, c.status) = (u.channel_id, u.dimension, u.value, u.status)
"""


async def behind(connection: Connection) -> bool:
    """Whether the log has events that are not counted."""
    found: bool = await connection.fetchval(BEHIND, CONSUMER)
    return found


async def follow(write: Write, *, limit: int = PAGE_EVENTS) -> int:
    """Counts the next events of the log and moves the cursor; returns how many there were. LogBroken rather than over a hole."""
    connection = write.connection
    place: Any = await connection.fetchrow(POSITION, CONSUMER)
    if place is None:
        await _start(connection)
        place = await connection.fetchrow(POSITION, CONSUMER)
    if place["broken_time"] is not None:
        return 0
    records = await connection.fetch(NEXT, place["seq"], limit)
    if not records:
        return 0
    if records[0]["seq"] != place["seq"] + 1:
        raise LogBroken(f"the event after {place['seq']} is gone")
    await _count(connection, records, since=place["since"])
    await connection.execute(ADVANCE, CONSUMER, records[-1]["seq"], utc_now())
    return len(records)


async def rebuild(write: Write) -> datetime | None:
    """Forgets what was counted, as far as the log can tell it again, and starts over; following then catches up.

    Returns since when the log tells it: older numbers stay as they were. None when it has everything.
    """
    connection = write.connection
    await connection.execute("DELETE FROM consumers WHERE name = $1", CONSUMER)
    for statement in FORGET:
        await connection.execute(statement)
    since = await _start(connection)
    await connection.execute(RECOUNTED, since)
    return since


async def _start(connection: Connection) -> datetime | None:
    """Begins at the floor of the log. Returns the first quarter of an hour that the log has all of, None when it has everything."""
    seq = await connection.fetchval(START, CONSUMER, utc_now())
    if not seq:
        return None
    first = await connection.fetchval(FLOOR_TIME, seq + 1)
    since = quarter_of(utc_now() if first is None else first) + QUARTER
    await connection.execute(SINCE, since)
    tally, items = facts.Tally(since=since), []
    for record in await connection.fetch(SILENT):
        items.append(item := known.Known(*record.values()))
        tally.move(item, +1)
    await known.save(connection, items)
    await _store(connection, tally)
    return since


async def _count(connection: Connection, records: Sequence[Any], *, since: datetime | None) -> None:
    told = [record for record in records if record["kind"] in KINDS]
    events = [event_pb2.InboxEvent.FromString(record["payload"]) for record in told]
    ids = {record["conversation_id"] for record in told}
    conversations = await known.load(connection, ids)
    replied = await _replied(connection, told, ids - set(conversations))
    tally = facts.Tally(since=since)
    for record, event in zip(told, events, strict=True):
        conversation_id: uuid.UUID = record["conversation_id"]
        item = conversations.get(conversation_id)
        if item is None:
            item = facts.begin(event, conversation_id, answered=conversation_id in replied)
            if item is None:
                continue
            conversations[conversation_id] = item
        facts.count(tally, item, event)
    await known.save(connection, conversations.values())
    # Deleted before, it counts as nothing already.
    await known.forget(connection, [record["conversation_id"] for record in records if record["kind"] == PURGED])
    await _store(connection, tally)


async def _replied(connection: Connection, records: Sequence[Any], unknown: set[uuid.UUID]) -> set[uuid.UUID]:
    """Conversations that somebody had answered before the first event the log has of them."""
    first = {record["conversation_id"]: record for record in reversed(records)}
    created = event_pb2.EVENT_TYPE_CONVERSATION_CREATED
    times = {item: first[item]["create_time"] for item in unknown if first[item]["kind"] != created}
    return await known.answered(connection, times) if times else set()


async def _store(connection: Connection, tally: facts.Tally) -> None:
    if tally.buckets:
        rows = [(*bucket, *sums) for bucket, sums in sorted(tally.buckets.items())]
        await connection.execute(ADD, *map(list, zip(*rows, strict=True)))
    changed = [(place, sums) for place, sums in sorted(tally.present.items()) if any(sums)]
    if changed:
        await connection.execute(MAKE, *map(list, zip(*(place for place, _ in changed), strict=True)))
        rows = [(*place[:4], *sums) for place, sums in changed]
        await connection.execute(CHANGE, *map(list, zip(*rows, strict=True)))
