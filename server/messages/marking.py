"""Tells providers how far their customers' messages were read, that somebody writes, and reactions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

import structlog
from prometheus_client import Counter
from switchboard.v1 import actor_pb2

from server.channels import service as channels
from server.deliveries import marks
from server.deliveries import service as deliveries
from server.deliveries.marks import Mark
from server.kit import tracing
from server.kit.db import Database, Write
from server.kit.secrets import SecretBox
from server.log.append import append
from server.log.event import SYSTEM, Cause, NewEvent, Origin
from server.messages import changes, receipts
from server.messages.recipients import address_of
from server.providers import contract
from server.providers.contract import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Provider, Refused

log = structlog.get_logger(__name__)
SETTLED = Counter(
    "switchboard_marks_total",
    "Read receipts, typing indicators and reactions by their outcome: accepted, not_sent, ambiguous, expired, or the class of the "
    "provider's error.",
    ["kind", "outcome"],
)
WORDS = {Accepted: "accepted", NotSent: "not_sent", Ambiguous: "ambiguous"}
# Then it is let go: a receipt that comes an hour late tells nobody anything.
# Of a look: each is a unit of work.
ENDED_MOST = 50
DELAYS = (1, 5, 15, 60, 300, 900, 1800)


IDENTITY = "SELECT identity_id FROM conversations WHERE id = $1"


class Marker:
    """Marks of a tenant."""

    def __init__(self, database: Database, secrets: SecretBox, providers: Mapping[str, Provider]) -> None:
        self._database = database
        self._secrets = secrets
        self._providers = providers

    async def tell(self, mark: Mark) -> None:
        """Tells the provider once, and stores what came of it."""
        if mark.expired:
            async with self._database.connection() as connection:
                await marks.end(connection, mark)
            SETTLED.labels(mark.kind, "expired").inc()
            return
        with tracing.span("mark", kind="client", provider=mark.provider, attempt=mark.attempt, what=mark.kind):
            outcome = await self._told(mark)
        await self.settle(mark, outcome)

    async def _told(self, mark: Mark) -> Outcome:
        provider, to = self._providers[mark.provider], None
        if mark.kind == "reaction":
            async with self._database.connection() as connection:
                identity_id = await connection.fetchval(IDENTITY, mark.conversation_id)
                to = await address_of(connection, identity_id, provider)
            if to is None:
                return Refused(error_class=ErrorClass.BUG, code="no_address", message="The customer has no address.")
        return await provider.mark(
            contract.Mark(
                kind=mark.kind,
                account_id=mark.account_id,
                token=channels.token_of(self._secrets, mark.channel_id, mark.access_token),
                settings=json.loads(mark.details),
                provider_message_id=mark.provider_message_id,
                to=to,
                emoji=mark.emoji,
                attempt=mark.attempt,
            )
        )

    async def end_some(self) -> None:
        """Lets go what would be told by channels that were disconnected; a reaction that the customer never saw is taken back."""
        async with self._database.connection() as connection:
            ended = await marks.claim_ended(connection, limit=ENDED_MOST)
        for mark in ended:
            gone = Refused(
                error_class=ErrorClass.PERMANENT, code="channel_disconnected", message="The channel is gone."
            )
            await self.settle(mark, gone)

    async def settle(self, mark: Mark, outcome: Outcome) -> None:
        """What an attempt came to, in one unit of work. Without it the mark is due again when its lease ends."""

        async def unit(write: Write) -> None:
            after = None if isinstance(outcome, Accepted) else _delay(mark, outcome)
            cause = Cause(kind=actor_pb2.CAUSE_KIND_DELIVERY, id=str(mark.conversation_id))
            origin = Origin(actor=SYSTEM, cause=cause)
            if after is None and mark.kind == "reaction" and not isinstance(outcome, Accepted):
                # The customer does not see it, so nobody does.
                about = (mark.conversation_id, mark.key, mark.emoji)
                await append(write, await changes.take_back(write, *about, origin=origin))
            if isinstance(outcome, Accepted) and mark.kind == "reaction":
                await append(write, await _reacted(write, mark, outcome.provider_id, origin=origin))
            stops = isinstance(outcome, Refused) and outcome.error_class is ErrorClass.STOP_CHANNEL
            if after is None:
                await marks.end(write.connection, mark)
            else:
                await marks.again(write.connection, mark, after=after, counts=not stops)
            if isinstance(outcome, Refused) and stops:
                await append(write, await channels.pause(write, mark.channel_id, origin=origin, refused=outcome))

        await self._database.write(unit)
        word = outcome.error_class.value if isinstance(outcome, Refused) else WORDS[type(outcome)]
        SETTLED.labels(mark.kind, word).inc()
        log.info(
            "mark.settled", kind=mark.kind, conversation=str(mark.conversation_id), attempt=mark.attempt, outcome=word
        )


async def _reacted(write: Write, mark: Mark, provider_message_id: str, *, origin: Origin) -> list[NewEvent]:
    """The provider took it. That it failed may be known already."""
    connection = write.connection
    await deliveries.lock(connection, [mark.conversation_id])
    await marks.reacted(connection, mark, provider_message_id)
    waited = await receipts.waited(connection, mark.channel_id, provider_message_id, origin=origin)
    if not any(update.status == "failed" for update in waited):
        return []
    return await changes.take_back(write, mark.conversation_id, mark.key, mark.emoji, origin=origin)


def _delay(mark: Mark, outcome: Outcome) -> timedelta | None:
    """After how long it is tried again; None for no more."""
    if isinstance(outcome, Refused):
        if outcome.error_class is ErrorClass.STOP_CHANNEL:
            return timedelta(0)
        if outcome.error_class in (ErrorClass.PERMANENT, ErrorClass.BUG):
            return None
    if mark.attempt > len(DELAYS):
        return None
    asked = (outcome.retry_after if isinstance(outcome, Refused) else None) or timedelta(0)
    return deliveries.jittered(max(asked, timedelta(seconds=DELAYS[mark.attempt - 1])))
