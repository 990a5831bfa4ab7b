"""The tenants of the installation as one process serves them: their rows, their pools, their boxes of secrets."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from server.kit.cache import Cache
from server.kit.db import Database, Write
from server.kit.errors import DatabaseUnavailable, NotFound, Refusal
from server.kit.secrets import SecretBox
from server.models import migration
from server.rpc.rates import UNLIMITED, Rates
from server.tenancy.control import Control, address
from server.tenancy.sql import identifier
from server.tenancy.work import WorkDirectory

IDLE = timedelta(minutes=5)
SWEEP_EVERY = timedelta(seconds=10)

LOAD = """
SELECT tenants.id, tenants.name, state, host, port, database_name, role_name, role_password, wrapped_key, next_wrapped_key,
       previous_wrapped_key, schema_revision, migration_error, servers.name AS server, tenants.create_time, calls_per_second,
       calls_per_second_of_caller
FROM tenants JOIN postgres_servers servers ON servers.id = tenants.server_id
"""
LOAD_ONE = LOAD + " WHERE tenants.id = $1"
LOAD_BY_NAME = LOAD + " WHERE tenants.name = $1"
LOAD_PAGE = LOAD + " WHERE tenants.name > $1 ORDER BY tenants.name LIMIT $2"


class TenantDisabled(Refusal):
    """The operator stopped serving the tenant."""

    status = "PERMISSION_DENIED"
    reason = "TENANT_DISABLED"

    def __init__(self) -> None:
        super().__init__("the tenant is disabled")


class SchemaOutdated(Refusal):
    """The tenant's database lacks what this release needs."""

    status = "FAILED_PRECONDITION"
    reason = "SCHEMA_OUTDATED"

    def __init__(self) -> None:
        super().__init__("the tenant's database is older than this release; run: switchboard migrate")


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant's row, its secrets still sealed."""

    id: uuid.UUID
    name: str
    state: str
    server: str
    host: str
    port: int
    database_name: str
    role_name: str
    role_password: bytes
    wrapped_key: bytes
    next_wrapped_key: bytes | None
    previous_wrapped_key: bytes | None
    schema_revision: str | None
    migration_error: str | None
    create_time: datetime
    calls_per_second: int | None = None
    calls_per_second_of_caller: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant that is served."""

    id: uuid.UUID
    name: str
    state: str
    database: Database
    secrets: SecretBox
    rates: Rates = UNLIMITED


@dataclass(slots=True)
class _Open:
    row: TenantRow
    tenant: Tenant
    dsn: str
    last_use: float


def _ignore(_tenant_id: uuid.UUID, _write: Write) -> None:
    return None


class Tenants:
    """Tenants on demand. A pool is made at the first use, closed after five idle minutes, and made again at the next use.

    after_commit is called with the tenant and the write once it is durable, changed with a tenant whose row this
    process changed. Above max_connections in all, the pools that were not used for longest are closed first.
    """

    def __init__(
        self,
        control: Control,
        directory: WorkDirectory,
        *,
        after_commit: Callable[[uuid.UUID, Write], None] = _ignore,
        changed: Callable[[uuid.UUID], None] = lambda _tenant_id: None,
        pool_size: int = 8,
        max_connections: int = 100,
        rates: Rates = UNLIMITED,
    ) -> None:
        self._control = control
        self._rates = rates
        self._changed = changed
        self._directory = directory
        self._after_commit = after_commit
        self._pool_size = pool_size
        self._max_connections = max_connections
        self._rows: Cache[uuid.UUID, TenantRow] = Cache(self._load, name="tenants")
        self._open: dict[uuid.UUID, _Open] = {}

    def forget(self, tenant_id: uuid.UUID) -> None:
        """Another process changed the tenant: its row is read anew."""
        self._rows.forget(tenant_id)

    async def get(self, tenant_id: uuid.UUID, *, disabled_too: bool = False) -> Tenant:
        """The tenant, ready to be used; its row is at most 30 s old.

        NOT_FOUND, TENANT_DISABLED (unless disabled_too), SCHEMA_OUTDATED, DATABASE_UNAVAILABLE while it is being made or when
        the control database does not answer.
        """
        row = await self._rows.get(tenant_id)
        if row is None:
            raise NotFound("tenant")
        if row.state == "provisioning":
            raise DatabaseUnavailable("the tenant is being made")
        if row.state == "disabled" and not disabled_too:
            raise TenantDisabled()
        if migration.is_older("tenant", row.schema_revision):
            raise SchemaOutdated()
        return await self._opened(row)

    async def row(self, tenant_id: uuid.UUID) -> TenantRow:
        """The tenant's row as it is now. NOT_FOUND."""
        row = await self._load(tenant_id)
        if row is None:
            raise NotFound("tenant")
        return row

    async def by_name(self, name: str) -> TenantRow | None:
        """The tenant of that name."""
        async with self._control.database.connection() as connection:
            return _row(await connection.fetchrow(LOAD_BY_NAME, name))

    async def page(self, *, after: str | None, size: int) -> list[TenantRow]:
        """Up to size tenants by name, after that name."""
        async with self._control.database.connection() as connection:
            rows = await connection.fetch(LOAD_PAGE, after or "", size)
        return [TenantRow(**row) for row in rows]

    async def all_ids(self) -> list[uuid.UUID]:
        """The ids of all active tenants, oldest first."""
        async with self._control.database.connection() as connection:
            rows = await connection.fetch("SELECT id FROM tenants WHERE state = 'active' ORDER BY id")
        return [row["id"] for row in rows]

    async def set_state(self, tenant_id: uuid.UUID, state: str) -> TenantRow:
        """Disables or enables a tenant. Other processes follow at once, without Valkey within 30 s. NOT_FOUND."""
        async with self._control.database.connection() as connection:
            await connection.execute(
                "UPDATE tenants SET state = $2 WHERE id = $1 AND state <> 'provisioning'", tenant_id, state
            )
        self.forget(tenant_id)
        self._changed(tenant_id)
        if state == "active":
            # What its webhooks left meanwhile is found by a worker at once.
            await self._directory.announce(tenant_id)
        return await self.row(tenant_id)

    async def limit(self, tenant_id: uuid.UUID, rates: Mapping[str, int | None]) -> None:
        """Sets limits of a tenant's own, by column; None: those of the settings. Other processes follow at once, 30 s without Valkey."""
        async with self._control.database.connection() as connection:
            for column, value in rates.items():
                await connection.execute(
                    f"UPDATE tenants SET {identifier(column)} = $2 WHERE id = $1", tenant_id, value
                )
        self.forget(tenant_id)
        self._changed(tenant_id)

    def dsn(self, row: TenantRow) -> str:
        """The address of the tenant's database, as its own role."""
        password = self._control.box.open(row.role_password, table="tenants", column="role_password", row=row.id)
        return address(
            host=row.host, port=row.port, user=row.role_name, password=password.decode(), database=row.database_name
        )

    def box(self, row: TenantRow) -> SecretBox:
        """The box of the tenant's secrets, which opens what its other keys sealed while they are being changed."""
        others = (row.next_wrapped_key, row.previous_wrapped_key)
        return SecretBox.unwrapped(row.wrapped_key, self._control.provider, owner=str(row.id), others=others)

    async def run(self) -> None:
        """Closes pools that nobody uses. Runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY.total_seconds())
            await self.sweep()

    async def sweep(self) -> None:
        """One round of run."""
        idle_since = time.monotonic() - IDLE.total_seconds()
        for held in sorted(self._open.values(), key=lambda held: held.last_use):
            crowded = self.open_connections > self._max_connections
            if not held.tenant.database.busy and (crowded or held.last_use < idle_since):
                # Whoever still holds the Tenant may use it: its pool opens again.
                self._open.pop(held.tenant.id, None)
                await held.tenant.database.close()

    async def let_go(self, tenant_id: uuid.UUID) -> None:
        """Closes the pool of a tenant that is idle, unless it is in use; the next use opens it again."""
        held = self._open.get(tenant_id)
        if held is not None and not held.tenant.database.busy:
            del self._open[tenant_id]
            await held.tenant.database.close()

    @property
    def open_connections(self) -> int:
        """Connections to tenant databases that this process holds."""
        return sum(held.tenant.database.open_connections for held in list(self._open.values()))

    @property
    def busy_connections(self) -> int:
        """Those of them that are in use now."""
        return sum(held.tenant.database.busy_connections for held in list(self._open.values()))

    @property
    def open_pools(self) -> int:
        """Tenants whose pool is open."""
        return len(self._open)

    async def close(self) -> None:
        """Closes all pools."""
        held, self._open = list(self._open.values()), {}
        await asyncio.gather(*(entry.tenant.database.close() for entry in held))

    async def _opened(self, row: TenantRow) -> Tenant:
        held = self._open.get(row.id)
        if held is None or not (held.row is row or held.row == row):
            if self.open_connections >= self._max_connections:
                await self.sweep()
            held = self._open[row.id] = self._made(row)
        held.last_use = time.monotonic()
        return held.tenant

    def _made(self, row: TenantRow) -> _Open:
        held = self._open.get(row.id)
        dsn = self.dsn(row)
        database = held.tenant.database if held is not None and held.dsn == dsn else self._database(row.id, dsn)
        tenant = Tenant(
            id=row.id,
            name=row.name,
            state=row.state,
            database=database,
            secrets=self.box(row),
            rates=self._rates_of(row),
        )
        return _Open(row=row, tenant=tenant, dsn=dsn, last_use=time.monotonic())

    def _rates_of(self, row: TenantRow) -> Rates:
        """The tenant's own limits, or those of the settings."""
        caller, tenant = row.calls_per_second_of_caller, row.calls_per_second
        return Rates(
            caller=self._rates.caller if caller is None else caller,
            tenant=self._rates.tenant if tenant is None else tenant,
        )

    def _database(self, tenant_id: uuid.UUID, dsn: str) -> Database:
        return Database(
            dsn,
            pool_size=self._pool_size,
            before_write=partial(self._directory.announce, tenant_id),
            after_commit=partial(self._after_commit, tenant_id),
        )

    async def _load(self, tenant_id: uuid.UUID) -> TenantRow | None:
        async with self._control.database.connection() as connection:
            return _row(await connection.fetchrow(LOAD_ONE, tenant_id))


def _row(record: Any) -> TenantRow | None:
    return None if record is None else TenantRow(**record)
