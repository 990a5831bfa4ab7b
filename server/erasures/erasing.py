"""The steps of an erasure that work at the tenant's tables: sends, messages, the log, rows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations import purge
from server.erasures.service import CANCEL
from server.kit.db import Connection, Write
from server.log.event import NewEvent, Origin, Routing
from server.providers.contract import Provider
from server.tenancy.quarantine import Quarantine

# Of one transaction: a lane of a worker is busy meanwhile.
MESSAGES, EVENTS, CONVERSATIONS = 200, 2000, 20
AGAIN = timedelta(seconds=1)
# Followers that stand still hold an erasure up for so many looks, a second apart; what they have not counted by then they never will.
LOOKS = 600

IN_FLIGHT = "SELECT EXISTS (SELECT FROM deliveries WHERE conversation_id = ANY($1::uuid[]) AND state = 'in_flight')"
NEXT_MESSAGES = "SELECT id FROM messages WHERE conversation_id = ANY($1::uuid[]) LIMIT $2"
NOTE_FILES = """
UPDATE erasures SET file_ids = file_ids || ARRAY(
    SELECT coalesce(media_id, id) FROM message_attachments
    WHERE message_id = ANY($2::uuid[]) AND state IN ('fetching', 'stored'))
WHERE id = $1
"""
FILES_LEFT = "SELECT EXISTS (SELECT FROM media_leavings WHERE attachment_id = ANY($1::uuid[]))"
ITEMS = """
DELETE FROM journal_items i USING message_parts p
WHERE p.message_id = ANY($1::uuid[]) AND i.channel_id = p.channel_id AND i.provider_id = p.provider_message_id
"""
PARKED = """
DELETE FROM parked_receipts r USING message_parts p
WHERE p.message_id = ANY($1::uuid[]) AND r.channel_id = p.channel_id AND r.provider_message_id = p.provider_message_id
"""
# In an order that every foreign key allows.
OF_MESSAGES = (
    ITEMS,
    PARKED,
    "DELETE FROM message_status_updates WHERE message_id = ANY($1::uuid[])",
    "DELETE FROM message_attachments WHERE message_id = ANY($1::uuid[])",
    "DELETE FROM deliveries d USING message_parts p WHERE p.message_id = ANY($1::uuid[]) AND p.id = d.part_id",
    "DELETE FROM timers WHERE key = ANY($1::uuid[])",
    "DELETE FROM message_parts WHERE message_id = ANY($1::uuid[])",
    "DELETE FROM messages WHERE id = ANY($1::uuid[])",
)
HEAD = "SELECT head, floor FROM stream_head"
SLOWEST = "SELECT min(seq) FROM consumers WHERE broken_time IS NULL"
NOTES = "SELECT count(*) FROM conversation_notes WHERE conversation_id = ANY($1::uuid[])"
LEFT = "SELECT id FROM conversations WHERE id = ANY($1::uuid[]) ORDER BY id LIMIT $2"
CHANNELS = "SELECT DISTINCT channel_id FROM identities WHERE id = ANY($1::uuid[]) ORDER BY channel_id"
# What is left when the conversations are gone, in an order that every foreign key allows, and whose ids each statement takes.
CONTACTS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("words", "DELETE FROM conversation_words WHERE conversation_id = ANY($1::uuid[])", ("conversation_ids",)),
    ("timers", "DELETE FROM timers WHERE key = ANY($1::uuid[] || $2::uuid[])", ("identity_ids", "contact_ids")),
    (
        "requests",
        "DELETE FROM idempotent_requests WHERE resource_id = ANY($1::uuid[] || $2::uuid[])",
        ("conversation_ids", "contact_ids"),
    ),
    ("buckets", "DELETE FROM recipient_buckets WHERE identity_id = ANY($1::uuid[])", ("identity_ids",)),
    (
        "conflicts",
        "DELETE FROM identity_conflicts WHERE identity_id = ANY($1::uuid[]) OR other_identity_id = ANY($1::uuid[])",
        ("identity_ids",),
    ),
    (
        "merges",
        "DELETE FROM contact_merges WHERE contact_id = ANY($1::uuid[]) OR merged_contact_id = ANY($1::uuid[])",
        ("contact_ids",),
    ),
    ("identities", "DELETE FROM identities WHERE id = ANY($1::uuid[])", ("identity_ids",)),
    ("contacts", "DELETE FROM contacts WHERE id = ANY($1::uuid[])", ("contact_ids",)),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of an erasure. erasure: its row as it was taken."""

    write: Write
    tenant_id: uuid.UUID
    erasure: Any
    providers: Mapping[str, Provider]
    quarantine: Quarantine
    origin: Origin

    @property
    def connection(self) -> Connection:
        """The connection of the transaction."""
        return self.write.connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Went:
    """What a batch came to. more: the step goes on from the place, after a wait; else the next one begins."""

    more: bool
    place: str | None = None
    wait: timedelta = timedelta(0)
    counts: Mapping[str, int] = field(default_factory=dict)
    events: Sequence[NewEvent] = ()


async def sends(batch: Batch) -> Went:
    """Waits for a request to a provider that has begun: its answer belongs to a row. One that may be made again is not."""
    await batch.connection.execute(CANCEL, batch.erasure["conversation_ids"])
    busy = await batch.connection.fetchval(IN_FLIGHT, batch.erasure["conversation_ids"])
    return Went(more=busy, wait=AGAIN)


async def messages(batch: Batch) -> Went:
    """Deletes the next messages and all that hangs on them; triggers have their files leave the store."""
    found = await batch.connection.fetch(NEXT_MESSAGES, batch.erasure["conversation_ids"], MESSAGES)
    ids = [record["id"] for record in found]
    await batch.connection.execute(NOTE_FILES, batch.erasure["id"], ids)
    for statement in OF_MESSAGES if ids else ():
        await batch.connection.execute(statement, ids)
    return Went(more=len(ids) == MESSAGES, counts={"messages": len(ids)})


async def files(batch: Batch) -> Went:
    """Waits until the files are deleted from the store; one that was just being fetched is some minutes later."""
    ids = batch.erasure["file_ids"]
    if await batch.connection.fetchval(FILES_LEFT, ids):
        return Went(more=True, wait=AGAIN)
    return Went(more=False, counts={"files": len(ids)})


async def followers(batch: Batch) -> Went:
    """Waits until whoever counts the log has read what it says of the contact. place: up to where, and how often it was looked."""
    place = batch.erasure["place"]
    if place is None:
        head = await batch.connection.fetchval("SELECT head FROM stream_head")
        upto, looks = head, 0
    else:
        upto, looks = map(int, place.split("/"))
    slowest = await batch.connection.fetchval(SLOWEST)
    waits = slowest is not None and slowest < upto and looks < LOOKS
    return Went(more=waits, place=f"{upto}/{looks + 1}", wait=AGAIN)


async def events(batch: Batch) -> Went:
    """Puts a mark in the place of the next events that tell something. place: the seq up to which that is done."""
    bounds: Any = await batch.connection.fetchrow(HEAD)
    first = max(int(batch.erasure["place"] or 0) + 1, bounds["floor"])
    last = min(first + EVENTS - 1, bounds["head"])
    erased = 0
    if last >= first:
        erased = await batch.connection.fetchval("SELECT erase_events($1, $2, $3)", batch.erasure["id"], first, last)
    return Went(more=last < bounds["head"], place=str(last), counts={"events": erased})


async def conversations(batch: Batch) -> Went:
    """Deletes the next conversations."""
    found = await batch.connection.fetch(LEFT, batch.erasure["conversation_ids"], CONVERSATIONS)
    ids = [record["id"] for record in found]
    notes = await batch.connection.fetchval(NOTES, ids)
    told = await purge.purge_now(batch.write, ids, origin=batch.origin)
    return Went(more=len(ids) == CONVERSATIONS, counts={"conversations": len(ids), "notes": notes}, events=told)


async def contact(batch: Batch) -> Went:
    """Deletes the contacts, and says that they were erased."""
    connection, erasure = batch.connection, batch.erasure
    channels = [record["channel_id"] for record in await connection.fetch(CHANNELS, erasure["identity_ids"])]
    counts = {
        name: int((await connection.execute(statement, *(erasure[column] for column in columns))).rpartition(" ")[2])
        for name, statement, columns in CONTACTS
    }
    return Went(
        more=False,
        counts={name: count for name, count in counts.items() if name in ("identities", "contacts")},
        events=_erased(batch, channels),
    )


def _erased(batch: Batch, channels: Sequence[uuid.UUID]) -> list[NewEvent]:
    """contact_erased on each channel that the contact was met on; on none, for those who see everything."""
    erasure = batch.erasure
    body = event_pb2.ContactErased(
        contact_id=str(erasure["contact_id"]),
        merged_contact_ids=[str(item) for item in erasure["contact_ids"] if item != erasure["contact_id"]],
        erasure_id=str(erasure["id"]),
    )
    return [
        NewEvent(
            body=event_pb2.InboxEvent(contact_erased=body),
            actor=batch.origin.actor,
            cause=batch.origin.cause,
            before=routing,
            after=routing,
        )
        for routing in [Routing(channel_id=channel_id) for channel_id in channels] or [Routing()]
    ]
