"""One run of the batch writer: lock and read, decide in Python by the same rules as the unit of work, one write."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from switchboard.v1 import actor_pb2, event_pb2

from server.channels import service as channels
from server.contacts import blocking
from server.contacts.resolve import Resolved, check_names, resolve
from server.conversations import events as conversation_events
from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations.convert import fields as conversation_fields
from server.conversations.events import conversation_event
from server.conversations.row import WIDTH, ConversationRow, from_columns
from server.conversations.rules import Place, ReplyOutdated
from server.conversations.service import ConversationSuperseded
from server.journal import items as journal_items
from server.kit.clock import utc_now
from server.kit.db import Raced, Write
from server.kit.errors import NotFound, Refusal
from server.kit.ids import new_id
from server.log.append import finish
from server.log.event import Actor, Origin
from server.messages import changes, content, convert, limits, repository
from server.messages.inbound import attachments_of, details_of
from server.messages.items import Duplicate, Item, Receive, Send, Stored, Withheld, quoted
from server.messages.locked import Key, Locked
from server.messages.plan import Plan
from server.messages.recipients import addresses_of
from server.messages.refusals import ChannelNotSending
from server.messages.row import MessageRow
from server.providers.content import Content
from server.providers.contract import Capabilities, Provider
from server.requests.service import RequestIdReused
from server.tenant_settings import service as tenant_settings
from server.timers import service as timers

Result = Stored | Duplicate | Withheld | Refusal
# Another run stored the same thing first: look again, it is a repeat now.
RACES = ("uq_conversations_live", "uq_message_parts_channel_id_provider_message_id", "uq_messages_request")
OF_FILE = "fk_message_attachments_media_id"
CLOCK_AHEAD = timedelta(minutes=1)


class Unit:
    """A run over some items, in their order. Results stand in the same order; a refusal is a result."""

    def __init__(self, write: Write, items: Sequence[Item], providers: Mapping[str, Provider]) -> None:
        self._write = write
        self._connection = write.connection
        self._items = items
        self._providers = providers
        self._plan = Plan(now=utc_now())
        self._people: dict[uuid.UUID, Resolved] = {}

    async def run_at_once(self) -> list[Result] | None:
        """Sends alone, outside a transaction: reads without a lock, decides, and writes if all is still as it was read.

        Two round trips, and the head is locked for the statement alone, not until a COMMIT arrives. None when this is no case
        for it (somebody changed a conversation meanwhile, a request id was used before, an agent holds more or less than
        before): nothing is written, `run` has to.
        """
        read = await self._read_at_once([item for item in self._items if isinstance(item, Send)])
        if read is None:
            return None
        locked, marks = read
        results = [self._decide(item, locked) for item in self._items]
        if any(isinstance(result, ReplyOutdated) for result in results):
            return None
        if not self._plan.events:
            return results
        if conversations.moved_loads(self._plan.conversations.values()):
            return None
        sql, arguments = self._plan.statement(marks=marks)
        try:
            appended = await self._connection.fetchrow(sql, *arguments)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name in RACES:
                return None
            raise
        except asyncpg.ForeignKeyViolationError as error:
            raise self._without_file(error) from error
        if appended is None:
            return None
        await finish(self._write, appended, self._plan.events)
        return results

    async def _read_at_once(self, sends: Sequence[Send]) -> tuple[Locked, dict[uuid.UUID, int]] | None:
        """What decisions need, and the marks of the conversations; None when a request id was used before."""
        keys = [
            (item.conversation_id, item.origin.actor.id, item.request_id, item.last_seen_message_id) for item in sends
        ]
        locked, marks = Locked(rows={}), {}
        locked.arrivals = await repository.arrivals(self._connection, quoted(sends))
        for item, record in zip(sends, await repository.for_sends(self._connection, keys), strict=True):
            if record["earlier_id"] is not None:
                return None
            if record["seen_conversation_id"] is not None and item.last_seen_message_id is not None:
                locked.arrivals[item.last_seen_message_id] = (record["seen_conversation_id"], record["seen_arrival"])
            if record["id"] is None or record["id"] in locked.rows:
                continue
            row = locked.rows[record["id"]] = from_columns(record[:WIDTH])
            marks[row.id] = record["mark"]
            if record["channel_state"] != "active":
                locked.idle_channels[row.channel_id] = record["channel_state"]
            if record["live_id"] is not None:
                locked.live[(row.channel_id, row.identity_id)] = record["live_id"]
        await self._read_recipients(sends, locked)
        return locked, marks

    async def run(self) -> list[Result]:
        """Does everything but the COMMIT. Raced when another transaction won; then the whole run is repeated."""
        locked = await self._lock()
        results = [self._decide(item, locked) for item in self._items]
        for index, item in enumerate(self._items):
            if isinstance(item, Send) and isinstance(results[index], ReplyOutdated):
                results[index] = ReplyOutdated(await self._newest(item.conversation_id))
        try:
            await self._store()
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name in RACES:
                raise Raced from error
            raise
        except asyncpg.ForeignKeyViolationError as error:
            raise self._without_file(error) from error
        return results

    def _without_file(self, error: asyncpg.ForeignKeyViolationError) -> Exception:
        """A file that was there when the message was asked for went with another message's erasure; of several items, one is guilty."""
        return NotFound("media") if len(self._items) == 1 and error.constraint_name == OF_FILE else error

    async def _newest(self, conversation_id: uuid.UUID) -> uuid.UUID | None:
        """The message that arrived last, which need not be the one shown last: whoever has seen it passes the fence."""
        planned = self._plan.newest_of(conversation_id)
        return planned or await repository.newest(self._connection, conversation_id)

    async def _lock(self) -> Locked:
        receives = await self._new_receives()
        await self._resolve(receives)
        keys = {self._key(item) for item in receives}
        sends = [item for item in self._items if isinstance(item, Send)]
        wanted = {item.conversation_id for item in sends} | set(await self._candidates(keys))
        locked = Locked(rows=await conversations.lock_many(self._connection, sorted(wanted)))
        for row in locked.rows.values():
            key = (row.channel_id, row.identity_id)
            if key in keys:
                held = locked.by_key.get(key)
                locked.by_key[key] = row if held is None or _precedes(row, held) else held
        await check_names(self._connection, [found for found in self._people.values() if _renamed(found, locked)])
        locked.stored = await repository.known_provider_ids(
            self._connection, [item.provider_key for item in self._items if isinstance(item, Receive)]
        )
        locked.quoted = await self._read_quoted(receives)
        await self._read_for_sends(sends, locked)
        new = [item for item in receives if item.provider_key not in locked.stored]
        locked.withheld = {self._key(item) for item in new if self._is_withheld(item, locked)}
        await self._start_conversations(new, locked)
        locked.taken = await repository.taken(self._connection, self._older(receives, locked))
        return locked

    async def _new_receives(self) -> list[Receive]:
        """Messages that are not stored yet; duplicates must neither rename a contact nor start a conversation."""
        receives = [item for item in self._items if isinstance(item, Receive)]
        stored = await repository.known_provider_ids(self._connection, [item.provider_key for item in receives])
        return [item for item in receives if item.provider_key not in stored]

    async def _resolve(self, receives: Sequence[Receive]) -> None:
        if not receives:
            return
        people = [item.person for item in receives]
        origin = Origin(actor=Actor(kind=actor_pb2.ACTOR_KIND_SYSTEM), cause=receives[0].origin.cause)
        resolution = await resolve(self._connection, people, origin=origin, now=self._plan.now)
        self._people = {item.message_id: found for item, found in zip(receives, resolution.people, strict=True)}
        self._plan.add_events(resolution.events)

    async def _read_quoted(self, receives: Sequence[Receive]) -> dict[tuple[uuid.UUID, str], uuid.UUID]:
        """What new messages quote, by channel and the provider's id."""
        keys = {(item.channel.id, item.inbound.reply_to_id) for item in receives if item.inbound.reply_to_id}
        found = await changes.exact(self._connection, sorted(keys))
        return {key: target[0] for key, target in found.items()}

    def _key(self, item: Receive) -> Key:
        return item.channel.id, self._people[item.message_id].identity_id

    async def _candidates(self, keys: set[Key]) -> list[uuid.UUID]:
        return await repository.candidates(self._connection, keys) if keys else []

    async def _read_for_sends(self, sends: Sequence[Send], locked: Locked) -> None:
        if not sends:
            return
        requests = [
            (item.origin.actor.id, item.request_id) for item in sends if item.request_id and item.origin.actor.id
        ]
        for message in await repository.repeated(self._connection, [item.message_id for item in sends], requests):
            locked.repeated[message.id] = message
            locked.repeated[(message.author_id, message.request_id)] = message
        seen = [item.last_seen_message_id for item in sends if item.last_seen_message_id is not None]
        locked.arrivals = await repository.arrivals(self._connection, [*seen, *quoted(sends)])
        if seen:
            await self._read_fence(sends, locked)
        locked.idle_channels = await channels.not_sending(self._connection)
        await self._read_recipients(sends, locked)
        resolved = [row for row in locked.rows.values() if row.status == "resolved"]
        if resolved:
            locked.live = await repository.live(
                self._connection, {(row.channel_id, row.identity_id) for row in resolved}
            )

    async def _read_recipients(self, sends: Sequence[Send], locked: Locked) -> None:
        """As what customers are written to whom something is sent that cannot go to all kinds of addresses."""
        rows = ((item, locked.rows.get(item.conversation_id)) for item in sends)
        wanted = {
            row.identity_id: self._providers[row.provider]
            for item, row in rows
            if row is not None and limits.not_to(self._capabilities(row.provider), item.content)
        }
        if wanted:
            found = await addresses_of(self._connection, wanted)
            locked.recipients = {identity_id: address.kind for identity_id, address in found.items()}

    async def _read_fence(self, sends: Sequence[Send], locked: Locked) -> None:
        """The tenant's policy; where it is to warn, also what to warn of."""
        locked.fence = (await tenant_settings.get(self._connection))["reply_fence_policy"]
        if locked.fence == "warn":
            fenced = {item.conversation_id for item in sends if item.last_seen_message_id is not None}
            locked.newest = await repository.newest_of(self._connection, sorted(fenced))

    def _is_withheld(self, item: Receive, locked: Locked) -> bool:
        """Whether its author is blocked: the locked conversation says so, else the contact as it was read."""
        row = locked.by_key.get(self._key(item))
        return self._people[item.message_id].blocked if row is None else row.contact_blocked

    async def _start_conversations(self, receives: Sequence[Receive], locked: Locked) -> None:
        """Starts a conversation for each customer who has none that takes the message."""
        fresh: dict[Key, tuple[ConversationRow, Origin]] = {}
        for item in receives:
            key = self._key(item)
            row = locked.by_key.get(key)
            if key not in fresh and key not in locked.withheld and (row is None or not self._takes(item, row)):
                fresh[key] = (self._fresh(item, previous=row), item.origin)
        await self._check_standing(receives, fresh.keys(), locked)
        if not fresh:
            return
        await self._check_candidates(set(fresh), locked)
        wanted = {row.id: origin for row, origin in fresh.values()}
        # In one order for everybody, so that two batches cannot wait for each other.
        rows = [fresh[key][0] for key in sorted(fresh)]
        for row in await conversations.insert(self._connection, rows):
            locked.rows[row.id] = row
            locked.by_key[(row.channel_id, row.identity_id)] = row
            locked.live[(row.channel_id, row.identity_id)] = row.id
            if row.id in wanted:
                self._plan.add_events([conversation_events.created(wanted[row.id], row)])

    async def _check_standing(self, receives: Sequence[Receive], fresh: Set[Key], locked: Locked) -> None:
        """Nobody who has no conversation, or starts one, is blocked or merged meanwhile, before this transaction ends."""
        people = {
            (found.identity_id, found.contact_id, key in locked.withheld)
            for key, found in ((self._key(item), self._people[item.message_id]) for item in receives)
            if key in fresh or key not in locked.by_key
        }
        if people:
            await blocking.check_standing(self._connection, people)

    async def _check_candidates(self, keys: set[Key], locked: Locked) -> None:
        """A live conversation that started between the choice of candidates and their lock: choose again."""
        if await repository.live(self._connection, keys & set(locked.by_key)):
            raise Raced

    def _takes(self, item: Receive, row: ConversationRow) -> bool:
        channel = item.channel
        return rules.takes_inbound(
            row,
            now=self._plan.now,
            reopen_window=channel.reopen_window,
            new_thread_each_time=channel.new_thread_each_time,
        )

    def _fresh(self, item: Receive, *, previous: ConversationRow | None) -> ConversationRow:
        person, now = self._people[item.message_id], self._plan.now
        windowed = self._capabilities(item.channel.provider).reply_window is not None
        return ConversationRow(
            id=new_id(),
            channel_id=item.channel.id,
            provider=item.channel.provider,
            contact_id=person.contact_id,
            contact_name=person.name,
            identity_id=person.identity_id,
            status="new",
            previous_conversation_id=None if previous is None else previous.id,
            reply_window_expire_time=now if windowed else None,
            last_message_time=now,
            create_time=now,
            update_time=now,
        )

    def _older(self, receives: Sequence[Receive], locked: Locked) -> list[tuple[uuid.UUID, int]]:
        """Milliseconds up to the newest message's, in which another one may stand already."""
        rows: dict[Key, list[ConversationRow]] = {}
        for row in locked.rows.values():
            rows.setdefault((row.channel_id, row.identity_id), []).append(row)
        found = set()
        for item in receives:
            base = rules.sequence_base(self._order_time(item))
            # The newest's own millisecond too: an answer of this run may come before this message.
            found |= {(row.id, base) for row in rows.get(self._key(item), ()) if base <= row.last_sequence}
        return sorted(found)

    def _order_time(self, item: Receive) -> datetime:
        return min(item.inbound.provider_time, self._plan.now + CLOCK_AHEAD)

    def _capabilities(self, provider: str) -> Capabilities:
        return self._providers[provider].capabilities

    def _decide(self, item: Item, locked: Locked) -> Result:
        if isinstance(item, Receive):
            return self._receive(item, locked)
        try:
            return self._send(item, locked)
        except Refusal as refusal:
            return refusal

    def _receive(self, item: Receive, locked: Locked) -> Result:
        if item.provider_key in locked.stored:
            self._plan.add_journal_item(item, "duplicate", None)
            return Duplicate()
        locked.stored.add(item.provider_key)
        if self._key(item) in locked.withheld:
            self._plan.add_journal_item(item, "ignored", "contact blocked")
            return Withheld()
        row, now, inbound = self._home(item, locked), self._plan.now, item.inbound
        order_time = self._order_time(item)
        base = rules.sequence_base(order_time)
        place = rules.place_inbound(row, order_time=order_time, taken=locked.taken.get((row.id, base)))
        locked.taken[(row.id, base)] = place.sequence
        move = rules.inbound(row, now=now)
        locked.live[(row.channel_id, row.identity_id)] = row.id
        if move is not None and move.before == "snoozed":
            self._plan.woken.append(row.id)
        rules.count_message(
            row,
            place,
            message_id=item.message_id,
            time=order_time,
            preview_text=rules.preview(inbound.text, inbound.type),
            outbound_by=None,
        )
        if place.sequence > row.last_inbound_sequence:
            row.last_inbound_provider_id, row.last_inbound_sequence = inbound.provider_id, place.sequence
        if "referral" in inbound.details:
            row.referral_time = max(order_time, row.referral_time or order_time)
        person = self._people[item.message_id]
        if person.contact_id == row.contact_id:
            row.contact_name = person.name
        if inbound.opens_reply_window:
            capabilities = self._capabilities(item.channel.provider)
            extended = rules.extend_window(
                row,
                provider_time=order_time,
                window=capabilities.reply_window,
                margin=capabilities.reply_window_margin,
            )
            if extended:
                self._plan.windows.add(row.id)
        rules.touch(row, now)
        message = self._inbound_message(item, row, place, locked)
        self._plan.add_message(message, item.part_id, row)
        self._plan.add_journal_item(item, "applied", str(message.id))
        body: Any = {"message": convert.fields(message), "conversation": conversation_fields(row)}
        origin = Origin(actor=Actor(kind=actor_pb2.ACTOR_KIND_CONTACT, id=row.contact_id), cause=item.origin.cause)
        self._plan.add_events([conversation_event(origin, row, event_pb2.InboxEvent(message_received=body))])
        if move is not None:
            self._plan.add_events([conversation_events.status_changed(origin, row, move)])
        return Stored(message)

    def _home(self, item: Receive, locked: Locked) -> ConversationRow:
        """The conversation that takes the message: one that a reply of this run brought back to life comes first."""
        key = self._key(item)
        live = locked.live.get(key)
        return locked.by_key[key] if live is None or live not in locked.rows else locked.rows[live]

    def _quoted(self, item: Receive, locked: Locked) -> uuid.UUID | None:
        """The message that it quotes; one that is not known by that id is looked for later."""
        if item.inbound.reply_to_id is None:
            return None
        found = locked.quoted.get((item.channel.id, item.inbound.reply_to_id))
        if found is None:
            self._plan.quoting.append(item.message_id)
        return found

    def _inbound_message(self, item: Receive, row: ConversationRow, place: Place, locked: Locked) -> MessageRow:
        inbound = item.inbound
        return MessageRow(
            id=item.message_id,
            conversation_id=row.id,
            channel_id=row.channel_id,
            direction="inbound",
            type=inbound.type,
            status="delivered",
            sequence=place.sequence,
            arrival=place.arrival,
            text=inbound.text,
            details=details_of(inbound, quoted=self._quoted(item, locked)),
            author_kind=actor_pb2.ACTOR_KIND_CONTACT,
            author_id=row.contact_id,
            request_id=None,
            request_hash=None,
            create_time=self._plan.now,
            provider_time=inbound.provider_time,
            provider_message_id=inbound.provider_id,
            attachments=attachments_of(inbound),
        )

    def _send(self, item: Send, locked: Locked) -> Result:
        earlier = locked.repeated.get(item.message_id) or (
            locked.repeated.get((item.origin.actor.id, item.request_id)) if item.request_id else None
        )
        if earlier is not None:
            if earlier.request_hash != item.request_hash:
                raise RequestIdReused
            return Stored(earlier, duplicate=True)
        row, asked = self._sendable(item, locked)
        unseen = self._unseen(item, row, locked)
        now, author_id = self._plan.now, item.origin.actor.id
        move = self._reply(row, locked) if item.is_reply else None
        rules.answer_referral(row, now=now, free_entry=self._capabilities(row.provider).free_entry)
        place = rules.place_outbound(row, now=now)
        rules.count_message(
            row,
            place,
            message_id=item.message_id,
            time=now,
            preview_text=rules.preview(item.text, item.type),
            outbound_by=author_id,
        )
        if item.is_reply:
            self._mark_read(item, row)
        rules.touch(row, now)
        message = self._outbound_message(item, asked, row, place)
        self._plan.add_send(item, message, row)
        locked.repeated[(author_id, item.request_id)] = message
        # Any: the stubs know of no messages made of fields.
        body: Any = {"message": convert.fields(message), "conversation": conversation_fields(row)}
        event = event_pb2.InboxEvent(message_created=body)
        self._plan.add_events([conversation_event(item.origin, row, event)])
        if move is not None:
            self._plan.add_events([conversation_events.status_changed(item.origin, row, move)])
        return Stored(message, shown=event.message_created.message, unseen_message_id=unseen)

    def _sendable(self, item: Send, locked: Locked) -> tuple[ConversationRow, Content | None]:
        """The conversation, if this may be sent into it now, and in what form; nothing is changed by a refusal."""
        row = locked.rows.get(item.conversation_id)
        visible = row is not None and item.scope.sees(
            channel_id=row.channel_id, team_id=row.team_id, assignee_id=row.assignee_id
        )
        if row is None or not visible or row.delete_time is not None:
            raise NotFound("conversation")
        rules.check_writable(row)
        rules.check_not_blocked(row)
        live = locked.live.get((row.channel_id, row.identity_id))
        if item.is_reply and row.status == "resolved" and live is not None and live != row.id:
            raise ConversationSuperseded(live)
        if row.channel_id in locked.idle_channels:
            raise ChannelNotSending(locked.idle_channels[row.channel_id])
        if item.reply_to_message_id is not None and locked.conversation_of(item.reply_to_message_id) != row.id:
            raise NotFound("message")
        can = self._capabilities(row.provider)
        fitted = limits.fitted(can, item.text, item.content)
        limits.check_recipient(can, item.content, locked.recipients.get(row.identity_id))
        if fitted is None or not can.contents[fitted.kind].outside_window:
            rules.check_window(row, now=self._plan.now)
        return row, content.tokened(fitted, item.message_id)

    def _unseen(self, item: Send, row: ConversationRow, locked: Locked) -> uuid.UUID | None:
        """The fence: what arrived last although the sender has not seen it, if the tenant wants a warning. ReplyOutdated."""
        if item.last_seen_message_id is None:
            return None
        of, arrival = locked.arrivals.get(item.last_seen_message_id, (None, 0))
        if of != row.id:
            raise NotFound("message")
        author_id = item.origin.actor.id
        if locked.fence == "refuse":
            rules.check_fence(row, seen_arrival=arrival, author_id=author_id)
        if locked.fence != "warn" or not rules.outdated(row, seen_arrival=arrival, author_id=author_id):
            return None
        return self._plan.newest_of(row.id) or locked.newest.get(row.id)

    def _reply(self, row: ConversationRow, locked: Locked) -> rules.Move | None:
        move = rules.reply(row, now=self._plan.now)
        locked.live[(row.channel_id, row.identity_id)] = row.id
        return move

    def _mark_read(self, item: Send, row: ConversationRow) -> None:
        """A reply marks read for its author, and what nobody had read before is told to the provider."""
        newest = row.last_inbound_provider_id
        if row.team_read_count < row.inbound_count and newest and "read" in self._capabilities(row.provider).marks:
            self._plan.read_marks[row.id] = (row.channel_id, newest)
        row.team_read_count = row.inbound_count
        author = item.origin.actor
        if author.kind == actor_pb2.ACTOR_KIND_AGENT and author.id is not None:
            self._plan.reads[(row.id, author.id)] = (row.message_count, row.inbound_count)

    def _outbound_message(self, item: Send, asked: Content | None, row: ConversationRow, place: Place) -> MessageRow:
        return MessageRow(
            id=item.message_id,
            conversation_id=row.id,
            channel_id=row.channel_id,
            direction="outbound",
            type=item.type,
            status="pending",
            sequence=place.sequence,
            arrival=place.arrival,
            text=item.text,
            details=content.stored(asked, item.reply_to_message_id),
            author_kind=item.origin.actor.kind,
            author_id=item.origin.actor.id,
            request_id=item.request_id,
            request_hash=item.request_hash,
            create_time=self._plan.now,
            provider_time=None,
            attachments=item.files,
        )

    async def _store(self) -> None:
        """Writes and appends in one statement. A run without events leaves the head alone."""
        if self._plan.woken:
            await timers.cancel(self._connection, kind="snooze", keys=sorted(self._plan.woken))
        await conversations.count_held(self._connection, list(self._plan.conversations.values()))
        if self._plan.events:
            sql, arguments = self._plan.statement()
            await finish(self._write, await self._connection.fetchrow(sql, *arguments), self._plan.events)
        elif self._plan.journal_items:
            await journal_items.insert(self._connection, self._plan.journal_items)


def _renamed(found: Resolved, locked: Locked) -> bool:
    """Whether somebody's name may be another one than it was when it was read: who has a new one, whose conversation has another, and
    those that agents named, whose conversations do not tell.
    """
    row = locked.by_key.get((found.channel_id, found.identity_id))
    other = row is not None and (row.contact_id, row.contact_name) != (found.contact_id, found.name)
    return found.renamed or other or found.name_source == "agent"


def _precedes(row: ConversationRow, other: ConversationRow) -> bool:
    """Whether a row is the better home for a message: live before not, newer before older."""
    return (row.live, row.create_time, row.id) > (other.live, other.create_time, other.id)
