"""Contacts: reading, creating and naming them, and finding whom to write to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import phonenumbers
from switchboard.v1 import contact_pb2, event_pb2

from server.contacts.resolve import IDENTITIES, Person, resolve, shown_contacts
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.errors import AlreadyExists, FieldViolation, InvalidFields, NotFound
from server.log.event import NewEvent, Origin, Routing
from server.providers.contract import Address
from server.rpc.call import Scope

# A contact is visible on a channel of the caller, or through a conversation of the caller or its teams.
VISIBLE = """
($1 OR EXISTS (SELECT 1 FROM identities i WHERE i.contact_id = ct.id AND i.channel_id = ANY($2::uuid[]))
    OR EXISTS (SELECT 1 FROM conversations c WHERE c.contact_id = ct.id AND (c.team_id = ANY($3::uuid[]) OR c.assignee_id = $4)))
"""
GET = f"SELECT id, name, create_time FROM contacts ct WHERE id = $5 AND {VISIBLE}"
PAGE = f"""
SELECT id, name, create_time FROM contacts ct
WHERE {VISIBLE} AND ($5::timestamptz IS NULL OR (create_time, id) < ($5, $6::uuid))
ORDER BY create_time DESC, id DESC LIMIT $7
"""
IDENTITY = """
SELECT i.id, i.contact_id, c.name FROM identities i JOIN contacts c ON c.id = i.contact_id WHERE i.id = $1 AND i.channel_id = $2
"""
RENAME = """
UPDATE contacts SET name = $2, name_source = 'agent', update_time = $3
WHERE id = $1 AND (name, name_source) IS DISTINCT FROM ($2, 'agent') RETURNING id
"""
CHANNEL = "SELECT provider, details ->> 'display_phone_number' AS display_phone_number FROM channels WHERE id = $1"


class ContactExists(AlreadyExists):
    """Somebody has the address. contact_id: who, if the caller may know."""

    def __init__(self, contact_id: uuid.UUID | None) -> None:
        super().__init__("contact", "a contact with this address exists")
        if contact_id is not None:
            self.metadata["contact_id"] = str(contact_id)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a conversation is started with, and the events of finding out."""

    identity_id: uuid.UUID
    contact_id: uuid.UUID
    name: str
    events: Sequence[NewEvent] = field(default_factory=tuple)


def _scope_values(scope: Scope) -> list[Any]:
    return [scope.all, list(scope.channel_ids), list(scope.team_ids), scope.agent_id]


async def get_visible(connection: Connection, scope: Scope, contact_id: uuid.UUID) -> tuple[Any, list[Any]]:
    """A contact the caller may see, and the rows of its identities. NotFound."""
    record = await connection.fetchrow(GET, *_scope_values(scope), contact_id)
    if record is None:
        raise NotFound("contact")
    identities: list[Any] = await connection.fetch(IDENTITIES, [contact_id])
    return record, identities


async def page(connection: Connection, scope: Scope, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Contacts the caller may see, newest first."""
    time, contact_id = (datetime.fromisoformat(after[0]), uuid.UUID(after[1])) if after else (None, None)
    records: list[Any] = await connection.fetch(PAGE, *_scope_values(scope), time, contact_id, limit)
    return records


async def shown(connection: Connection, contact_id: uuid.UUID) -> contact_pb2.Contact:
    """A contact with identities, for the detail of a conversation that the caller has been shown to see."""
    return (await shown_contacts(connection, {contact_id}))[contact_id]


async def by_identity(connection: Connection, channel_id: uuid.UUID, identity_id: uuid.UUID) -> Recipient:
    """A known identity of the channel. NotFound."""
    record = await connection.fetchrow(IDENTITY, identity_id, channel_id)
    if record is None:
        raise NotFound("identity")
    return Recipient(identity_id=record["id"], contact_id=record["contact_id"], name=record["name"])


async def by_phone_number(
    connection: Connection, channel_id: uuid.UUID, provider: str, phone_number: str, *, origin: Origin
) -> Recipient:
    """The identity of a phone number on the channel, made when there is none. INVALID_FIELDS for an impossible number."""
    person = Person(channel_id=channel_id, provider=provider, addresses=(Address("wa_id", _digits(phone_number)),))
    resolution = await resolve(connection, [person], origin=origin, now=utc_now())
    found = resolution.people[0]
    return Recipient(
        identity_id=found.identity_id, contact_id=found.contact_id, name=found.name, events=resolution.events
    )


async def create(
    connection: Connection, scope: Scope, channel_id: uuid.UUID, *, name: str, phone_number: str, origin: Origin
) -> tuple[uuid.UUID, list[NewEvent]]:
    """Creates a contact with a number on a channel. NotFound for the channel, INVALID_FIELDS, ContactExists; Raced."""
    channel = await connection.fetchrow(CHANNEL, channel_id)
    if channel is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    address = Address("wa_id", _digits(phone_number, region=_region(channel["display_phone_number"])))
    person = Person(channel_id=channel_id, provider=channel["provider"], addresses=(address,), given_name=name)
    resolution = await resolve(connection, [person], origin=origin, now=utc_now())
    found = resolution.people[0]
    if found.new_contact:
        return found.contact_id, resolution.events
    # The identity that resolving has just given the contact here is undone with this refusal, and shows it to nobody.
    seen = replace(scope, channel_ids=scope.channel_ids - {channel_id}) if found.new_identity else scope
    raise ContactExists(await connection.fetchval(GET, *_scope_values(seen), found.contact_id))


async def rename(
    connection: Connection, scope: Scope, contact_id: uuid.UUID, *, name: str, origin: Origin
) -> list[NewEvent]:
    """Gives a contact a name that no provider replaces; an event for each of its channels, none if it had it. NotFound."""
    await get_visible(connection, scope, contact_id)
    if await connection.fetchval(RENAME, contact_id, name, utc_now()) is None:
        return []
    contact = await shown(connection, contact_id)
    body = event_pb2.InboxEvent(contact_updated=event_pb2.ContactUpdated(contact=contact))
    channels = sorted({uuid.UUID(identity.channel_id) for identity in contact.identities})
    return [
        NewEvent(body=body, actor=origin.actor, cause=origin.cause, before=routing, after=routing)
        for routing in (Routing(channel_id=channel_id) for channel_id in channels)
    ]


def _region(number: str | None) -> str | None:
    """The main country of a channel's own number, such as "DE"; None if it says none."""
    try:
        parsed = phonenumbers.parse("+" + (number or "").lstrip("+"), None)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.region_code_for_country_code(parsed.country_code or 0)


def _digits(phone_number: str, *, region: str | None = None) -> str:
    """The number as WhatsApp writes it: E.164 without the plus. region: where it is dialled, for one without country code."""
    try:
        parsed = phonenumbers.parse(phone_number, region)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        raise InvalidFields(FieldViolation("phone_number", "is not a possible phone number"))
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
