"""The one statement that a run writes with: the parts that have rows, and the append that waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from server.conversations import repository as conversations
from server.deliveries import marks
from server.journal import items as journal_items
from server.log.append import append_sql

Columns = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the WITH. `{arrays}` in its sql are its parameters, one array for each of kinds; `{guard}` a condition.

    more: further writes, by name, that read the rows of the first, when that is no write itself but gathers the parameters.
    """

    kinds: tuple[str, ...]
    sql: str
    more: Mapping[str, str] = field(default_factory=dict)


# In the order in which they are written. The head waits, by data, for every part: Postgres runs the parts of a WITH in any
# order, and the head row is locked last.
PARTS: Mapping[str, Part] = {
    # A send is three rows of one set of parameters.
    "sends": Part(
        (
            *("uuid", "uuid", "uuid", "uuid", "uuid", "bigint", "integer", "text", "smallint", "uuid", "text", "bytea"),
            *("timestamptz", "text", "text", "text", "jsonb", "smallint"),
        ),
        """
        SELECT * FROM unnest({arrays}) AS u (
            message_id, part_id, delivery_id, conversation_id, channel_id, sequence, arrival, text, author_kind, author_id,
            request_id, request_hash, create_time, client_address, user_agent, type, details, lane
        ) WHERE {guard}
        """,
        more={
            "sent_messages": """
                INSERT INTO messages (
                    id, conversation_id, channel_id, direction, type, status, sequence, arrival, text, details, author_kind,
                    author_id, request_id, request_hash, create_time, client_address, user_agent
                )
                SELECT message_id, conversation_id, channel_id, 'outbound', coalesce(type, 'text'), 'pending', sequence, arrival,
                    text, details, author_kind, author_id, request_id, request_hash, create_time, client_address, user_agent
                FROM sends_in
            """,
            "sent_parts": """
                INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status)
                SELECT part_id, message_id, conversation_id, channel_id, 0, 'pending' FROM sends_in
            """,
            # Behind another one of its conversation a send waits. What is ahead is asked under the conversation's lock, by a
            # function that sees what was committed meanwhile; the statement itself sees only what was there when it began.
            "sent_deliveries": """
                INSERT INTO deliveries (
                    id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time, lane
                )
                SELECT delivery_id, 'send', part_id, conversation_id, channel_id, sequence,
                    CASE WHEN row_number() OVER (PARTITION BY conversation_id ORDER BY sequence) > 1
                        OR waits_for_head(conversation_id, min(coalesce(lane, 0)) OVER (PARTITION BY conversation_id))
                        THEN 'waiting' ELSE 'queued' END, clock_now(), create_time, coalesce(lane, 0)
                FROM sends_in
            """,
        },
    ),
    # The parts of a message beyond its first, behind whose delivery theirs wait.
    "more_parts": Part(
        ("uuid", "uuid", "uuid", "uuid", "uuid", "smallint", "bigint", "timestamptz"),
        """
        SELECT * FROM unnest({arrays}) AS u (
            part_id, delivery_id, message_id, conversation_id, channel_id, part, sequence, create_time
        ) WHERE {guard}
        """,
        more={
            "more_message_parts": """
                INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status)
                SELECT part_id, message_id, conversation_id, channel_id, part, 'pending' FROM more_parts_in
            """,
            "more_deliveries": """
                INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)
                SELECT delivery_id, 'send', part_id, conversation_id, channel_id, sequence, 'waiting', clock_now(), create_time
                FROM more_parts_in
            """,
        },
    ),
    "messages": Part(
        (
            *("uuid", "uuid", "uuid", "text", "text", "text", "bigint", "integer", "text", "jsonb", "smallint", "uuid"),
            *("text", "bytea", "timestamptz", "timestamptz"),
        ),
        """
        INSERT INTO messages (
            id, conversation_id, channel_id, direction, type, status, sequence, arrival, text, details, author_kind,
            author_id, request_id, request_hash, create_time, provider_time
        )
        SELECT * FROM unnest({arrays}) WHERE {guard}
        """,
    ),
    "parts": Part(
        ("uuid", "uuid", "uuid", "uuid", "text", "text"),
        """
        INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, provider_message_id, status)
        SELECT id, message_id, conversation_id, channel_id, 0, provider_message_id, status
        FROM unnest({arrays}) AS u (id, message_id, conversation_id, channel_id, provider_message_id, status) WHERE {guard}
        """,
    ),
    "attachments": Part(
        (
            *("uuid", "uuid", "smallint", "text", "text", "text", "bigint", "text", "text", "text"),
            *("boolean", "boolean", "text", "text", "text", "uuid", "text"),
        ),
        """
        INSERT INTO message_attachments (
            id, message_id, position, kind, mime_type, file_name, size_bytes, state, provider_media_id, sha256, voice, animated,
            error, stored_type, stored_sha256, media_id, caption
        )
        SELECT * FROM unnest({arrays}) AS u (
            id, message_id, position, kind, mime_type, file_name, size_bytes, state, provider_media_id, sha256, voice, animated,
            error, stored_type, stored_sha256, media_id, caption
        ) WHERE {guard}
        """,
    ),
    "timers": Part(
        ("uuid", "timestamptz"),
        """
        INSERT INTO timers (kind, key, due_time, generation)
        SELECT w.kind, u.key, u.until - w.before, 0 FROM unnest({arrays}) AS u (key, until) CROSS JOIN (
            SELECT 'reply_window_closing', reply_window_closing_before FROM tenant_settings
            UNION ALL SELECT 'reply_window_closed', interval '0'
        ) w (kind, before) WHERE {guard}
        ON CONFLICT (kind, key) DO NOTHING
        """,
    ),
    # Answers that quote what is not known here by that id.
    "reply_links": Part(
        ("uuid",),
        """
        INSERT INTO timers (kind, key, due_time, generation)
        SELECT 'reply_link', u.key, clock_now(), 0 FROM unnest({arrays}) AS u (key) WHERE {guard}
        """,
    ),
    "reads": Part(
        ("uuid", "uuid", "integer", "integer", "timestamptz"),
        """
        INSERT INTO read_positions (conversation_id, agent_id, arrival, inbound_count, update_time)
        SELECT * FROM unnest({arrays}) WHERE {guard}
        ON CONFLICT (conversation_id, agent_id) DO UPDATE
        SET arrival = excluded.arrival, inbound_count = excluded.inbound_count, update_time = excluded.update_time
        WHERE read_positions.arrival < excluded.arrival
        """,
    ),
    "read_marks": Part(marks.KINDS, marks.WANT_FROM),
    "items": Part(journal_items.KINDS, journal_items.INSERT_FROM),
    "answered": Part(conversations.ANSWERED.kinds, conversations.ANSWERED.sql),
    "conversations": Part(conversations.SAVED.kinds, conversations.SAVED.sql),
}
# The conversations as they were read, locked in the order of their ids; whoever changed one meanwhile has the guard fail.
HELD = f"""
held AS MATERIALIZED (
    SELECT count(*) = cardinality($1::uuid[]) AS all_as_read FROM (
        SELECT c.id FROM unnest($1::uuid[], $2::bigint[]) AS k (id, mark)
        JOIN conversations c ON c.id = k.id AND {conversations.MARK} = k.mark ORDER BY c.id FOR UPDATE OF c
    ) c
),
"""


def compose(parts: Mapping[str, Columns], events: Columns, *, held: Columns | None = None) -> tuple[str, list[Any]]:
    """The statement and its parameters; it returns (prev_head, new_head).

    parts: the columns of PARTS by name; those without rows are left out. held: ids and marks of conversations that were read
    without a lock; when one of them is no longer what was read, nothing is written and no row comes back.
    """
    names = tuple(name for name in PARTS if name in parts and parts[name][0])
    columns = (*(held or ()), *(column for name in names for column in parts[name]), *events)
    return _sql(names, guarded=held is not None), [_sent(column) for column in columns]


def _sent(column: Sequence[Any]) -> Sequence[Any]:
    """unnest pads shorter arrays with NULL: of a column that holds nothing else, nothing need be sent."""
    return column if any(value is not None for value in column) else ()


@cache
def _sql(names: tuple[str, ...], *, guarded: bool) -> str:
    """One text for each combination of parts, so that every connection prepares the few that occur once."""
    first = 3 if guarded else 1
    guard = "(SELECT all_as_read FROM held)" if guarded else "TRUE"
    sources: list[str] = []
    writes: dict[str, str] = {}
    for name in names:
        part = PARTS[name]
        arrays = ", ".join(f"${first + index}::{kind}[]" for index, kind in enumerate(part.kinds))
        sql = part.sql.format(arrays=arrays, guard=guard)
        if part.more:
            sources.append(f"{name}_in AS MATERIALIZED ({sql}),")
            writes |= part.more
        else:
            writes[name] = sql
        first += len(part.kinds)
    written = " ".join(f"{name}_in AS ({sql} RETURNING 1)," for name, sql in writes.items())
    after = " + ".join(f"(SELECT count(*) FROM {name}_in)" for name in writes) or "0"
    append = append_sql(first=first, after=f"0 * ({after})", only_if=guard)
    return f"WITH {HELD if guarded else ''}{' '.join(sources)}{written}{append}"
