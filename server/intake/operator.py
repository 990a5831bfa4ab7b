"""What an operator does with a tenant's journal from the command line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from server.intake.apply import Applier
from server.intake.replay import Replay
from server.messages.batch import BatchWriters
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.settings import Settings
from server.tenancy.operator import opened_tenant
from server.tenancy.tenants import Tenant, Tenants


@dataclass(frozen=True, slots=True)
class Office:
    """A tenant as an operator's command has it."""

    tenant: Tenant
    replay: Replay


@contextlib.asynccontextmanager
async def opened(settings: Settings, tenant_name: str) -> AsyncIterator[Office]:
    """A tenant by name or id, also a disabled one. NOT_FOUND, SCHEMA_OUTDATED, DATABASE_UNAVAILABLE."""
    providers = create_providers(ProviderSettings(meta_graph_url=settings.meta_graph_url))
    try:
        async with opened_tenant(settings, tenant_name) as (tenants, tenant):
            yield Office(tenant, replay_of(tenants, tenant, providers))
    finally:
        for provider in providers.values():
            await provider.close()


def replay_of(tenants: Tenants, tenant: Tenant, providers: Mapping[str, Provider]) -> Replay:
    """What replays the tenant's journal with these parsers."""
    applier = Applier(tenants=tenants, writers=BatchWriters(providers), providers=providers)
    return Replay(tenant, applier, providers)
