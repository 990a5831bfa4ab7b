"""Definitions of attributes. Every function works inside the caller's unit of work and commits nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from switchboard.v1 import event_pb2

from server.attributes import convert
from server.attributes.values import Definition, check
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, FieldViolation, InvalidFields, NotFound
from server.log.event import NewEvent, Origin

INSERT = """
INSERT INTO attribute_definitions (id, target, key, type, options, label, create_time, update_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING *
"""
UPDATE = "UPDATE attribute_definitions SET label = $2, options = $3, update_time = $4 WHERE id = $1 RETURNING *"
PAGE = """
SELECT * FROM attribute_definitions WHERE $1::text IS NULL OR (target, key) > ($1, $2::text) ORDER BY target, key LIMIT $3
"""


async def check_values(
    connection: Connection, *, target: str, values: Mapping[str, Any], held: Mapping[str, Any]
) -> None:
    """Refuses attributes of a conversation or a contact that are not what the tenant defined. InvalidFields.

    target: "conversation" or "contact". held: the attributes before the change; what stays as it is passes.
    """
    if not values:
        return
    records = await connection.fetch(
        "SELECT key, type, options FROM attribute_definitions WHERE target = $1 AND key = ANY($2::text[])",
        target,
        list(values),
    )
    check(
        (Definition(record["key"], record["type"], tuple(record["options"])) for record in records), values, held=held
    )


async def get(connection: Connection, definition_id: uuid.UUID) -> Any:
    """A definition. NotFound."""
    record = await connection.fetchrow("SELECT * FROM attribute_definitions WHERE id = $1", definition_id)
    if record is None:
        raise NotFound("attribute definition")
    return record


async def page(connection: Connection, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Definitions by target and key."""
    target, key = after or (None, None)
    records: list[Any] = await connection.fetch(PAGE, target, key, limit)
    return records


async def create(
    write: Write,
    *,
    origin: Origin,
    definition_id: uuid.UUID,
    target: str,
    key: str,
    kind: str,
    options: Sequence[str],
    label: str,
) -> tuple[Any, list[NewEvent]]:
    """Defines a key. AlreadyExists, InvalidFields."""
    _check_options(kind, options)
    try:
        record: Any = await write.connection.fetchrow(
            INSERT, definition_id, target, key, kind, list(options), label or key, utc_now()
        )
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("attribute definition", f"{key} is defined already") from None
    return record, [_changed(origin, record)]


async def update(
    write: Write, definition_id: uuid.UUID, *, origin: Origin, label: str | None, options: Sequence[str]
) -> tuple[Any, list[NewEvent]]:
    """Changes label or options; no event when nothing changes. NotFound, InvalidFields."""
    before = await _locked(write.connection, definition_id)
    if options:
        _check_options(before["type"], options)
    after = (label or before["label"], list(options) or before["options"])
    if after == (before["label"], before["options"]):
        return before, []
    record: Any = await write.connection.fetchrow(UPDATE, definition_id, *after, utc_now())
    return record, [_changed(origin, record)]


async def delete(write: Write, definition_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """Removes a definition. NotFound."""
    record = await _locked(write.connection, definition_id)
    await write.connection.execute("DELETE FROM attribute_definitions WHERE id = $1", definition_id)
    body = event_pb2.AttributeDefinitionDeleted(attribute_definition=convert.definition(record))
    return [_event(origin, event_pb2.InboxEvent(attribute_definition_deleted=body))]


def _check_options(kind: str, options: Sequence[str]) -> None:
    if (kind == "option") != bool(options):
        text = "type option needs some" if kind == "option" else "are for type option only"
        raise InvalidFields(FieldViolation("options", text))


async def _locked(connection: Connection, definition_id: uuid.UUID) -> Any:
    record = await connection.fetchrow("SELECT * FROM attribute_definitions WHERE id = $1 FOR UPDATE", definition_id)
    if record is None:
        raise NotFound("attribute definition")
    return record


def _changed(origin: Origin, record: Any) -> NewEvent:
    body = event_pb2.AttributeDefinitionChanged(attribute_definition=convert.definition(record))
    return _event(origin, event_pb2.InboxEvent(attribute_definition_changed=body))


def _event(origin: Origin, body: event_pb2.InboxEvent) -> NewEvent:
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause)
