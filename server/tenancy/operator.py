"""What an operator does from the command line, beside the API."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from server.kit.errors import FieldViolation, InvalidFields, NotFound
from server.settings import Settings
from server.tenancy import seed, service
from server.tenancy.api_keys import ApiKeys
from server.tenancy.control import open_control
from server.tenancy.provisioning import Provisioning
from server.tenancy.tenants import Tenant, TenantRow, Tenants
from server.tenancy.work import WorkDirectory


@dataclass(frozen=True, slots=True)
class CreatedTenant:
    """A tenant and its first key."""

    id: uuid.UUID
    key: str = field(repr=False)


async def create_tenant(settings: Settings, name: str) -> CreatedTenant:
    """Makes a tenant and its first key. ALREADY_EXISTS, INVALID_FIELDS for a name that the contract refuses."""
    if not service.TENANT_NAME.match(name):
        raise InvalidFields(FieldViolation("name", "must be 3 to 40 lower-case letters, digits and hyphens"))
    control = await open_control(settings)
    try:
        tenant_id, _, secret = await service.create_tenant(Provisioning(control), ApiKeys(control.database), name=name)
        return CreatedTenant(tenant_id, secret)
    finally:
        await control.close()


async def limit_tenant(settings: Settings, name: str, *, calls: int | None, caller_calls: int | None) -> None:
    """Sets a tenant's own limits, calls per second; None: those of the settings. NOT_FOUND."""
    control = await open_control(settings)
    try:
        tenants = Tenants(control, WorkDirectory(control.database))
        row = await tenants.by_name(name)
        if row is None:
            raise NotFound("tenant")
        await tenants.limit(row.id, {"calls_per_second": calls, "calls_per_second_of_caller": caller_calls})
    finally:
        await control.close()


async def list_tenants(settings: Settings) -> list[TenantRow]:
    """All tenants by name."""
    control = await open_control(settings)
    try:
        tenants = Tenants(control, WorkDirectory(control.database))
        rows: list[TenantRow] = []
        while page := await tenants.page(after=rows[-1].name if rows else None, size=1000):
            rows.extend(page)
        return rows
    finally:
        await control.close()


@contextlib.asynccontextmanager
async def opened_tenant(settings: Settings, name: str) -> AsyncIterator[tuple[Tenants, Tenant]]:
    """A tenant by name or id, also a disabled one. NOT_FOUND, SCHEMA_OUTDATED, DATABASE_UNAVAILABLE."""
    control = await open_control(settings)
    tenants = Tenants(control, WorkDirectory(control.database), pool_size=2)
    try:
        yield tenants, await tenants.get(await _id_of(tenants, name), disabled_too=True)
    finally:
        await tenants.close()
        await control.close()


async def _id_of(tenants: Tenants, name: str) -> uuid.UUID:
    row = await tenants.by_name(name)
    if row is not None:
        return row.id
    with contextlib.suppress(ValueError):
        return uuid.UUID(name)
    raise NotFound("tenant")


async def platform_key(settings: Settings) -> str:
    """The key of the installation's operator, which tenants and Meta apps are managed with. Made at the first call."""
    control = await open_control(settings)
    try:
        return await seed.platform_key(control)
    finally:
        await control.close()
