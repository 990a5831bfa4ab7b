"""Asking for an erasure: from then on nobody sees the contact, and nobody writes to it."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from switchboard.v1 import event_pb2

from server.contacts import blocking
from server.contacts.service import get_standing
from server.conversations import convert as conversation_convert
from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.erasures import keys
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced, Write
from server.kit.errors import NotFound
from server.log.event import NewEvent, Origin
from server.rpc.call import Scope

KNOWN = "SELECT id, state FROM erasures WHERE contact_id = $1"
AGAIN = """
UPDATE erasures SET state = 'running', attempt = 0, error = NULL, due_time = clock_now() WHERE id = $1 AND state = 'failed'
"""
# The contact and all that are part of it, however deep.
TREE = """
WITH RECURSIVE down AS (
    SELECT $1::uuid AS id UNION SELECT c.id FROM contacts c JOIN down ON c.merged_into_id = down.id
)
SELECT id FROM down ORDER BY id
"""
LOCK = "SELECT id FROM contacts WHERE id = ANY($1::uuid[]) AND erase_time IS NULL ORDER BY id FOR UPDATE"
IDENTITIES = "SELECT id FROM identities WHERE contact_id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
# Once more, with the locks: whoever became part of it, and what conversations it has.
STANDS = f"""
SELECT ARRAY({TREE}) AS contacts, ARRAY(SELECT id FROM conversations WHERE contact_id = ANY($2::uuid[]) ORDER BY id) AS conversations
"""
UNNAME_CONTACTS = """
UPDATE contacts SET name = '', name_source = 'address', attributes = NULL, block_reason = NULL, erase_time = $2
WHERE id = ANY($1::uuid[])
"""
# What would find it, or be sent to it. $1: conversations, $2: identities.
DETACH = """
WITH named AS (UPDATE conversations SET contact_name = '' WHERE id = ANY($1::uuid[])),
timed AS (DELETE FROM timers WHERE key = ANY($1::uuid[])),
cancelled AS (
    DELETE FROM deliveries WHERE conversation_id = ANY($1::uuid[]) AND state IN ('waiting', 'queued') RETURNING id
),
marked AS (DELETE FROM marks WHERE conversation_id = ANY($1::uuid[])),
profiled AS (UPDATE identities SET profile_name = NULL, username = NULL WHERE id = ANY($2::uuid[])),
consented AS (
    DELETE FROM marketing_consents m USING identity_aliases a
    WHERE a.identity_id = ANY($2::uuid[]) AND (m.channel_id, m.kind, m.value) = (a.channel_id, a.kind, a.value)
),
forgotten AS (DELETE FROM identity_aliases WHERE identity_id = ANY($2::uuid[]) RETURNING value)
SELECT ARRAY(SELECT DISTINCT value FROM forgotten ORDER BY value) AS addresses, (SELECT count(*) FROM cancelled) AS cancelled
"""
CANCEL = "DELETE FROM deliveries WHERE conversation_id = ANY($1::uuid[]) AND state IN ('waiting', 'queued')"
ADD = """
INSERT INTO erasures (
    id, contact_id, reason, state, step, counts, contact_ids, identity_ids, conversation_ids, addresses, attempt, due_time,
    create_time, update_time
)
VALUES ($1, $2, $3, 'pending', 0, $4::jsonb, $5, $6, $7, $8, 0, clock_now(), $9, $9)
"""
GET = "SELECT * FROM erasures WHERE id = $1"
PAGE = """
SELECT * FROM erasures WHERE (cardinality($1::text[]) = 0 OR state = ANY($1)) AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""


async def begin(
    write: Write, scope: Scope, contact_id: uuid.UUID, *, erasure_id: uuid.UUID, reason: str | None, origin: Origin
) -> tuple[uuid.UUID, list[NewEvent]]:
    """Hides a contact and has it erased; one that is erased already answers with that erasure, and one that failed goes on.

    NotFound; ContactMerged. Locks in the order of everybody: the conversations by id, the contacts by id, their identities by id.
    """
    connection = write.connection
    known = await connection.fetchrow(KNOWN, contact_id)
    if known is not None:
        await connection.execute(AGAIN, known["id"])
        return known["id"], []
    await get_standing(connection, scope, contact_id)
    ids = await _tree(connection, contact_id)
    locked = await blocking.lock(connection, ids)
    contacts = [record["id"] for record in await connection.fetch(LOCK, ids)]
    identities = [record["id"] for record in await connection.fetch(IDENTITIES, ids)]
    stands: Any = await connection.fetchrow(STANDS, contact_id, ids)
    if contacts != ids or stands["contacts"] != ids or stands["conversations"] != sorted(locked):
        raise Raced
    await keys.add_parts(connection, locked)
    events = await _hide(connection, locked, origin=origin)
    detached: Any = await connection.fetchrow(DETACH, sorted(locked), identities)
    await connection.execute(UNNAME_CONTACTS, ids, utc_now())
    # After the triggers that keep them: whoever is erased is listed by nothing.
    await connection.execute("DELETE FROM contact_keys WHERE contact_id = ANY($1::uuid[])", ids)
    counts = {"addresses": len(detached["addresses"]), "cancelled_sends": detached["cancelled"]}
    await connection.execute(
        ADD,
        *(erasure_id, contact_id, reason, json.dumps(counts)),
        *(ids, identities, sorted(locked), detached["addresses"], utc_now()),
    )
    return erasure_id, events


async def _tree(connection: Connection, contact_id: uuid.UUID) -> list[uuid.UUID]:
    return [record["id"] for record in await connection.fetch(TREE, contact_id)]


async def _hide(connection: Connection, ids: Collection[uuid.UUID], *, origin: Origin) -> list[NewEvent]:
    """Hides locked conversations; the events tell nothing of who it was."""
    rows, now = await conversations.lock_many(connection, sorted(ids)), utc_now()
    shown = [row for row in rows.values() if row.delete_time is None]
    for row in rows.values():
        row.last_message_preview, row.last_inbound_provider_id = "", None
        if row.delete_time is None:
            if row.status == "snoozed":
                rules.set_status(row, "open", now=now)
            row.delete_time = now
            rules.touch(row, now)
    await conversations.save_many(connection, list(rows.values()))
    return [_hidden(row, origin) for row in shown]


def _hidden(row: ConversationRow, origin: Origin) -> NewEvent:
    blank = dataclasses.replace(row, contact_name="", subject=None, attributes=None)
    body = event_pb2.ConversationDeleted(conversation=conversation_convert.conversation(blank))
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_deleted=body))


async def get(connection: Connection, erasure_id: uuid.UUID) -> Any:
    """An erasure. NotFound."""
    record = await connection.fetchrow(GET, erasure_id)
    if record is None:
        raise NotFound("erasure")
    return record


async def page(
    connection: Connection, *, states: Collection[str], after: Sequence[Any] | None, limit: int
) -> list[Any]:
    """Erasures, newest first."""
    found: list[Any] = await connection.fetch(PAGE, list(states), uuid.UUID(after[0]) if after else None, limit)
    return found
