"""Contacts: reading, creating and naming them, and finding whom to write to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import phonenumbers
from switchboard.v1 import contact_pb2, event_pb2

from server.attributes import service as attribute_definitions
from server.attributes.values import encoded
from server.contacts.resolve import DETAILS, IDENTITIES, Person, resolve, shown_contacts
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced
from server.kit.errors import AlreadyExists, FieldViolation, InvalidFields, NotFound, Refusal
from server.log.event import NewEvent, Origin, Routing
from server.providers.contract import Address, Provider
from server.rpc.call import Scope

# A contact is visible on a channel of the caller, or through a conversation of the caller or its teams.
VISIBLE = """
($1 OR EXISTS (SELECT 1 FROM identities i WHERE i.contact_id = ct.id AND i.channel_id = ANY($2::uuid[]))
    OR EXISTS (SELECT 1 FROM conversations c WHERE c.contact_id = ct.id AND (c.team_id = ANY($3::uuid[]) OR c.assignee_id = $4)))
"""
# Whoever asks for a merged contact gets the one that it is part of.
GET = f"""
WITH RECURSIVE up AS (
    SELECT $5::uuid AS id UNION ALL
    SELECT c.merged_into_id FROM up JOIN contacts c ON c.id = up.id WHERE c.merged_into_id IS NOT NULL
)
SELECT {DETAILS} FROM up JOIN contacts ct ON ct.id = up.id WHERE ct.merged_into_id IS NULL AND ct.erase_time IS NULL AND {VISIBLE}
"""
IDENTITY = """
SELECT i.id, i.contact_id, c.name FROM identities i JOIN contacts c ON c.id = i.contact_id
WHERE i.id = $1 AND i.channel_id = $2 AND c.erase_time IS NULL
"""
# Nothing when it was merged or erased meanwhile.
LOCK = """
SELECT name, name_source, attributes FROM contacts
WHERE id = $1 AND merged_into_id IS NULL AND erase_time IS NULL FOR NO KEY UPDATE
"""
SAVE = """
UPDATE contacts SET name = $2, name_source = $3, attributes = $4::jsonb, update_time = $5 WHERE id = $1
"""
CHANNEL = "SELECT provider, details ->> 'display_phone_number' AS display_phone_number FROM channels WHERE id = $1"


class ContactExists(AlreadyExists):
    """Somebody has the address. contact_id: who, if the caller may know."""

    def __init__(self, contact_id: uuid.UUID | None) -> None:
        super().__init__("contact", "a contact with this address exists")
        if contact_id is not None:
            self.metadata["contact_id"] = str(contact_id)


class ContactMerged(Refusal):
    """The contact is part of another. contact_id: which."""

    status = "FAILED_PRECONDITION"
    reason = "CONTACT_MERGED"

    def __init__(self, contact_id: uuid.UUID) -> None:
        super().__init__("the contact is merged into another", metadata={"contact_id": str(contact_id)})


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a conversation is started with, and the events of finding out."""

    identity_id: uuid.UUID
    contact_id: uuid.UUID
    name: str
    events: Sequence[NewEvent] = field(default_factory=tuple)


def scope_values(scope: Scope) -> list[Any]:
    """The first four parameters of VISIBLE."""
    return [scope.all, list(scope.channel_ids), list(scope.team_ids), scope.agent_id]


async def get_visible(connection: Connection, scope: Scope, contact_id: uuid.UUID) -> tuple[Any, list[Any]]:
    """A contact the caller may see, or the one that it is part of, and the rows of its identities. NotFound."""
    record = await connection.fetchrow(GET, *scope_values(scope), contact_id)
    if record is None:
        raise NotFound("contact")
    identities: list[Any] = await connection.fetch(IDENTITIES, [record["id"]])
    return record, identities


async def get_standing(connection: Connection, scope: Scope, contact_id: uuid.UUID) -> Any:
    """A contact that the caller may see, and is no part of another. NotFound; ContactMerged."""
    record = await connection.fetchrow(GET, *scope_values(scope), contact_id)
    if record is None:
        raise NotFound("contact")
    if record["id"] != contact_id:
        raise ContactMerged(record["id"])
    return record


async def shown(connection: Connection, contact_id: uuid.UUID) -> contact_pb2.Contact:
    """A contact with identities, for the detail of a conversation that the caller has been shown to see."""
    return (await shown_contacts(connection, {contact_id}))[contact_id]


async def by_identity(connection: Connection, channel_id: uuid.UUID, identity_id: uuid.UUID) -> Recipient:
    """A known identity of the channel. NotFound."""
    record = await connection.fetchrow(IDENTITY, identity_id, channel_id)
    if record is None:
        raise NotFound("identity")
    return Recipient(identity_id=record["id"], contact_id=record["contact_id"], name=record["name"])


def check_kind(provider: Provider, kind: str, *, field: str) -> None:
    """INVALID_FIELDS for a kind of address that the provider sends nothing to."""
    if kind not in provider.capabilities.address_kinds:
        raise InvalidFields(FieldViolation(field, "is no kind of address that this channel sends to"))


async def by_phone_number(
    connection: Connection, channel_id: uuid.UUID, provider: Provider, phone_number: str, *, origin: Origin
) -> Recipient:
    """The identity of a phone number on the channel, made when there is none. INVALID_FIELDS for an impossible number, and for a
    channel that sends to none."""
    check_kind(provider, "wa_id", field="phone_number")
    person = Person(channel_id=channel_id, provider=provider.name, addresses=(Address("wa_id", digits(phone_number)),))
    resolution = await resolve(connection, [person], origin=origin, now=utc_now())
    found = resolution.people[0]
    return Recipient(
        identity_id=found.identity_id, contact_id=found.contact_id, name=found.name, events=resolution.events
    )


async def create(
    connection: Connection,
    scope: Scope,
    channel_id: uuid.UUID,
    *,
    name: str,
    phone_number: str,
    providers: Mapping[str, Provider],
    origin: Origin,
    attributes: Mapping[str, Any] | None = None,
) -> tuple[uuid.UUID, list[NewEvent]]:
    """Creates a contact with a number on a channel. NotFound for the channel, INVALID_FIELDS, ContactExists; Raced."""
    channel = await connection.fetchrow(CHANNEL, channel_id)
    if channel is None or not scope.sees(channel_id=channel_id, team_id=None, assignee_id=None):
        raise NotFound("channel")
    check_kind(providers[channel["provider"]], "wa_id", field="phone_number")
    address = Address("wa_id", digits(phone_number, region=region(channel["display_phone_number"])))
    given = attributes or {}
    await attribute_definitions.check_values(connection, target="contact", values=given, held={})
    person = Person(
        channel_id=channel_id,
        provider=channel["provider"],
        addresses=(address,),
        given_name=name,
        given_attributes=encoded(given),
    )
    resolution = await resolve(connection, [person], origin=origin, now=utc_now())
    found = resolution.people[0]
    if found.new_contact:
        return found.contact_id, resolution.events
    # The identity that resolving has just given the contact here is undone with this refusal, and shows it to nobody.
    seen = replace(scope, channel_ids=scope.channel_ids - {channel_id}) if found.new_identity else scope
    raise ContactExists(await connection.fetchval(GET, *scope_values(seen), found.contact_id))


async def update(
    connection: Connection,
    scope: Scope,
    contact_id: uuid.UUID,
    *,
    origin: Origin,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> list[NewEvent]:
    """Gives a contact a name that no provider replaces, or other attributes; None leaves one alone.

    An event for each of its channels, none if it was so already. NotFound; InvalidFields for attributes that are not as defined.
    """
    await get_standing(connection, scope, contact_id)
    record = await connection.fetchrow(LOCK, contact_id)
    if record is None:
        raise Raced
    held = json.loads(record["attributes"] or "{}")
    if attributes is not None:
        await attribute_definitions.check_values(connection, target="contact", values=attributes, held=held)
    before = (record["name"], record["name_source"], held)
    after = (
        *((name, "agent") if name is not None else before[:2]),
        held if attributes is None else dict(attributes),
    )
    if after == before:
        return []
    await connection.execute(SAVE, contact_id, *after[:2], encoded(after[2]), utc_now())
    return await updated(connection, contact_id, origin=origin)


async def updated(connection: Connection, contact_id: uuid.UUID, *also: uuid.UUID, origin: Origin) -> list[NewEvent]:
    """That a contact changed, told on each of its channels, and on those that it is no longer met on."""
    contact = await shown(connection, contact_id)
    return contact_events(
        event_pb2.InboxEvent(contact_updated=event_pb2.ContactUpdated(contact=contact)), contact, *also, origin=origin
    )


def contact_events(
    body: event_pb2.InboxEvent, contact: contact_pb2.Contact, *also: uuid.UUID, origin: Origin
) -> list[NewEvent]:
    """An event of a contact for each of its channels and the others named, in one order."""
    channels = sorted({*also, *(uuid.UUID(identity.channel_id) for identity in contact.identities)})
    return [
        NewEvent(body=body, actor=origin.actor, cause=origin.cause, before=routing, after=routing)
        for routing in (Routing(channel_id=channel_id) for channel_id in channels)
    ]


def region(number: str | None) -> str | None:
    """The main country of a channel's own number, such as "DE"; None if it says none."""
    try:
        parsed = phonenumbers.parse("+" + (number or "").lstrip("+"), None)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.region_code_for_country_code(parsed.country_code or 0)


def digits(phone_number: str, *, region: str | None = None, field: str = "phone_number") -> str:
    """The number as WhatsApp writes it: E.164 without the plus. INVALID_FIELDS names the field.

    region: where it is dialled, for one without country code.
    """
    try:
        parsed = phonenumbers.parse(phone_number, region)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        raise InvalidFields(FieldViolation(field, "is not a possible phone number"))
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
