"""Reads again how channels do: each about once a day, soon after a webhook left a question open, and when a restriction ends.

The worker that has a tenant does it, beside its other work; no transaction is open while a provider is asked.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Counter
from switchboard.v1 import actor_pb2

from server.channels import service
from server.channels.checking import Checker
from server.channels.refusals import ChannelDisconnected, ProviderUnavailable
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.errors import Refusal
from server.log.append import append
from server.log.event import SYSTEM, Cause, Origin
from server.models.tenant import Channel
from server.providers.contract import Provider
from server.rpc.call import Scope
from server.tenancy.routes import Routes
from server.tenancy.tenants import Tenant

log = structlog.get_logger(__name__)
CHECKED = Counter(
    "switchboard_channel_checks_total", "Channels that were read again: passed, failed, or not answered.", ["outcome"]
)
# Whoever took a channel and died is thought to be done after so long.
LEASE, TAKEN_MOST = timedelta(minutes=5), 4
AGAIN = timedelta(minutes=10)
ALL = Scope(all=True)
CLAIM = """
UPDATE channels c SET check_due_time = clock_now() + $2 FROM (
    SELECT id, check_subscribes FROM channels WHERE check_due_time <= clock_now() AND state <> 'disconnected'
    ORDER BY check_due_time LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
) due WHERE c.id = due.id RETURNING c.id, due.check_subscribes
"""
LATER = "UPDATE channels SET check_due_time = clock_now() + $2 WHERE id = $1 AND state <> 'disconnected'"
NEXT_DUE = "SELECT min(check_due_time) FROM channels WHERE check_due_time IS NOT NULL AND state <> 'disconnected'"


async def next_due(connection: Connection) -> datetime | None:
    """When the next channel is to be read again."""
    found: datetime | None = await connection.fetchval(NEXT_DUE)
    return found


class Watcher:
    """The channels of one tenant, one after the other."""

    def __init__(self, *, checker: Checker, routes: Routes, providers: dict[str, Provider]) -> None:
        self._checker = checker
        self._routes = routes
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
            taken = await connection.fetch(CLAIM, TAKEN_MOST, LEASE)
        if taken:
            self._task = asyncio.create_task(self._run(tenant, taken))

    async def stop(self) -> None:
        """Ends what is under way; somebody begins anew when its claim ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, tenant: Tenant, taken: list[Any]) -> None:
        for row in taken:
            error = await attempt(self.check(tenant, row["id"], subscribe=row["check_subscribes"]))
            if error is not None:
                unexpected = None if isinstance(error, Refusal) else error
                log.warning("channel.check_failed", channel=str(row["id"]), exc_info=unexpected)

    async def check(self, tenant: Tenant, channel_id: uuid.UUID, *, subscribe: bool) -> None:
        """Reads one channel, and stores what was told."""
        keeping = service.Keeping(tenant.secrets, self._providers)
        try:
            async with tenant.database.session_snapshot() as (session, _):
                row, account = await service.account(session, ALL, keeping, channel_id, access_token=None)
            at = utc_now()
            report = await self._checker.ask(row.provider, account, subscribe=subscribe)
        except ChannelDisconnected:
            return
        except ProviderUnavailable as away:
            CHECKED.labels("not_answered").inc()
            async with tenant.database.connection() as connection:
                await connection.execute(LATER, channel_id, max(AGAIN, away.retry_after or AGAIN))
            return
        answered = service.Answered(report, at)
        origin = Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_TIMER, id=f"channel_check/{channel_id}"))

        async def unit(write: Write) -> Channel:
            found, events = await service.watched(write, channel_id, origin=origin, answered=answered)
            await append(write, events)
            return found

        row = await tenant.database.write(unit)
        if report.app_id is not None:
            await self._routes.note_app(row.provider, account.account_id, channel_id=channel_id, app_id=report.app_id)
        CHECKED.labels("failed" if any(check.result == "failed" for check in report.checks) else "passed").inc()
