"""A tenant's tables as they are when all is over: the truth that the recorded files are compared with."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
from switchboard.v1 import conversation_pb2, event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub

from server.audit import chain
from server.conversations.text.words import words_of

HIDDEN = (90, 91)
"""Kinds of events that no stream shows."""
EVENTS = """
SELECT seq, tx_last, event_id::text AS id, kind, cause_id AS cause, conversation_id::text AS conversation,
    conversation_version AS version
FROM stream_event ORDER BY seq
"""
PARTS = """
SELECT p.id::text AS id, p.status, p.provider_message_id AS wamid, m.id::text AS message, m.request_id AS op, m.direction,
    m.sequence, m.conversation_id::text AS conversation, d.state AS delivery, d.error_message AS error
FROM message_parts p JOIN messages m ON m.id = p.message_id LEFT JOIN deliveries d ON d.part_id = p.id
"""
FAILED = """
SELECT (SELECT count(*) FROM journal_items WHERE state = 'failed') + (SELECT count(*) FROM journal WHERE state = 'failed')
    + (SELECT count(*) FROM timers WHERE dead_time IS NOT NULL)
"""
RECEIVED = "SELECT payload FROM stream_event WHERE kind = 20"
LAST = """
SELECT DISTINCT ON (conversation_id) payload, conversation_version AS version FROM stream_event
WHERE conversation_id IS NOT NULL AND kind NOT IN (22, 90, 91) ORDER BY conversation_id, seq DESC
"""
CONVERSATIONS = """
SELECT id::text AS id, version, status, coalesce(subject, '') AS subject, coalesce(assignee_id::text, '') AS assignee,
    coalesce(last_message_id::text, '') AS last_message, inbound_count - team_read_count AS unread,
    coalesce(team_id::text, '') AS team, array_to_string(tags, ',') AS tags, priority, last_message_preview AS preview,
    ARRAY(SELECT coalesce((extract(epoch FROM time) * 1000000)::bigint, 0) FROM unnest(ARRAY[
        last_message_time, waiting_since, reply_window_expire_time, CASE WHEN status = 'snoozed' THEN snooze_until END,
        resolve_time, delete_time, create_time
    ]) WITH ORDINALITY AS times (time, place) ORDER BY place) AS times
FROM conversations
"""
MISCOUNTED = """
SELECT c.id::text AS id FROM conversations c JOIN (
    SELECT conversation_id, count(*) AS messages, count(*) FILTER (WHERE direction = 'inbound') AS inbound,
        max(sequence) AS newest, count(DISTINCT sequence) AS sequences, count(DISTINCT arrival) AS arrivals,
        min(arrival) AS first, max(arrival) AS last, (array_agg(id ORDER BY sequence DESC))[1] AS newest_id,
        coalesce(max(arrival) FILTER (WHERE direction = 'inbound'), 0) AS last_inbound,
        coalesce(max(arrival) FILTER (WHERE direction = 'outbound'), 0) AS last_outbound
    FROM messages GROUP BY conversation_id) m ON m.conversation_id = c.id
WHERE (c.message_count, c.inbound_count, c.last_sequence, c.last_inbound_arrival, c.last_outbound_arrival, c.last_message_id)
    IS DISTINCT FROM (m.messages, m.inbound, m.newest, m.last_inbound, m.last_outbound, m.newest_id)
    OR (m.sequences, m.arrivals, m.first, m.last) IS DISTINCT FROM (m.messages, m.messages, 1, m.messages)
"""
COUNTED = """
SELECT channel_id, status, count, unassigned, unread FROM conversation_counts WHERE dimension = 'channel' AND count > 0
"""
RECOUNTED = """
SELECT channel_id, status, count(*) AS count, count(*) FILTER (WHERE live AND assignee_id IS NULL) AS unassigned,
    count(*) FILTER (WHERE live AND inbound_count > team_read_count) AS unread
FROM (SELECT *, status NOT IN ('resolved', 'archived') AS live FROM conversations WHERE delete_time IS NULL) c GROUP BY 1, 2
"""
BUCKETS = """
SELECT bucket_time AS time, channel_id::text AS channel, measure, sum(count)::bigint AS count FROM statistics_buckets
WHERE dimension = 'channel' AND measure IN ('inbound', 'outbound', 'new', 'assigned', 'sent', 'delivered', 'read', 'failed', 'unknown')
GROUP BY 1, 2, 3
"""
HAPPENED = """
SELECT date_bin('15 minutes', time, '2000-01-01Z') AS time, channel_id::text AS channel, measure, count(*) AS count FROM (
    SELECT create_time AS time, channel_id, direction AS measure FROM messages
    UNION ALL SELECT create_time, channel_id, 'new' FROM conversations
    UNION ALL SELECT a.start_time, c.channel_id, 'assigned' FROM conversation_assignments a
        JOIN conversations c ON c.id = a.conversation_id WHERE a.agent_id IS NOT NULL
    UNION ALL SELECT u.create_time, m.channel_id, u.status FROM message_status_updates u JOIN messages m ON m.id = u.message_id
        WHERE u.applied AND u.status <> 'pending'
) h GROUP BY 1, 2, 3
"""
PRESENT = """
SELECT dimension, value, status, sum(count)::bigint AS count FROM conversation_counts GROUP BY 1, 2, 3 HAVING sum(count) <> 0
"""
STANDING = """
SELECT dimension, value, status, count(*) AS count FROM conversations c, LATERAL (
    SELECT 'channel', channel_id::text UNION ALL SELECT 'team', coalesce(team_id::text, '')
    UNION ALL SELECT 'agent', coalesce(assignee_id::text, '') UNION ALL SELECT 'priority', priority::text
    UNION ALL SELECT 'tag', unnest(tags)
) AS d (dimension, value) WHERE delete_time IS NULL GROUP BY 1, 2, 3
"""
COUNTED_UPTO = "SELECT seq FROM consumers WHERE name = 'statistics'"
TEXTS = """
SELECT conversation_id::text AS conversation, text FROM messages WHERE text IS NOT NULL
UNION ALL SELECT conversation_id::text, text FROM conversation_notes
UNION ALL SELECT c.id::text, ct.name FROM conversations c JOIN contacts ct ON ct.id = c.contact_id
"""
WORDS = "SELECT conversation_id::text AS conversation, word FROM conversation_words"
AUDITED = "SELECT cause_id, count(*) AS count FROM audit_entries WHERE outcome = 1 GROUP BY 1"
PEOPLE = """
SELECT (SELECT count(*) FROM identities), (SELECT count(*) FROM contacts), (SELECT count(*) FROM conversations)
"""
UNDONE = """
SELECT (SELECT count(*) FROM journal WHERE state = 'received') AS journal,
    (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'in_flight')) AS deliveries,
    (SELECT count(*) FROM message_parts p JOIN messages m ON m.id = p.message_id
        WHERE $1 AND m.direction = 'outbound' AND p.status IN ('sent', 'delivered')) AS receipts,
    (SELECT count(*) FROM timers WHERE due_time <= clock_now() AND dead_time IS NULL) AS timers,
    (SELECT head - coalesce((SELECT seq FROM consumers WHERE name = 'statistics'), 0) FROM stream_head) AS statistics,
    (SELECT head - coalesce((SELECT seq FROM consumers WHERE name = 'text'), 0) FROM stream_head) AS text,
    (SELECT head - coalesce((SELECT seq FROM consumers WHERE name = 'audit'), 0) FROM stream_head)
        + (SELECT count(*) FROM audit_pending) AS audit
"""
QUARANTINED = "SELECT count(*) AS quarantine FROM quarantine"
SESSIONS = """
SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS in_transaction,
    count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting, count(*) AS open
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tables:
    """What is stored.

    events: the log, by seq. parts: of messages, with their delivery. requests: (request id, method). received: message ids of the
    log's messageReceived events. failed: payloads and items that could not be applied, timers given up. mirror: conversations as
    their last event shows them, by id; conversations: as stored.
    """

    head: int
    events: Sequence[Row]
    parts: Sequence[Row]
    requests: Sequence[tuple[str, str]]
    received: Sequence[str]
    failed: int
    mirror: Mapping[str, tuple[Any, ...]]
    conversations: Mapping[str, tuple[Any, ...]]
    miscounted: Sequence[str] = ()
    counts_differ: bool = False
    miscounts: Sequence[str] = ()
    """Statistics that plain SQL over the tables tells otherwise."""
    counted_upto: int = 0
    misworded: Sequence[str] = ()
    """Words of conversations that a search finds and nobody said, or that somebody said and no search finds."""
    audited: Mapping[str, int] = field(default_factory=dict)
    """How many entries the audit trail has of what was done, by request id."""
    unchained: str | None = None
    """Where the chain of the audit trail breaks."""
    people: tuple[int, ...] = (0, 0, 0)
    accepted: Sequence[str] = ()
    """Part ids of the requests that the provider accepted, in its order."""
    pages: Sequence[tuple[int, str]] | None = None
    """(seq, event id) of the log as ListInboxEvents shows it from the earliest on; None: not asked."""
    receipts: bool = True
    """Whether the provider sends receipts; then whatever it accepted ends as read, and nothing that it accepted is unknown."""


async def read_tables(dsn: str, **outside: Any) -> Tables:
    """Reads a tenant's database. outside: what Tables holds besides: accepted, pages, receipts."""
    connection = await asyncpg.connect(dsn)
    try:
        fetch = connection.fetch
        return Tables(
            head=await connection.fetchval("SELECT head FROM stream_head"),
            events=await fetch(EVENTS),
            parts=await fetch(PARTS),
            requests=[tuple(row) for row in await fetch("SELECT request_id, method FROM idempotent_requests")],
            received=[_received(row["payload"]) for row in await fetch(RECEIVED)],
            failed=await connection.fetchval(FAILED),
            mirror=dict(_mirrored(row) for row in await fetch(LAST)),
            conversations={row["id"]: tuple(row)[1:] for row in await fetch(CONVERSATIONS)},
            miscounted=[row["id"] for row in await fetch(MISCOUNTED)],
            counts_differ={tuple(row) for row in await fetch(COUNTED)}
            != {tuple(row) for row in await fetch(RECOUNTED)},
            miscounts=[
                *_differing(await fetch(BUCKETS), await fetch(HAPPENED)),
                *_differing(await fetch(PRESENT), await fetch(STANDING)),
            ],
            counted_upto=await connection.fetchval(COUNTED_UPTO),
            misworded=_differing(await fetch(WORDS), _words(await fetch(TEXTS)), "found"),
            audited={row["cause_id"]: row["count"] for row in await fetch(AUDITED)},
            unchained=await chain.broken(connection),
            people=tuple((await fetch(PEOPLE))[0]),
            **outside,
        )
    finally:
        await connection.close()


def _words(texts: Sequence[Row]) -> list[Row]:
    found = {(row["conversation"], word) for row in texts for word in words_of(row["text"])}
    return [dict(zip(("conversation", "word"), pair, strict=True)) for pair in found]


def _differing(counted: Sequence[Row], told: Sequence[Row], verb: str = "counted") -> list[str]:
    """What is counted otherwise than the tables tell, both ways."""
    left, right = ({tuple(map(str, row.values())) for row in rows} for rows in (counted, told))
    return [f"{verb} {' '.join(row)}" for row in sorted(left - right)] + [
        f"stored {' '.join(row)}" for row in sorted(right - left)
    ]


def _received(payload: bytes) -> str:
    return event_pb2.InboxEvent.FromString(payload).message_received.message.id


def _mirrored(row: Row) -> tuple[str, tuple[Any, ...]]:
    """A conversation as a client shows it after its last event."""
    event = event_pb2.InboxEvent.FromString(row["payload"])
    body = getattr(event, event.WhichOneof("body") or "")
    shown = body.conversation
    status = conversation_pb2.ConversationStatus.Name(shown.status).removeprefix("CONVERSATION_STATUS_").lower()
    times = (
        *(shown.last_message_time, shown.waiting_since, shown.reply_window.expire_time, shown.snooze.until_time),
        *(shown.resolve_time, shown.delete_time, shown.create_time),
    )
    return shown.id, (
        *(shown.version, status, shown.subject, shown.assignee_id, shown.last_message_id, shown.unread_count),
        *(shown.team_id, ",".join(shown.tags), shown.priority, shown.last_message_preview),
        [time.ToMicroseconds() for time in times],
    )


async def undone(tenant_dsn: str, control_dsn: str, *, receipts: bool) -> dict[str, int]:
    """What still has to happen by itself, by name; empty when all is quiet. receipts: whether the provider sends any."""
    found: dict[str, int] = {}
    for dsn, query, values in ((tenant_dsn, UNDONE, [receipts]), (control_dsn, QUARANTINED, [])):
        connection = await asyncpg.connect(dsn)
        try:
            found |= dict((await connection.fetch(query, *values))[0])
        finally:
            await connection.close()
    return {name: count for name, count in found.items() if count}


async def list_pages(address: str, key: str) -> list[tuple[int, str]]:
    """The whole log as ListInboxEvents shows it: (seq, event id)."""
    found: list[tuple[int, str]] = []
    request = inbox.ListInboxEventsRequest(start=inbox.WATCH_START_EARLIEST, page_size=200)
    async with grpc.aio.insecure_channel(address) as channel:
        while True:
            metadata = (("authorization", f"Bearer {key}"),)
            answer = await InboxServiceStub(channel).ListInboxEvents(request, metadata=metadata, timeout=30)
            found += [(event.seq, event.id) for event in answer.events]
            if not answer.events:
                return found
            request = inbox.ListInboxEventsRequest(cursor=answer.next_cursor, page_size=200)


def accepted_requests(dev: dict[str, Any]) -> list[str]:
    """Part ids of the sends that the provider accepted, in its order."""
    with urllib.request.urlopen(dev["simulator"]["url"] + "/_control/requests", timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)["requests"]
    bodies = [item["body"] for item in found if item["status"] == 200]
    return [body["biz_opaque_callback_data"] for body in bodies if body.get("biz_opaque_callback_data")]
