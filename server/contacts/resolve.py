"""Finds or creates who wrote, safely when several processes meet the same stranger at the same instant."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from switchboard.v1 import contact_pb2, event_pb2

from server.contacts import convert
from server.kit.db import Connection, Raced
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin, Routing
from server.providers.contract import Address

NAME_CHARACTERS = 100

KNOWN = """
SELECT a.channel_id, a.kind, a.value, a.identity_id, i.contact_id, i.profile_name, i.profile_time, i.username, c.name, c.name_source,
    c.block_time IS NOT NULL AS blocked
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (channel_id, kind, value)
JOIN identity_aliases a USING (channel_id, kind, value)
JOIN identities i ON i.id = a.identity_id
JOIN contacts c ON c.id = i.contact_id
"""
# A stranger on this channel may be known on another channel of the same provider: then the contact is joined.
ELSEWHERE = """
SELECT DISTINCT ON (k.kind, k.value) k.kind, k.value, i.id AS identity_id, i.contact_id, c.name, c.name_source,
    c.block_time IS NOT NULL AS blocked
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (kind, value, provider)
JOIN identity_aliases a USING (kind, value)
JOIN channels ch ON ch.id = a.channel_id AND ch.provider = k.provider
JOIN identities i ON i.id = a.identity_id
JOIN contacts c ON c.id = i.contact_id
ORDER BY k.kind, k.value, a.create_time
"""
# No constraint spans channels: whoever is new is waited for by everybody who meets the same address on another channel, and seen by the
# statement after this one.
MEET = """
SELECT pg_advisory_xact_lock(hashtextextended(k.key, 0))
FROM (SELECT key FROM unnest($1::text[]) AS u (key) ORDER BY key) k
"""
# Contacts are written here before the conversations are locked, and blocked or merged after: who does the latter holds this alone.
SHARE = """
SELECT pg_advisory_xact_lock_shared(hashtextextended('contact/' || k.id, 0))
FROM (SELECT id::text AS id FROM unnest($1::uuid[]) AS u (id) ORDER BY id) k
"""
LOCK_STANDING = """
SELECT id FROM contacts WHERE id = ANY($1::uuid[]) AND merged_into_id IS NULL AND erase_time IS NULL ORDER BY id FOR NO KEY UPDATE
"""
MOVED = """
SELECT EXISTS (SELECT FROM identities i JOIN unnest($1::uuid[], $2::uuid[]) k (id, contact_id) ON k.id = i.id
    WHERE i.contact_id <> k.contact_id)
"""
# DO UPDATE, not DO NOTHING: the loser of a race waits, and is told the winner's identity.
ADD_ALIASES = """
INSERT INTO identity_aliases (id, channel_id, kind, value, identity_id, create_time)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[])
ON CONFLICT (channel_id, kind, value) DO UPDATE SET value = excluded.value
RETURNING channel_id, kind, value, identity_id
"""
ADD_CONTACTS = """
INSERT INTO contacts (id, name, name_source, attributes, create_time, update_time)
SELECT id, name, source, attributes, time, time
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[]) AS u (id, name, source, attributes, time)
"""
ADD_IDENTITIES = """
INSERT INTO identities (id, contact_id, channel_id, profile_name, create_time, profile_time, username)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[])
"""
HEARD = """
SELECT i.id AS identity_id, timestamptz '2020-01-01 00:00:00+00' + (max(c.last_inbound_sequence) >> 12) * interval '1 ms' AS time
FROM identities i JOIN conversations c ON c.channel_id = i.channel_id AND c.identity_id = i.id
WHERE i.id = ANY($1::uuid[]) AND c.last_inbound_sequence > 0 GROUP BY i.id
"""
# Nothing comes back where somebody else wrote a later name meanwhile.
RENAME = """
UPDATE identities SET profile_name = $2, profile_time = $3, username = $4
WHERE id = $1 AND ($3::timestamptz IS NULL OR profile_time IS NULL OR profile_time <= $3) RETURNING id
"""
STALE = """
SELECT EXISTS (SELECT FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (id, profile_name, username) JOIN identities i USING (id)
    WHERE (i.profile_name, i.username) IS DISTINCT FROM (k.profile_name, k.username))
"""
ADD_CONFLICT = """
INSERT INTO identity_conflicts (id, channel_id, identity_id, other_identity_id, kind, value_hash, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (identity_id, other_identity_id, kind, value_hash) DO UPDATE SET kind = excluded.kind RETURNING id
"""
IDENTITIES = """
SELECT i.contact_id, i.id, i.channel_id, ch.provider, i.profile_name, i.username, a.kind AS alias_kind, a.value AS alias_value,
    a.end_time AS alias_end_time, m.state AS consent_state, m.provider_time AS consent_time
FROM identities i
JOIN channels ch ON ch.id = i.channel_id
JOIN identity_aliases a ON a.identity_id = i.id
LEFT JOIN marketing_consents m ON (m.channel_id, m.kind, m.value) = (a.channel_id, a.kind, a.value)
WHERE i.contact_id = ANY($1::uuid[]) AND a.kind IN ('wa_id', 'bsuid', 'parent_bsuid', 'user_ref')
ORDER BY i.id, a.create_time, a.id
"""

COLUMNS = ("id", "name", "attributes", "create_time", "update_time", "block_time", "block_reason")
# A contact's own columns, and whom it is made of.
DETAILS = f"""
{", ".join(f"ct.{name}" for name in COLUMNS)},
    ARRAY(SELECT m.id FROM contacts m WHERE m.merged_into_id = ct.id ORDER BY m.id) AS merged_ids
"""
CONTACTS = f"SELECT {DETAILS} FROM contacts ct WHERE id = ANY($1::uuid[])"

Key = tuple[uuid.UUID, str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote, as a payload says it: addresses on one channel, the best first, and a profile name.

    told_time: when it says so, by the provider's clock. given_name: how an agent calls a stranger; given_attributes: what it says
    of one, as JSON. Neither is looked at for somebody known.
    """

    channel_id: uuid.UUID
    provider: str
    addresses: tuple[Address, ...]
    profile_name: str | None = None
    told_time: datetime | None = None
    username: str | None = None
    given_name: str | None = None
    given_attributes: str | None = None

    @property
    def keys(self) -> list[Key]:
        """The addresses as keys of aliases."""
        return [(self.channel_id, address.kind, address.value) for address in self.addresses]

    @property
    def joining(self) -> list[tuple[str, str, str]]:
        """The addresses that are the same person's on every channel of the provider: provider, kind and value."""
        return [(self.provider, a.kind, a.value) for a in self.addresses if a.kind in ("wa_id", "bsuid")]


@dataclass(slots=True)
class Resolved:
    """Who it is here. renamed: the contact got another name; the conversation's copy follows. told: by somebody. blocked: as it was read,
    without a lock.
    """

    identity_id: uuid.UUID
    contact_id: uuid.UUID
    channel_id: uuid.UUID
    name: str
    name_source: str
    profile_name: str | None
    profile_time: datetime | None = None
    username: str | None = None
    attributes: str | None = None
    new_identity: bool = False
    new_contact: bool = False
    renamed: bool = False
    told: bool = False
    blocked: bool = False


@dataclass(slots=True)
class Resolution:
    """The answer to every person, in order, and the events of what was created on the way."""

    people: list[Resolved] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)


def display_name(profile_name: str | None, addresses: Sequence[Address]) -> tuple[str, str]:
    """A name to show and its source: the provider's if it says anything, else the address."""
    name = " ".join((profile_name or "").split())[:NAME_CHARACTERS]
    if name.strip(".-_ "):
        return name, "provider"
    first = addresses[0]
    return ("+" + first.value if first.kind == "wa_id" else first.value), "address"


async def resolve(connection: Connection, people: Sequence[Person], *, origin: Origin, now: datetime) -> Resolution:
    """Finds or creates an identity for each person. Raced when another transaction created one of them meanwhile."""
    known = await _known(connection, {key for person in people for key in person.keys})
    await _heard(connection, people, known)
    joined, elsewhere = await _joined(connection, people, known)
    result = Resolution()
    aliases: dict[Key, uuid.UUID] = {}
    conflicts: list[tuple[Key, uuid.UUID, uuid.UUID]] = []
    met: dict[tuple[str, str, str], Resolved] = {}
    for person in people:
        found = (
            next((known[key] for key in person.keys if key in known), None)
            or joined.get(person.keys[0])
            or _beside(person, met)
            or _stranger(person)
        )
        met |= {address: found for address in person.joining if found.new_contact}
        for key in person.keys:
            if key not in known:
                known[key] = found
                aliases[key] = found.identity_id
            elif known[key].identity_id != found.identity_id:
                conflicts.append((key, found.identity_id, known[key].identity_id))
            there = elsewhere.get(key[1:])
            if found.new_identity and there is not None and there["contact_id"] != found.contact_id:
                conflicts.append((key, found.identity_id, there["identity_id"]))
        _rename(found, person)
        result.people.append(found)
    await _share(connection, result.people, known, aliases)
    await _store(connection, result.people, aliases, now=now)
    result.events += await _conflict_events(connection, conflicts, origin=origin, now=now)
    result.events += await _contact_events(connection, result.people, origin=origin)
    return result


async def _known(connection: Connection, keys: Iterable[Key]) -> dict[Key, Resolved]:
    records = await connection.fetch(KNOWN, *_transposed(sorted(keys), 3))
    by_identity: dict[uuid.UUID, Resolved] = {}
    found: dict[Key, Resolved] = {}
    for record in records:
        resolved = by_identity.setdefault(
            record["identity_id"],
            Resolved(
                identity_id=record["identity_id"],
                contact_id=record["contact_id"],
                channel_id=record["channel_id"],
                name=record["name"],
                name_source=record["name_source"],
                profile_name=record["profile_name"],
                profile_time=record["profile_time"],
                username=record["username"],
                blocked=record["blocked"],
            ),
        )
        found[(record["channel_id"], record["kind"], record["value"])] = resolved
    return found


async def _heard(connection: Connection, people: Sequence[Person], known: Mapping[Key, Resolved]) -> None:
    """Up to when the names of those are good who call themselves something else now: each of their messages said it again."""
    others = {
        found.identity_id: found
        for person in people
        for key in person.keys
        if (found := known.get(key)) is not None
        and (person.profile_name not in (None, found.profile_name) or person.username not in (None, found.username))
    }
    records = await connection.fetch(HEARD, list(others)) if others else []
    for record in records:
        found = others[record["identity_id"]]
        found.profile_time = max(record["time"], found.profile_time or record["time"])


async def _joined(
    connection: Connection, people: Sequence[Person], known: dict[Key, Resolved]
) -> tuple[dict[Key, Resolved], dict[tuple[str, str], Any]]:
    """New identities, by first address, for strangers whose contact is known from another channel of the provider.

    Second value: who has which of their addresses, (kind, value), there.
    """
    strangers = [person for person in people if not any(key in known for key in person.keys)]
    asked = sorted({(kind, value, provider) for person in strangers for provider, kind, value in person.joining})
    if not asked:
        return {}, {}
    await connection.execute(MEET, ["/".join(address) for address in asked])
    rows = {(row["kind"], row["value"]): row for row in await connection.fetch(ELSEWHERE, *_transposed(asked, 3))}
    joined: dict[Key, Resolved] = {}
    for person in strangers:
        row = next((rows[(a.kind, a.value)] for a in person.addresses if (a.kind, a.value) in rows), None)
        if row is not None:
            joined[person.keys[0]] = _joining(
                person, row["contact_id"], row["name"], row["name_source"], blocked=row["blocked"]
            )
    return joined, rows


def _joining(person: Person, contact_id: uuid.UUID, name: str, name_source: str, *, blocked: bool = False) -> Resolved:
    return Resolved(
        identity_id=new_id(),
        contact_id=contact_id,
        channel_id=person.channel_id,
        name=name,
        name_source=name_source,
        profile_name=person.profile_name,
        profile_time=person.told_time,
        username=person.username,
        new_identity=True,
        blocked=blocked,
    )


def _beside(person: Person, met: dict[tuple[str, str, str], Resolved]) -> Resolved | None:
    """A stranger who wrote on another channel in this very run."""
    other = next((met[address] for address in person.joining if address in met), None)
    return None if other is None else _joining(person, other.contact_id, other.name, other.name_source)


def _stranger(person: Person) -> Resolved:
    given = person.given_name
    name, source = display_name(person.profile_name, person.addresses) if given is None else (given, "agent")
    return Resolved(
        identity_id=new_id(),
        contact_id=new_id(),
        channel_id=person.channel_id,
        name=name,
        name_source=source,
        profile_name=person.profile_name,
        profile_time=person.told_time,
        username=person.username,
        attributes=person.given_attributes,
        new_identity=True,
        new_contact=True,
    )


def _rename(found: Resolved, person: Person) -> None:
    """Follows the provider's name, unless an agent chose another: the one that was told last by the provider's clock, and of two of
    one second the greater one, in whatever order they come. What somebody blocked calls itself is not looked at.

    Who has no name is called by the phone number once it is known, whether it came first or later.
    """
    first = person.addresses[0]
    if (
        found.name_source == "address"
        and not found.blocked
        and first.kind == "wa_id"
        and not found.name.startswith("+")
    ):
        found.name, found.renamed = "+" + first.value, not found.new_contact
    if found.blocked or not _newer(found, person):
        return
    if person.username not in (None, found.username):
        found.username, found.renamed, found.told = person.username, not found.new_contact, True
    if person.profile_name is None:
        return
    # Of a name that stays only memory knows when it was told last: nothing is written for it.
    found.profile_time = person.told_time
    if person.profile_name == found.profile_name:
        return
    found.profile_name = person.profile_name
    name, source = display_name(person.profile_name, person.addresses)
    found.renamed, found.told = not found.new_contact, True
    if found.name_source != "agent" and source == "provider":
        found.name, found.name_source = name, source


def _newer(found: Resolved, person: Person) -> bool:
    """Whether a name is not older than the one that is known."""
    if person.told_time is None or found.profile_time is None:
        return True
    names = (person.profile_name or "", person.username or ""), (found.profile_name or "", found.username or "")
    return (person.told_time, names[0]) >= (found.profile_time, names[1])


async def _share(
    connection: Connection, people: Iterable[Resolved], known: Mapping[Key, Resolved], aliases: Mapping[Key, uuid.UUID]
) -> None:
    """Locks contacts that are there already, and are written to, and keeps them from being blocked or merged. Raced if they were."""
    written = [*(item for item in people if item.new_identity or item.renamed), *(known[key] for key in aliases)]
    held = {item.identity_id: item.contact_id for item in written if not item.new_contact}
    if not held:
        return
    contact_ids = sorted(set(held.values()))
    await connection.execute(SHARE, contact_ids)
    standing = await connection.fetch(LOCK_STANDING, contact_ids)
    if len(standing) < len(contact_ids) or await connection.fetchval(MOVED, [*held], [*held.values()]):
        raise Raced


async def _store(
    connection: Connection, people: Sequence[Resolved], aliases: dict[Key, uuid.UUID], *, now: datetime
) -> None:
    unique = sorted({id(item): item for item in people}.values(), key=lambda item: item.identity_id)
    contacts = [
        (item.contact_id, item.name, item.name_source, item.attributes, now) for item in unique if item.new_contact
    ]
    identities = [
        (item.identity_id, item.contact_id, item.channel_id, item.profile_name, now, item.profile_time, item.username)
        for item in unique
        if item.new_identity
    ]
    if contacts:
        await connection.execute(ADD_CONTACTS, *_transposed(contacts, 5))
    if identities:
        await connection.execute(ADD_IDENTITIES, *_transposed(identities, 7))
    await _add_aliases(connection, aliases, now=now)
    for item in sorted(unique, key=lambda item: item.contact_id):
        if item.renamed:
            values = (item.identity_id, item.profile_name, item.profile_time, item.username)
            if await connection.fetchval(RENAME, *values) is None:
                raise Raced
            await connection.execute(
                "UPDATE contacts SET name = $2, name_source = $3, update_time = $4 WHERE id = $1 AND name_source <> 'agent'",
                *(item.contact_id, item.name, item.name_source, now),
            )


async def check_names(connection: Connection, people: Iterable[Resolved]) -> None:
    """Once the conversations of people are locked: nobody got another name, and nobody who got one here said a later one, since they
    were resolved. A name that stays is written by nobody, so nothing else tells of it. Raced.
    """
    known = {item.identity_id: item for item in people if not item.new_identity}
    if not known:
        return
    rows = [(key, item.profile_name, item.username) for key, item in known.items()]
    if await connection.fetchval(STALE, *_transposed(rows, 3)):
        raise Raced
    told = [key for key, item in known.items() if item.told]
    for record in await connection.fetch(HEARD, told) if told else []:
        time = known[record["identity_id"]].profile_time
        if time is not None and record["time"] > time:
            raise Raced


async def _add_aliases(connection: Connection, aliases: dict[Key, uuid.UUID], *, now: datetime) -> None:
    """Adds new addresses, in one order for everybody, so that two batches cannot wait for each other. Raced."""
    if not aliases:
        return
    rows = [(new_id(), *key, identity, now) for key, identity in sorted(aliases.items())]
    for record in await connection.fetch(ADD_ALIASES, *_transposed(rows, 6)):
        if aliases[(record["channel_id"], record["kind"], record["value"])] != record["identity_id"]:
            raise Raced


async def _conflict_events(
    connection: Connection, conflicts: Sequence[tuple[Key, uuid.UUID, uuid.UUID]], *, origin: Origin, now: datetime
) -> list[NewEvent]:
    events: list[NewEvent] = []
    for key, identity_id, other_id in conflicts:
        _, is_new = await record_conflict(connection, key, identity_id, other_id, now=now)
        if is_new:
            events.append(conflict_event(key, identity_id, other_id, origin=origin))
    return events


async def record_conflict(
    connection: Connection, key: Key, identity_id: uuid.UUID, other_id: uuid.UUID, *, now: datetime
) -> tuple[uuid.UUID, bool]:
    """The conflict's id, and whether nobody had met it before. The address is kept as its SHA-256 alone."""
    (channel_id, kind, value), conflict_id = key, new_id()
    hashed = hashlib.sha256(value.encode()).digest()
    found: uuid.UUID = await connection.fetchval(
        ADD_CONFLICT, conflict_id, channel_id, identity_id, other_id, kind, hashed, now
    )
    return found, found == conflict_id


def conflict_event(key: Key, identity_id: uuid.UUID, other_id: uuid.UUID, *, origin: Origin) -> NewEvent:
    """That two identities have one address."""
    body = event_pb2.IdentityConflict(
        channel_id=str(key[0]),
        identity_id=str(identity_id),
        other_identity_id=str(other_id),
        kind=convert.ALIAS_KIND.number(key[1]),
    )
    return _event(origin, event_pb2.InboxEvent(identity_conflict=body), key[0])


async def _contact_events(connection: Connection, people: Sequence[Resolved], *, origin: Origin) -> list[NewEvent]:
    events: list[NewEvent] = []
    changed = [item for item in {id(item): item for item in people}.values() if item.new_identity or item.renamed]
    shown = await shown_contacts(connection, {item.contact_id for item in changed})
    for item in changed:
        contact = shown[item.contact_id]
        if item.new_contact:
            body = event_pb2.InboxEvent(contact_created=event_pb2.ContactCreated(contact=contact))
        else:
            body = event_pb2.InboxEvent(contact_updated=event_pb2.ContactUpdated(contact=contact))
        events.append(_event(origin, body, item.channel_id))
    return events


async def shown_contacts(connection: Connection, ids: Set[uuid.UUID]) -> dict[uuid.UUID, contact_pb2.Contact]:
    """Contacts with their identities, as the contract shows them, in two statements however many there are."""
    if not ids:
        return {}
    identities: dict[uuid.UUID, list[Any]] = {}
    for row in await connection.fetch(IDENTITIES, list(ids)):
        identities.setdefault(row["contact_id"], []).append(row)
    records = await connection.fetch(CONTACTS, list(ids))
    return {record["id"]: convert.contact(record, identities.get(record["id"], ())) for record in records}


def _event(origin: Origin, body: event_pb2.InboxEvent, channel_id: uuid.UUID) -> NewEvent:
    routing = Routing(channel_id=channel_id)
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause, before=routing, after=routing)


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[index] for row in rows] for index in range(width)]
