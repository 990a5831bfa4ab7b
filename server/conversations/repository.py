"""Statements on conversations. Scope is the first argument of every read by a caller's id."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from server.agents import loads
from server.conversations.row import COLUMNS, ConversationRow, from_record
from server.kit.db import Connection, Raced
from server.kit.errors import NotFound
from server.log.cursor import HeadRow
from server.rpc.call import Scope

SELECTED = ", ".join(f"c.{name}" for name in COLUMNS) + ", rp.inbound_count AS my_read_count"
POSITION = "LEFT JOIN read_positions rp ON rp.conversation_id = c.id AND rp.agent_id = $1"
HEAD = "h.epoch, h.head, h.floor, h.head_event_id"

GET = f"SELECT {SELECTED}, {HEAD} FROM conversations c {POSITION} CROSS JOIN stream_head h WHERE c.id = $2"
LOCK = "SELECT c.* FROM conversations c WHERE c.id = ANY($1::uuid[]) ORDER BY c.id FOR UPDATE"
LOCK_VISIBLE = (
    f"SELECT c.*, rp.inbound_count AS my_read_count FROM conversations c {POSITION} WHERE c.id = $2 FOR UPDATE OF c"
)
LIVE = """
SELECT id FROM conversations
WHERE channel_id = $1 AND identity_id = $2 AND status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL
"""

# Those before it one by one, those after it as a tree: a reopened conversation may have been continued, too.
THREAD = f"""
WITH RECURSIVE before AS (
    SELECT id, previous_conversation_id, 0 AS far FROM conversations WHERE id = $2
    UNION ALL
    SELECT c.id, c.previous_conversation_id, b.far + 1 FROM before b JOIN conversations c ON c.id = b.previous_conversation_id
    WHERE b.far < $3
), after AS (
    SELECT $2::uuid AS id, 0 AS far
    UNION ALL
    SELECT c.id, a.far + 1 FROM after a JOIN conversations c ON c.previous_conversation_id = a.id WHERE a.far < $3
)
SELECT {SELECTED} FROM (SELECT id FROM before UNION SELECT id FROM after) found
JOIN conversations c USING (id) {POSITION} ORDER BY c.create_time, c.id
"""
THREAD_FAR = 100

# The columns that a row may change after its insert, except arrays and JSON, which are written apart.
CHANGED: tuple[tuple[str, str], ...] = (
    ("status", "text"),
    ("assignee_id", "uuid"),
    ("team_id", "uuid"),
    ("priority", "smallint"),
    ("subject", "text"),
    ("contact_name", "text"),
    ("message_count", "integer"),
    ("inbound_count", "integer"),
    ("team_read_count", "integer"),
    ("last_inbound_arrival", "integer"),
    ("last_outbound_arrival", "integer"),
    ("last_outbound_author_id", "uuid"),
    ("last_inbound_provider_id", "text"),
    ("last_inbound_sequence", "bigint"),
    ("last_sequence", "bigint"),
    ("last_message_id", "uuid"),
    ("last_message_preview", "text"),
    ("last_message_time", "timestamptz"),
    ("waiting_since", "timestamptz"),
    ("snooze_until", "timestamptz"),
    ("snooze_generation", "integer"),
    ("reply_window_expire_time", "timestamptz"),
    ("referral_time", "timestamptz"),
    ("free_entry_expire_time", "timestamptz"),
    ("version", "bigint"),
    ("update_time", "timestamptz"),
    ("resolve_time", "timestamptz"),
    ("delete_time", "timestamptz"),
)


# What a row was when it was read: another value means that somebody changed it since.
MARK = "xmin::text::bigint"


@dataclass(frozen=True, slots=True)
class Save:
    """An UPDATE of many rows from parallel arrays: their ids, then some of their columns. `{arrays}`, `{guard}`: see sql."""

    names: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types of the arrays."""
        return ("uuid", *(kind for name, kind in CHANGED if name in self.names))

    @property
    def sql(self) -> str:
        """The statement; `{arrays}` stands for its parameters, `{guard}` for one more condition."""
        return (
            f"UPDATE conversations c SET {', '.join(f'{name} = u.{name}' for name in self.names)}"
            f" FROM unnest({{arrays}}) AS u (id, {', '.join(self.names)}) WHERE c.id = u.id AND {{guard}}"
        )

    def columns(self, rows: Sequence[ConversationRow]) -> list[list[Any]]:
        """The arrays."""
        return [[row.id for row in rows], *([getattr(row, name) for row in rows] for name in self.names)]


# What an answer may change; the rest of the row stays as it is.
ANSWERS = frozenset(
    {
        *("status", "message_count", "team_read_count", "last_outbound_arrival", "last_outbound_author_id"),
        *("last_sequence", "last_message_id", "last_message_preview", "last_message_time", "waiting_since", "version"),
        *("update_time", "resolve_time", "referral_time", "free_entry_expire_time"),
    }
)
ANSWERED = Save(tuple(name for name, _ in CHANGED if name in ANSWERS))
SAVED = Save(tuple(name for name, _ in CHANGED))
SAVE = SAVED.sql.format(
    arrays=", ".join(f"${index + 1}::{kind}[]" for index, kind in enumerate(SAVED.kinds)), guard="TRUE"
)


INSERT = """
INSERT INTO conversations (
    id, channel_id, provider, contact_id, contact_name, identity_id, status, subject, previous_conversation_id,
    reply_window_expire_time, last_message_time, create_time, update_time, version, resolve_time
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::uuid[],
    $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::bigint[],
    $15::timestamptz[]
)
ON CONFLICT (channel_id, identity_id) WHERE status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL
DO UPDATE SET version = conversations.version
RETURNING *
"""


async def get_visible(
    connection: Connection, scope: Scope, conversation_id: uuid.UUID, *, deleted: bool = False
) -> tuple[ConversationRow, HeadRow]:
    """A conversation the caller may see, and the head. NotFound for unknown, deleted and invisible ones alike."""
    record = await connection.fetchrow(GET, scope.agent_id, conversation_id)
    return _visible(scope, None if record is None else from_record(record), deleted=deleted), HeadRow.of(record)


async def lock_visible(
    connection: Connection, scope: Scope, conversation_id: uuid.UUID, *, deleted: bool = False
) -> ConversationRow:
    """Locks a conversation the caller may see. NotFound."""
    record = await connection.fetchrow(LOCK_VISIBLE, scope.agent_id, conversation_id)
    return _visible(scope, None if record is None else from_record(record), deleted=deleted)


def _visible(scope: Scope, row: ConversationRow | None, *, deleted: bool) -> ConversationRow:
    if row is None or (row.delete_time is not None and not deleted):
        raise NotFound("conversation")
    if not _sees(scope, row):
        raise NotFound("conversation")
    return row


def _sees(scope: Scope, row: ConversationRow) -> bool:
    return scope.sees(channel_id=row.channel_id, team_id=row.team_id, assignee_id=row.assignee_id)


async def thread(
    connection: Connection, scope: Scope, conversation_id: uuid.UUID
) -> tuple[list[ConversationRow], HeadRow]:
    """A visible conversation with those that it continues and that continue it, oldest first, as far as they are visible. NotFound."""
    _, head = await get_visible(connection, scope, conversation_id)
    records = await connection.fetch(THREAD, scope.agent_id, conversation_id, THREAD_FAR)
    rows = [from_record(record) for record in records]
    return [row for row in rows if row.delete_time is None and _sees(scope, row)], head


async def lock_many(connection: Connection, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ConversationRow]:
    """Locks conversations in the order of their ids."""
    return {record["id"]: from_record(record) for record in await connection.fetch(LOCK, list(ids))}


async def live_id(connection: Connection, *, channel_id: uuid.UUID, identity_id: uuid.UUID) -> uuid.UUID | None:
    """The live conversation of an identity."""
    found: uuid.UUID | None = await connection.fetchval(LIVE, channel_id, identity_id)
    return found


async def save(connection: Connection, row: ConversationRow) -> None:
    """Writes a changed row. Raced when another conversation of the identity became live meanwhile."""
    await save_many(connection, [row])


async def save_many(connection: Connection, rows: Sequence[ConversationRow]) -> None:
    """Writes changed rows. Raced."""
    if not rows:
        return
    try:
        await connection.execute(SAVE, *SAVED.columns(rows))
    except asyncpg.UniqueViolationError as error:
        raise Raced from error
    await count_held(connection, rows)


def moved_loads(rows: Iterable[ConversationRow]) -> dict[uuid.UUID, tuple[int, int]]:
    """What changed rows, not written yet, add to the counters of agents."""
    return loads.differences((row.counted, row.holding) for row in rows)


async def count_held(connection: Connection, rows: Sequence[ConversationRow]) -> None:
    """Brings the counters of agents up to what locked rows say now."""
    await loads.move(connection, moved_loads(rows))
    for row in rows:
        row.counted = row.holding


async def insert(connection: Connection, rows: Sequence[ConversationRow]) -> list[ConversationRow]:
    """Inserts conversations; for an identity that has a live one already, that one is locked and returned instead."""
    if not rows:
        return []
    columns = (
        *("id", "channel_id", "provider", "contact_id", "contact_name", "identity_id", "status", "subject"),
        *(
            "previous_conversation_id",
            "reply_window_expire_time",
            "last_message_time",
            "create_time",
            "update_time",
            "version",
            "resolve_time",
        ),
    )
    records = await connection.fetch(INSERT, *([getattr(row, name) for row in rows] for name in columns))
    return [from_record(record) for record in records]


async def save_attributes(connection: Connection, row: ConversationRow) -> None:
    """Writes the attributes, which `save` leaves alone."""
    await connection.execute("UPDATE conversations SET attributes = $2::jsonb WHERE id = $1", row.id, row.attributes)


async def save_tags(connection: Connection, row: ConversationRow) -> None:
    """Writes the names of the tags, which `save` leaves alone."""
    await connection.execute("UPDATE conversations SET tags = $2 WHERE id = $1", row.id, row.tags)


async def open_assignment(connection: Connection, conversation_id: uuid.UUID) -> Any:
    """The open row of the ledger, None when nobody has the conversation."""
    return await connection.fetchrow(
        "SELECT * FROM conversation_assignments WHERE conversation_id = $1 AND end_time IS NULL", conversation_id
    )
