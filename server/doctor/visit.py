"""The whole look: every check beside the others, each with a time of its own, none able to stop or to hang the rest."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from server import settings as configuration
from server.doctor import installation, postgres, processes, tenant, valkey
from server.doctor.finding import Finding, Limits, Report, blind, problem
from server.doctor.postgres import Server
from server.doctor.processes import Process
from server.kit.errors import DatabaseUnavailable, Refusal
from server.kit.secrets import SecretUnreadable
from server.settings import Settings, SettingsInvalid
from server.tenancy.control import Control, InstallationMissing, open_control
from server.tenancy.placement import Placement
from server.tenancy.provisioning import connected
from server.tenancy.tenants import TenantRow, Tenants
from server.tenancy.work import WorkDirectory

TENANTS_AT_ONCE = 16
CONTROL = "control database"
Check = Coroutine[Any, Any, list[Finding]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator asked for. tenant: its name, None for all. settings: in place of those of the environment."""

    tenant: str | None = None
    internal: Sequence[str] = ()
    envoy_admin: str | None = None
    limits: Limits = field(default_factory=Limits)
    settings: Settings | None = None
    clock: Callable[[], float] = time.time


async def examine(asked: Asked) -> Report:
    """Looks at everything, as much of it at once as goes."""
    report = Report()
    try:
        settings = asked.settings or configuration.load_for_operator()
        settings.needed_control_dsn()
    except SettingsInvalid as error:
        do = "Set it in the environment of this command, or run it where `switchboard up` runs (SWITCHBOARD_HOME)."
        why = "The processes do not start with them either."
        report.findings.append(blind("settings", "settings", str(error), why=why, do=do))
        return report
    try:
        async with asyncio.timeout(asked.limits.whole.total_seconds()):
            await _examine(settings, asked, report)
    except TimeoutError:
        what = f"not everything was looked at within {asked.limits.whole.total_seconds():.0f} s"
        do = "Narrow it: switchboard doctor --tenant NAME"
        report.findings.append(blind("too-slow", "doctor", what, why="What is not listed was not looked at.", do=do))
    return report


async def _examine(settings: Settings, asked: Asked, report: Report) -> None:
    dev = _dev(settings.home)
    limits = asked.limits
    valkey_url = settings.valkey_url.get_secret_value()
    checks = [
        _guarded("Valkey", valkey.look(valkey_url, limits, clock=asked.clock), limits),
        *(_guarded(each.name, processes.look(each), limits) for each in _processes(asked, dev)),
        *(_guarded("Envoy", processes.look_at_envoy(admin), limits) for admin in _envoy(asked, dev)),
        _collected(settings, asked, dev),
    ]
    for result in await asyncio.gather(*checks):
        report.findings += result
    report.findings += _machine(settings, dev, limits)


async def _collected(settings: Settings, asked: Asked, dev: dict[str, Any]) -> list[Finding]:
    """The databases: the control database first, because it says where the others are."""
    limits = asked.limits
    try:
        async with connected(settings.needed_control_dsn()) as connection:
            found = await installation.schema(connection)
            if any(finding.name == "control-outdated" for finding in found):
                return found
            found += await installation.tenants(connection, asked.tenant)
            found += await installation.quarantine(connection, limits)
            found += await installation.work(connection, limits)
            found += await installation.keys(connection, limits)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        what = f"SWITCHBOARD_CONTROL_DSN leads to no database: {type(error.__cause__ or error).__name__}"
        do = "Start its Postgres, or correct the address; under `switchboard up` see logs/postgres.log."
        return [blind("control-unreachable", CONTROL, what, why="Without it nothing is served.", do=do)]
    try:
        control = await open_control(settings)
    except (SecretUnreadable, SettingsInvalid, InstallationMissing) as error:
        return [*found, _no_key(error)]
    try:
        return found + await _below(control, settings, asked, dev)
    finally:
        await control.close()


def _no_key(error: Exception) -> Finding:
    why = "No process starts without it, and no secret in the databases can be read: tokens, app secrets, passwords of roles."
    if isinstance(error, InstallationMissing):
        return problem("master-key", "master key", "the installation has none yet", why=why, do="switchboard migrate")
    do = "Give the key that this installation was made with (SWITCHBOARD_MASTER_KEY, or its file), from its backup."
    what = (
        "it is not the one that the databases were sealed with" if isinstance(error, SecretUnreadable) else str(error)
    )
    return problem("master-key-wrong", "master key", what, why=why, do=do)


async def _below(control: Control, settings: Settings, asked: Asked, dev: dict[str, Any]) -> list[Finding]:
    limits = asked.limits
    tenants = Tenants(control, WorkDirectory(control.database))
    rows = await _rows(tenants)
    wanted = [row for row in rows if row.state != "provisioning" and asked.tenant in (None, row.name)]
    found = await installation.sealed(control)
    if asked.tenant is not None and not wanted:
        do = "switchboard tenant list"
        found.append(problem("tenant-missing", f"tenant {asked.tenant}", "there is none of this name", why="", do=do))
    free = asyncio.Semaphore(TENANTS_AT_ONCE)

    async def one(row: TenantRow) -> list[Finding]:
        async with free:
            return await _guarded(f"tenant {row.name}", tenant.look(row, tenants.dsn, limits), limits)

    servers = await _servers(control, settings, rows, dev)
    checks = [
        *(_guarded(each.where, postgres.look(each, limits, clock=asked.clock), limits) for each in servers),
        *(one(row) for row in wanted),
    ]
    for result in await asyncio.gather(*checks):
        found += result
    return found


async def _rows(tenants: Tenants) -> list[TenantRow]:
    rows: list[TenantRow] = []
    while page := await tenants.page(after=rows[-1].name if rows else None, size=1000):
        rows.extend(page)
    return rows


async def _servers(
    control: Control, settings: Settings, rows: Sequence[TenantRow], dev: dict[str, Any]
) -> list[Server]:
    """The tenants' servers, each as the role that makes tenants there."""
    known = await Placement(control).all()
    count = max(1, sum(process["name"].startswith(("serve", "work")) for process in dev.get("processes", ())))
    needed = count * (settings.max_connections + settings.pool_size) if count == 1 else 0
    roles: dict[str, dict[str, str]] = {}
    for row in rows:
        roles.setdefault(row.server, {})[row.role_name] = row.database_name
    return [
        Server(each.name, each.admin_dsn(), roles.get(each.name, {}), makes_tenants=True, connections_needed=needed)
        for each in known.values()
    ]


async def _guarded(where: str, check: Check, limits: Limits) -> list[Finding]:
    """A check with a time of its own; what it did not expect is said, and stops no other one."""
    try:
        async with asyncio.timeout(limits.check.total_seconds()):
            return await check
    except TimeoutError:
        what = f"it did not answer within {limits.check.total_seconds():.0f} s"
        do = "Look whether it hangs: its load, its locks, the network between."
        return [problem("no-answer", where, what, why="Calls that need it wait just as long.", do=do)]
    except (OSError, asyncpg.PostgresError, Refusal, SettingsInvalid) as error:
        what = f"it could not be looked at: {type(error).__name__}"
        do = "See its log of this minute."
        return [blind("not-looked-at", where, what, why="What is wrong with it, if anything, is not known.", do=do)]


def _dev(home: Path) -> dict[str, Any]:
    """What an embedded run of this home says of itself; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads((home / "dev.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def _processes(asked: Asked, dev: dict[str, Any]) -> list[Process]:
    given = [Process(name=address, internal=address) for address in asked.internal]
    return given + [
        Process(
            name=each["name"],
            pid=each["pid"],
            internal=each.get("internal"),
            metrics=each["metrics"].split("/")[2] if "metrics" in each else None,
        )
        for each in dev.get("processes", ())
    ]


def _envoy(asked: Asked, dev: dict[str, Any]) -> list[str]:
    found = asked.envoy_admin or dev.get("envoy", {}).get("admin")
    return [found] if found else []


def _machine(settings: Settings, dev: dict[str, Any], limits: Limits) -> list[Finding]:
    """What lies on this machine, where an embedded run does."""
    if not dev:
        return []
    return [
        *postgres.disk("home", settings.home.absolute(), limits),
        *processes.certificate(Path(dev["tls_certificate"]), limits),
    ]
