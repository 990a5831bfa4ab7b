"""Reads the templates of accounts again: when a channel is connected, soon after something left a question open, and every few hours.

The worker that has a tenant does it, beside its other work; no transaction is open while a provider is asked.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from switchboard.v1 import actor_pb2

from server.channels import service as channels
from server.channels.refusals import ProviderRefused, ProviderUnavailable
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.edge import attempt
from server.kit.errors import Refusal
from server.log.event import SYSTEM, Cause, Origin
from server.providers.contract import Provider
from server.providers.template import TemplateAccount
from server.templates import service, sync
from server.tenancy.tenants import Tenant

log = structlog.get_logger(__name__)
# Every so often, spread, so that what was connected together is not read together; and when the provider did not answer.
EVERY, AGAIN = timedelta(hours=6), timedelta(minutes=10)
# Whoever took a channel and died is thought to be done after so long.
LEASE = timedelta(minutes=10)
CLAIM = """
UPDATE channels c SET templates_due_time = clock_now() + $1 FROM (
    SELECT id FROM channels WHERE templates_due_time <= clock_now() AND state <> 'disconnected'
    ORDER BY templates_due_time LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
) due WHERE c.id = due.id RETURNING c.id, c.provider, c.details, c.access_token
"""
NEVER = "UPDATE channels SET templates_due_time = NULL WHERE id = $1"
# All channels of the account were read with it; what was asked for meanwhile stays.
LATER = """
UPDATE channels SET templates_due_time = $4
WHERE provider = $1 AND EXISTS (SELECT FROM jsonb_each_text(details) AS d WHERE d.value = $2)
    AND (templates_due_time <= $5 OR (id = $3 AND templates_due_time > clock_now() + interval '1 minute'))
"""
NEXT_DUE = (
    "SELECT min(templates_due_time) FROM channels WHERE templates_due_time IS NOT NULL AND state <> 'disconnected'"
)


async def next_due(connection: Connection) -> datetime | None:
    """When the next account is to be read again."""
    found: datetime | None = await connection.fetchval(NEXT_DUE)
    return found


class Reader:
    """The accounts of one tenant, one after the other."""

    def __init__(self, *, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a provider is being asked."""
        return self._task is not None and not self._task.done()

    async def look(self, tenant: Tenant) -> None:
        """Begins with what is due, without waiting for it."""
        if self.busy:
            return
        async with tenant.database.connection() as connection:
            taken = await connection.fetchrow(CLAIM, LEASE)
        if taken is not None:
            self._task = asyncio.create_task(self._run(tenant, taken))

    async def stop(self) -> None:
        """Ends what is under way; somebody begins anew when its claim ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, tenant: Tenant, taken: Any) -> None:
        error = await attempt(self.read(tenant, taken))
        if error is not None:
            unexpected = None if isinstance(error, Refusal) else error
            log.warning("templates.read_failed", channel=str(taken["id"]), exc_info=unexpected)

    async def read(self, tenant: Tenant, taken: Any) -> None:
        """Reads the templates of one account, and says when they are read again."""
        provider, channel_id = self._providers[taken["provider"]], taken["id"]
        account_id = service.account_of(provider.capabilities, taken["details"])
        if account_id is None or taken["access_token"] is None:
            async with tenant.database.connection() as connection:
                await connection.execute(NEVER, channel_id)
            return
        details = json.loads(taken["details"])
        token = channels.token_of(tenant.secrets, channel_id, taken["access_token"])
        account = TemplateAccount(business_account_id=account_id, token=token, settings=details)
        of = service.Owner(provider=taken["provider"], business_account_id=account_id)
        origin = Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_TIMER, id=f"templates/{channel_id}"))
        at, after = utc_now(), EVERY * random.uniform(1.0, 1.2)
        try:
            await sync.synchronise(tenant.database, provider, account, of=of, at=at, origin=origin)
        except ProviderUnavailable:
            after = AGAIN
        except ProviderRefused as refused:
            log.info("templates.read_refused", channel=str(channel_id), code=refused.metadata.get("code"))
        async with tenant.database.connection() as connection:
            await connection.execute(LATER, taken["provider"], account_id, channel_id, utc_now() + after, at)
