"""`switchboard timers`: see what waits for its time, and have what failed tried again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import click

from server.commands.running import operator_settings, run

if TYPE_CHECKING:
    from server.kit.db import Database, Write
    from server.timers.service import Listed


@click.group()
def timers() -> None:
    """See what waits for its time, and have what failed tried again."""


def _tenant(command: Any) -> Any:
    return click.option("--tenant", "tenant_name", required=True, help="Name or id of the tenant.")(command)


@timers.command("list")
@_tenant
@click.option("--failed", is_flag=True, help="Only those that failed at least once.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Timers at most.")
def list_(*, tenant_name: str, failed: bool, limit: int) -> None:
    """List timers by kind: when each is meant to fire, how often it failed, and when it is tried again."""
    from server.timers import service

    async def read(database: Database) -> None:
        async with database.connection() as connection:
            for listed in await service.list_timers(connection, failed=failed, limit=limit):
                click.echo(_line(listed))

    _with(tenant_name, read)


@timers.command("retry")
@_tenant
@click.option("--kind", help="Only timers of this kind.")
@click.option("--key", type=click.UUID, help="Only the timers of this conversation.")
def retry(*, tenant_name: str, kind: str | None, key: uuid.UUID | None) -> None:
    """Have timers that failed, dead ones too, tried at once as if they never had."""
    from server.timers import service

    async def write(database: Database) -> None:
        async def unit(write: Write) -> int:
            return await service.rearm(write.connection, kind=kind, key=key)

        click.echo(f"{await database.write(unit)} timers are tried again")

    _with(tenant_name, write)


def _line(listed: Listed) -> str:
    line = f"{listed.kind}  {listed.key}  due {listed.due_time.isoformat(timespec='seconds')}"
    if not listed.attempt:
        return line
    then = "dead" if listed.retry_time is None else f"again {listed.retry_time.isoformat(timespec='seconds')}"
    return f"{line}  failed {listed.attempt} times  {listed.error}  {then}"


def _with(tenant_name: str, work: Any) -> None:
    from server.tenancy.operator import opened_tenant

    settings = operator_settings()

    async def opened() -> None:
        async with opened_tenant(settings, tenant_name) as (_, tenant):
            await work(tenant.database)

    run(opened)
