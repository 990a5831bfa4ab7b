"""Counts of what there is now: kept by a follower of the log, so that no query's cost grows with history.

The follower remembers as what it counted each conversation. An event's snapshot replaces that; the difference goes into the
counts. Its cursor moves in the same transaction.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2, event_pb2

from server.conversations.convert import PROVIDER, STATUS
from server.conversations.filter import Where
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import FieldViolation, InvalidFields
from server.log.cursor import HeadRow
from server.log.read import LogBroken
from server.rpc.call import Scope

CONSUMER = "statistics"
LIVE_STATUSES = ("new", "open", "pending", "snoozed")
SNAPSHOT_KINDS = tuple(
    field.number
    for field in event_pb2.InboxEvent.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.message_type is not None and "conversation" in field.message_type.fields_by_name
)
POSITION = "SELECT seq, broken_time FROM consumers WHERE name = $1 FOR UPDATE"
START = """
INSERT INTO consumers (name, seq, update_time) SELECT $1, floor - 1, $2 FROM stream_head ON CONFLICT DO NOTHING
"""
NEXT = """
SELECT seq, kind, payload FROM stream_event WHERE seq > $1 AND seq <= $1 + $2 ORDER BY seq
"""
ADVANCE = "UPDATE consumers SET seq = $2, update_time = $3 WHERE name = $1"
COUNTED = "SELECT * FROM counted_conversations WHERE conversation_id = ANY($1::uuid[])"
# The row that is proposed must be a legal one even where it is not inserted: Postgres checks it before it finds the conflict.
COUNT = """
INSERT INTO conversation_counts (channel_id, status, assigned, unread, provider, count)
VALUES ($1, $2, $3, $4, $5, greatest($6::bigint, 0))
ON CONFLICT (channel_id, status, assigned, unread) DO UPDATE SET count = conversation_counts.count + $6::bigint
"""
REMEMBER = """
INSERT INTO counted_conversations (conversation_id, channel_id, status, assigned, unread)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[], $5::boolean[])
ON CONFLICT (conversation_id) DO UPDATE
SET channel_id = excluded.channel_id, status = excluded.status, assigned = excluded.assigned, unread = excluded.unread
"""
NOW = """
SELECT c.channel_id, c.provider, c.status, c.assigned, c.unread, c.count, h.epoch, h.floor, coalesce(p.seq, 0) AS head,
    CASE WHEN p.seq = h.head THEN h.head_event_id ELSE e.event_id END AS head_event_id
FROM stream_head h
LEFT JOIN consumers p ON p.name = $1
LEFT JOIN stream_event e ON e.seq = p.seq
LEFT JOIN conversation_counts c ON c.count > 0 AND {where}
"""

Dimensions = tuple[uuid.UUID, str, bool, bool]


@dataclass(frozen=True, slots=True)
class Counts:
    """One combination of attributes and how many conversations have it."""

    channel_id: uuid.UUID
    provider: str
    status: str
    assigned: bool
    unread: bool
    count: int


async def behind(connection: Connection) -> bool:
    """Whether the log has events that are not counted."""
    found: bool = await connection.fetchval(
        "SELECT h.head > coalesce((SELECT CASE WHEN broken_time IS NULL THEN seq ELSE h.head END FROM consumers WHERE name = $1), 0)"
        " FROM stream_head h",
        CONSUMER,
    )
    return found


async def follow(write: Write, *, limit: int = 500) -> int:
    """Counts the next events of the log and moves the cursor; returns how many there were. LogBroken rather than over a hole."""
    place: Any = await write.connection.fetchrow(POSITION, CONSUMER)
    if place is None:
        await write.connection.execute(START, CONSUMER, utc_now())
        place = await write.connection.fetchrow(POSITION, CONSUMER)
    records = await write.connection.fetch(NEXT, place["seq"], limit)
    if not records or place["broken_time"] is not None:
        return 0
    if records[0]["seq"] != place["seq"] + 1:
        raise LogBroken(f"the event after {place['seq']} is gone")
    await _count(write.connection, _snapshots(records))
    await write.connection.execute(ADVANCE, CONSUMER, records[-1]["seq"], utc_now())
    return len(records)


def _snapshots(records: Sequence[Any]) -> dict[uuid.UUID, conversation_pb2.Conversation]:
    """The newest snapshot of each conversation, by version."""
    newest: dict[uuid.UUID, conversation_pb2.Conversation] = {}
    for record in records:
        if record["kind"] in SNAPSHOT_KINDS:
            event = event_pb2.InboxEvent.FromString(record["payload"])
            snapshot = getattr(event, event.WhichOneof("body") or "").conversation
            newest[uuid.UUID(snapshot.id)] = snapshot
    return newest


async def _count(connection: Connection, snapshots: dict[uuid.UUID, conversation_pb2.Conversation]) -> None:
    before = {row["conversation_id"]: row for row in await connection.fetch(COUNTED, list(snapshots))}
    changes: Counter[Dimensions] = Counter()
    providers: dict[uuid.UUID, str] = {}
    counted: list[tuple[Any, ...]] = []
    gone: list[uuid.UUID] = []
    for conversation_id, snapshot in sorted(snapshots.items()):
        channel_id = uuid.UUID(snapshot.channel_id)
        providers[channel_id] = PROVIDER.word(snapshot.provider)
        old = before.get(conversation_id)
        if old is not None:
            changes[(old["channel_id"], old["status"], old["assigned"], old["unread"])] -= 1
        if snapshot.HasField("delete_time"):
            gone.append(conversation_id)
            continue
        assigned, unread = snapshot.HasField("assignee_id"), snapshot.unread_count > 0
        new: Dimensions = (channel_id, STATUS.word(snapshot.status), assigned, unread)
        changes[new] += 1
        counted.append((conversation_id, *new))
    if gone:
        await connection.execute("DELETE FROM counted_conversations WHERE conversation_id = ANY($1::uuid[])", gone)
    if counted:
        await connection.execute(REMEMBER, *zip(*counted, strict=True))
    for dimensions, change in sorted(changes.items()):
        if change:
            await connection.execute(COUNT, *dimensions, providers[dimensions[0]], change)


def check_filter(wanted: filters.ConversationFilter) -> None:
    """Statistics know channel and provider only."""
    for field, _ in wanted.ListFields():
        if field.name not in ("channel_id", "provider"):
            raise InvalidFields(FieldViolation(f"filter.{field.name}", "statistics take channel_id and provider only"))


async def now(connection: Connection, scope: Scope, wanted: filters.ConversationFilter) -> tuple[list[Counts], HeadRow]:
    """The counts of the channels the caller may see, and where in the log they stand."""
    check_filter(wanted)
    where = Where(first=2)
    condition = where.filter(wanted, scope)
    if not scope.all:
        condition += f" AND c.channel_id = ANY({where.value(list(scope.channel_ids), 'uuid[]')})"
    records = await connection.fetch(NOW.format(where=condition), CONSUMER, *where.values)
    names = ("channel_id", "provider", "status", "assigned", "unread", "count")
    counts = [
        Counts(**{name: record[name] for name in names}) for record in records if record["channel_id"] is not None
    ]
    return counts, HeadRow.of(records[0])
