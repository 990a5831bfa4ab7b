"""A conversation that an agent of the provider's hands to the business, or takes: a note, and never a message of the customer's.

What is handed over waits for somebody, so a conversation that was resolved opens, and a customer nobody knows gets one. Of what is
taken, or told of the past, only conversations that are there have a note.
"""

from __future__ import annotations

import uuid

from server.channels.service import ALL, ChannelRow
from server.contacts.resolve import Person, Resolved, resolve
from server.conversations import notes, service
from server.conversations import repository as conversations
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.messages import repository
from server.providers.contract import Handover

# As a note of a person.
TEXT_MOST = 10_000
SAID = {
    "passed": "The provider's agent handed this conversation over{roles}.",
    "taken": "The provider's agent took this conversation{roles}.",
    "told": "What was said to the provider's agent before:",
}
IDENTITY = """
SELECT a.identity_id FROM unnest($2::text[], $3::text[]) AS k (kind, value)
JOIN identity_aliases a ON a.channel_id = $1 AND a.kind = k.kind AND a.value = k.value LIMIT 1
"""


async def apply(
    write: Write, item: Handover, *, channel: ChannelRow, windowed: bool, origin: Origin
) -> list[NewEvent] | None:
    """The events of a handover; None where it changes nothing, since nobody knows the customer, or nobody is to hear of him."""
    events: list[NewEvent] = []
    if item.change == "passed":
        resolution = await resolve(write.connection, [_person(item, channel)], origin=origin, now=utc_now())
        (who,) = resolution.people
        events += resolution.events
        if who.blocked:
            return events
        conversation_id = await _opened(write, who, channel, windowed=windowed, origin=origin, events=events)
    else:
        found = await _known(write.connection, item, channel)
        if found is None:
            return None
        conversation_id = found
    noted = await notes.add(
        write, ALL, conversation_id, origin=origin, note_id=new_id(), text=text_of(item), pinned=False
    )
    return [*events, *noted.events]


def text_of(item: Handover) -> str:
    """The note."""
    roles = " to ".join(role for role in (item.previous, item.current) if role)
    said = SAID[item.change].format(roles=f" ({roles})" if roles else "")
    return (said if item.summary is None else f"{said}\n\n{item.summary}")[:TEXT_MOST]


def _person(item: Handover, channel: ChannelRow) -> Person:
    return Person(
        channel_id=channel.id,
        provider=channel.provider,
        addresses=item.addresses,
        profile_name=None,
        told_time=item.provider_time,
    )


async def _known(connection: Connection, item: Handover, channel: ChannelRow) -> uuid.UUID | None:
    """The conversation of a customer, one that a note can be added to."""
    kinds, values = [each.kind for each in item.addresses], [each.value for each in item.addresses]
    identity_id = await connection.fetchval(IDENTITY, channel.id, kinds, values)
    found = [] if identity_id is None else await repository.candidates(connection, [(channel.id, identity_id)])
    rows = await conversations.lock_many(connection, found)
    return next((key for key, row in rows.items() if row.delete_time is None and row.status != "archived"), None)


async def _opened(
    write: Write, who: Resolved, channel: ChannelRow, *, windowed: bool, origin: Origin, events: list[NewEvent]
) -> uuid.UUID:
    found = await repository.candidates(write.connection, [(channel.id, who.identity_id)])
    rows = await conversations.lock_many(write.connection, found)
    row = next((row for row in rows.values() if row.delete_time is None and row.status != "archived"), None)
    if row is not None and row.status == "resolved":
        moved = await service.update_status(
            write, ALL, row.id, origin=origin, to="open", snooze_until=None, reason="handed over", expected_version=None
        )
        events += moved.events
    if row is not None:
        return row.id
    started, _ = await service.start(
        write,
        origin=origin,
        channel_id=channel.id,
        provider=channel.provider,
        identity_id=who.identity_id,
        contact_id=who.contact_id,
        contact_name=who.name,
        subject=None,
        windowed=windowed,
    )
    events += started.events
    return started.row.id
