"""As what the follower counts a conversation, and what it has to remember of it to measure the next answer."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from switchboard.v1 import conversation_pb2

from server.conversations.convert import STATUS
from server.kit.db import Connection

LIVE_STATUSES = ("new", "open", "pending", "snoozed")


@dataclass(slots=True)
class Known:
    """A conversation as counted.

    waiting_since: of the customer who waits for an answer. answered: whether anybody ever replied. open_since: when it started or
    was reopened last; None when that is not known. assigned_agent_id, assigned_since: the assignment that lasts.
    """

    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    provider: str
    status: str = "new"
    team_id: uuid.UUID | None = None
    assignee_id: uuid.UUID | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    priority: int = 1
    unread: bool = False
    hidden: bool = False
    answered: bool = False
    waiting_since: datetime | None = None
    open_since: datetime | None = None
    assigned_agent_id: uuid.UUID | None = None
    assigned_since: datetime | None = None

    def places(self, agent_id: uuid.UUID | None) -> Iterator[tuple[str, str]]:
        """Dimensions and values under which something about it is counted. agent_id: who is credited."""
        yield "channel", str(self.channel_id)
        yield "team", _text(self.team_id)
        yield "agent", _text(agent_id)
        yield "priority", str(self.priority)
        for tag in self.tags:
            yield "tag", tag

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """What it adds to counts of what there is now: one conversation, unassigned, unread, unattended; nothing when hidden."""
        if self.hidden:
            return 0, 0, 0, 0
        live = self.status in LIVE_STATUSES
        unattended = live and (self.waiting_since is not None or not self.answered)
        return 1, live and self.assignee_id is None, live and self.unread, unattended

    def show(self, shown: conversation_pb2.Conversation) -> None:
        """Takes over a snapshot."""
        self.status = STATUS.word(shown.status)
        self.team_id, self.assignee_id = _id(shown.team_id), _id(shown.assignee_id)
        self.tags, self.priority = list(shown.tags), shown.priority
        self.unread, self.hidden = shown.unread_count > 0, shown.HasField("delete_time")
        self.waiting_since = time_of(shown.waiting_since) if shown.HasField("waiting_since") else None


COLUMNS = tuple(field.name for field in dataclasses.fields(Known))
LOAD = f"SELECT {', '.join(COLUMNS)} FROM counted_conversations WHERE conversation_id = ANY($1::uuid[])"
_TYPES = [
    *("uuid", "uuid", "text", "text", "uuid", "uuid", "text", "smallint", "boolean", "boolean", "boolean"),
    *("timestamptz", "timestamptz", "uuid", "timestamptz"),
]
_ARRAYS = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES, start=1))
# Arrays of arrays must be rectangular, so the tags of a conversation travel as one JSON text.
_TAGS = "ARRAY(SELECT jsonb_array_elements_text(tags::jsonb))"
_VALUES = ", ".join(_TAGS if name == "tags" else name for name in COLUMNS)
SAVE = f"""
INSERT INTO counted_conversations ({", ".join(COLUMNS)})
SELECT {_VALUES} FROM unnest({_ARRAYS}) AS u ({", ".join(COLUMNS)}) ORDER BY conversation_id
ON CONFLICT (conversation_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
"""
FORGET = "DELETE FROM counted_conversations WHERE conversation_id = ANY($1::uuid[])"
# For a conversation whose beginning the log no longer has.
ANSWERED = """
SELECT DISTINCT m.conversation_id FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, time)
JOIN messages m ON m.conversation_id = u.id AND m.create_time < u.time
WHERE m.direction = 'outbound' AND m.author_kind IN (1, 5)
"""


async def load(connection: Connection, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Known]:
    """Those of the conversations that are counted."""
    records = await connection.fetch(LOAD, list(ids))
    return {record["conversation_id"]: Known(*record.values()) for record in records}


async def save(connection: Connection, items: Collection[Known]) -> None:
    """Remembers them."""
    if items:
        rows = [[_column(item, name) for name in COLUMNS] for item in items]
        await connection.execute(SAVE, *map(list, zip(*rows, strict=True)))


async def forget(connection: Connection, ids: Collection[uuid.UUID]) -> None:
    """Those that no event will tell of any more."""
    if ids:
        await connection.execute(FORGET, list(ids))


async def answered(connection: Connection, times: Mapping[uuid.UUID, datetime]) -> set[uuid.UUID]:
    """Those of the conversations that somebody had replied in before a time of each."""
    records = await connection.fetch(ANSWERED, list(times), list(times.values()))
    return {record["conversation_id"] for record in records}


def time_of(value: Timestamp) -> datetime:
    """A time of a snapshot."""
    return value.ToDatetime(tzinfo=UTC)


def _column(item: Known, name: str) -> Any:
    return json.dumps(item.tags) if name == "tags" else getattr(item, name)


def _text(value: uuid.UUID | None) -> str:
    return "" if value is None else str(value)


def _id(value: str) -> uuid.UUID | None:
    return uuid.UUID(value) if value else None
