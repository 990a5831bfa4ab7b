"""Items that a system of the user's own hands in by a call: journaled like a webhook, and applied by the same code."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from server.channels import service as channels
from server.journal import service as journal
from server.journal.service import Payload
from server.kit import tracing
from server.kit.clock import utc_now
from server.kit.db import Connection, Database, Write
from server.kit.errors import Refusal
from server.kit.ids import new_id
from server.providers.contract import Provider
from server.rpc.call import Scope
from server.traces import service as traces

ACCOUNT = "SELECT provider, account_id FROM channels WHERE id = $1"


class ChannelTakesNoCalls(Refusal):
    """The channel's provider has webhooks."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_TAKES_NO_CALLS"

    def __init__(self, provider: str) -> None:
        super().__init__("what customers write here comes by webhooks", metadata={"provider": provider})


@dataclass(frozen=True, slots=True)
class ReceivingAccount:
    """The account that items are for."""

    provider: str
    account_id: str


async def account_of(
    connection: Connection, scope: Scope, channel_id: uuid.UUID, providers: Mapping[str, Provider]
) -> ReceivingAccount:
    """The account of a channel that the caller may hand items in for. NotFound; ChannelTakesNoCalls."""
    await channels.get_visible(connection, scope, channel_id)
    found = ReceivingAccount(*(await connection.fetch(ACCOUNT, channel_id))[0])
    if not providers[found.provider].takes_calls:
        raise ChannelTakesNoCalls(found.provider)
    return found


async def store(database: Database, provider: str, body: bytes) -> Payload:
    """Journals a body. No app at Meta signed it: the caller's credential stands for that."""
    payload = Payload(
        id=new_id(),
        receive_time=utc_now(),
        provider=provider,
        meta_app_id="",
        body=body,
        sha256=hashlib.sha256(body).digest(),
        split=False,
        secret_index=0,
    )
    await traces.store(database, {payload.id: tracing.current()})

    async def unit(write: Write) -> None:
        await journal.store(write, payload)

    with tracing.span("journal.store", journal=str(payload.id), bytes=len(body)):
        await database.write(unit)
    return payload
