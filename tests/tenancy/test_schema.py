from __future__ import annotations

import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

import server.models.control
import server.models.tenant
from server.models import migration
from server.models.base import ControlBase, TenantBase

KINDS = [("control", ControlBase.metadata), ("tenant", TenantBase.metadata)]


@pytest.mark.parametrize(("kind", "metadata"), KINDS, ids=["control", "tenant"])
async def test_the_revisions_make_what_the_models_say(server_dsn: str, kind: str, metadata: MetaData) -> None:
    name = f"schema_{kind}_{uuid.uuid4().hex[:8]}"
    address = server_dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
    admin = create_async_engine(address, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {name}")
    await admin.dispose()
    engine = create_async_engine(address.rpartition("/")[0] + f"/{name}")

    def differences(connection: Connection) -> list[object]:
        migration.upgrade(connection, kind)
        # Partitions are made by functions as they are needed; the models know their parents.
        partition = "SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relname = %s"

        def known(item: object, text: str | None, what: str, _reflected: bool, _other: object) -> bool:
            return what != "table" or connection.exec_driver_sql(partition.replace("%s", f"'{text}'")).first() is None

        return compare_metadata(MigrationContext.configure(connection, opts={"include_object": known}), metadata)

    async with engine.begin() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert [item for item in found if "alembic_version" not in str(item)] == []
    assert server.models.control.__all__
    assert server.models.tenant.__all__


@pytest.mark.parametrize("kind", ["control", "tenant"])
def test_files_of_revisions_are_named_in_their_order(kind: str) -> None:
    scripts = ScriptDirectory.from_config(migration.config(kind))
    assert migration.revisions(kind) == tuple(script.revision for script in scripts.walk_revisions())[::-1]
