"""Blocking a contact: what it writes stays in the journal, and nothing is sent to it, until it is unblocked.

Conversations hold a copy of the contact's state, so that whoever locked a conversation decides by it. Whoever starts one makes sure
of the contact itself, which a block locks against that.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from switchboard.v1 import contact_pb2, event_pb2

from server.contacts.resolve import shown_contacts
from server.contacts.service import contact_events, get_standing
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced
from server.kit.errors import Refusal
from server.log.event import NewEvent, Origin
from server.rpc.call import Scope

HOLD = """
SELECT pg_advisory_xact_lock(hashtextextended('contact/' || k.id, 0))
FROM (SELECT id::text AS id FROM unnest($1::uuid[]) AS u (id) ORDER BY id) k
"""
LOCK_CONVERSATIONS = "SELECT id FROM conversations WHERE contact_id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
# Stronger than an update needs: it waits for who starts a conversation of the contact, and they for it.
LOCK = """
SELECT block_time, block_reason FROM contacts WHERE id = $1 AND merged_into_id IS NULL AND erase_time IS NULL FOR UPDATE
"""
SAVE = "UPDATE contacts SET block_time = $2, block_reason = $3, update_time = $4 WHERE id = $1"
COPY = "UPDATE conversations SET contact_blocked = $2 WHERE contact_id = $1 AND contact_blocked <> $2"
# The contact before its identity, as who merges it locks them.
STANDING = """
SELECT i.id, i.contact_id, c.block_time IS NOT NULL AS blocked FROM contacts c JOIN identities i ON i.contact_id = c.id
WHERE i.id = ANY($1::uuid[]) AND c.merged_into_id IS NULL AND c.erase_time IS NULL ORDER BY c.id, i.id FOR KEY SHARE OF c, i
"""


class ContactBlocked(Refusal):
    """The tenant sends nothing to this contact."""

    status = "FAILED_PRECONDITION"
    reason = "CONTACT_BLOCKED"

    def __init__(self, contact_id: uuid.UUID) -> None:
        super().__init__("the contact is blocked; unblock it first", metadata={"contact_id": str(contact_id)})


async def set_blocked(
    connection: Connection, scope: Scope, contact_id: uuid.UUID, *, blocked: bool, reason: str | None, origin: Origin
) -> list[NewEvent]:
    """Blocks a contact or unblocks it; an event for each of its channels, none if it was so already. NotFound.

    Blocking it anew with another reason replaces the reason and keeps the time.
    """
    await get_standing(connection, scope, contact_id)
    await lock(connection, [contact_id])
    held = await connection.fetchrow(LOCK, contact_id)
    if held is None:
        raise Raced
    now = utc_now()
    after = _after(held, blocked=blocked, reason=reason, now=now)
    if after == (held["block_time"], held["block_reason"]):
        return []
    await connection.execute(SAVE, contact_id, *after, now)
    await connection.execute(COPY, contact_id, blocked)
    contact = (await shown_contacts(connection, {contact_id}))[contact_id]
    return contact_events(_body(contact), contact, origin=origin)


async def lock(connection: Connection, contact_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Locks the conversations of contacts, before the contacts themselves; intake writes to none of either until the end."""
    await connection.execute(HOLD, contact_ids)
    return {row["id"] for row in await connection.fetch(LOCK_CONVERSATIONS, contact_ids)}


def _after(held: Any, *, blocked: bool, reason: str | None, now: datetime) -> tuple[datetime | None, str | None]:
    if not blocked:
        return None, None
    return held["block_time"] or now, reason


def _body(contact: contact_pb2.Contact) -> event_pb2.InboxEvent:
    return event_pb2.InboxEvent(contact_block_changed=event_pb2.ContactBlockChanged(contact=contact))


async def check_standing(connection: Connection, people: Iterable[tuple[uuid.UUID, uuid.UUID, bool]]) -> None:
    """Makes sure of (identity, its contact, whether that is blocked) until the end of the transaction. Raced."""
    wanted = set(people)
    records = await connection.fetch(STANDING, sorted(identity_id for identity_id, _, _ in wanted))
    if {(record["id"], record["contact_id"], record["blocked"]) for record in records} != wanted:
        raise Raced


async def check_not_blocked(connection: Connection, identity_id: uuid.UUID, contact_id: uuid.UUID) -> None:
    """Lets a conversation with an identity start, and no block happen before its transaction ends. ContactBlocked; Raced."""
    records = await connection.fetch(STANDING, [identity_id])
    if [record["contact_id"] for record in records] != [contact_id]:
        raise Raced
    if records[0]["blocked"]:
        raise ContactBlocked(contact_id)
