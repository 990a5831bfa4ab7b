"""The delivery of a send: loads what to send, hands it to the provider, and stores what came of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from prometheus_client import Counter
from pydantic import ValidationError
from switchboard.v1 import actor_pb2

from server.channels import service as channels
from server.contacts import moving
from server.deliveries import claiming
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.kit import tracing
from server.kit.db import Connection, Database, Write
from server.kit.errors import DatabaseUnavailable, Refusal
from server.kit.ids import new_id
from server.kit.secrets import SecretBox
from server.log.append import append
from server.log.event import SYSTEM, Cause, NewEvent, Origin
from server.messages import content, files, receipts, templated
from server.messages.receipts import Update
from server.messages.recipients import address_of
from server.providers.content import FilledTemplate
from server.providers.contract import (
    Accepted,
    Address,
    Ambiguous,
    ErrorClass,
    Holds,
    NotSent,
    Outcome,
    Outgoing,
    Provider,
    Refused,
)
from server.templates import service as templates
from server.traces import service as traces

log = structlog.get_logger(__name__)
SETTLED = Counter(
    "switchboard_deliveries_settled_total",
    "Attempts by their outcome: accepted, not_sent, ambiguous, waits (for a file), held (its template may not be sent now), or the class"
    " of the provider's error.",
    ["outcome"],
)
NOT_SENT_DELAYS = (1, 2, 5, 15, 30, 60, 120, 300)
# About a day; what cannot even be asked of the provider for so long is a dead letter.
NOT_SENT_MOST = 300
# How long an outcome is kept for a database that is away; with the request itself it stays below the lease.
SETTLE_SECONDS, SETTLE_AGAIN_SECONDS = 25.0, 0.5
LOAD = """
SELECT ch.provider, ch.account_id, ch.details AS account, ch.access_token, m.text, m.type, m.details, c.identity_id
FROM message_parts p
JOIN messages m ON m.id = p.message_id
JOIN conversations c ON c.id = p.conversation_id
JOIN channels ch ON ch.id = p.channel_id
WHERE p.id = $1
"""
TEMPLATE_OF = """
SELECT m.details #>> '{template,template_id}' FROM message_parts p JOIN messages m ON m.id = p.message_id WHERE p.id = $1
"""
QUOTED = "SELECT provider_message_id FROM message_parts WHERE message_id = $1 AND position = 0"

STORED = """
SELECT EXISTS (
    SELECT FROM deliveries d JOIN message_status_updates u ON u.part_id = d.part_id AND u.source = 'response' AND u.status = $3
    WHERE d.id = $1 AND d.attempt = $2 AND d.state <> 'in_flight')
"""


def origin_of(claimed: Claimed) -> Origin:
    """The system, because of this delivery."""
    return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_DELIVERY, id=str(claimed.id)))


# What keeps a message from being sent now, though nothing is wrong with it.
Waits = files.Waits | templated.Held


class Sender:
    """Delivers sends of a tenant."""

    def __init__(self, database: Database, secrets: SecretBox, providers: Mapping[str, Provider]) -> None:
        self._database = database
        self._secrets = secrets
        self._providers = providers

    async def deliver(
        self,
        claimed: Claimed,
        *,
        begin_at: float = -math.inf,
        begin_by: float = math.inf,
        answered: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Sends once and stores the outcome. The claim was committed before, so a crash from here on leaves it unknown.

        begin_at, begin_by: the monotonic times between which the request begins. answered: told the outcome before it is stored.
        Goes on in the trace of the call that sent it.
        """
        parent = (await traces.find(self._database, [claimed.part_id])).get(claimed.part_id)
        with tracing.span("delivery", parent=parent, kind="consumer", attempt=claimed.attempt):
            outcome = await self._sent(claimed, begin_at, begin_by)
            if answered is not None and not isinstance(outcome, Waits):
                answered(outcome)
            await self._insist(claimed, outcome)
            if isinstance(outcome, Accepted) and outcome.addresses:
                await self._learn(claimed, outcome.addresses)

    async def _sent(self, claimed: Claimed, begin_at: float, begin_by: float) -> Outcome | Waits:
        """What came of it. Whatever goes wrong before the request is no reason to wonder whether the provider has it."""
        try:
            async with self._database.connection() as connection:
                loaded = await self._load(connection, claimed)
        except DatabaseUnavailable:
            return NotSent("the database went away before the request")
        except (Refusal, asyncpg.PostgresError) as error:
            return NotSent(f"it could not be loaded: {type(error).__name__}")
        if not isinstance(loaded, tuple):
            return loaded
        if (early := begin_at - time.monotonic()) > 0:
            await asyncio.sleep(early)
        if time.monotonic() >= begin_by:
            return NotSent("the worker came to it too late")
        provider, outgoing = loaded
        # The trace ends here: Meta is told nothing of it.
        with tracing.span("provider.send", kind="client", provider=provider) as span:
            outcome = await self._providers[provider].send(outgoing)
            span.set(outcome=type(outcome).__name__)
        return _other_addresses(outcome, outgoing.to)

    async def _insist(self, claimed: Claimed, outcome: Outcome | Waits) -> None:
        """Stores an outcome, again while the database is away: once forgotten, nobody knows what the provider said."""
        loop = asyncio.get_running_loop()
        deadline, repeat = loop.time() + SETTLE_SECONDS, False
        while True:
            try:
                await self.settle(claimed, outcome, repeat=repeat)
            except DatabaseUnavailable:
                if loop.time() >= deadline:
                    raise
                repeat = True
                await asyncio.sleep(SETTLE_AGAIN_SECONDS)
            else:
                return

    async def _learn(self, claimed: Claimed, addresses: tuple[Address, ...]) -> None:
        """Keeps other addresses that the provider has for whom it went to; what comes from them is the same customer's."""

        async def unit(write: Write) -> None:
            origin, keys = origin_of(claimed), (claimed.channel_id, claimed.conversation_id)
            events = await moving.learn(
                write.connection, addresses, channel_id=keys[0], conversation_id=keys[1], origin=origin
            )
            await append(write, events)

        await self._database.write(unit)

    async def expire(self, claimed: Claimed) -> None:
        """The worker that had it did not come back: nobody knows whether the provider has it."""
        await self.settle(claimed, Ambiguous("the worker stopped while the request was under way"))

    async def settle(self, claimed: Claimed, outcome: Outcome | Waits, *, repeat: bool = False) -> None:
        """Stores an outcome in one unit of work; repeat: unless an earlier commit, whose answer was lost, has done it."""

        async def unit(write: Write) -> None:
            if not (repeat and await _stored(write.connection, claimed, outcome)):
                await append(write, await _settle(write, claimed, outcome))

        with tracing.span("delivery.settle", delivery=str(claimed.id), outcome=type(outcome).__name__):
            await self._database.write(unit)
        SETTLED.labels(_word(outcome)).inc()
        log.info("delivery.settled", delivery=str(claimed.id), attempt=claimed.attempt, outcome=type(outcome).__name__)

    async def _load(self, connection: Connection, claimed: Claimed) -> tuple[str, Outgoing] | Refused | NotSent | Waits:
        row = await connection.fetchrow(LOAD, claimed.part_id)
        if row is None:
            return _bad("no_message", "What was to be sent is not there.")
        to = await address_of(connection, row["identity_id"], self._providers[row["provider"]])
        if to is None:
            return _bad("no_address", "The customer has no address that the channel's provider sends to.")
        details = json.loads(row["details"]) if row["details"] else {}
        quoted = details.get(content.REPLY_TO)
        try:
            carried = content.loaded(row["text"], details)
        except ValidationError:
            return _bad("unknown_content", "What was to be sent was written by a later version.")
        if isinstance(carried, FilledTemplate):
            kept = await templated.held_or_refused(connection, uuid.UUID(carried.template_id), row["identity_id"])
            if kept is not None:
                return kept
        if row["type"] != "text":
            named = await files.of_part(connection, claimed)
            if isinstance(named, files.Waits | Refused | NotSent):
                return named
            carried = files.carried(carried, named)
        return row["provider"], Outgoing(
            account_id=row["account_id"],
            token=channels.token_of(self._secrets, claimed.channel_id, row["access_token"]),
            settings=json.loads(row["account"]),
            to=to,
            text=row["text"] or "",
            opaque=str(claimed.part_id),
            attempt=claimed.tries,
            reply_to_id=None if quoted is None else await connection.fetchval(QUOTED, uuid.UUID(quoted)),
            content=carried,
        )


def _other_addresses(outcome: Outcome, to: Address) -> Outcome:
    """An answer without the address that was written to. Of a group it names nobody."""
    if not isinstance(outcome, Accepted):
        return outcome
    others = () if to.kind == "group" else tuple(each for each in outcome.addresses if each.value != to.value)
    return replace(outcome, addresses=others)


def _bad(code: str, message: str) -> Refused:
    return Refused(error_class=ErrorClass.BUG, code=code, message=message)


async def _stored(connection: Connection, claimed: Claimed, outcome: Outcome | Waits) -> bool:
    """Whether the provider's answer is recorded. Other outcomes are guarded by the claim that they end."""
    status = "sent" if isinstance(outcome, Accepted) else "failed"
    found: bool = await connection.fetchval(STORED, claimed.id, claimed.attempt, status)
    return found


async def _settle(write: Write, claimed: Claimed, outcome: Outcome | Waits) -> list[NewEvent]:
    # Conversations, then parts, then deliveries: receipts of the same part lock in the same order.
    if isinstance(outcome, Accepted):
        return await _accepted(write, claimed, outcome)
    if isinstance(outcome, NotSent):
        return await _not_sent(write, claimed, outcome)
    if isinstance(outcome, Ambiguous):
        return await _ambiguous(write, claimed, outcome)
    if isinstance(outcome, templated.Held):
        await _lock(write, claimed)
        await templated.hold(write.connection, claimed, outcome)
        return []
    if isinstance(outcome, files.Waits):
        await files.wait(write.connection, claimed, outcome)
        return []
    if outcome.of_file and await files.again(write.connection, claimed, outcome):
        return []
    return await _refused(write, claimed, outcome)


async def _accepted(write: Write, claimed: Claimed, outcome: Accepted) -> list[NewEvent]:
    """The provider has it, whatever became of the claim meanwhile."""
    origin = origin_of(claimed)
    sent = _update(
        claimed, "sent", origin, source="response", provider_message_id=outcome.provider_id, note=outcome.note
    )
    applied = await receipts.apply(write, [sent])
    await deliveries.finish(write.connection, claimed, state="accepted")
    return applied.events


async def _not_sent(write: Write, claimed: Claimed, outcome: NotSent) -> list[NewEvent]:
    if claimed.tries >= NOT_SENT_MOST:
        gone = Refused(error_class=ErrorClass.PERMANENT, code="not_sent", message=outcome.reason)
        return await _failed(write, claimed, gone)
    delay = NOT_SENT_DELAYS[min(claimed.tries, len(NOT_SENT_DELAYS)) - 1]
    after = deliveries.jittered(timedelta(seconds=delay))
    await deliveries.again(write.connection, claimed, after=after, code=None, message=outcome.reason)
    return []


async def _ambiguous(write: Write, claimed: Claimed, outcome: Ambiguous) -> list[NewEvent]:
    await _lock(write, claimed)
    if not await deliveries.finish(write.connection, claimed, state="unknown", message=outcome.reason):
        return []
    update = _update(claimed, "unknown", origin_of(claimed), source="system", error_message=outcome.reason)
    return (await receipts.apply(write, [update])).events


async def _refused(write: Write, claimed: Claimed, outcome: Refused) -> list[NewEvent]:
    settle: Mapping[ErrorClass, Callable[[Write, Claimed, Refused], Any]] = {
        ErrorClass.RETRY: _again,
        ErrorClass.WAIT: _again,
        ErrorClass.STOP_CHANNEL: _stop,
        ErrorClass.PERMANENT: _failed,
        ErrorClass.BUG: _bug,
    }
    events: list[NewEvent] = await settle[outcome.error_class](write, claimed, outcome)
    if outcome.of_template and (template_id := await _template_of(write, claimed)) is not None:
        events += await templates.mark_stale(write, template_id, origin=origin_of(claimed))
    return events


async def _template_of(write: Write, claimed: Claimed) -> uuid.UUID | None:
    found: str | None = await write.connection.fetchval(TEMPLATE_OF, claimed.part_id)
    return None if found is None else uuid.UUID(found)


async def _again(write: Write, claimed: Claimed, outcome: Refused) -> list[NewEvent]:
    """Later; and if the provider has enough of the account, of what it begins, or of it at this recipient, their others wait too."""
    after = deliveries.jittered(outcome.retry_after or timedelta(seconds=1))
    awaited = await _template_of(write, claimed) if outcome.of_template else None
    aside = outcome.error_class is ErrorClass.WAIT
    if aside:
        await _lock(write, claimed)
    if not await deliveries.again(
        write.connection,
        claimed,
        after=after,
        code=outcome.code,
        message=outcome.message,
        awaited_template_id=awaited,
        aside=aside,
    ):
        return []
    if outcome.holds is Holds.ACCOUNT:
        await claiming.hold_account(write.connection, claimed, after=after)
    elif outcome.holds is Holds.TEMPLATES:
        await claiming.hold_templates(write.connection, claimed, after=after)
        return await channels.note_refusal(write, claimed.channel_id, origin=origin_of(claimed), refused=outcome)
    elif outcome.holds is Holds.RECIPIENT:
        await claiming.hold_recipient(write.connection, claimed, after=after)
    return []


async def _stop(write: Write, claimed: Claimed, outcome: Refused) -> list[NewEvent]:
    """Pauses the channel and keeps its queue; the attempt is not spent."""
    events = await channels.pause(write, claimed.channel_id, origin=origin_of(claimed), refused=outcome)
    await deliveries.again(
        write.connection, claimed, after=timedelta(0), code=outcome.code, message=outcome.message, counts=False
    )
    return events


async def _bug(write: Write, claimed: Claimed, outcome: Refused) -> list[NewEvent]:
    """A dead letter at once; the incident leads from what the operator sees to the log."""
    incident = str(new_id())
    log.error("delivery.bug", incident=incident, delivery=str(claimed.id), code=outcome.code, trace=outcome.trace_id)
    told = f"{outcome.message} (incident {incident})"
    return await _failed(write, claimed, replace(outcome, message=told))


async def _failed(write: Write, claimed: Claimed, outcome: Refused) -> list[NewEvent]:
    """A late refusal resolves an unknown send; after an operator asked for a second one it says nothing of that."""
    await _lock(write, claimed)
    if not await deliveries.finish(
        write.connection, claimed, state="failed", code=outcome.code, message=outcome.message
    ):
        return []
    update = _update(
        claimed,
        "failed",
        origin_of(claimed),
        source="response",
        error_code=outcome.code,
        error_message=outcome.message,
        closes_reply_window=outcome.closes_reply_window,
        stops_marketing=outcome.stops_marketing,
    )
    return (await receipts.apply(write, [update])).events


async def _lock(write: Write, claimed: Claimed) -> None:
    await deliveries.lock(write.connection, [claimed.conversation_id])
    await write.connection.fetchval("SELECT id FROM message_parts WHERE id = $1 FOR UPDATE", claimed.part_id)


def _word(outcome: Outcome | Waits) -> str:
    if isinstance(outcome, Refused):
        return outcome.error_class.value
    return {
        Accepted: "accepted",
        NotSent: "not_sent",
        Ambiguous: "ambiguous",
        files.Waits: "waits",
        templated.Held: "held",
    }[type(outcome)]


def _update(claimed: Claimed, status: str, origin: Origin, *, source: str, **more: Any) -> Update:
    more.setdefault("provider_message_id", None)
    return Update(
        channel_id=claimed.channel_id, part_id=claimed.part_id, status=status, source=source, origin=origin, **more
    )
