"""`switchboard work`: finds tenants with something to do, and does it. The only place that maps kinds to functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog
import uvloop
from grpc_health.v1 import health
from prometheus_client import Counter

from server import app
from server.composition import Parts, background, compose, shared_loops
from server.conversations import statistics
from server.conversations import timers as conversation_timers
from server.deliveries import service as deliveries
from server.journal import service as journal
from server.kit import logging
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import Refusal
from server.messages.dispatching import Dispatcher
from server.settings import Settings
from server.tenancy.quarantine import Part
from server.tenancy.tenants import Tenant
from server.tenancy.work import Lease
from server.timers import service as timers

log = structlog.get_logger(__name__)
FIND_SECONDS, RENEW_SECONDS, IDLE_SECONDS, QUARANTINE_SECONDS = 1.0, 3.0, 1.0, 5.0
BLOCKED_SECONDS = 0.1
HOUSEKEEPING_SECONDS = 24 * 3600.0
TENANTS_MOST = 200
TIMERS = {**conversation_timers.HANDLERS}
MISSED = Counter(
    "switchboard_work_missed_total", "Tenants with due work that the directory did not know of. Must be 0."
)
FAILED = Counter("switchboard_work_failed_total", "Rounds of a tenant's work that ended in an error.", ["error"])
KEEP_REQUESTS = timedelta(days=7)


def run(settings: Settings, internal_listen: str) -> None:
    """Works until SIGTERM or SIGINT; what is under way is finished."""
    logging.configure()
    uvloop.run(work(settings, internal_listen=internal_listen))


async def work(settings: Settings, *, internal_listen: str) -> None:
    """Runs the worker beside its internal server."""
    stopped = app.stop_signal()
    async with compose(settings, follow_all=True) as (parts, commits):
        checks = health.aio.HealthServicer()
        worker = Worker(parts)
        commits.local = lambda tenant_id, _: worker.wake(tenant_id)
        parts.hints.on_hint(lambda tenant_id, _prev, _new: worker.wake(tenant_id))
        async with app.internal(settings, checks, internal_listen):
            loops = (
                *(*shared_loops(parts, settings), app.watch_health(checks, parts)),
                *(worker.run(), worker.run_quarantine(), worker.run_housekeeping()),
            )
            log.info("work.started", worker=worker.name, internal=internal_listen)
            async with background(*loops) as died:
                await asyncio.wait(
                    [asyncio.create_task(stopped.wait()), asyncio.create_task(died.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                await checks.enter_graceful_shutdown()
            await worker.stop()
    log.info("work.stopped")
    if died.is_set():
        raise SystemExit(1)


class Worker:
    """Leases tenants and runs each of them in a task of its own."""

    def __init__(self, parts: Parts) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._parts = parts
        self._runners: dict[uuid.UUID, Runner] = {}
        self._look = asyncio.Event()

    def wake(self, tenant_id: uuid.UUID) -> None:
        """A hint: the tenant's log moved. Nothing depends on it."""
        runner = self._runners.get(tenant_id)
        if runner is not None:
            runner.wake()
        else:
            self._look.set()

    async def run(self) -> None:
        """Finds and renews, for ever."""
        renewed = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._find()
                if loop.time() - renewed >= RENEW_SECONDS:
                    await self._renew()
                    renewed = loop.time()
            except Refusal as error:
                log.warning("work.control_unavailable", error=type(error).__name__)
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), FIND_SECONDS)
                # Hints of many tenants come in a burst; one look serves them all.
                await asyncio.sleep(0.005)

    async def _find(self) -> None:
        free = TENANTS_MOST - len(self._runners)
        for lease in await self._parts.directory.find(self.name, limit=free) if free > 0 else []:
            if lease.tenant_id in self._runners:
                self._runners[lease.tenant_id].renewed(lease)
                continue
            runner = self._runners[lease.tenant_id] = Runner(self._parts, lease)
            runner.start(self._ended)

    def _ended(self, runner: Runner) -> None:
        self._runners.pop(runner.tenant_id, None)

    async def _renew(self) -> None:
        if not self._runners:
            return
        leases = await self._parts.directory.renew(self.name, list(self._runners))
        for tenant_id, runner in list(self._runners.items()):
            runner.renewed(leases.get(tenant_id))

    async def run_quarantine(self) -> None:
        """Gives parts in quarantine to their tenants once those are known or answer again."""
        while True:
            try:
                await self._redrive(await self._parts.quarantine.due(limit=100))
            except Refusal as error:
                log.warning("quarantine.waits", error=type(error).__name__)
            await asyncio.sleep(QUARANTINE_SECONDS)

    async def _redrive(self, due: Sequence[Part]) -> None:
        """A tenant that does not answer is asked once; its parts must not keep those of others waiting."""
        away: set[uuid.UUID | None] = set()
        for part in due:
            if part.tenant_id in away:
                continue
            try:
                stored = await self._parts.intake.redrive(part)
            except (Refusal, asyncpg.PostgresError) as error:
                log.warning("quarantine.waits", part=str(part.id), error=type(error).__name__)
                away |= {part.tenant_id} - {None}
                continue
            if stored is not None:
                await self._parts.quarantine.done([part.id])
                self._parts.applier.soon(stored.tenant_id, stored.payload_id, stored.receive_time)

    async def run_housekeeping(self) -> None:
        """Once a day, every tenant: old days of the journal, old request ids, and what the directory may have missed."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self._parts.quarantine.purge()
                tenant_ids = await self._parts.tenants.all_ids()
            except Refusal as error:
                log.warning("housekeeping.failed", error=type(error).__name__)
                continue
            for tenant_id in tenant_ids:
                try:
                    await keep_house(self._parts, await self._parts.tenants.get(tenant_id))
                except (Refusal, asyncpg.PostgresError) as error:
                    log.warning("housekeeping.failed", tenant=str(tenant_id), error=type(error).__name__)

    async def stop(self) -> None:
        """Finishes what is under way and gives the leases back."""
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()), return_exceptions=True)
        await self._parts.directory.release(self.name)


async def keep_house(parts: Parts, tenant: Tenant) -> None:
    """The daily look at a tenant."""
    today = utc_now().date()
    async with tenant.database.connection() as connection:
        await journal.drop_old(connection, today=today)
        week_ago = utc_now() - KEEP_REQUESTS
        await connection.execute("DELETE FROM idempotent_requests WHERE create_time < $1", week_ago)
        await connection.execute("DELETE FROM parked_receipts WHERE create_time < $1", week_ago)
        due = await next_due(connection)
    if await parts.directory.correct(tenant.id, due):
        MISSED.inc()


async def next_due(connection: Connection) -> datetime | None:
    """The smallest due time of a tenant."""
    found = [await slice_.next_due(connection) for slice_ in (timers, deliveries, journal)]
    return min((time for time in found if time is not None), default=None)


class Runner:
    """One leased tenant: at once on a hint, each second while it is active, else at its next due time."""

    def __init__(self, parts: Parts, lease: Lease) -> None:
        self.tenant_id = lease.tenant_id
        self._parts = parts
        self._lease: Lease | None = lease
        self._wake = asyncio.Event()
        self._stopping = False
        self._dispatcher = Dispatcher(
            worker=lease.worker, directory=parts.directory, providers=parts.providers, wake=self._wake.set
        )
        self._task: asyncio.Task[None] | None = None

    def start(self, ended: Callable[[Runner], None]) -> None:
        """Runs until the tenant is retired, the lease is lost, or stop."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: ended(self))

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def renewed(self, lease: Lease | None) -> None:
        """The lease as renewed; None when it is lost: another worker has the tenant, which correctness does not mind."""
        self._lease = lease
        if lease is None:
            self._wake.set()

    async def stop(self) -> None:
        """Ends after the present round and the sends under way."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._lease is not None and not self._stopping:
                try:
                    if await self._round():
                        return
                except Exception as error:
                    # The worker loop is one of the three edges: a tenant's trouble is logged and tried again.
                    FAILED.labels(type(error).__name__).inc()
                    log.exception("work.failed", tenant=str(self.tenant_id))
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await self._dispatcher.drain()

    async def _round(self) -> bool:
        """One look at everything; true when the tenant is retired."""
        self._wake.clear()
        lease = self._lease
        tenant = await self._parts.tenants.get(self.tenant_id)
        fired = await timers.run_due(tenant.database, TIMERS)
        await self._dispatcher.run(tenant)
        counted = await tenant.database.write(self._count) if await self._behind(tenant) else 0
        # Last, so that a payload that cannot be applied holds up neither timers nor sends.
        await self._parts.applier.apply_left(tenant)
        async with tenant.database.connection() as connection:
            due = await next_due(connection)
        if fired or counted:
            return False
        if (
            lease is not None
            and not lease.active
            and not self._dispatcher.busy
            and await self._parts.directory.retire(lease, due)
        ):
            return True
        await self._sleep(due)
        return False

    async def _sleep(self, due: datetime | None) -> None:
        wait = IDLE_SECONDS if due is None else min(IDLE_SECONDS, (due - utc_now()).total_seconds())
        if wait <= 0:
            # What is due and was not done waits for something else, such as the conversation's send that is under way.
            wait = BLOCKED_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(wait, 0.005))

    async def _behind(self, tenant: Tenant) -> bool:
        """Whether the log has events that statistics have not counted; saves an idle tenant its writes."""
        async with tenant.database.connection() as connection:
            return await statistics.behind(connection)

    async def _count(self, write: Write) -> int:
        return await statistics.follow(write)
