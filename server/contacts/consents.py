"""Whether customers want marketing messages, as the provider tells it.

A word is kept by address: it may come before anybody wrote from there, and holds for whoever has the address. Of two words the later
one by the provider's time counts, in whatever order they come, and of two in one second the one that stops.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.contacts.resolve import shown_contacts
from server.contacts.service import contact_events
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.log.event import NewEvent, Origin
from server.providers.contract import ConsentChange

Address = tuple[uuid.UUID, str, str]

IDENTITIES = """
SELECT DISTINCT a.identity_id FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (channel_id, kind, value)
JOIN identity_aliases a USING (channel_id, kind, value)
"""
ADDRESSES = """
SELECT identity_id, channel_id, kind, value FROM identity_aliases
WHERE identity_id = ANY($1::uuid[]) AND end_time IS NULL AND kind IN ('wa_id', 'bsuid', 'parent_bsuid')
"""
# In one order for everybody. The words are such that `stopped` is the greatest.
SAVE = """
INSERT INTO marketing_consents AS m (channel_id, kind, value, state, provider_time, update_time)
SELECT DISTINCT ON (channel_id, kind, value) channel_id, kind, value, state, provider_time, $6
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) AS u (channel_id, kind, value, state, provider_time)
ORDER BY channel_id, kind, value, provider_time DESC, state DESC
ON CONFLICT (channel_id, kind, value) DO UPDATE
SET state = excluded.state, provider_time = excluded.provider_time, update_time = excluded.update_time
WHERE (excluded.provider_time, excluded.state) > (m.provider_time, m.state)
"""
OF_IDENTITIES = """
SELECT DISTINCT ON (a.identity_id) a.identity_id, i.contact_id, m.state, m.provider_time
FROM identity_aliases a JOIN identities i ON i.id = a.identity_id
JOIN marketing_consents m ON (m.channel_id, m.kind, m.value) = (a.channel_id, a.kind, a.value)
WHERE a.identity_id = ANY($1::uuid[])
ORDER BY a.identity_id, m.provider_time DESC, m.state DESC
"""


@dataclass(frozen=True, slots=True)
class Stop:
    """That a provider refused a marketing message to an identity, since the customer wants none."""

    identity_id: uuid.UUID
    time: datetime
    origin: Origin


async def stopped(connection: Connection, identity_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these identities want no marketing messages."""
    return {key for key, row in (await _held(connection, identity_ids)).items() if row["state"] == "stopped"}


async def apply(
    connection: Connection, item: ConsentChange, *, channel_id: uuid.UUID, origin: Origin
) -> list[NewEvent]:
    """Keeps a customer's word; an event where somebody who is known has another one now."""
    addresses = [(channel_id, address.kind, address.value) for address in item.addresses]
    records = await connection.fetch(IDENTITIES, *_columns(addresses, 3))
    origins = {record["identity_id"]: origin for record in records}
    return await _save(connection, [(*address, item.state, item.provider_time) for address in addresses], origins)


async def stop(connection: Connection, stops: Sequence[Stop]) -> list[NewEvent]:
    """Keeps what refusals say, for all addresses of whom they are about."""
    if not stops:
        return []
    latest = {stop.identity_id: stop for stop in sorted(stops, key=lambda stop: stop.time)}
    rows = [
        (record["channel_id"], record["kind"], record["value"], "stopped", latest[record["identity_id"]].time)
        for record in await connection.fetch(ADDRESSES, list(latest))
    ]
    return await _save(connection, rows, {key: stop.origin for key, stop in latest.items()})


async def _save(
    connection: Connection, rows: Sequence[tuple[Any, ...]], origins: Mapping[uuid.UUID, Origin]
) -> list[NewEvent]:
    before = await _held(connection, origins)
    await connection.execute(SAVE, *_columns(rows, 5), utc_now())
    after = await _held(connection, origins)
    changed = {key: row["contact_id"] for key, row in sorted(after.items()) if _word(row) != _word(before.get(key))}
    contacts = await shown_contacts(connection, set(changed.values()))
    events: list[NewEvent] = []
    for identity_id, contact_id in changed.items():
        # Whoever is erased at this moment has nobody to tell of.
        if (contact := contacts.get(contact_id)) is not None:
            told = event_pb2.ContactConsentChanged(contact=contact, identity_id=str(identity_id))
            body = event_pb2.InboxEvent(contact_consent_changed=told)
            events += contact_events(body, contact, origin=origins[identity_id])
    return events


async def _held(connection: Connection, identity_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Any]:
    if not identity_ids:
        return {}
    return {row["identity_id"]: row for row in await connection.fetch(OF_IDENTITIES, list(identity_ids))}


def _word(row: Any) -> tuple[str, datetime] | None:
    return None if row is None else (row["state"], row["provider_time"])


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[index] for row in rows] for index in range(width)]
