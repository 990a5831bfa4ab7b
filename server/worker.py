"""`switchboard work`: finds tenants with something to do, and does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import uuid
from collections.abc import Sequence

import asyncpg
import structlog
import uvloop
from grpc_health.v1 import health
from prometheus_client import Gauge

from server import app, housekeeping
from server.composition import Parts, background, compose, shared_loops
from server.kit import collector, logging, tracing
from server.kit.errors import Refusal
from server.messages import fetching
from server.messages.dispatching import Slots
from server.runner import Backlog, Fetches, Runner
from server.settings import Settings
from server.tenancy.quarantine import Part
from server.tenancy.work import Share

log = structlog.get_logger(__name__)
FIND_SECONDS, RENEW_SECONDS, IDLE_SECONDS, QUARANTINE_SECONDS = 1.0, 3.0, 1.0, 5.0
SHARE_SECONDS, HINTS_APART_SECONDS = 1.0, 0.05
TENANTS_MOST = 200
# Of the time, while many timers are behind; docs/decisions/0017 has the measurements.
BACKLOG_SHARE = 0.33
TENANTS = Gauge("switchboard_work_tenants", "Tenants that this worker has leased.")
LAG = Gauge("switchboard_work_due_lag_seconds", "How long the oldest due timer of the leased tenants has been due.")


def run(settings: Settings, internal_listen: str) -> None:
    """Works until SIGTERM or SIGINT; what is under way is finished."""
    logging.configure()
    tracing.configure("work")
    uvloop.run(work(settings, internal_listen=internal_listen))


async def work(settings: Settings, *, internal_listen: str) -> None:
    """Runs the worker beside its internal server."""
    stopped = app.stop_signal()
    async with compose(settings, follow_all=True) as (parts, commits):
        checks = health.aio.HealthServicer()
        worker = Worker(parts, settings)
        commits.local = lambda tenant_id, _: worker.wake(tenant_id)
        parts.hints.on_hint(lambda tenant_id, _prev, _new: worker.wake(tenant_id))
        async with app.internal(settings, checks, internal_listen):
            loops = (
                *(*shared_loops(parts, settings), app.watch_health(checks, parts)),
                *(worker.run(), worker.run_quarantine(), housekeeping.run(parts)),
            )
            collector.settle()
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

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._parts = parts
        self._runners: dict[uuid.UUID, Runner] = {}
        self._share = Share(workers=1, tenants=0)
        self._look = asyncio.Event()
        self._backlog = Backlog(share=BACKLOG_SHARE)
        self._slots = Slots()
        self._fetches = Fetches(settings.media_most_bytes, asyncio.Semaphore(fetching.PROCESS_MOST))
        TENANTS.set_function(lambda: len(self._runners))
        LAG.set_function(lambda: max((runner.lag for runner in self._runners.values()), default=0.0))

    def wake(self, tenant_id: uuid.UUID) -> None:
        """A hint: the tenant's log moved. Nothing depends on it."""
        runner = self._runners.get(tenant_id)
        if runner is not None:
            runner.wake()
        else:
            self._look.set()

    async def run(self) -> None:
        """Finds and renews, for ever."""
        renewed = shared = 0.0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._look.clear()
            try:
                if began - shared >= SHARE_SECONDS:
                    self._share = await self._parts.directory.share(self.name)
                    shared = began
                await self._find()
                if began - renewed >= RENEW_SECONDS:
                    await self._renew()
                    renewed = began
            except Refusal as error:
                log.warning("work.control_unavailable", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), FIND_SECONDS)
                # Hints come in bursts, also those of tenants that another worker has; one look serves many.
                await asyncio.sleep(max(began + HINTS_APART_SECONDS - loop.time(), 0.005))

    async def _find(self) -> None:
        held = len(self._runners)
        for lease in await self._parts.directory.find(
            self.name, limit=TENANTS_MOST - held, held=held, workers=self._share.workers
        ):
            if lease.tenant_id in self._runners:
                self._runners[lease.tenant_id].renewed(lease)
                continue
            runner = self._runners[lease.tenant_id] = Runner(
                self._parts, lease, self._backlog, self._slots, self._fetches
            )
            runner.start(self._ended)

    def _ended(self, runner: Runner) -> None:
        self._runners.pop(runner.tenant_id, None)

    async def _renew(self) -> None:
        if not self._runners:
            return
        leases = await self._parts.directory.renew(self.name, list(self._runners))
        for tenant_id, runner in list(self._runners.items()):
            runner.renewed(leases.get(tenant_id))
        # A worker that came later gets its share: what is too many here is given back, one tenant stays either way.
        for runner in list(self._runners.values())[self._share.each + 1 :]:
            runner.give_back()

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

    async def stop(self) -> None:
        """Finishes what is under way and gives the leases back."""
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()), return_exceptions=True)
        with contextlib.suppress(Refusal):
            await self._parts.directory.leave(self.name)
