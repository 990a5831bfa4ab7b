"""Applies a journaled payload: every item once, each on its own, so that one that fails does not hold up its siblings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import asyncpg
import structlog
from prometheus_client import Counter, Histogram
from switchboard.v1 import actor_pb2

from server.channels import health
from server.channels import service as channels
from server.channels.pace import Paces
from server.channels.service import ChannelRow
from server.contacts import consents, moving
from server.erasures import keys as erased_keys
from server.erasures import webhooks
from server.journal import items as journal_items
from server.journal import service as journal
from server.journal.items import ItemRow
from server.journal.service import Payload
from server.kit import tracing
from server.kit.clock import utc_now
from server.kit.db import Connection, Database, Write
from server.kit.errors import DatabaseUnavailable, Refusal
from server.kit.ids import new_id
from server.log.append import append
from server.log.event import SYSTEM, Cause, Origin
from server.messages import changes, copies, handovers, receipts
from server.messages.batch import BatchWriter, BatchWriters
from server.messages.items import Duplicate, Receive, Stored, Withheld
from server.messages.receipts import Update
from server.providers.contract import (
    Broken,
    ConsentChange,
    Handover,
    IdentityChange,
    Ignored,
    InboundMessage,
    Item,
    MessageChange,
    MessageCopy,
    Provider,
    Receipt,
)
from server.providers.health import AccountChange
from server.providers.template import TemplateChange
from server.templates import service as templates
from server.tenancy.tenants import Tenant, Tenants
from server.traces import service as traces

log = structlog.get_logger(__name__)
Change = MessageChange | IdentityChange | ConsentChange | Handover
CHUNK = 100
# A number is routed to its tenant before its channel is stored there; what comes in between waits for the channel.
CONNECTING, CONNECTING_AGAIN = timedelta(seconds=30), timedelta(seconds=1)
LEFT_AT_ONCE = 20
PAYLOADS = Counter("switchboard_journal_payloads_total", "Attempts to apply a payload, by how they ended.", ["outcome"])
LAG = Histogram(
    "switchboard_journal_lag_seconds",
    "From a webhook's arrival to the end of applying its payload; replays count from that arrival too.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 3600),
)
ITEMS = Counter("switchboard_journal_items_total", "Items of payloads by what became of them.", ["kind", "state"])
BECAME: Mapping[type, str] = {Stored: "applied", Duplicate: "duplicate", Withheld: "ignored"}
T = TypeVar("T")
BY_ACCOUNT = "SELECT account_id, id FROM channels WHERE provider = $1 AND account_id = ANY($2::text[]) AND state <> 'disconnected'"
NEW_ITEMS = journal_items.INSERT + " RETURNING id"
NAMELESS = """
SELECT id FROM message_parts WHERE channel_id = $1 AND id = ANY($2::uuid[]) AND provider_message_id IS NULL ORDER BY id
"""
NOT_KNOWN = "UPDATE journal_items SET state = 'ignored', result = 'nobody known' WHERE id = $1"


class Applier:
    """Applies payloads, in the process that stored them or in a worker: twice does no more than once."""

    def __init__(self, *, tenants: Tenants, writers: BatchWriters, providers: Mapping[str, Provider]) -> None:
        self._tenants = tenants
        self._writers = writers
        self._providers = providers
        self._running: set[asyncio.Task[None]] = set()
        self._paces = Paces()

    def soon(self, tenant_id: uuid.UUID, payload_id: uuid.UUID, receive_time: datetime) -> None:
        """Applies a payload in the background; if this process dies first, a worker takes over."""
        task = asyncio.create_task(self._apply_quietly(tenant_id, payload_id, receive_time))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Waits for what runs in the background."""
        while self._running:
            await asyncio.wait(self._running)

    async def _apply_quietly(self, tenant_id: uuid.UUID, payload_id: uuid.UUID, receive_time: datetime) -> None:
        try:
            tenant = await self._tenants.get(tenant_id, disabled_too=True)
            if tenant.state == "active":
                await self._attempt(tenant, payload_id, receive_time)
        except (Refusal, asyncpg.PostgresError) as error:
            log.warning("intake.left_for_a_worker", tenant=str(tenant_id), error=type(error).__name__)

    async def apply_left(self, tenant: Tenant) -> None:
        """Applies a few payloads that whoever stored them did not. Taken one by one: none uses up the attempts of another."""
        for _ in range(LEFT_AT_ONCE):
            async with tenant.database.background.connection() as connection:
                taken = await journal.take(connection)
            if taken is None:
                return
            await self._attempt(tenant, *taken)

    async def _attempt(self, tenant: Tenant, payload_id: uuid.UUID, receive_time: datetime) -> None:
        """One attempt, counted where it was taken; what went wrong is noted on the payload."""
        result = await outcome(self.apply(tenant, payload_id, receive_time), journal=str(payload_id))
        if isinstance(result, Exception):
            PAYLOADS.labels("failed").inc()
            async with tenant.database.background.connection() as connection:
                await journal.mark_not_applied(connection, payload_id, receive_time, error=type(result).__name__)

    async def apply(self, tenant: Tenant, payload_id: uuid.UUID, receive_time: datetime) -> None:
        """Goes on in the trace of the webhook, whoever stored it."""
        parent = (await traces.find(tenant.database.background, [payload_id])).get(payload_id)
        with tracing.span("journal.apply", parent=parent, journal=str(payload_id)):
            await self._apply(tenant, payload_id, receive_time)

    async def _apply(self, tenant: Tenant, payload_id: uuid.UUID, receive_time: datetime) -> None:
        """Applies one payload and marks it, unless it is for a channel that is still being connected: then a worker tries again."""
        async with tenant.database.background.connection() as connection:
            payload = await journal.load(connection, payload_id, receive_time)
            if payload is None:
                return
            provider = self._providers[payload.provider]
            items = await self._not_erased(connection, payload, read_items(provider, payload))
            owners = await channels_of(connection, payload.provider, items)
        early = {item.account_id for item in items if item.account_id is not None} - owners.keys()
        if utc_now() - payload.receive_time < CONNECTING:
            items = [item for item in items if item.account_id not in early]
        else:
            early = set()
        await self.run_of(tenant, payload, owners).all(items)
        async with tenant.database.background.connection() as connection:
            if early:
                await journal.wait(connection, payload, for_=CONNECTING_AGAIN)
            else:
                await journal.mark_applied(connection, payload, parser_version=provider.parser_version)
                PAYLOADS.labels("applied").inc()
                LAG.observe((utc_now() - payload.receive_time).total_seconds())

    async def _not_erased(self, connection: Connection, payload: Payload, items: list[Item]) -> list[Item]:
        """Items that were not erased before they came, or came again; the payload loses the others."""
        known = {key: item for item in items for key in erased_keys.keys_of(payload.provider, item)}
        found = await erased_keys.find(connection, known)
        if not found:
            return items
        gone = [known[key] for key in found]
        left = [item for item in items if item not in gone]
        await webhooks.take_out(connection, self._providers[payload.provider], payload, gone=gone, left=left)
        ITEMS.labels("any", "erased").inc(len(gone))
        return left

    def run_of(self, tenant: Tenant, payload: Payload, owners: Mapping[str, ChannelRow]) -> Run:
        """What applies items of a payload. owners: the channels of its accounts."""
        provider = self._providers[payload.provider]
        writer = self._writers.of(tenant.id, tenant.database)
        return Run(payload, provider, owners, tenant.database.background, writer, paces=self._paces)


async def outcome(work: Awaitable[T], **names: str) -> T | Exception:
    """What work returned or raised. A database that is away is nobody's fault and goes on to the caller.

    The third place where everything may be caught: what fails is marked, and its siblings go on.
    """
    try:
        return await work
    except DatabaseUnavailable:
        raise
    except Exception as error:
        log.exception("intake.failed", **names)
        return error


def read_items(provider: Provider, payload: Payload) -> list[Item]:
    """The items of a payload as the provider's present parser reads them; none in what is no envelope of it."""
    return [item for change in provider.changes(payload.body) for item in provider.parse(change)]


async def channels_of(connection: Connection, provider: str, items: Iterable[Item]) -> dict[str, ChannelRow]:
    """The tenant's channels of a provider by account id."""
    accounts = sorted({item.account_id for item in items if item.account_id is not None})
    ids = {record["id"]: record["account_id"] for record in await connection.fetch(BY_ACCOUNT, provider, accounts)}
    return {ids[row.id]: row for row in (await channels.by_ids(connection, list(ids))).values()}


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


class Run:
    """One payload being applied."""

    def __init__(
        self,
        payload: Payload,
        provider: Provider,
        owners: Mapping[str, ChannelRow],
        database: Database,
        writer: BatchWriter,
        *,
        paces: Paces,
    ) -> None:
        self._payload = payload
        self._parser_version = provider.parser_version
        self._windowed = provider.capabilities.reply_window is not None
        self._shared = provider.capabilities.shared_account
        self._paces = None if provider.takes_calls else paces
        self._owners = owners
        self._database = database
        self._writer = writer

    async def all(self, items: Sequence[Item]) -> None:
        """Items in the order of their kinds, each recorded with what became of it."""
        await self._messages([item for item in items if isinstance(item, InboundMessage)])
        await self._copies([item for item in items if isinstance(item, MessageCopy)])
        await self._changes([item for item in items if isinstance(item, Change)])
        await self._receipts([item for item in items if isinstance(item, Receipt)])
        await self._templates([item for item in items if isinstance(item, TemplateChange)])
        await self._accounts([item for item in items if isinstance(item, AccountChange)])
        await self._record([item for item in items if isinstance(item, Broken)], "failed")
        await self._record([item for item in items if isinstance(item, Ignored)], "ignored")

    async def _messages(self, found: Sequence[InboundMessage]) -> None:
        """Messages of customers, in their order, through the batch writer."""
        await self._record(
            [item for item in found if item.account_id not in self._owners], "ignored", "no such channel"
        )
        for chunk in _chunks([item for item in found if item.account_id in self._owners]):
            waiting = [(item, self._writer.enqueue(self._receive(item))) for item in chunk]
            # All of them first: one that has to be left for a worker must not leave the others unheard.
            await asyncio.gather(*(future for _, future in waiting), return_exceptions=True)
            for item, future in waiting:
                result = await outcome(future, kind=item.kind, journal=str(self._payload.id))
                if isinstance(result, Exception):
                    await self._record([item], "failed", type(result).__name__)
                else:
                    ITEMS.labels(item.kind, BECAME[type(result)]).inc()
                if isinstance(result, Stored):
                    await self._hear(item)

    async def _hear(self, item: InboundMessage) -> None:
        """Notes for the channel's health that a message came."""
        if self._paces is None:
            return
        channel, received = self._owners[item.account_id], self._payload.receive_time
        heard = self._paces.note(channel.id, provider=channel.provider, sent=item.provider_time, received=received)
        if heard is None:
            return
        origin = Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_JOURNAL_ITEM, id=str(self._payload.id)))

        async def unit(write: Write) -> None:
            await append(write, await health.heard(write, channel.id, heard, origin=origin))

        await outcome(self._database.write(unit), journal=str(self._payload.id))

    def _receive(self, item: InboundMessage) -> Receive:
        item_id = new_id()
        return Receive(
            channel=self._owners[item.account_id],
            inbound=item,
            origin=origin_of_item(item_id),
            journal_id=self._payload.id,
            journal_item_id=item_id,
            parser_version=self._parser_version,
        )

    async def _copies(self, found: Sequence[MessageCopy]) -> None:
        """Messages that were written elsewhere, in units of work of a hundred; one that fails is found by taking them one by one."""
        await self._record(
            [item for item in found if item.account_id not in self._owners], "ignored", "no such channel"
        )
        by_account: dict[str, list[MessageCopy]] = {}
        for item in found:
            if item.account_id in self._owners:
                by_account.setdefault(item.account_id, []).append(item)
        for account_id, items in by_account.items():
            past = await self._past(self._owners[account_id], items)
            for chunk in _chunks(past):
                result = await outcome(self._apply_copies(chunk), journal=str(self._payload.id))
                if not isinstance(result, Exception):
                    ITEMS.labels("message_copy", "applied").inc(len(chunk))
                    continue
                for item in chunk:
                    await self._one(item, self._apply_copies([item]))

    async def _past(self, channel: ChannelRow, items: Sequence[MessageCopy]) -> list[MessageCopy]:
        """What is past. What the customer wrote since the number was connected is news, however it is told."""
        async with self._database.connection() as connection:
            since = await connection.fetchval("SELECT create_time FROM channels WHERE id = $1", channel.id)
        news = [item for item in items if item.direction == "inbound" and item.provider_time > since]
        await self._messages([_news(item) for item in news])
        await self._record(news, "duplicate", "news")
        return [item for item in items if item not in news]

    async def _apply_copies(self, chunk: Sequence[MessageCopy]) -> None:
        channel = self._owners[chunk[0].account_id]
        await self._learn_own(channel, chunk)

        async def unit(write: Write) -> None:
            told = [copies.Told(item, self._row(item, "applied", None)) for item in chunk]
            await copies.store(write, told, channel=channel, windowed=self._windowed)

        await self._database.write(unit)

    async def _learn_own(self, channel: ChannelRow, chunk: Sequence[MessageCopy]) -> None:
        """What has our own id beside it was sent from here: the provider's id of it is known from now on, and it is no copy."""
        named = {part_id: item for item in chunk if (part_id := _part_id(item.opaque)) and item.direction == "outbound"}
        if not named:
            return

        async def unit(write: Write) -> None:
            nameless = await write.connection.fetch(NAMELESS, channel.id, list(named))
            updates = [
                Update(
                    channel_id=channel.id,
                    provider_message_id=named[record["id"]].provider_id,
                    part_id=record["id"],
                    status=named[record["id"]].status,
                    source="receipt",
                    origin=origin_of_item(self._payload.id),
                    provider_time=named[record["id"]].provider_time,
                )
                for record in nameless
            ]
            await append(write, (await receipts.apply(write, updates)).events if updates else [])

        await self._database.write(unit)

    async def _changes(self, found: Sequence[Change]) -> None:
        """What customers did to messages, who they are now, and what they want, each in a unit of work of its own, after the messages."""
        await self._record(
            [item for item in found if item.account_id not in self._owners], "ignored", "no such channel"
        )
        for item in found:
            if item.account_id in self._owners:
                await self._one(item, self._apply_change(item))

    async def _one(self, item: Item, work: Awaitable[None]) -> None:
        """Does what an item asks; what fails is recorded so."""
        result = await outcome(work, kind=item.kind, journal=str(self._payload.id))
        if isinstance(result, Exception):
            await self._record([item], "failed", type(result).__name__)
        else:
            ITEMS.labels(item.kind, "applied").inc()

    async def _apply_change(self, item: Change) -> None:
        row, channel = self._row(item, "applied", None), self._owners[item.account_id]

        async def unit(write: Write) -> None:
            if await write.connection.fetchrow(NEW_ITEMS, *journal_items.columns([row])) is None:
                return
            origin = origin_of_item(row.id)
            if isinstance(item, IdentityChange):
                events = await moving.apply(write, item, item_id=row.id, channel_id=channel.id, origin=origin)
            elif isinstance(item, Handover):
                told = await handovers.apply(write, item, channel=channel, windowed=self._windowed, origin=origin)
                if told is None:
                    await write.connection.execute(NOT_KNOWN, row.id)
                events = told or []
            elif isinstance(item, ConsentChange):
                events = await consents.apply(write.connection, item, channel_id=channel.id, origin=origin)
            else:
                events = await changes.apply(
                    write, item, item_id=row.id, provider=channel.provider, channel_id=channel.id, origin=origin
                )
            await append(write, events)

        await self._database.write(unit)

    async def _receipts(self, found: Sequence[Receipt]) -> None:
        """Receipts, in units of work of a hundred; one that fails is found by taking them one by one."""
        await self._record(
            [item for item in found if item.account_id not in self._owners], "ignored", "no such channel"
        )
        known = [item for item in found if item.account_id in self._owners]
        for chunk in _chunks(known):
            if isinstance(await outcome(self._apply_receipts(chunk), journal=str(self._payload.id)), Exception):
                for item in chunk:
                    await self._apply_receipt(item)

    async def _apply_receipt(self, item: Receipt) -> None:
        result = await outcome(self._apply_receipts([item]), kind=item.kind, journal=str(self._payload.id))
        if isinstance(result, Exception):
            await self._record([item], "failed", type(result).__name__)

    async def _apply_receipts(self, chunk: Sequence[Receipt]) -> None:
        recorded = [(item, self._row(item, "applied", None)) for item in chunk]
        rows = {row.id: (item, row) for item, row in recorded}

        async def unit(write: Write) -> None:
            columns = journal_items.columns([row for _, row in rows.values()])
            new = {record["id"] for record in await write.connection.fetch(NEW_ITEMS, *columns)}
            applied = await receipts.apply(
                write, [self._update(rows[row_id][0], row_id) for row_id in rows if row_id in new]
            )
            await receipts.park(write.connection, applied.unmatched)
            parked = [uuid.UUID(update.origin.cause.id) for update in applied.unmatched]
            await write.connection.execute(
                "UPDATE journal_items SET state = 'parked' WHERE id = ANY($1::uuid[])", parked
            )
            await append(write, applied.events)

        # Each receipt tells of a send that has a trace of its own.
        sends = await traces.find(self._database, (_part_id(item.opaque) for item in chunk))
        with tracing.span("receipts.apply", links=sends.values(), receipts=len(rows)):
            await self._database.write(unit)
        ITEMS.labels("receipt", "applied").inc(len(rows))

    async def _templates(self, found: Sequence[TemplateChange]) -> None:
        """What happened to templates, each in a unit of work of its own: there are few."""
        for item in found:
            await self._one(item, self._apply_template(item))

    async def _apply_template(self, item: TemplateChange) -> None:
        row = self._row(item, "applied", None)

        async def unit(write: Write) -> None:
            # What is recorded already changed the template when it was.
            if await write.connection.fetchrow(NEW_ITEMS, *journal_items.columns([row])) is None:
                return
            events = await templates.apply(
                write,
                item,
                provider=self._payload.provider,
                received=self._payload.receive_time,
                origin=origin_of_item(row.id),
            )
            await append(write, events)

        await self._database.write(unit)

    async def _accounts(self, found: Sequence[AccountChange]) -> None:
        """What happened to an account and its numbers, each in a unit of work of its own: there are few."""
        for item in found:
            await self._one(item, self._apply_account(item))

    async def _apply_account(self, item: AccountChange) -> None:
        row = self._row(item, "applied", None)

        async def unit(write: Write) -> None:
            # What is recorded already changed the channels when it was.
            if await write.connection.fetchrow(NEW_ITEMS, *journal_items.columns([row])) is None:
                return
            at = item.provider_time or self._payload.receive_time
            provider, shared = self._payload.provider, self._shared
            events = await health.apply(
                write, item, provider=provider, shared=shared, at=at, origin=origin_of_item(row.id)
            )
            await append(write, events)

        await self._database.write(unit)

    def _update(self, item: Receipt, item_id: uuid.UUID) -> Update:
        first = item.errors[0] if item.errors else None
        member = None if item.participant is None else item.participant.value
        return Update(
            channel_id=self._owners[item.account_id].id,
            provider_message_id=item.provider_id,
            part_id=_part_id(item.opaque),
            status=item.status,
            source="receipt",
            origin=origin_of_item(item_id),
            provider_time=item.provider_time,
            error_code=None if first is None else first.code,
            error_message=None if first is None else first.message,
            # What is so of one member of a group is not of the group.
            closes_reply_window=member is None and any(error.closes_reply_window for error in item.errors),
            stops_marketing=member is None and any(error.stops_marketing for error in item.errors),
            member=member,
        )

    async def _record(self, found: Sequence[Item], state: str, result: str | None = None) -> None:
        if not found:
            return
        rows = [self._row(item, state, result or _reason(item)) for item in found]
        async with self._database.connection() as connection:
            await journal_items.insert(connection, rows)
        for item in found:
            ITEMS.labels(item.kind.partition(":")[0], state).inc()

    def _row(self, item: Item, state: str, result: str | None) -> ItemRow:
        owner = self._owners.get(item.account_id or "")
        return ItemRow(
            id=new_id(),
            journal_id=self._payload.id,
            channel_id=None if owner is None else owner.id,
            kind=item.kind,
            provider_id=item.provider_id,
            discriminator=item.discriminator,
            provider_time=item.provider_time,
            state=state,
            parser_version=self._parser_version,
            result=result,
            create_time=utc_now(),
        )


def _news(item: MessageCopy) -> InboundMessage:
    names = ("provider_id", "provider_time", "account_id", "addresses", "type", "profile_name", "text", "attachments")
    more = ("details", "reply_to_id")
    return InboundMessage(**{name: getattr(item, name) for name in (*names, *more)})


def origin_of_item(item_id: uuid.UUID) -> Origin:
    """The system, because of this item of the journal."""
    return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_JOURNAL_ITEM, id=str(item_id)))


def _part_id(opaque: str | None) -> uuid.UUID | None:
    """Our part id, if the callback data is one."""
    try:
        return None if opaque is None else uuid.UUID(opaque)
    except ValueError:
        return None


def _reason(item: Item) -> str | None:
    if isinstance(item, Ignored):
        return item.reason
    return item.error if isinstance(item, Broken) else None
