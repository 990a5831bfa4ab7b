"""Two contacts that are one person: what moves when an agent says so, and moves back when it was wrong.

The identities move, and with them their conversations. Attributes that the surviving contact lacks are filled in. The edge keeps which
these were, so that all of it can be taken back; the merged contact's own row stays as it was.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.attributes.values import encoded
from server.contacts.resolve import shown_contacts
from server.contacts.service import contact_events, get_standing
from server.kit.db import Connection, Raced
from server.kit.errors import FieldViolation, InvalidFields, NotFound, Refusal
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.rpc.call import Scope

# In the order of their ids, for everybody; a contact that was merged meanwhile is missing.
LOCK = """
SELECT id, name, attributes, block_time, merged_into_id FROM contacts
WHERE id = ANY($1::uuid[]) AND erase_time IS NULL ORDER BY id FOR UPDATE
"""
LOCK_IDENTITIES = "SELECT id, channel_id FROM identities WHERE contact_id = $1 ORDER BY id FOR UPDATE"
MOVE = "UPDATE identities SET contact_id = $2 WHERE id = ANY($1::uuid[])"
SAVE = "UPDATE contacts SET attributes = $2::jsonb, update_time = $3 WHERE id = $1"
POINT = "UPDATE contacts SET merged_into_id = $2, update_time = $3 WHERE id = $1"
ADD_EDGE = """
INSERT INTO contact_merges (id, contact_id, merged_contact_id, identity_ids, attributes, reason, create_time)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)
"""
EDGE = "SELECT * FROM contact_merges WHERE merged_contact_id = $1 AND undo_time IS NULL"
UNDO = "UPDATE contact_merges SET undo_time = $2 WHERE id = $1"


class NotMerged(Refusal):
    """The contact is its own."""

    status = "FAILED_PRECONDITION"
    reason = "CONTACT_NOT_MERGED"

    def __init__(self) -> None:
        super().__init__("the contact is not merged into another")


@dataclass(frozen=True, slots=True)
class Moved:
    """Identities that belong to another contact now, whom their conversations follow. channel_ids: where both were met."""

    identity_ids: Sequence[uuid.UUID]
    contact_id: uuid.UUID
    name: str
    blocked: bool
    channel_ids: frozenset[uuid.UUID]


async def pair(
    connection: Connection, scope: Scope, contact_id: uuid.UUID, merged_id: uuid.UUID
) -> tuple[uuid.UUID, uuid.UUID]:
    """Two contacts the caller may merge. NotFound; InvalidFields for one and the same; ContactMerged."""
    if contact_id == merged_id:
        raise InvalidFields(FieldViolation("merged_contact_id", "is the contact itself"))
    await get_standing(connection, scope, contact_id)
    await get_standing(connection, scope, merged_id)
    return contact_id, merged_id


async def merged_pair(connection: Connection, scope: Scope, merged_id: uuid.UUID) -> tuple[uuid.UUID, uuid.UUID]:
    """A merged contact, and before it the one that it is part of. NotFound; NotMerged; ContactMerged if that one is merged too."""
    edge = await connection.fetchrow(EDGE, merged_id)
    if edge is None:
        await get_standing(connection, scope, merged_id)
        raise NotMerged
    await get_standing(connection, scope, edge["contact_id"])
    return edge["contact_id"], merged_id


async def merge(
    connection: Connection, contact_id: uuid.UUID, merged_id: uuid.UUID, *, reason: str | None, now: datetime
) -> Moved:
    """Moves identities and what attributes there is room for; the caller holds the locks of all conversations. Raced."""
    rows = await _lock(connection, contact_id, merged_id)
    if any(row["merged_into_id"] for row in rows.values()):
        raise Raced
    into, merged = rows[contact_id], rows[merged_id]
    met = await connection.fetch(LOCK_IDENTITIES, contact_id)
    moving = await connection.fetch(LOCK_IDENTITIES, merged_id)
    held = json.loads(into["attributes"] or "{}")
    filled = {key: value for key, value in json.loads(merged["attributes"] or "{}").items() if key not in held}
    ids = [row["id"] for row in moving]
    await connection.execute(
        ADD_EDGE, new_id(), contact_id, merged_id, ids, json.dumps(filled) if filled else None, reason, now
    )
    await connection.execute(MOVE, ids, contact_id)
    await connection.execute(POINT, merged_id, contact_id, now)
    await connection.execute(SAVE, contact_id, encoded(held | filled), now)
    return _moved(ids, into, [*met, *moving])


async def unmerge(connection: Connection, contact_id: uuid.UUID, merged_id: uuid.UUID, *, now: datetime) -> Moved:
    """Moves back what the merge moved, and takes away attributes that it filled in and nobody changed since. Raced.

    Identities that were met since, or removed, stay where they are.
    """
    rows = await _lock(connection, contact_id, merged_id)
    edge = await connection.fetchrow(EDGE, merged_id)
    if edge is None or edge["contact_id"] != contact_id or rows[contact_id]["merged_into_id"] is not None:
        raise Raced
    held_here = await connection.fetch(LOCK_IDENTITIES, contact_id)
    ids = [row["id"] for row in held_here if row["id"] in set(edge["identity_ids"])]
    filled, held = json.loads(edge["attributes"] or "{}"), json.loads(rows[contact_id]["attributes"] or "{}")
    kept = {key: value for key, value in held.items() if key not in filled or filled[key] != value}
    await connection.execute(UNDO, edge["id"], now)
    await connection.execute(MOVE, ids, merged_id)
    await connection.execute(POINT, merged_id, None, now)
    await connection.execute(SAVE, contact_id, encoded(kept), now)
    return _moved(ids, rows[merged_id], held_here)


async def merged_events(
    connection: Connection, moved: Moved, merged_id: uuid.UUID, *, reason: str | None, origin: Origin
) -> list[NewEvent]:
    """contact_merged, on each channel that either was met on."""
    contact = (await shown_contacts(connection, {moved.contact_id}))[moved.contact_id]
    body = event_pb2.ContactMerged(contact=contact, merged_contact_id=str(merged_id), reason=reason)
    return contact_events(event_pb2.InboxEvent(contact_merged=body), contact, *moved.channel_ids, origin=origin)


async def unmerged_events(
    connection: Connection, moved: Moved, contact_id: uuid.UUID, *, origin: Origin
) -> list[NewEvent]:
    """contact_unmerged, on each channel that either is met on."""
    shown = await shown_contacts(connection, {contact_id, moved.contact_id})
    body = event_pb2.ContactUnmerged(contact=shown[contact_id], unmerged_contact=shown[moved.contact_id])
    event = event_pb2.InboxEvent(contact_unmerged=body)
    return contact_events(event, shown[contact_id], *moved.channel_ids, origin=origin)


async def _lock(connection: Connection, *ids: uuid.UUID) -> dict[uuid.UUID, Any]:
    rows = {row["id"]: row for row in await connection.fetch(LOCK, sorted(ids))}
    if len(rows) != len(ids):
        raise NotFound("contact")
    return rows


def _moved(ids: Sequence[uuid.UUID], to: Any, identities: Sequence[Any]) -> Moved:
    return Moved(
        identity_ids=ids,
        contact_id=to["id"],
        name=to["name"],
        blocked=to["block_time"] is not None,
        channel_ids=frozenset(row["channel_id"] for row in identities),
    )
