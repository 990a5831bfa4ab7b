"""What `serve` and `work` are made of. Importing this does nothing; `compose` opens the control database and wires the parts."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from server.agents.presence import Presence
from server.intake.apply import Applier
from server.intake.service import Intake
from server.kit.db import Write
from server.kit.loop import watch_loop
from server.log.append import NOTE, RIGHTS, Appended
from server.log.hints import Hints
from server.media.links import Links, derived
from server.media.store import Store, open_store
from server.messages.batch import BatchWriters
from server.metrics import BATCH_WAITING, COMMITS, EVENTS, build_info, watch_hints, watch_pools
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.rpc.rates import Rates
from server.settings import Settings, SettingsInvalid
from server.tenancy.control import Control, follow_clock, open_control
from server.tenancy.key_following import follow_keys
from server.tenancy.master_key import master_keys
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import Routes
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory

log = structlog.get_logger(__name__)
Committed = Callable[[uuid.UUID, Appended], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that both processes share."""

    control: Control
    directory: WorkDirectory
    tenants: Tenants
    routes: Routes
    meta_apps: MetaApps
    quarantine: Quarantine
    providers: dict[str, Provider]
    hints: Hints
    writers: BatchWriters
    intake: Intake
    applier: Applier
    presence: Presence
    store: Store
    links: Links
    media_most_bytes: int
    retention: timedelta


def _ignore(_tenant_id: uuid.UUID, _appended: Appended) -> None:
    return None


def _keep(_tenant_id: uuid.UUID) -> None:
    return None


class Commits:
    """What happens after a commit: the local streams are told, then the other processes. Neither waits."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self.local: Committed = _ignore
        self.rights: Callable[[uuid.UUID], None] = _keep

    def __call__(self, tenant_id: uuid.UUID, write: Write) -> None:
        """The after_commit of every tenant's database."""
        appended = write.notes.get(NOTE)
        if appended is not None:
            COMMITS.inc()
            EVENTS.inc(appended.new_head - appended.prev_head)
            self.local(tenant_id, appended)
            self._hints.publish(tenant_id, appended.prev_head, appended.new_head)
        if write.notes.get(RIGHTS):
            self.rights(tenant_id)
            self._hints.publish_rights(tenant_id)


@contextlib.asynccontextmanager
async def compose(settings: Settings, *, follow_all: bool) -> AsyncIterator[tuple[Parts, Commits]]:
    """Opens everything and closes it in the opposite order. follow_all: receive the hints of every tenant (workers)."""
    control = await open_control(settings)
    hints = Hints(settings.valkey_url.get_secret_value() or None, follow_all=follow_all)
    commits = Commits(hints)
    directory = WorkDirectory(control.database)
    tenants = Tenants(
        control,
        directory,
        after_commit=commits,
        changed=hints.publish_rights,
        pool_size=settings.pool_size,
        max_connections=settings.max_connections,
        rates=Rates(caller=settings.calls_per_second_of_caller, tenant=settings.calls_per_second),
    )
    providers = create_providers(
        ProviderSettings(meta_graph_url=settings.meta_graph_url, callback_networks=settings.callback_networks)
    )
    routes, meta_apps, quarantine = Routes(control.database), MetaApps(control), Quarantine(control.database)
    objects = frozenset[str]().union(*(provider.webhook_objects for provider in providers.values()))
    writers = BatchWriters(providers)
    parts = Parts(
        control=control,
        directory=directory,
        tenants=tenants,
        routes=routes,
        meta_apps=meta_apps,
        quarantine=quarantine,
        providers=providers,
        hints=hints,
        writers=writers,
        intake=Intake(tenants=tenants, routes=routes, meta_apps=meta_apps, quarantine=quarantine, objects=objects),
        applier=Applier(tenants=tenants, writers=writers, providers=providers),
        presence=Presence(settings.valkey_url.get_secret_value() or None),
        store=_store(settings),
        links=_links(settings),
        media_most_bytes=settings.media_most_bytes,
        retention=timedelta(days=settings.event_retention_days),
    )
    build_info("work" if follow_all else "serve")
    watch_pools(control, tenants)
    watch_hints(lambda: hints.healthy, lambda: hints.lag_seconds)
    BATCH_WAITING.set_function(lambda: writers.waiting)
    hints.on_rights(tenants.forget)
    hints.start()
    try:
        yield parts, commits
    finally:
        await parts.applier.drain()
        await hints.close()
        await parts.presence.close()
        for provider in providers.values():
            await provider.close()
        await tenants.close()
        await control.close()


def _store(settings: Settings) -> Store:
    """Where files are kept. SettingsInvalid."""
    try:
        return open_store(
            settings.media_store,
            folder=settings.home / "media",
            endpoint=settings.media_store_endpoint,
            region=settings.media_store_region,
            access_key=settings.media_store_access_key,
            secret_key=settings.media_store_secret_key.get_secret_value(),
        )
    except ValueError as error:
        raise SettingsInvalid(f"SWITCHBOARD_MEDIA_STORE is wrong: {error}.") from None


def _links(settings: Settings) -> Links:
    key = settings.media_signing_key
    keys = [derived(each) for each in master_keys(settings)] if key is None else [key.get_secret_value().encode()]
    return Links(keys, base_url=settings.media_base_url)


def shared_loops(parts: Parts, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    """What both processes run beside their own work."""
    loops = [parts.directory.run(), parts.tenants.run(), watch_loop(), follow_keys(parts.control)]
    if settings.env == "test":
        loops.append(follow_clock(parts.control.database, settings))
    return loops


@contextlib.asynccontextmanager
async def background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Event]:
    """Runs loops beside what the caller does and cancels them after it. Yields an event that is set when one of them dies."""
    died = asyncio.Event()

    def watch(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("background.died", task=task.get_name(), exc_info=task.exception())
            died.set()

    tasks = [asyncio.create_task(loop, name=getattr(loop, "__qualname__", "loop")) for loop in loops]
    for task in tasks:
        task.add_done_callback(watch)
    try:
        yield died
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
