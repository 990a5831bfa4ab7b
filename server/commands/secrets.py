"""`switchboard secrets`: which keys there are, and changing them while everything runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from server.commands.running import operator_settings, run
from server.commands.tables import print_table, progress_bar, table, time_of

if TYPE_CHECKING:
    from server.tenancy.control import Control
    from server.tenancy.key_status import DataKey
    from server.tenancy.tenants import TenantRow, Tenants


@click.group()
def secrets() -> None:
    """Look at the keys of what is sealed in the databases, and change them."""


@secrets.command("status")
def status() -> None:
    """Show which keys there are, how old, and what is sealed with which. Shows no key."""

    async def read(control: Control, tenants: Tenants) -> None:
        from server.tenancy import key_status

        click.echo(f"master key in use: {control.provider.key_id}")
        keys = [await key_status.installation_key(control)]
        keys += [await key_status.tenant_key(control, tenants, row) for row in await _rows(tenants)]
        _show_keys(keys)
        others = table("key of", "id", "since", "does")
        for key in await key_status.other_keys(control):
            others.add_row(key.kind, key.id, time_of(key.since), key.does)
        print_table(others)

    _with(read)


@secrets.command("rotate-master")
def rotate_master() -> None:
    """Wrap every data key with the present master key; the one before is SWITCHBOARD_MASTER_KEY_PREVIOUS (or _FILE).

    First restart every process with both. May be stopped and run again.
    """

    async def change(control: Control, _tenants: Tenants) -> None:
        from server.tenancy import rotation

        waiting = await rotation.outdated(control)
        with progress_bar("data keys", len(waiting)) as advance:
            for kind, row_id in waiting:
                await rotation.rewrap(control, kind, row_id)
                advance()
        click.echo(
            f"{len(waiting)} data keys wrapped with {control.provider.key_id}; the previous master key can go now"
        )

    _with(change)


@secrets.command("rotate-tenant")
@click.argument("names", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Every tenant but those whose key is younger than an hour.")
def rotate_tenant(names: tuple[str, ...], *, all_: bool) -> None:
    """Give tenants new data keys and seal their secrets anew. Takes two minutes, however many they are.

    May be stopped, and is finished by running it again.
    """
    if bool(names) == all_:
        raise click.UsageError("give names of tenants, or --all")

    async def change(control: Control, tenants: Tenants) -> None:
        from server.tenancy import rotation

        rows = await _chosen(control, tenants, names)
        with progress_bar("tenants", len(rows)) as advance:
            report = await rotation.rotate_tenants(control, tenants, rows, settle=settle, advance=advance)
        click.echo(f"{len(rows)} tenants: {report.done} have new keys, {len(report.failed)} failed")
        for name, error in report.failed.items():
            click.echo(f"failed {name}: {error}; run it again", err=True)
        if report.failed:
            raise SystemExit(1)

    _with(change)


@secrets.command("rotate-installation")
def rotate_installation() -> None:
    """Give the control database a new data key: app secrets, passwords and signing keys are sealed anew. Takes two minutes."""

    async def change(control: Control, _tenants: Tenants) -> None:
        from server.tenancy import rotation

        await rotation.rotate_installation(control, settle=settle)
        click.echo(f"the installation's secrets are sealed with {control.box.key_id}")

    _with(change)


@secrets.command("rotate-cursors")
def rotate_cursors() -> None:
    """Add a key for cursors and page tokens. What the others authenticated stays good for a week."""

    async def change(control: Control, _tenants: Tenants) -> None:
        from server.tenancy import rotation

        click.echo(f"key {await rotation.add_mac_key(control)} signs within a minute")

    _with(change)


@secrets.command("rotate-signing")
@click.option("--at-once", is_flag=True, help="The others verify nothing from now on: every agent needs a new token.")
def rotate_signing(*, at_once: bool) -> None:
    """Add a key for agents' tokens. The others verify until their last token has ended."""

    async def change(control: Control, _tenants: Tenants) -> None:
        from server.auth.tokens import rotate_signing_key

        key_id = await rotate_signing_key(control, at_once=at_once)
        click.echo(f"key {key_id} signs {'at once' if at_once else 'within a minute'}")

    _with(change)


async def settle() -> None:
    """Waits until every running process has read what was written last."""
    from server.tenancy.keys import KNOWN_AFTER

    click.echo(f"waiting {KNOWN_AFTER.seconds} s until every process knows it", err=True)
    await asyncio.sleep(KNOWN_AFTER.total_seconds())


def _with(work: Callable[[Control, Tenants], Awaitable[None]]) -> None:
    settings = operator_settings()

    async def opened() -> None:
        async with _opened(settings) as (control, tenants):
            await work(control, tenants)

    run(opened)


@contextlib.asynccontextmanager
async def _opened(settings: Any) -> AsyncIterator[tuple[Control, Tenants]]:
    from server.tenancy.control import open_control
    from server.tenancy.tenants import Tenants
    from server.tenancy.work import WorkDirectory

    control = await open_control(settings)
    tenants = Tenants(control, WorkDirectory(control.database))
    try:
        yield control, tenants
    finally:
        await tenants.close()
        await control.close()


async def _rows(tenants: Tenants) -> list[TenantRow]:
    rows: list[TenantRow] = []
    while page := await tenants.page(after=rows[-1].name if rows else None, size=1000):
        rows.extend(page)
    return [row for row in rows if row.state != "provisioning"]


async def _chosen(control: Control, tenants: Tenants, names: Sequence[str]) -> list[TenantRow]:
    from server.tenancy import rotation

    rows = await _rows(tenants)
    if names:
        unknown = set(names) - {row.name for row in rows}
        if unknown:
            raise click.ClickException(f"no such tenant: {', '.join(sorted(unknown))}")
        return [row for row in rows if row.name in names]
    fresh = await rotation.fresh(control)
    return [row for row in rows if row.id not in fresh]


def _show_keys(keys: Sequence[DataKey]) -> None:
    found = table("data key of", "id", "since", "wrapped with", "seals", "others seal", "note")
    for key in keys:
        others = sum(key.sealed.values()) - key.sealed[key.key_id]
        found.add_row(
            *(key.owner, key.key_id, time_of(key.since), key.wrapped_with, str(key.sealed[key.key_id]), str(others)),
            key.error or key.changing or "-",
        )
    print_table(found)
