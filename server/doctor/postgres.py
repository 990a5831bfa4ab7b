"""A Postgres server as a whole: version, durability, room, the clock, old transactions, and who may come into which database."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from server.doctor.finding import Finding, Limits, age, note, problem, size, well
from server.kit.db import Connection
from server.tenancy.provisioning import connected

VERSION = 18
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SETTINGS = """
SELECT name, setting FROM pg_settings
WHERE name IN ('server_version_num', 'server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'max_connections',
    'superuser_reserved_connections', 'reserved_connections', 'autovacuum', 'data_directory')
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
SIZE = "SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')"
RIGHTS = "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
# The transactions of other roles show no start to a role that is neither superuser nor in pg_read_all_stats.
OLD = """
SELECT pid, coalesce(datname, '') AS database, coalesce(usename, '') AS role, coalesce(application_name, '') AS application,
    coalesce(state, '') AS state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE xact_start < clock_timestamp() - $1::interval AND pid <> pg_backend_pid() AND backend_type = 'client backend'
ORDER BY xact_start LIMIT 5
"""
HIDDEN = """
SELECT NOT (rolsuper OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')) FROM pg_roles WHERE rolname = current_user
"""
SLOTS = "SELECT slot_name, slot_type FROM pg_replication_slots WHERE NOT active"
PREPARED = """
SELECT gid, database, extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds FROM pg_prepared_xacts
WHERE prepared < clock_timestamp() - $1::interval
"""
# CONNECT as it was granted: grantee 0 is everybody.
OPEN = """
SELECT d.datname AS database, coalesce(r.rolname, '') AS role
FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE d.datallowconn AND a.privilege_type = 'CONNECT' AND (a.grantee = 0 OR r.rolname = ANY($1::text[]))
"""
STRONG = """
SELECT r.rolname AS role FROM pg_roles r
WHERE r.rolname = ANY($1::text[]) AND (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls
    OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))
"""
OWNED = """
SELECT d.datname AS database, r.rolname AS role FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
WHERE r.rolname = ANY($1::text[])
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server and how to come into it. roles: the tenants' roles there, each with the one database that is its own."""

    name: str
    dsn: str
    roles: dict[str, str]
    makes_tenants: bool
    connections_needed: int

    @property
    def where(self) -> str:
        """How findings call it."""
        return f"Postgres {self.name}"

    @property
    def local(self) -> bool:
        """Whether its files lie on this machine."""
        return (urlsplit(self.dsn).hostname or "127.0.0.1") in LOOPBACK


async def look(server: Server, limits: Limits, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Everything about one server, over one connection. clock: this machine's, Unix seconds."""
    async with connected(server.dsn) as connection:
        settings = {row["name"]: row["setting"] for row in await connection.fetch(SETTINGS)}
        found = [
            *_version(server, settings),
            *_durable(server, settings),
            *await _room(server, settings, connection),
            *await _clock(server, connection, limits, clock),
            *await _rights(server, connection),
            *await _old(server, connection, limits),
            *await _doors(server, connection),
            *await _disk(server, settings, connection, limits),
        ]
    if not any(finding.name.startswith("postgres-") for finding in found):
        found.insert(0, well("postgres", server.where, f"PostgreSQL {settings['server_version'].split()[0]}, durable"))
    return found


def _version(server: Server, settings: dict[str, str]) -> list[Finding]:
    major = int(settings["server_version_num"]) // 10_000
    if major == VERSION:
        return []
    tell = note if major > VERSION else problem
    what = f"version {settings['server_version']}; this release is tested with {VERSION}"
    do = f"Move the data to PostgreSQL {VERSION} (pg_upgrade, or dump and restore)."
    return [tell("postgres-version", server.where, what, why="Other versions plan and lock differently.", do=do)]


def _durable(server: Server, settings: dict[str, str]) -> list[Finding]:
    off = [name for name in DURABLE if settings.get(name) == "off"]
    found = [
        problem(
            "postgres-not-durable",
            server.where,
            f"{name} is off",
            why="What was acknowledged is lost, or the data is damaged, when the server or its machine crashes.",
            do=f"ALTER SYSTEM SET {name} = 'on'; SELECT pg_reload_conf();",
        )
        for name in off
    ]
    if settings.get("autovacuum") == "off":
        why = "The head row of each log leaves a dead version with every commit; nobody cleans them away."
        do = "ALTER SYSTEM SET autovacuum = 'on'; SELECT pg_reload_conf();"
        found.append(problem("postgres-no-autovacuum", server.where, "autovacuum is off", why=why, do=do))
    return found


async def _room(server: Server, settings: dict[str, str], connection: Connection) -> list[Finding]:
    reserved = int(settings["superuser_reserved_connections"]) + int(settings.get("reserved_connections", "0"))
    most = int(settings["max_connections"]) - reserved
    used = int(await connection.fetchval(CONNECTIONS))
    do = "Raise max_connections and restart Postgres, or lower SWITCHBOARD_MAX_CONNECTIONS of serve and work."
    if used > 0.9 * most:
        why = "Calls wait 2 s for a connection and are then refused with DATABASE_UNAVAILABLE."
        return [problem("postgres-crowded", server.where, f"{used} of {most} connections are in use", why=why, do=do)]
    if server.connections_needed > most:
        what = f"max_connections leaves {most}; the processes may open {server.connections_needed} by their settings"
        why = "Under load some of them find no connection."
        return [note("postgres-few-connections", server.where, what, why=why, do=do)]
    return []


async def _clock(server: Server, connection: Connection, limits: Limits, clock: Callable[[], float]) -> list[Finding]:
    best, offset = float("inf"), 0.0
    for _ in range(3):
        began, wall = time.perf_counter(), clock()
        theirs = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
        took = time.perf_counter() - began
        if took < best:
            best, offset = took, theirs - (wall + took / 2)
    return clock_findings(server.where, offset, limits)


def clock_findings(where: str, offset: float, limits: Limits) -> list[Finding]:
    """Another machine's clock against ours; offset in seconds, positive when theirs is ahead."""
    if abs(offset) <= limits.clock.total_seconds():
        return []
    what = f"its clock is {age(abs(offset))} {'ahead of' if offset > 0 else 'behind'} this machine's"
    why = "Timers, leases and reply windows go by Postgres' clock, tokens and stamps by the processes'."
    return [problem("clock-apart", where, what, why=why, do="Run chrony or systemd-timesyncd on both machines.")]


async def _rights(server: Server, connection: Connection) -> list[Finding]:
    if not server.makes_tenants or await connection.fetchval(RIGHTS):
        return []
    what = "the role that makes tenants has not CREATEDB and CREATEROLE"
    why = "Tenants can be neither made nor migrated."
    do = "ALTER ROLE … CREATEDB CREATEROLE; as a superuser."
    return [problem("postgres-rights", server.where, what, why=why, do=do)]


async def _old(server: Server, connection: Connection, limits: Limits) -> list[Finding]:
    """Whatever holds an old snapshot keeps dead rows from being cleaned away, in every database of the server."""
    why = "While it lasts no dead row is cleaned away: the head row of each log, locked by every write, grows slow."
    found = []
    for row in await connection.fetch(OLD, limits.transaction):
        what = f"a transaction is open for {age(row['seconds'])}: pid {row['pid']}, {row['state']}, {row['role']}"
        what += f" in {row['database']}" + (f" ({row['application']})" if row["application"] else "")
        do = f"End it in its program, or: SELECT pg_terminate_backend({row['pid']});"
        found.append(problem("long-transaction", server.where, what, why=why, do=do))
    for row in await connection.fetch(PREPARED, limits.transaction):
        what = f"a prepared transaction is {age(row['seconds'])} old, in {row['database']}"
        found.append(
            problem("long-transaction", server.where, what, why=why, do="ROLLBACK PREPARED it; see pg_prepared_xacts.")
        )
    for row in await connection.fetch(SLOTS):
        what = f"the {row['slot_type']} replication slot {row['slot_name']} has no reader"
        do = f"Start its reader, or: SELECT pg_drop_replication_slot('{row['slot_name']}');"
        found.append(problem("dead-slot", server.where, what, why="Postgres keeps all write-ahead log for it.", do=do))
    if not found and await connection.fetchval(HIDDEN):
        what = "transactions of other roles are hidden from this one"
        do = "GRANT pg_read_all_stats TO the role of SWITCHBOARD_CONTROL_DSN; as a superuser."
        found.append(note("transactions-hidden", server.where, what, why="An old one cannot be found.", do=do))
    return found


async def _doors(server: Server, connection: Connection) -> list[Finding]:
    roles = list(server.roles)
    why = "A tenant's role shall come into its own database, own nothing, and be able to do nothing else."
    found = []
    for row in await connection.fetch(OPEN, roles):
        name, role = row["database"], row["role"]
        # template0 takes no connection, and an own database is what a role is for.
        if server.roles.get(role) == name:
            continue
        who = f"the role {role}" if role else "every role"
        do = f"REVOKE CONNECT ON DATABASE {name} FROM {role or 'PUBLIC'};"
        found.append(problem("door-open", server.where, f"{who} may connect to {name}", why=why, do=do))
    for row in await connection.fetch(STRONG, roles):
        do = f"ALTER ROLE {row['role']} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS; and REVOKE its memberships."
        found.append(
            problem("role-strong", server.where, f"the role {row['role']} has rights beyond its tables", why=why, do=do)
        )
    for row in await connection.fetch(OWNED, roles):
        do = f"ALTER DATABASE {row['database']} OWNER TO the role that makes tenants;"
        what = f"the role {row['role']} owns the database {row['database']}"
        found.append(problem("role-owns", server.where, what, why=why, do=do))
    return found


async def _disk(server: Server, settings: dict[str, str], connection: Connection, limits: Limits) -> list[Finding]:
    total = int(await connection.fetchval(SIZE))
    folder = Path(settings.get("data_directory") or "/nowhere")
    if not (server.local and _exists(folder)):
        return [well("database-size", server.where, f"databases of {size(total)}; its disk is not on this machine")]
    return disk(server.where, folder, limits, more=f"databases of {size(total)}, ")


def _exists(folder: Path) -> bool:
    return folder.exists()


def disk(where: str, folder: Path, limits: Limits, *, more: str = "") -> list[Finding]:
    """What is left on the disk of a folder."""
    usage = shutil.disk_usage(folder)
    text = f"{more}{size(usage.free)} free on the disk of {folder}"
    if usage.free >= limits.disk_free_bytes:
        return [well("disk", where, text)]
    why = "Postgres stops when it cannot write; until there is room, every write is refused."
    do = f"Make room: {size(limits.disk_free_bytes)} is wanted. Old logs first; never delete inside Postgres' folder."
    return [problem("disk-full", where, text, why=why, do=do)]
