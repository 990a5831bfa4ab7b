"""The steps of an erasure that take somebody out of what providers handed in: the journal, its items, the quarantine.

Nothing says which payloads tell of whom: one that was repeated, or held only what was ignored, is found by looking for the addresses in
its bytes. What came after the erasure was asked for is a new contact's, and stays.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from server.erasures import keys
from server.erasures.erasing import Batch, Went
from server.journal.service import Payload
from server.kit.db import Connection
from server.providers.contract import Erased, Item, Provider

# Of one transaction: payloads looked at, items looked at.
PAYLOADS, ITEMS = 300, 5000
# A batch ends after it, though there are more of its payloads: of those with much in them few are enough.
SECONDS = 0.1
FIRST = uuid.UUID(int=0)

# body: of those that tell of the contact, by an address in their bytes or a message that came with them.
PAGE = """
SELECT j.id, j.receive_time, j.provider, CASE
    WHEN EXISTS (SELECT FROM unnest($4::bytea[]) a WHERE position(a IN j.body) > 0)
        OR EXISTS (
            SELECT FROM journal_items i
            JOIN message_parts p ON p.channel_id = i.channel_id AND p.provider_message_id = i.provider_id
            WHERE i.journal_id = j.id AND p.conversation_id = ANY($5::uuid[]))
    THEN j.body END AS body
FROM (
    SELECT id, receive_time, provider, body FROM journal WHERE receive_time < $1 AND (receive_time, id) > ($2, $3)
    ORDER BY receive_time, id LIMIT $6
) j ORDER BY j.receive_time, j.id
"""
OF_PARTS = """
SELECT provider_message_id AS id, conversation_id = ANY($2::uuid[]) AS gone FROM message_parts
WHERE channel_id IN (SELECT id FROM channels) AND provider_message_id = ANY($1::text[])
"""
ERASE = "SELECT erase_payload($1, $2, $3)"
FORGET = "DELETE FROM journal_items WHERE journal_id = $1 AND provider_id = ANY($2::text[])"
NEXT_ITEMS = """
WITH page AS (SELECT id, provider_id, discriminator, create_time FROM journal_items WHERE id > $1 ORDER BY id LIMIT $2),
gone AS (
    DELETE FROM journal_items i USING page
    WHERE i.id = page.id AND page.create_time < $5 AND (
        EXISTS (SELECT FROM unnest($3::text[]) k WHERE starts_with(page.provider_id, k))
        OR split_part(page.discriminator, '/', 2) = ANY($4::text[]))
)
SELECT count(*) AS count, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last FROM page
"""
PARKED = """
DELETE FROM parked_receipts r USING unnest($1::text[]) k WHERE starts_with(r.provider_message_id, k) AND r.create_time < $2
"""

# What waits for a message of the contact, with its addresses: timers whose keys, items of the journal, are older than the erasure.
WAITING = """
DELETE FROM timers WHERE payload IS NOT NULL AND key < $3 AND (
    EXISTS (SELECT FROM unnest($1::text[]) a WHERE position(to_json(a)::text IN payload::text) > 0)
    OR EXISTS (SELECT FROM unnest($2::text[]) k WHERE position('"' || k IN payload::text) > 0))
"""


async def webhooks(batch: Batch) -> Went:
    """Takes the contact out of the next payloads of the journal. place: time and id of the last one looked at."""
    erasure, connection = batch.erasure, batch.connection
    after = json.loads(erasure["place"]) if erasure["place"] else ["0001-01-01T00:00:00+00:00", str(FIRST)]
    found = await connection.fetch(
        PAGE,
        *(erasure["create_time"], datetime.fromisoformat(after[0]), uuid.UUID(after[1])),
        *([address.encode() for address in erasure["addresses"]], erasure["conversation_ids"], PAYLOADS),
    )
    changed, looked, began = 0, 0, time.monotonic()
    for record in found:
        if record["body"] is not None:
            changed += await _erase(batch, record)
        looked += 1
        if time.monotonic() - began > SECONDS:
            break
    last = found[looked - 1] if looked else None
    place = None if last is None else json.dumps([last["receive_time"].isoformat(), str(last["id"])])
    return Went(more=looked < len(found) or looked == PAYLOADS, place=place, counts={"webhooks": changed})


async def _erase(batch: Batch, record: Any) -> int:
    """Takes the contact out of a payload, and remembers the ids of what went with it."""
    provider = batch.providers[record["provider"]]
    before = items_of(provider, record["body"])
    remaining = provider.without(record["body"], await _erased(batch, before))
    if remaining is None:
        return 0
    stays = {_name(item) for item in items_of(provider, remaining)}
    gone = [item for item in before if _name(item) not in stays]
    await keys.add(batch.connection, {key for item in gone for key in keys.keys_of(provider.name, item)})
    await batch.connection.execute(FORGET, record["id"], sorted({item.provider_id for item in gone}))
    await batch.connection.execute(ERASE, record["id"], record["receive_time"], remaining)
    return 1


async def _erased(batch: Batch, found: Sequence[Item]) -> Erased:
    ids = sorted({item.provider_id for item in found})
    rows = await batch.connection.fetch(OF_PARTS, ids, batch.erasure["conversation_ids"])
    return Erased(
        addresses=frozenset(batch.erasure["addresses"]),
        ids=frozenset(row["id"] for row in rows if row["gone"]),
        kept=frozenset(row["id"] for row in rows if not row["gone"]),
    )


async def take_out(
    connection: Connection, provider: Provider, payload: Payload, *, gone: Sequence[Item], left: Sequence[Item]
) -> None:
    """Takes out of a payload what it brings again of somebody who was erased."""
    others = {address.value for item in left for address in getattr(item, "addresses", ())}
    addresses = {address.value for item in gone for address in getattr(item, "addresses", ())} - others
    erased = Erased(
        addresses=frozenset(addresses),
        ids=frozenset(item.provider_id for item in gone),
        kept=frozenset(item.provider_id for item in left),
        changes=frozenset(
            (change.entry_index, change.change_index)
            for change in provider.changes(payload.body)
            if (items := provider.parse(change)) and all(item in gone for item in items)
        ),
    )
    remaining = provider.without(payload.body, erased)
    if remaining is not None:
        await connection.execute(ERASE, payload.id, payload.receive_time, remaining)


def items_of(provider: Provider, body: bytes) -> list[Item]:
    """What the present parser reads in a payload."""
    return [item for change in provider.changes(body) for item in provider.parse(change)]


def _name(item: Item) -> tuple[str, str, str, str]:
    return item.kind, item.account_id or "", item.provider_id, item.discriminator


async def items(batch: Batch) -> Went:
    """Forgets the next items whose ids tell an address, of payloads that are gone by now too. place: the last one looked at."""
    telling = prefixes(batch.providers, batch.erasure["addresses"])
    after = uuid.UUID(batch.erasure["place"]) if batch.erasure["place"] else FIRST
    if batch.erasure["place"] is None:
        await batch.connection.execute(PARKED, telling, batch.erasure["create_time"])
        await batch.connection.execute(WAITING, batch.erasure["addresses"], telling, batch.erasure["id"])
    page: Any = await batch.connection.fetchrow(
        NEXT_ITEMS, after, ITEMS, telling, batch.erasure["addresses"], batch.erasure["create_time"]
    )
    return Went(more=page["count"] == ITEMS, place=None if page["last"] is None else str(page["last"]))


def prefixes(providers: Mapping[str, Provider], addresses: Sequence[str]) -> list[str]:
    """How ids begin that tell an address, whatever the provider."""
    return sorted({prefix for provider in providers.values() for prefix in provider.telling(addresses)})


async def quarantine(batch: Batch) -> Went:
    """Takes the contact out of what waits in the control database for the tenant. In transactions of their own."""
    changed = 0
    erased = Erased(addresses=frozenset(batch.erasure["addresses"]))
    for part in await batch.quarantine.of_tenant(batch.tenant_id, until=batch.erasure["create_time"]):
        provider = batch.providers.get(part.provider)
        remaining = None if provider is None else provider.without(part.body, erased)
        if remaining is not None:
            await batch.quarantine.replace(part.id, remaining)
            changed += 1
    return Went(more=False, counts={"webhooks": changed})
