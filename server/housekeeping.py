"""What is done once a day: every tenant is looked at, and what the directory of work may have missed is found."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import structlog
from prometheus_client import Counter

from server.composition import Parts
from server.deliveries import claiming, marks
from server.erasures import keys as erased_keys
from server.journal import service as journal
from server.kit.clock import utc_now
from server.kit.errors import Refusal
from server.log import retention
from server.requests import service as requests
from server.runner import next_due
from server.tenancy.tenants import Tenant
from server.tenancy.work import Kept
from server.traces import service as traces

log = structlog.get_logger(__name__)
LOOK_SECONDS = 60.0
TENANTS_AT_ONCE = 10
KEEP_RECEIPTS = timedelta(days=7)
MISSED = Counter(
    "switchboard_work_missed_total", "Tenants with due work that the directory did not know of. Must be 0."
)


async def run(parts: Parts) -> None:
    """Keeps house in each tenant once a day, whichever worker comes first; those that are overdue at once. Until cancelled."""
    while True:
        try:
            await parts.quarantine.purge()
            while due := await parts.directory.claim_house(limit=TENANTS_AT_ONCE):
                for kept in due:
                    await _keep(parts, kept)
        except Refusal as error:
            log.warning("housekeeping.failed", error=type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _keep(parts: Parts, kept: Kept) -> None:
    try:
        await keep_house(parts, await parts.tenants.get(kept.tenant_id), kept)
    except (Refusal, asyncpg.PostgresError) as error:
        log.warning("housekeeping.failed", tenant=str(kept.tenant_id), error=type(error).__name__)


async def keep_house(parts: Parts, tenant: Tenant, kept: Kept) -> None:
    """The daily look at a tenant: old days of the journal and of the log, old request ids, and what the directory may have missed."""
    today = utc_now().date()
    async with tenant.database.connection() as connection:
        await journal.drop_old(connection, today=today)
        await claiming.forget(connection)
        await traces.drop_old(connection)
        await requests.drop_old(connection)
        await erased_keys.drop_old(connection)
        await connection.execute("DELETE FROM parked_receipts WHERE create_time < $1", utc_now() - KEEP_RECEIPTS)
        await marks.forget_reactions(connection, after=KEEP_RECEIPTS)
        due = await next_due(connection)
    await retention.keep(tenant.database, retention=parts.retention)
    if await parts.directory.correct(kept, due):
        MISSED.inc()
        log.error("work.missed", tenant=str(tenant.id), due_time=str(due))
