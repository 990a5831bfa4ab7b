"""What can be done to a conversation. Every function works inside the caller's unit of work and commits nothing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from switchboard.v1 import event_pb2

from server.attributes import service as attribute_definitions
from server.attributes.values import encoded
from server.conversations import convert, events, repository, rules
from server.conversations.row import ConversationRow
from server.conversations.timers import SNOOZE
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import FieldViolation, InvalidFields, NotFound, Refusal
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin
from server.rpc.call import Scope
from server.tenant_settings import service as tenant_settings
from server.tenant_settings.service import PURGE
from server.timers import service as timers

ERASED = "SELECT erase_time IS NOT NULL FROM contacts WHERE id = $1"


class ConversationSuperseded(Refusal):
    """Another conversation of the same identity is live."""

    status = "FAILED_PRECONDITION"
    reason = "CONVERSATION_SUPERSEDED"

    def __init__(self, live_id: uuid.UUID) -> None:
        text = "another conversation with this customer is live; continue there"
        super().__init__(text, metadata={"conversation_id": str(live_id)})


@dataclass(frozen=True, slots=True)
class Changed:
    """A conversation after a change, and the events to append; no events when nothing changed."""

    row: ConversationRow
    events: Sequence[NewEvent] = field(default_factory=tuple)


async def check_not_superseded(connection: Connection, row: ConversationRow) -> None:
    """Refuses to make a conversation live while another one of the identity is. ConversationSuperseded."""
    live = await repository.live_id(connection, channel_id=row.channel_id, identity_id=row.identity_id)
    if live is not None and live != row.id:
        raise ConversationSuperseded(live)


async def update_status(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    to: str,
    snooze_until: datetime | None,
    reason: str | None,
    expected_version: int | None,
) -> Changed:
    """Moves a conversation. IllegalStatusMove, ConversationSuperseded, VersionMismatch, NotFound, InvalidFields."""
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_version(row, expected_version)
    was_live, now = row.live, utc_now()
    # Not a rule of the contract: a repeat of what was done comes when it may be past.
    if snooze_until is not None and snooze_until <= now:
        raise InvalidFields(FieldViolation("snooze_until_time", "must be greater than now"))
    move = rules.set_status(row, to, now=now, snooze_until=snooze_until)
    if move is None:
        return Changed(row)
    if row.live and not was_live:
        await check_not_superseded(write.connection, row)
    rules.touch(row, now)
    await repository.save(write.connection, row)
    await follow_snooze(write.connection, row)
    return Changed(row, [events.status_changed(origin, row, move, reason=reason)])


async def follow_snooze(connection: Connection, row: ConversationRow) -> None:
    """Sets the snooze timer to what the row says, or cancels it."""
    if row.status == "snoozed" and row.snooze_until is not None:
        await timers.set_timer(
            connection, kind=SNOOZE, key=row.id, due_time=row.snooze_until, generation=row.snooze_generation
        )
    else:
        await timers.cancel(connection, kind=SNOOZE, keys=[row.id])


async def update(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    priority: int | None,
    subject: str | None,
    attributes: dict[str, Any] | None,
    expected_version: int | None,
) -> Changed:
    """Changes priority, subject or attributes; None leaves one alone, an empty subject clears it.

    NotFound, VersionMismatch, ConversationArchived; InvalidFields for attributes that are not what the tenant defined.
    """
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_version(row, expected_version)
    rules.check_writable(row)
    if attributes is not None:
        await attribute_definitions.check_values(
            write.connection, target="conversation", values=attributes, held=row.attributes_object or {}
        )
    changed = _apply(row, priority=priority, subject=subject, attributes=attributes)
    if not changed:
        return Changed(row)
    rules.touch(row, utc_now())
    await repository.save(write.connection, row)
    if "attributes" in changed:
        await repository.save_attributes(write.connection, row)
    return Changed(row, [events.updated(origin, row, *changed)])


def _apply(
    row: ConversationRow, *, priority: int | None, subject: str | None, attributes: dict[str, Any] | None
) -> list[str]:
    changed = []
    if priority is not None and priority != row.priority:
        row.priority = priority
        changed.append("priority")
    if subject is not None and (subject or None) != row.subject:
        row.subject = subject or None
        changed.append("subject")
    if attributes is not None and attributes != (row.attributes_object or {}):
        row.attributes = encoded(attributes)
        changed.append("attributes")
    return changed


async def delete(write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin) -> Changed:
    """Hides a conversation and ends its snooze; it goes for good when the retention is over. Deleting twice changes nothing."""
    row = await repository.lock_visible(write.connection, scope, conversation_id, deleted=True)
    if row.delete_time is not None:
        return Changed(row)
    now = utc_now()
    if row.status == "snoozed":
        rules.set_status(row, "open", now=now)
        await timers.cancel(write.connection, kind=SNOOZE, keys=[row.id])
    row.delete_time = now
    rules.touch(row, now)
    await repository.save(write.connection, row)
    retention = (await tenant_settings.get(write.connection))["conversation_retention"]
    await timers.set_timer(write.connection, kind=PURGE, key=row.id, due_time=now + retention)
    body = event_pb2.ConversationDeleted(conversation=convert.conversation(row))
    return Changed(row, [events.conversation_event(origin, row, event_pb2.InboxEvent(conversation_deleted=body))])


async def restore(write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin) -> Changed:
    """Brings a conversation back. ConversationSuperseded when it was live and another one is now; NotFound while it is erased."""
    row = await repository.lock_visible(write.connection, scope, conversation_id, deleted=True)
    if row.delete_time is None:
        return Changed(row)
    if await write.connection.fetchval(ERASED, row.contact_id):
        raise NotFound("conversation")
    row.delete_time = None
    if row.live:
        await check_not_superseded(write.connection, row)
    rules.touch(row, utc_now())
    await repository.save(write.connection, row)
    await timers.cancel(write.connection, kind=PURGE, keys=[row.id])
    body = event_pb2.ConversationRestored(conversation=convert.conversation(row))
    return Changed(row, [events.conversation_event(origin, row, event_pb2.InboxEvent(conversation_restored=body))])


async def start(
    write: Write,
    *,
    origin: Origin,
    channel_id: uuid.UUID,
    provider: str,
    identity_id: uuid.UUID,
    contact_id: uuid.UUID,
    contact_name: str,
    subject: str | None,
    windowed: bool,
) -> tuple[Changed, bool]:
    """Starts a conversation as an agent, or returns the live one that there is. Second value: whether it is new.

    windowed: the channel has a reply window; it is closed until the customer writes.
    """
    now = utc_now()
    fresh = ConversationRow(
        id=new_id(),
        channel_id=channel_id,
        provider=provider,
        contact_id=contact_id,
        contact_name=contact_name,
        identity_id=identity_id,
        status="open",
        subject=subject or None,
        reply_window_expire_time=now if windowed else None,
        last_message_time=now,
        create_time=now,
        update_time=now,
    )
    (row,) = await repository.insert(write.connection, [fresh])
    if row.id != fresh.id:
        return Changed(row), False
    return Changed(row, [events.created(origin, row)]), True
