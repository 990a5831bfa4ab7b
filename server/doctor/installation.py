"""The control database: its schema, the master key, what the tenants' rows say, the quarantine, the work directory, the keys."""

from __future__ import annotations

from typing import Any

from server.doctor.finding import Finding, Limits, age, note, problem, well
from server.kit.db import Connection
from server.kit.errors import Refusal
from server.models import migration
from server.tenancy.control import Control

WHERE = "control database"
MIGRATE = "switchboard migrate"
REVISION = "SELECT CASE WHEN to_regclass('alembic_version') IS NULL THEN NULL ELSE (SELECT version_num FROM alembic_version) END"
SEALED = "SELECT id, secret FROM mac_keys ORDER BY id"
TENANTS = "SELECT name, state, schema_revision, migration_error, create_time < now() - interval '10 minutes' AS old FROM tenants"
QUARANTINE = """
SELECT reason, count(*) AS parts, extract(epoch FROM now() - min(receive_time))::float8 AS seconds,
    count(*) FILTER (WHERE expire_time < now() + interval '1 day') AS expiring,
    coalesce(array_to_string((array_agg(DISTINCT external_id))[1:3], ', '), '') AS objects
FROM quarantine GROUP BY reason ORDER BY reason
"""
WAITING = """
SELECT t.name, extract(epoch FROM clock_now() - least(w.active_until - interval '15 s', w.next_due_time))::float8 AS seconds
FROM tenant_work w JOIN tenants t ON t.id = w.tenant_id AND t.state = 'active'
WHERE (w.lease_until IS NULL OR w.lease_until <= now())
    AND least(w.active_until - interval '15 s', w.next_due_time) < clock_now() - $1::interval
ORDER BY 2 DESC
"""
UNKNOWN_WORK = "SELECT name FROM tenants t WHERE state = 'active' AND NOT EXISTS (SELECT FROM tenant_work w WHERE w.tenant_id = t.id)"
KEYS = """
SELECT k.name, k.key_id, coalesce(t.name, '') AS tenant, k.expire_time <= now() AS over,
    extract(epoch FROM k.expire_time - now())::float8 AS seconds
FROM api_keys k LEFT JOIN tenants t ON t.id = k.tenant_id
WHERE k.revoke_time IS NULL AND k.expire_time < now() + $1::interval
    AND (k.expire_time > now() OR k.last_use_time > now() - interval '1 day')
ORDER BY k.expire_time LIMIT 20
"""


async def schema(connection: Connection) -> list[Finding]:
    """The revision of the control database against this release."""
    revision = await connection.fetchval(REVISION)
    newest = migration.newest("control")
    if migration.is_older("control", revision):
        what = f"its schema is {revision or 'missing'}, this release needs {newest}"
        return [problem("control-outdated", WHERE, what, why="No process starts on it.", do=MIGRATE)]
    if revision != newest:
        what = f"its schema {revision} is newer than this release's {newest}"
        do = "Upgrade this machine's Switchboard too."
        return [note("control-newer", WHERE, what, why="One release newer is served, more is not tested.", do=do)]
    return [well("control", WHERE, f"schema {revision}")]


async def sealed(control: Control) -> list[Finding]:
    """Opens what is sealed with the installation's key, and every server's password: a wrong key opens none of them."""
    async with control.database.connection() as connection:
        rows = await connection.fetch(SEALED)
    for row in rows:
        try:
            control.box.open(row["secret"], table="mac_keys", column="secret", row=str(row["id"]))
        except Refusal as error:
            do = "Restore the control database, or the master key, from the backup in which both belong together."
            return [
                problem("secret-unreadable", WHERE, str(error), why="Cursors and page tokens cannot be made.", do=do)
            ]
    return [well("master-key", "master key", "it opens what is sealed")]


async def tenants(connection: Connection, only: str | None) -> list[Finding]:
    """What the rows of the tenants say; their databases are looked at one by one."""
    found: list[Finding] = []
    for row in await connection.fetch(TENANTS):
        if only in (None, row["name"]):
            found += _tenant(row)
    return found


def _tenant(row: Any) -> list[Finding]:
    where, newest = f"tenant {row['name']}", migration.newest("tenant")
    if row["state"] == "provisioning":
        do = f"switchboard tenant create {row['name']}   (it goes on where it stopped)"
        what, why = "it was never made to the end", "It serves nobody, and its name is taken."
        return [problem("tenant-unfinished", where, what, why=why, do=do)] if row["old"] else []
    if row["migration_error"]:
        what = f"its migration failed: {row['migration_error']}"
        why = "Its schema is the old one; this release refuses it with SCHEMA_OUTDATED."
        return [problem("migration-failed", where, what, why=why, do=f"Mend what the error names, then: {MIGRATE}")]
    if migration.is_older("tenant", row["schema_revision"]):
        what = f"its schema is {row['schema_revision'] or 'missing'}, this release needs {newest}"
        return [problem("tenant-outdated", where, what, why="Its calls are refused with SCHEMA_OUTDATED.", do=MIGRATE)]
    if row["state"] == "disabled":
        do = "switchboard tenants enable …, when it shall be served again."
        return [
            note("tenant-disabled", where, "it is disabled", why="Its webhooks are kept, its calls refused.", do=do)
        ]
    return []


async def quarantine(connection: Connection, limits: Limits) -> list[Finding]:
    """Signed payloads that nobody owns, and those of tenants that did not answer."""
    found = []
    for row in await connection.fetch(QUARANTINE):
        if row["seconds"] < limits.late.total_seconds():
            continue
        whose = f", of {row['objects']}" if row["objects"] else ""
        what = f"{row['parts']} payloads ({row['reason']}{whose}), the oldest {age(row['seconds'])} old"
        if row["expiring"]:
            what += f"; {row['expiring']} will be gone within a day"
        do = "Connect the number: switchboard channels connect-whatsapp-channel; or remove its webhook at Meta."
        if row["reason"] == "tenant_unavailable":
            do = "Bring the tenant's database back; a worker hands them over within a minute."
        elif row["reason"] != "unrouted":
            do = "Look what Meta's app subscribes to; what cannot be read is kept 7 days and dropped."
        tell = note if row["reason"] not in ("unrouted", "tenant_unavailable") and not row["expiring"] else problem
        found.append(tell("quarantine", WHERE, what, why="Customers wrote and nobody sees it; kept for 7 days.", do=do))
    return found


async def work(connection: Connection, limits: Limits) -> list[Finding]:
    """Tenants with something to do whom no worker has leased."""
    rows = await connection.fetch(WAITING, limits.late)
    found = []
    if rows:
        names = ", ".join(row["name"] for row in rows[:3]) + (" …" if len(rows) > 3 else "")
        what = f"{len(rows)} tenants have had work for up to {age(rows[0]['seconds'])} and no worker takes it: {names}"
        why = "Timers, deliveries and left payloads of these tenants wait."
        do = "Start a worker: switchboard work   (or see why the running ones log work.failed)"
        found.append(problem("no-worker", "work directory", what, why=why, do=do))
    missing = await connection.fetch(UNKNOWN_WORK)
    if missing:
        what = f"{len(missing)} tenants have no row: {', '.join(row['name'] for row in missing[:3])}"
        do = "INSERT INTO tenant_work (tenant_id) SELECT id FROM tenants ON CONFLICT DO NOTHING;"
        why = "They get one with their next write; until then what they have due is not found."
        found.append(note("work-row-missing", "work directory", what, why=why, do=do))
    return found or [well("work", "work directory", "every tenant with work has a worker")]


async def keys(connection: Connection, limits: Limits) -> list[Finding]:
    """API keys that end soon, and those that ended and are still being used."""
    found = []
    for row in await connection.fetch(KEYS, limits.key):
        where = f"tenant {row['tenant']}" if row["tenant"] else "platform"
        what = f"the API key {row['key_id']} " + (
            "has ended and is still used" if row["over"] else f"ends in {age(row['seconds'])}"
        )
        do = "switchboard auth create-api-key, give it to who uses this one, then revoke this one."
        tell = problem if row["over"] else note
        found.append(tell("key-ends", where, what, why="Whoever uses it is refused.", do=do))
    return found
