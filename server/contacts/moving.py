"""Customers who have another number or another user id now: the identity keeps its thread, and gets the new address.

The old address stays and is not sent to any more; what still comes from it belongs to the same identity. Nobody's address is taken
away: where the new one is another identity's already, that is a conflict for people to decide. Of what is told about an address the
later word counts, by the provider's time. What is told of nobody known waits, since webhooks overtake each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.contacts.resolve import (
    ADD_ALIASES,
    LOCK_STANDING,
    SHARE,
    Key,
    conflict_event,
    record_conflict,
    shown_contacts,
)
from server.contacts.service import contact_events
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced, Write
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.providers.contract import Address, IdentityChange
from server.timers.service import Fired, Handlers, set_timer

KIND = "identity_change"
AGAIN = tuple(timedelta(seconds=seconds) for seconds in (2, 10, 60, 600, 3_600, 21_600, 86_400, 172_800, 259_200))
HELD = """
SELECT a.kind, a.value, a.identity_id, i.contact_id FROM unnest($2::text[], $3::text[]) AS k (kind, value)
JOIN identity_aliases a ON a.channel_id = $1 AND a.kind = k.kind AND a.value = k.value
JOIN identities i ON i.id = a.identity_id
"""
WHO = "SELECT i.id, i.contact_id FROM conversations c JOIN identities i ON i.id = c.identity_id WHERE c.id = $1"
# end_time: None of an address that is in use. Something older about it changes nothing.
TELL = """
UPDATE identity_aliases a SET end_time = u.end_time, told_time = $5
FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS u (kind, value, end_time)
WHERE a.channel_id = $1 AND a.kind = u.kind AND a.value = u.value AND a.identity_id = $6 AND (a.told_time IS NULL OR a.told_time < $5)
RETURNING a.id
"""


@dataclass(frozen=True, slots=True)
class Told:
    """A change as a timer keeps it: addresses as (kind, value)."""

    channel_id: uuid.UUID
    time: datetime
    previous: Sequence[tuple[str, str]]
    current: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, item: IdentityChange, channel_id: uuid.UUID) -> Told:
        """The change of a webhook."""
        return cls(channel_id, item.provider_time, _pairs(item.previous), _pairs(item.current))

    @classmethod
    def load(cls, payload: Mapping[str, Any]) -> Told:
        """What `dump` gave."""
        previous, current = ([(kind, value) for kind, value in payload[name]] for name in ("previous", "current"))
        return cls(uuid.UUID(payload["channel_id"]), datetime.fromisoformat(payload["time"]), previous, current)

    def dump(self, *, tries: int) -> dict[str, Any]:
        """As JSON."""
        addresses = {"previous": self.previous, "current": self.current}
        return {"channel_id": str(self.channel_id), "time": self.time.isoformat(), "tries": tries, **addresses}


def _pairs(addresses: Iterable[Address]) -> list[tuple[str, str]]:
    return [(address.kind, address.value) for address in addresses]


async def apply(
    write: Write, item: IdentityChange, *, item_id: uuid.UUID, channel_id: uuid.UUID, origin: Origin
) -> list[NewEvent]:
    """Takes the change over, or waits for somebody it is about. item_id: of the journal. Raced."""
    told = Told.of(item, channel_id)
    events = await _take(write.connection, told, origin=origin)
    if events is None:
        payload = told.dump(tries=0)
        await set_timer(write.connection, kind=KIND, key=item_id, due_time=utc_now() + AGAIN[0], payload=payload)
    return events or []


async def _take(connection: Connection, told: Told, *, origin: Origin) -> list[NewEvent] | None:
    """The events; None when nobody has any of the addresses. Raced."""
    held = await _held(connection, told)
    addresses = [*told.previous, *told.current]
    first = next((held[address] for address in addresses if address in held), None)
    if first is None:
        return None
    identity_id, contact_id = first
    await connection.execute(SHARE, [contact_id])
    if not await connection.fetch(LOCK_STANDING, [contact_id]):
        raise Raced
    added = [address for address in addresses if address not in held]
    await _add(connection, told.channel_id, added, identity_id)
    changed = await _tell(connection, told, identity_id)
    events: list[NewEvent] = []
    for address in told.current:
        other = held.get(address, first)
        if other[0] != identity_id:
            events += await _conflict(connection, (told.channel_id, *address), identity_id, other[0], origin=origin)
    if added or changed:
        events += await _contact_events(connection, contact_id, origin=origin)
    return events


async def learn(
    connection: Connection,
    addresses: Iterable[Address],
    *,
    channel_id: uuid.UUID,
    conversation_id: uuid.UUID,
    origin: Origin,
) -> list[NewEvent]:
    """Other addresses of a customer, as a provider names them to whom something was just sent. Nobody's is taken away. Raced."""
    told = Told(channel_id, utc_now(), (), _pairs(addresses))
    held, who = await _held(connection, told), await connection.fetchrow(WHO, conversation_id)
    if who is None:
        return []
    added = [address for address in told.current if address not in held]
    others = {address: other for address, (other, _) in held.items() if other != who["id"]}
    if not added and not others:
        return []
    await connection.execute(SHARE, [who["contact_id"]])
    if not await connection.fetch(LOCK_STANDING, [who["contact_id"]]):
        return []
    await _add(connection, channel_id, added, who["id"])
    events: list[NewEvent] = []
    for address, other in others.items():
        events += await _conflict(connection, (channel_id, *address), who["id"], other, origin=origin)
    return [*events, *(await _contact_events(connection, who["contact_id"], origin=origin) if added else ())]


async def _contact_events(connection: Connection, contact_id: uuid.UUID, *, origin: Origin) -> Sequence[NewEvent]:
    contact = (await shown_contacts(connection, {contact_id}))[contact_id]
    body = event_pb2.InboxEvent(contact_updated=event_pb2.ContactUpdated(contact=contact))
    return contact_events(body, contact, origin=origin)


async def _held(connection: Connection, told: Told) -> dict[tuple[str, str], tuple[uuid.UUID, uuid.UUID]]:
    """The identity and contact of each address that somebody has on the channel."""
    addresses = [*told.previous, *told.current]
    kinds, values = [kind for kind, _ in addresses], [value for _, value in addresses]
    records = await connection.fetch(HELD, told.channel_id, kinds, values)
    return {(row["kind"], row["value"]): (row["identity_id"], row["contact_id"]) for row in records}


async def _add(
    connection: Connection, channel_id: uuid.UUID, addresses: Iterable[tuple[str, str]], identity_id: uuid.UUID
) -> None:
    """Adds addresses in one order for everybody. Raced when somebody else got one meanwhile."""
    rows = [(new_id(), channel_id, *address, identity_id, utc_now()) for address in sorted(set(addresses))]
    if rows:
        columns = [[row[index] for row in rows] for index in range(6)]
        if any(row["identity_id"] != identity_id for row in await connection.fetch(ADD_ALIASES, *columns)):
            raise Raced


async def _tell(connection: Connection, told: Told, identity_id: uuid.UUID) -> bool:
    """Ends the old addresses and begins the new ones; whether that changed anything."""
    rows = dict.fromkeys(told.previous, told.time) | dict.fromkeys(told.current)
    kinds, values = [kind for kind, _ in rows], [value for _, value in rows]
    return bool(
        await connection.fetch(TELL, told.channel_id, kinds, values, list(rows.values()), told.time, identity_id)
    )


async def _conflict(
    connection: Connection, key: Key, identity_id: uuid.UUID, other_id: uuid.UUID, *, origin: Origin
) -> list[NewEvent]:
    _, is_new = await record_conflict(connection, key, identity_id, other_id, now=utc_now())
    return [conflict_event(key, identity_id, other_id, origin=origin)] if is_new else []


@dataclass(slots=True)
class _Firing:
    """Changes that wait for somebody."""

    write: Write
    again: list[tuple[uuid.UUID, timedelta, dict[str, Any]]] = field(default_factory=list)

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Takes one over, waits on, or lets it be: whoever it was about never wrote here."""
        told, tries = Told.load(fired.payload), int(fired.payload["tries"])
        events = await _take(self.write.connection, told, origin=fired.origin)
        if events is None and tries + 1 < len(AGAIN):
            self.again.append((fired.key, AGAIN[tries + 1], told.dump(tries=tries + 1)))
        return events or []

    async def save(self) -> None:
        """Sets anew what waits on."""
        for key, after, payload in self.again:
            await set_timer(self.write.connection, kind=KIND, key=key, due_time=utc_now() + after, payload=payload)


async def _open(write: Write, _keys: Sequence[uuid.UUID]) -> _Firing:
    return _Firing(write)


HANDLERS: Handlers = {KIND: _open}
