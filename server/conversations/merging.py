"""Merging contacts, with the conversations that follow their identities.

Locks in the order of everybody: who else may write to these contacts, the conversations of both by id, the contacts by id, their
identities by id, the head. Who starts a conversation locks identity and contact against this, so that a second look at the conversations
finds all there will be.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from switchboard.v1 import event_pb2

from server.contacts import merging as contacts
from server.contacts.blocking import lock
from server.contacts.merging import Moved
from server.conversations import convert
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow, from_record
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced
from server.log.event import NewEvent, Origin
from server.rpc.call import Scope

OF_CONTACTS = "SELECT id FROM conversations WHERE contact_id = ANY($1::uuid[])"
FOLLOW = """
UPDATE conversations SET contact_id = $2, contact_name = $3, contact_blocked = $4, version = version + 1, update_time = $5
WHERE identity_id = ANY($1::uuid[]) RETURNING *
"""


async def merge(
    connection: Connection,
    scope: Scope,
    contact_id: uuid.UUID,
    merged_id: uuid.UUID,
    *,
    reason: str | None,
    origin: Origin,
) -> list[NewEvent]:
    """Makes a contact part of another. NotFound; InvalidFields for one and the same; ContactMerged for one that is part already."""
    ids = await contacts.pair(connection, scope, contact_id, merged_id)
    locked = await lock(connection, ids)
    moved = await contacts.merge(connection, *ids, reason=reason, now=utc_now())
    rows = await _follow(connection, moved, ids, locked)
    events = await contacts.merged_events(connection, moved, merged_id, reason=reason, origin=origin)
    return [*events, *(_updated(row, origin) for row in rows)]


async def unmerge(connection: Connection, scope: Scope, merged_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """Makes a merged contact its own again. NotFound; NotMerged; ContactMerged if what it is part of is part of another."""
    ids = await contacts.merged_pair(connection, scope, merged_id)
    locked = await lock(connection, ids)
    moved = await contacts.unmerge(connection, *ids, now=utc_now())
    rows = await _follow(connection, moved, ids, locked)
    events = await contacts.unmerged_events(connection, moved, ids[0], origin=origin)
    return [*events, *(_updated(row, origin) for row in rows)]


async def _follow(
    connection: Connection, moved: Moved, ids: Iterable[uuid.UUID], locked: set[uuid.UUID]
) -> list[ConversationRow]:
    """Moves the conversations of moved identities. Raced when one started before the contacts were locked."""
    if {row["id"] for row in await connection.fetch(OF_CONTACTS, list(ids))} != locked:
        raise Raced
    values = (moved.contact_id, moved.name, moved.blocked, utc_now())
    return [from_record(row) for row in await connection.fetch(FOLLOW, moved.identity_ids, *values)]


def _updated(row: ConversationRow, origin: Origin) -> NewEvent:
    body = event_pb2.ConversationUpdated(conversation=convert.conversation(row), changed_fields=["contact"])
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_updated=body))
