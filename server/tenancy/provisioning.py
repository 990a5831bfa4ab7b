"""Makes tenants: a database cloned from a template, a role that owns nothing, a key for its secrets, a log of its own.

Every step can be repeated: a tenant stays in state "provisioning", which serves nobody, until all of them are done.
"""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from server.kit.clock import utc_now
from server.kit.db import LOST
from server.kit.errors import AlreadyExists, DatabaseUnavailable
from server.kit.ids import new_id
from server.kit.secrets import new_data_key
from server.models import migration
from server.tenancy.control import Control
from server.tenancy.placement import Placement, PostgresServer
from server.tenancy.sql import identifier, scram_verifier

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# By role and database, never by SET, so that a pooler in transaction mode may stand between.
ROLE_SETTINGS = {
    "synchronous_commit": "on",
    "lock_timeout": "2s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "5s",
    "transaction_timeout": "15s",
    "timezone": "UTC",
}

# The template may be made by any process of the installation; this makes the others wait for it.
TEMPLATE_LOCK = 0x54504C31


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant whose row is there, and whose database is to be made."""

    id: uuid.UUID
    database_name: str
    role_name: str
    role_password: str


class Provisioning:
    """Makes tenants on the servers that the placement chooses."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._placement = Placement(control)

    async def create(self, name: str) -> uuid.UUID:
        """Makes a tenant and answers its id. ALREADY_EXISTS when the name is taken; DATABASE_UNAVAILABLE may be repeated."""
        server = await self._placement.choose()
        tenant, server_id = await self._reserve(name, server)
        if server_id != server.id:
            server = (await self._placement.all())[server_id]
        async with self._alone(tenant):
            await self._make(server, tenant)
            await self._activate(tenant.id)
        return tenant.id

    async def _reserve(self, name: str, server: PostgresServer) -> tuple[NewTenant, uuid.UUID]:
        """Writes the tenant's row, or finds the one of an attempt that did not come to its end."""
        tenant_id = new_id()
        unique = f"sb_{name.replace('-', '_')}_{tenant_id.hex[-8:]}"
        password = secrets.token_urlsafe(24)
        seal = self._control.box.seal
        async with self._control.database.connection() as connection:
            await connection.execute(
                "INSERT INTO tenants (id, name, state, server_id, database_name, role_name, role_password, wrapped_key,"
                " create_time) VALUES ($1, $2, 'provisioning', $3, $4, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING",
                tenant_id,
                name,
                server.id,
                unique,
                seal(password.encode(), table="tenants", column="role_password", row=tenant_id),
                new_data_key(self._control.provider, owner=str(tenant_id)),
                utc_now(),
            )
            row = await connection.fetchrow(
                "SELECT id, database_name, role_name, role_password, state, server_id FROM tenants WHERE name = $1",
                name,
            )
        if row is None or row["state"] != "provisioning":
            raise AlreadyExists("tenant", f"there is already a tenant {name}")
        held = self._control.box.open(row["role_password"], table="tenants", column="role_password", row=row["id"])
        return NewTenant(row["id"], row["database_name"], row["role_name"], held.decode()), row["server_id"]

    @contextlib.asynccontextmanager
    async def _alone(self, tenant: NewTenant) -> AsyncIterator[None]:
        """Nobody else makes this tenant meanwhile; ALREADY_EXISTS when somebody does."""
        lock = int.from_bytes(tenant.id.bytes[-7:])
        async with self._control.database.connection() as connection, connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock):
                raise AlreadyExists("tenant", "this tenant is being made just now")
            yield

    async def _activate(self, tenant_id: uuid.UUID) -> None:
        async with self._control.database.connection() as connection:
            await connection.execute(
                "WITH made AS (UPDATE tenants SET state = 'active', schema_revision = $2 WHERE id = $1 RETURNING id)"
                " INSERT INTO tenant_work (tenant_id) SELECT id FROM made ON CONFLICT DO NOTHING",
                tenant_id,
                migration.newest("tenant"),
            )

    async def _make(self, server: PostgresServer, tenant: NewTenant) -> None:
        async with connected(server.admin_dsn()) as admin:
            try:
                template = await ensure_template(server, admin)
                await clone(admin, template, tenant)
            except asyncpg.InsufficientPrivilegeError as error:
                raise ServerForeign() from error
        async with connected(server.admin_dsn(tenant.database_name)) as owner:
            async with owner.transaction():
                await grant(owner, tenant.role_name)
                # Cursors are bound to the epoch: those of the template, or of another clone, must not fit.
                await owner.execute("UPDATE stream_head SET epoch = $1", uuid.uuid4())


class ServerForeign(DatabaseUnavailable):
    """The admin role may not do what making a tenant needs."""

    def __init__(self) -> None:
        super().__init__(
            "the Postgres server refuses to make a tenant: its admin role needs CREATEDB and CREATEROLE, and must own what an"
            " installation made there before; give every installation a server of its own"
        )


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection of its own, outside any pool. DatabaseUnavailable."""
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (*LOST, TimeoutError) as error:
        raise DatabaseUnavailable() from error
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def ensure_template(server: PostgresServer, admin: Connection) -> str:
    """The name of the template database with the newest schema; makes it, and drops older ones, when it is missing."""
    name = f"switchboard_template_{migration.newest('tenant')}_{migration.fingerprint('tenant')}"
    if await _exists(admin, name):
        return name
    # The lock is held in a transaction, because CREATE DATABASE cannot run in one: so on a connection beside it.
    async with connected(server.admin_dsn()) as beside:
        async with beside.transaction():
            await beside.execute("SELECT pg_advisory_xact_lock($1)", TEMPLATE_LOCK)
            if not await _exists(admin, name):
                await _make_template(server, admin, name)
    return name


async def _make_template(server: PostgresServer, admin: Connection, name: str) -> None:
    unfinished = "switchboard_template_unfinished"
    await admin.execute(f"DROP DATABASE IF EXISTS {identifier(unfinished)} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {identifier(unfinished)} TEMPLATE template0")
    await migrate_database(server.admin_dsn(unfinished), "tenant")
    await admin.execute(f"REVOKE ALL ON DATABASE {identifier(unfinished)} FROM PUBLIC")
    await admin.execute(f"ALTER DATABASE {identifier(unfinished)} RENAME TO {identifier(name)}")
    await admin.execute(f"ALTER DATABASE {identifier(name)} IS_TEMPLATE true ALLOW_CONNECTIONS false")
    older = await admin.fetch(
        "SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE 'switchboard\\_template\\_%' AND datname <> $1",
        name,
    )
    for row in older:
        # A clone of it may be under way; then the next one to make a template drops it.
        with contextlib.suppress(asyncpg.ObjectInUseError):
            await admin.execute(f"ALTER DATABASE {identifier(row['datname'])} IS_TEMPLATE false")
            await admin.execute(f"DROP DATABASE {identifier(row['datname'])}")


async def clone(admin: Connection, template: str, tenant: NewTenant) -> None:
    """Makes role and database of a tenant anew. What an attempt left that did not come to its end is dropped first."""
    database, role = identifier(tenant.database_name), identifier(tenant.role_name)
    await admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    await admin.execute(f"DROP ROLE IF EXISTS {role}")
    verifier = scram_verifier(tenant.role_password)
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{verifier}' NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT")
    await admin.execute(f"CREATE DATABASE {database} TEMPLATE {identifier(template)}")
    async with admin.transaction():
        await admin.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        await admin.execute(f"GRANT CONNECT ON DATABASE {database} TO {role}")
        for setting, value in ROLE_SETTINGS.items():
            await admin.execute(f"ALTER ROLE {role} IN DATABASE {database} SET {setting} = '{value}'")


async def grant(owner: Any, role_name: str) -> None:
    """Lets the tenant's role use what is in its database. It owns nothing and may create nothing."""
    role = identifier(role_name)
    await owner.execute(f"""
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        GRANT USAGE ON SCHEMA public TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
        REVOKE ALL ON alembic_version FROM {role};
        REVOKE UPDATE, DELETE, TRUNCATE ON audit_entries FROM {role};
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role};
    """)


async def migrate_tenant(dsn: str, *, role_name: str) -> None:
    """Brings a tenant's database to the newest revision and lets its role use what is new, in one transaction."""
    await migrate_database(dsn, "tenant", role_name=role_name)


async def migrate_database(dsn: str, kind: str, *, role_name: str | None = None) -> None:
    """Brings a database to the newest revision, in one transaction."""
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migration.upgrade, kind)
            if role_name is not None:
                raw = await connection.get_raw_connection()
                await grant(raw.driver_connection, role_name)
    finally:
        await engine.dispose()


async def _exists(admin: Connection, name: str) -> bool:
    return bool(await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name))
