"""Messages that were written elsewhere: on the business's phone, or before its account was connected. They are told of, and no more.

Nothing becomes unread, nothing is opened or assigned, no reply window begins, nothing is sent. Who has no conversation gets one that is
resolved. What is known by the provider's id already, from a webhook or by our own send, stays what it is.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg
from switchboard.v1 import actor_pb2, event_pb2

from server.channels.service import ChannelRow
from server.contacts import blocking
from server.contacts.resolve import Person, Resolved, check_names, resolve
from server.conversations import events as conversation_events
from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.convert import conversation as convert_conversation
from server.conversations.events import conversation_event
from server.conversations.row import ConversationRow
from server.journal import items as journal_items
from server.journal.items import ItemRow
from server.kit.clock import utc_now
from server.kit.db import Raced, Write, ensure
from server.kit.ids import new_id
from server.log.append import finish
from server.log.event import SYSTEM, Actor, Cause, Origin
from server.messages import changes, content, convert, inbound, receipts, repository
from server.messages.plan import Plan
from server.messages.row import MessageRow
from server.providers.contract import MessageCopy

CLOCK_AHEAD = timedelta(minutes=1)
# Two payloads that tell of one stranger give one conversation.
MEET = """
SELECT pg_advisory_xact_lock(hashtextextended('copies/' || k.id, 0))
FROM (SELECT id::text AS id FROM unnest($1::uuid[]) AS u (id) ORDER BY id) k
"""
# What stands for a file that was still to come.
PLACEHOLDERS = """
SELECT p.provider_message_id AS id, m.id AS message_id, m.conversation_id
FROM unnest($2::text[]) AS k (provider_message_id)
JOIN message_parts p ON p.channel_id = $1 AND p.provider_message_id = k.provider_message_id JOIN messages m ON m.id = p.message_id
WHERE m.details -> 'unsupported' ->> 'type' = 'media_placeholder' AND NOT m.details ? 'delete_time'
"""
FILL = "UPDATE messages SET type = $2, text = $3, details = $4 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Told:
    """An item of the journal. row: as it is recorded."""

    item: MessageCopy
    row: ItemRow

    @property
    def origin(self) -> Origin:
        """The system, because of the item."""
        return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_JOURNAL_ITEM, id=str(self.row.id)))


async def store(write: Write, told: Sequence[Told], *, channel: ChannelRow, windowed: bool) -> None:
    """Stores what is not known, and records all items; the last thing of its unit of work. windowed: whether the channel has reply
    windows. Raced.
    """
    try:
        await _Copying(write, channel, windowed=windowed).run(told)
    except asyncpg.UniqueViolationError as error:
        raise Raced from error


class _Copying:
    """One unit of work."""

    def __init__(self, write: Write, channel: ChannelRow, *, windowed: bool) -> None:
        self._write = write
        self._connection = write.connection
        self._channel = channel
        self._windowed = windowed
        self._plan = Plan(now=utc_now())
        self._taken: dict[tuple[uuid.UUID, int], int] = {}

    async def run(self, told: Sequence[Told]) -> None:
        keys = [(self._channel.id, each.item.provider_id) for each in told]
        known = {provider_id for _, provider_id in await repository.known_provider_ids(self._connection, keys)}
        new = list(
            {each.item.provider_id: each for each in reversed(told) if each.item.provider_id not in known}.values()
        )
        new.sort(key=lambda each: (each.item.provider_time, each.item.provider_id))
        ids = {id(each) for each in new}
        late = [each for each in told if id(each) not in ids]
        fills = await self._fills(late)
        rows = await self._rows(new, [record["conversation_id"] for record in fills.values()])
        self._taken = await repository.taken(self._connection, self._bases(new, rows))
        for each in new:
            await self._copy(each, rows[each.item.provider_id])
        for each in late:
            record = fills.get(each.item.provider_id)
            if record is not None and not each.item.discriminator:
                await self._fill(each, record, rows[record["conversation_id"]])
            else:
                self._plan.journal_items.append(replace(each.row, state="duplicate"))
        if self._plan.events:
            sql, arguments = self._plan.statement()
            await finish(self._write, await self._connection.fetchrow(sql, *arguments), self._plan.events)
        else:
            await journal_items.insert(self._connection, self._plan.journal_items)

    async def _fills(self, late: Sequence[Told]) -> dict[str, Any]:
        ids = [each.item.provider_id for each in late if not each.item.discriminator]
        found = await self._connection.fetch(PLACEHOLDERS, self._channel.id, ids) if ids else []
        return {record["id"]: record for record in found}

    async def _rows(self, new: Sequence[Told], wanted: Sequence[uuid.UUID]) -> dict[Any, ConversationRow]:
        """Locked conversations by their ids, and by the provider ids of the new messages."""
        people = await self._people(new)
        threads = {(self._channel.id, person.identity_id) for person in people}
        await self._connection.execute(MEET, sorted(identity_id for _, identity_id in threads))
        found = await repository.candidates(self._connection, threads) if threads else []
        locked = await conversations.lock_many(self._connection, sorted({*found, *wanted}))
        await check_names(self._connection, [person for person in people if person.renamed])
        by_identity = {row.identity_id: row for row in locked.values() if row.delete_time is None}
        fresh = {person.identity_id: self._fresh(person) for person in people if person.identity_id not in by_identity}
        await blocking.check_standing(
            self._connection, {(row.identity_id, row.contact_id, row.contact_blocked) for row in fresh.values()}
        )
        made = await conversations.insert(self._connection, [fresh[key] for key in sorted(fresh)])
        by_identity |= {row.identity_id: row for row in made}
        causes = {person.identity_id: each.origin for each, person in zip(new, people, strict=True)}
        self._plan.add_events([conversation_events.created(causes[row.identity_id], row) for row in made])
        by_message = {
            each.item.provider_id: by_identity[person.identity_id] for each, person in zip(new, people, strict=True)
        }
        return {**locked, **by_message}

    async def _people(self, new: Sequence[Told]) -> list[Resolved]:
        if not new:
            return []
        people = [
            Person(
                channel_id=self._channel.id,
                provider=self._channel.provider,
                addresses=each.item.addresses,
                profile_name=each.item.profile_name,
                told_time=each.item.provider_time,
            )
            for each in new
        ]
        resolution = await resolve(self._connection, people, origin=new[0].origin, now=self._plan.now)
        self._plan.add_events(resolution.events)
        return resolution.people

    def _fresh(self, person: Resolved) -> ConversationRow:
        now = self._plan.now
        return ConversationRow(
            id=new_id(),
            channel_id=self._channel.id,
            provider=self._channel.provider,
            contact_id=person.contact_id,
            contact_name=person.name,
            identity_id=person.identity_id,
            status="resolved",
            resolve_time=now,
            reply_window_expire_time=now if self._windowed else None,
            last_message_time=now,
            create_time=now,
            update_time=now,
            contact_blocked=person.blocked,
        )

    def _bases(self, new: Iterable[Told], rows: dict[Any, ConversationRow]) -> list[tuple[uuid.UUID, int]]:
        found = ((rows[each.item.provider_id], rules.sequence_base(self._time(each.item))) for each in new)
        return sorted({(row.id, base) for row, base in found if base <= row.last_sequence})

    def _time(self, item: MessageCopy) -> Any:
        return min(item.provider_time, self._plan.now + CLOCK_AHEAD)

    async def _copy(self, told: Told, row: ConversationRow) -> None:
        item, now = told.item, self._plan.now
        if row.contact_blocked:
            self._plan.journal_items.append(replace(told.row, state="ignored", result="contact blocked"))
            return
        time = self._time(item)
        base = rules.sequence_base(time)
        place = rules.place_inbound(row, order_time=time, taken=self._taken.get((row.id, base)))
        self._taken[(row.id, base)] = place.sequence
        quoted = await self._quoted(item)
        ours = item.direction == "outbound"
        message = MessageRow(
            id=new_id(),
            conversation_id=row.id,
            channel_id=row.channel_id,
            direction=item.direction,
            type=item.type,
            status=convert.SHOWN.get(item.status, item.status) if ours else "delivered",
            sequence=place.sequence,
            arrival=place.arrival,
            text=item.text,
            details=_details(item, quoted),
            author_kind=actor_pb2.ACTOR_KIND_EXTERNAL if ours else actor_pb2.ACTOR_KIND_CONTACT,
            author_id=None if ours else row.contact_id,
            request_id=None,
            request_hash=None,
            create_time=now,
            provider_time=item.provider_time,
            provider_message_id=item.provider_id,
            attachments=inbound.attachments_of(item),
        )
        if item.reply_to_id is not None and quoted is None:
            self._plan.quoting.append(message.id)
        part_id = new_id()
        if ours:
            await ensure(self._write, "SELECT ensure_receipt_month($1)", now.date().replace(day=1))
            waited = await receipts.waited(self._connection, row.channel_id, item.provider_id, origin=told.origin)
            message.status = await receipts.moved(self._connection, message, part_id, waited)
        shown = rules.preview(item.text, item.type)
        fenced = ours and item.origin == "phone_app"
        rules.count_copy(row, place, message_id=message.id, time=time, preview_text=shown, fenced=fenced)
        rules.touch(row, now)
        self._plan.add_message(message, part_id, row)
        self._plan.journal_items.append(replace(told.row, state="applied", result=str(message.id)))
        body = event_pb2.MessageCreated(message=convert.message(message), conversation=convert_conversation(row))
        author = changes.EXTERNAL if ours else Actor(kind=actor_pb2.ACTOR_KIND_CONTACT, id=row.contact_id)
        origin = Origin(actor=author, cause=told.origin.cause)
        self._plan.add_events([conversation_event(origin, row, event_pb2.InboxEvent(message_created=body))])

    async def _quoted(self, item: MessageCopy) -> uuid.UUID | None:
        if item.reply_to_id is None:
            return None
        here = (message.id for message in self._plan.messages if message.provider_message_id == item.reply_to_id)
        key = (self._channel.id, item.reply_to_id)
        found = (await changes.exact(self._connection, [key])).get(key)
        return next(here, None) if found is None else found[0]

    async def _fill(self, told: Told, record: Any, row: ConversationRow) -> None:
        """The file that a placeholder stood for has come."""
        message = await changes.locked(self._connection, record["message_id"])
        held = json.loads(message.details or "{}")
        kept = {name: held[name] for name in (*changes.LATER, "origin") if name in held}
        message.type, message.text = told.item.type, told.item.text
        message.details = json.dumps({**json.loads(_details(told.item, None)), **kept})
        await self._connection.execute(FILL, message.id, message.type, message.text, message.details)
        message.attachments = await inbound.replace_attachments(self._connection, message.id, told.item)
        if row.last_message_id == message.id:
            row.last_message_preview = rules.preview(message.text, message.type)
        rules.touch(row, self._plan.now)
        self._plan.conversations[row.id] = row
        self._plan.journal_items.append(replace(told.row, state="applied", result=str(message.id)))
        body = event_pb2.MessageUpdated(
            message=convert.message(message),
            conversation=convert_conversation(row),
            changed_fields=["type", "text", "attachments"],
        )
        self._plan.add_events([conversation_event(told.origin, row, event_pb2.InboxEvent(message_updated=body))])


def _details(item: MessageCopy, quoted: uuid.UUID | None) -> str:
    details = {**item.details, "origin": item.origin}
    if item.reply_to_id is not None:
        details["reply_to_id"] = item.reply_to_id
    if quoted is not None:
        details[content.REPLY_TO] = str(quoted)
    return json.dumps(details)
