"""Brings the control database and then every tenant to this release.

Each tenant is one transaction, recorded when it is done: a run that is killed is continued by the next one. A tenant that fails
is named with its error and keeps its old schema; the others go on. Tenants are served all the while.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from server.kit.errors import Refusal
from server.models import migration
from server.settings import Settings
from server.tenancy.control import Control
from server.tenancy.installation import LOCAL, set_up
from server.tenancy.migrator import Migrators
from server.tenancy.placement import Placement, PostgresServer
from server.tenancy.provisioning import connected

ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Target:
    """A tenant to be migrated."""

    id: uuid.UUID
    name: str
    dsn: str
    role_name: str
    recorded_revision: str | None
    recorded_error: str | None


@dataclass(slots=True)
class Report:
    """What became of the tenants."""

    migrated: int = 0
    current: int = 0
    failed: int = 0


async def run(settings: Settings, *, parallel: int = 4, output: Console | None = None) -> int:
    """Migrates everything; the exit code: 0, or 1 when a tenant failed."""
    console = output or Console(highlight=False, soft_wrap=True)
    control = await set_up(settings)
    try:
        console.print(f"control database: {migration.newest('control')}")
        servers = await _servers(control, settings)
        targets = await _targets(control, servers)
        report = await _migrate_all(control, targets, parallel=parallel, console=console)
    finally:
        await control.close()
    console.print(
        f"{len(targets)} tenants: {report.migrated} migrated, {report.current} up to date, {report.failed} failed"
    )
    return 1 if report.failed else 0


async def bring_up_to_date(control: Control, *, parallel: int = 2) -> Report:
    """Migrates all tenants without a word: for starts that own the whole installation."""
    targets = await _targets(control, await Placement(control).all())
    return await _migrate_all(control, targets, parallel=parallel, console=Console(quiet=True))


async def _servers(control: Control, settings: Settings) -> dict[uuid.UUID, PostgresServer]:
    """The known servers. An installation without any places its tenants beside the control database."""
    placement = Placement(control)
    servers = await placement.all()
    if not servers:
        server = await placement.ensure(LOCAL, settings.needed_control_dsn())
        return {server.id: server}
    return servers


async def _targets(control: Control, servers: dict[uuid.UUID, PostgresServer]) -> list[Target]:
    async with control.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT id, name, server_id, database_name, role_name, schema_revision, migration_error FROM tenants"
            " WHERE state <> 'provisioning' ORDER BY name"
        )
    return [
        Target(
            id=row["id"],
            name=row["name"],
            dsn=servers[row["server_id"]].admin_dsn(row["database_name"]),
            role_name=row["role_name"],
            recorded_revision=row["schema_revision"],
            recorded_error=row["migration_error"],
        )
        for row in rows
    ]


async def _migrate_all(control: Control, targets: list[Target], *, parallel: int, console: Console) -> Report:
    report = Report()
    queue = list(reversed(targets))
    async with Migrators(parallel) as migrators:
        with _progress(console) as progress:
            bar = progress.add_task("tenants", total=len(targets))

            async def work_off() -> None:
                while queue:
                    await _migrate_one(control, queue.pop(), migrators, report, progress.console)
                    progress.advance(bar)

            await asyncio.gather(*(work_off() for _ in range(parallel)))
    return report


async def _migrate_one(
    control: Control, target: Target, migrators: Migrators, report: Report, console: Console
) -> None:
    error = await _brought(target, migrators)
    recorded = target.recorded_revision == migration.newest("tenant") and target.recorded_error is None
    if error is not None or not recorded:
        await _record(control, target, error or None)
    if error is None:
        report.current += 1
    elif error:
        report.failed += 1
        console.print(f"failed {target.name}: {error}", style="red", markup=False)
    else:
        report.migrated += 1
        console.print(f"migrated {target.name}", markup=False)


async def _brought(target: Target, migrators: Migrators) -> str | None:
    """None when the database is up to date as it is, "" after a migration that went well, else its error."""
    try:
        async with connected(target.dsn) as connection:
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    except (asyncpg.PostgresError, Refusal) as error:
        return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    if revision is not None and not migration.is_older("tenant", revision):
        return None
    return await migrators.migrate(dsn=target.dsn, role_name=target.role_name)


async def _record(control: Control, target: Target, error: str | None) -> None:
    async with control.database.connection() as connection:
        await connection.execute(
            "UPDATE tenants SET migration_error = $2,"
            " schema_revision = CASE WHEN $2::text IS NULL THEN $3 ELSE schema_revision END WHERE id = $1",
            target.id,
            error,
            migration.newest("tenant"),
        )


def _progress(console: Console) -> Progress:
    """A bar on a terminal; elsewhere the lines about each tenant are all there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
