"""The tenant's vocabulary of tags. Names that differ in case alone are one; a deleted tag is gone at once, its conversations follow."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from switchboard.v1 import event_pb2

from server.conversations import convert, tag_sweep
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, NotFound
from server.log.event import NewEvent, Origin

INSERT = """
INSERT INTO tags (id, name, color, description, create_time) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (lower(name)) WHERE delete_time IS NULL DO NOTHING RETURNING *
"""
GET = "SELECT * FROM tags WHERE id = $1 AND delete_time IS NULL"
UPDATE = """
UPDATE tags SET name = coalesce($2, name), color = CASE WHEN $3::text IS NULL THEN color ELSE nullif($3, '') END,
    description = CASE WHEN $4::text IS NULL THEN description ELSE nullif($4, '') END, update_time = $5
WHERE id = $1 AND delete_time IS NULL
    AND (name, coalesce(color, ''), coalesce(description, ''))
        <> (coalesce($2, name), coalesce($3, color, ''), coalesce($4, description, ''))
RETURNING *, old.name AS old_name
"""
DELETE = "UPDATE tags SET delete_time = $2 WHERE id = $1 AND delete_time IS NULL RETURNING name"
PAGE = """
SELECT * FROM tags WHERE delete_time IS NULL AND ($1::text IS NULL OR lower(name) > lower($1)) ORDER BY lower(name) LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag after a change (None once deleted), and the events to append."""

    tag: Any
    events: Sequence[NewEvent] = field(default_factory=tuple)


async def create(write: Write, *, origin: Origin, tag_id: uuid.UUID, name: str, color: str, description: str) -> Tagged:
    """Adds a tag. AlreadyExists."""
    values = (name, color.lower() or None, description or None)
    tag = await write.connection.fetchrow(INSERT, tag_id, *values, utc_now())
    if tag is None:
        raise AlreadyExists("tag", "a tag of this name exists")
    return Tagged(tag, [created(origin, tag)])


def created(origin: Origin, tag: Any) -> NewEvent:
    """tag_created."""
    return _event(origin, event_pb2.InboxEvent(tag_created=event_pb2.TagCreated(tag=convert.tag(tag))))


async def update(
    write: Write, tag_id: uuid.UUID, *, origin: Origin, name: str | None, color: str | None, description: str | None
) -> Tagged:
    """Changes a tag; None leaves a field alone. Conversations follow a new name. NotFound, AlreadyExists."""
    lowered = None if color is None else color.lower()
    try:
        tag = await write.connection.fetchrow(UPDATE, tag_id, name, lowered, description, utc_now())
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("tag", "a tag of this name exists") from None
    if tag is None:
        return Tagged(await get(write.connection, tag_id))
    body = event_pb2.InboxEvent(tag_updated=event_pb2.TagUpdated(tag=convert.tag(tag)))
    if tag["old_name"] != tag["name"]:
        await tag_sweep.start(write.connection, tag_id)
    return Tagged(tag, [_event(origin, body)])


async def delete(write: Write, tag_id: uuid.UUID, *, origin: Origin) -> Tagged:
    """Deletes a tag; its conversations lose it. NotFound."""
    name = await write.connection.fetchval(DELETE, tag_id, utc_now())
    if name is None:
        raise NotFound("tag")
    body = event_pb2.InboxEvent(tag_deleted=event_pb2.TagDeleted(tag_id=str(tag_id), name=name))
    await tag_sweep.start(write.connection, tag_id)
    return Tagged(None, [_event(origin, body)])


async def get(connection: Connection, tag_id: uuid.UUID) -> Any:
    """A tag. NotFound when it is unknown or deleted."""
    tag = await connection.fetchrow(GET, tag_id)
    if tag is None:
        raise NotFound("tag")
    return tag


async def page(connection: Connection, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Tags by name."""
    records: list[Any] = await connection.fetch(PAGE, after[0] if after else None, limit)
    return records


def _event(origin: Origin, body: event_pb2.InboxEvent) -> NewEvent:
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause)
