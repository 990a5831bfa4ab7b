"""One tenant's database, looked at as its own role: what the processes may do there, and what of its work is late."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from server.audit import chain
from server.doctor.finding import Finding, Limits, age, note, problem, size, well
from server.kit.db import Connection
from server.kit.errors import DatabaseUnavailable
from server.log.append import PARTITION_WIDTH
from server.models import migration
from server.tenancy.provisioning import ROLE_SETTINGS, connected
from server.tenancy.tenants import TenantRow

Look = Callable[[str, Connection, Limits], Coroutine[Any, Any, list[Finding]]]
RESTART_WORK = "Start a worker: switchboard work; or see in its log what fails (work.failed)."

SETTINGS = "SELECT name, setting, unit FROM pg_settings WHERE name = ANY($1::text[])"
OWNED = "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = current_user"
CREATES = "SELECT has_schema_privilege('public', 'CREATE')"
# A partition is reached through its table, whose rights count.
LACKING = """
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version'
    AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND (c.relname = 'audit_entries' OR has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))
UNION ALL SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'public'
WHERE NOT has_function_privilege(p.oid, 'EXECUTE')
"""
FORGES = "SELECT has_table_privilege('audit_entries', 'UPDATE, DELETE, TRUNCATE')"
CLOCK = "SELECT extract(epoch FROM clock_now() - now())::float8"
HEAD = """
SELECT head, floor, pg_relation_size('stream_head') AS bytes,
    to_regclass('stream_event_' || (head / $1)::text) IS NOT NULL AS here,
    to_regclass('stream_event_' || (head / $1 + 1)::text) IS NOT NULL AS ahead
FROM stream_head
"""
CONSUMERS = """
SELECT c.name, c.broken_time IS NOT NULL AS broken, h.head - c.seq AS behind,
    extract(epoch FROM clock_now() - (SELECT min(e.create_time) FROM stream_event e WHERE e.seq = c.seq + 1))::float8 AS seconds
FROM consumers c CROSS JOIN stream_head h WHERE c.seq < h.head
"""
TIMERS = """
SELECT kind, dead_time IS NOT NULL AS dead, count(*) AS timers,
    extract(epoch FROM clock_now() - min(coalesce(retry_time, due_time)))::float8 AS seconds
FROM timers WHERE coalesce(retry_time, due_time) < clock_now() - $1::interval GROUP BY kind, dead ORDER BY kind, dead
"""
DUE = """
SELECT count(*) AS deliveries, extract(epoch FROM clock_now() - min(d.due_time))::float8 AS seconds
FROM deliveries d JOIN channels c ON c.id = d.channel_id AND c.state = 'active'
WHERE d.state = 'queued' AND d.due_time < clock_now() - $1::interval
"""
EXPIRED = """
SELECT count(*) AS deliveries, extract(epoch FROM clock_now() - min(lease_until))::float8 AS seconds
FROM deliveries WHERE state = 'in_flight' AND lease_until < clock_now() - $1::interval
"""
UNKNOWN = """
SELECT count(*) AS deliveries, extract(epoch FROM clock_now() - min(create_time))::float8 AS seconds
FROM deliveries WHERE state = 'unknown' AND (hold_until IS NULL OR hold_until < clock_now())
"""
DEAD_LETTERS = """
SELECT count(*) AS deliveries, coalesce(mode() WITHIN GROUP (ORDER BY error_code), '') AS code FROM (
    SELECT error_code FROM deliveries WHERE state = 'failed' AND create_time > clock_now() - interval '1 day' LIMIT 10000) d
"""
GIVEN_UP = """
SELECT count(*) AS payloads, coalesce(max(error), '') AS error, min(receive_time) AS first FROM journal WHERE state = 'failed'
"""
RECEIVED = """
SELECT count(*) AS payloads, extract(epoch FROM clock_now() - min(receive_time))::float8 AS seconds
FROM journal WHERE state = 'received' AND receive_time < clock_now() - $1::interval
"""
FAILED = """
SELECT count(*) AS items, max(parser_version) AS parser,
    (SELECT count(*) FROM journal WHERE state = 'failed' AND receive_time > clock_now() - interval '7 days') AS payloads
FROM journal_items WHERE state = 'failed' AND create_time > clock_now() - interval '7 days'
"""
# Ids begin with their time in milliseconds (UUIDv7), so that a day's files are a range of the index.
FILES_FAILED = """
SELECT count(*) AS files, coalesce(mode() WITHIN GROUP (ORDER BY error), '') AS error FROM (
    SELECT error FROM message_attachments WHERE state IN ('failed', 'expired') AND media_id IS NULL AND message_id >=
        rpad(lpad(to_hex((extract(epoch FROM clock_now() - interval '1 day') * 1000)::bigint), 12, '0'), 32, '0')::uuid LIMIT 10000) a
"""
FILES_LATE = """
SELECT count(*) AS files, extract(epoch FROM clock_now() - min(due_time))::float8 AS seconds
FROM (SELECT due_time FROM media_fetches UNION ALL SELECT due_time FROM provider_media) f WHERE due_time < clock_now() - $1::interval
"""
ERASURES = """
SELECT count(*) FILTER (WHERE state = 'failed') AS failed, coalesce(max(error) FILTER (WHERE state = 'failed'), '') AS error,
    extract(epoch FROM clock_now() - min(create_time) FILTER (WHERE state = 'failed'))::float8 AS failed_seconds,
    count(*) FILTER (WHERE due_time < clock_now() - $1::interval) AS overdue,
    extract(epoch FROM clock_now() - min(due_time))::float8 AS overdue_seconds
FROM erasures WHERE state <> 'done'
"""
CHANNELS = """
SELECT c.name, c.id, c.state, coalesce(c.state_reason, 'no reason is kept') AS reason, c.health,
    c.health @> '{"stale": true}' AND c.check_due_time < clock_now() - $1::interval AS stale,
    (c.health #>> '{token,expire_time}')::timestamptz < clock_now() + interval '7 days' AS ends,
    (SELECT count(*) FROM deliveries d WHERE d.channel_id = c.id AND d.state = 'queued') AS queued
FROM channels c WHERE c.state <> 'disconnected' AND (c.state <> 'active' OR c.health <> '{}') ORDER BY c.name
"""

LOADS = """
SELECT count(*) FROM agent_loads l LEFT JOIN (
    SELECT assignee_id, count(*) AS conversations, sum(CASE WHEN status IN ('new', 'open') THEN weight ELSE waiting_weight END) AS load
    FROM conversations
    WHERE assignee_id IS NOT NULL AND status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL GROUP BY assignee_id
) held ON held.assignee_id = l.agent_id
WHERE (l.load, l.conversations) <> (coalesce(held.load, 0), coalesce(held.conversations, 0))
"""


async def look(row: TenantRow, dsn: Callable[[TenantRow], str], limits: Limits) -> list[Finding]:
    """Everything about one tenant. One that this release refuses is looked at only as far as that."""
    where = f"tenant {row.name}"
    try:
        async with connected(dsn(row)) as connection:
            if migration.is_older("tenant", row.schema_revision):
                return []
            found = [finding for each in LOOKS for finding in await each(where, connection, limits)]
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        return [_unreachable(where, row, error)]
    return found or [well("tenant", where, f"schema {row.schema_revision}, nothing is late")]


def _unreachable(where: str, row: TenantRow, error: Exception) -> Finding:
    cause = error.__cause__ or error
    what = f"its database {row.database_name} at {row.host}:{row.port} refuses its role: {type(cause).__name__}"
    do = f"Bring {row.database_name} back, or start Postgres at {row.host}:{row.port}."
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        do = f"GRANT CONNECT ON DATABASE {row.database_name} TO {row.role_name}; then: switchboard migrate"
    elif isinstance(cause, asyncpg.InvalidCatalogNameError):
        do = f"Restore {row.database_name} from its backup, or give it its name back (ALTER DATABASE … RENAME TO)."
    elif isinstance(cause, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        do = f"Give {row.role_name} its password and LOGIN back, and look at pg_hba.conf."
    return problem(
        "tenant-unreachable", where, what, why="Nothing of this tenant is served; its webhooks are quarantined.", do=do
    )


async def _settings(where: str, connection: Connection, _limits: Limits) -> list[Finding]:
    """The settings that were given to its role: they replace any SET, so that a pooler may stand between."""
    found = []
    for row in await connection.fetch(SETTINGS, list(ROLE_SETTINGS)):
        name, wanted = row["name"], ROLE_SETTINGS[row["name"]]
        if _same(row["setting"], row["unit"], wanted):
            continue
        shown = row["setting"] + (row["unit"] or "")
        do = f"ALTER ROLE {await connection.fetchval('SELECT current_user')} IN DATABASE"
        do += f" {await connection.fetchval('SELECT current_database()')} SET {name} = '{wanted}'; then restart serve and work."
        if name == "synchronous_commit":
            why = "A crash loses what was acknowledged, and the marks that keep a send from going out twice."
            found.append(
                problem("tenant-not-durable", where, f"synchronous_commit is {shown} for its role", why=why, do=do)
            )
        else:
            why = "A call that hangs would hold its locks for longer than the others wait."
            found.append(note("tenant-settings", where, f"{name} is {shown}, not {wanted}", why=why, do=do))
    return found


def _same(setting: str, unit: str | None, wanted: str) -> bool:
    seconds = wanted.removesuffix("s")
    return setting == wanted or (unit == "ms" and seconds.isdigit() and setting == f"{seconds}000")


async def _rights(where: str, connection: Connection, _limits: Limits) -> list[Finding]:
    lacking = [row["name"] for row in await connection.fetch(LACKING)]
    found = []
    if lacking:
        what = f"its role lacks rights on {', '.join(sorted(lacking)[:5])}" + (" …" if len(lacking) > 5 else "")
        found.append(problem("rights-missing", where, what, why="Calls that need them fail.", do="switchboard migrate"))
    if await connection.fetchval(FORGES):
        why = "A process that is broken into could change what it did."
        found.append(
            problem("audit-open", where, "its role may change the audit trail", why=why, do="switchboard migrate")
        )
    if await connection.fetchval(OWNED) or await connection.fetchval(CREATES):
        do = "REASSIGN OWNED BY its role TO the role that makes tenants; REVOKE CREATE ON SCHEMA public FROM it."
        why = "A process that is broken into could change the schema, and what the functions of the owner do."
        found.append(problem("role-owns", where, "its role owns or may create tables", why=why, do=do))
    return found


async def _clock(where: str, connection: Connection, _limits: Limits) -> list[Finding]:
    moved = float(await connection.fetchval(CLOCK))
    if not moved:
        return []
    do = "As its owner: CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';"
    what = f"its clock_now() is {age(abs(moved))} {'ahead' if moved > 0 else 'behind'}"
    return [
        problem(
            "clock-moved", where, what, why="Time is moved in tests alone; here timers fire at the wrong time.", do=do
        )
    ]


async def _log(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    head: Any = await connection.fetchrow(HEAD, PARTITION_WIDTH)
    found = []
    if not (head["here"] and head["ahead"]):
        partitions = f"({head['head']} / {PARTITION_WIDTH} + n) * {PARTITION_WIDTH}"
        do = f"As its owner: SELECT ensure_event_partition({partitions}) FROM generate_series(0, 3) n;"
        what = f"the log has no partition beyond {head['head']}"
        found.append(
            problem("partition-missing", where, what, why="Writes fail at the end of the last partition.", do=do)
        )
    if head["bytes"] > limits.head_bytes:
        do = (
            "Find what holds an old snapshot (long-transaction, dead-slot in this list), then: VACUUM FULL stream_head;"
        )
        why = "Every write reads through the dead versions."
        found.append(problem("head-bloated", where, f"stream_head takes {size(head['bytes'])}", why=why, do=do))
    return found


async def _consumers(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    found = []
    for row in await connection.fetch(CONSUMERS):
        if row["broken"]:
            what = f"the consumer {row['name']} was given up, {row['behind']} events behind the log"
            why = "The log did not wait for it any longer; it does not go on over what it missed."
            do = "Mend what held it up. The audit trail goes on by itself; for statistics: switchboard rebuild-statistics --tenant …"
            found.append(problem("consumer-broken", where, what, why=why, do=do))
            continue
        if row["seconds"] is None or row["seconds"] > limits.consumer.total_seconds():
            since = "" if row["seconds"] is None else f", {age(row['seconds'])}"
            what = f"the consumer {row['name']} is {row['behind']} events{since} behind the log"
            why = "What follows the log is old: for statistics, the counts; for text, what a search finds."
            found.append(problem("consumer-behind", where, what, why=why, do=RESTART_WORK))
    return found


async def _timers(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    why = "What waits for them happens late: snoozed conversations stay away, reply windows close unseen."
    found = []
    for row in await connection.fetch(TIMERS, limits.late):
        many, since = f"{row['timers']} timers ({row['kind']})", f"the oldest for {age(row['seconds'])}"
        if row["dead"]:
            do = "Mend what `switchboard timers list --failed` shows, then: switchboard timers retry"
            found.append(problem("timers-dead", where, f"{many} failed for good, {since}", why=why, do=do))
        else:
            found.append(problem("timers-overdue", where, f"{many} are overdue, {since}", why=why, do=RESTART_WORK))
    return found


async def _deliveries(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    found = []
    due: Any = await connection.fetchrow(DUE, limits.late)
    if due["deliveries"]:
        what = f"{due['deliveries']} sends are overdue, the oldest for {age(due['seconds'])}"
        found.append(
            problem("deliveries-overdue", where, what, why="Customers wait for their answers.", do=RESTART_WORK)
        )
    expired: Any = await connection.fetchrow(EXPIRED, limits.late)
    if expired["deliveries"]:
        what = f"{expired['deliveries']} sends were left in flight, the oldest {age(expired['seconds'])} past its lease"
        found.append(
            problem("deliveries-left", where, what, why="Nobody has called them unknown yet.", do=RESTART_WORK)
        )
    unknown: Any = await connection.fetchrow(UNKNOWN)
    if unknown["deliveries"]:
        what = f"{unknown['deliveries']} sends are unknown, the oldest {age(unknown['seconds'])} old"
        why = "The provider may or may not have them; they are never sent again by themselves."
        do = "switchboard deliveries list; then, for each, switchboard deliveries retry or give-up."
        found.append(note("deliveries-unknown", where, what, why=why, do=do))
    dead: Any = await connection.fetchrow(DEAD_LETTERS)
    if dead["deliveries"]:
        what = f"{dead['deliveries']} sends of the last day failed for good, most with {dead['code'] or 'no code'}"
        do = "switchboard deliveries list; what may work now: switchboard deliveries retry."
        found.append(note("deliveries-failed", where, what, why="These messages did not reach anybody.", do=do))
    return found


async def _journal(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    found = []
    received: Any = await connection.fetchrow(RECEIVED, limits.late)
    if received["payloads"]:
        what = f"{received['payloads']} payloads are stored and not applied, the oldest for {age(received['seconds'])}"
        found.append(problem("payloads-waiting", where, what, why="What customers wrote is not seen.", do=RESTART_WORK))
    given_up: Any = await connection.fetchrow(GIVEN_UP)
    if given_up["payloads"]:
        what = f"{given_up['payloads']} payloads were given up after many attempts: {given_up['error']}"
        do = f"switchboard journal replay, from {given_up['first']:%Y-%m-%d} on, with a release that mends it."
        found.append(problem("payloads-given-up", where, what, why="What customers wrote is not seen.", do=do))
    failed: Any = await connection.fetchrow(FAILED)
    if failed["items"]:
        what = f"{failed['items']} items of payloads failed within 7 days (parser version {failed['parser']})"
        do = "switchboard journal list and replay: read them anew with a release that understands them."
        found.append(note("payloads-failed", where, what, why="They are kept, and not seen by anybody.", do=do))
    if failed["payloads"]:
        what = f"{failed['payloads']} payloads could not be applied at all within 7 days"
        do = "switchboard journal list --state failed says why; replay them once that is put right."
        found.append(note("payloads-set-apart", where, what, why="They are kept, and not seen by anybody.", do=do))
    return found


async def _audit(where: str, connection: Connection, _limits: Limits) -> list[Finding]:
    broken = await chain.broken(connection)
    if broken is None:
        return []
    why = "The trail is never changed by any process of the installation: somebody did it who could."
    do = "Keep this database as it is, compare the trail with a backup, and find out who has the rights of its owner."
    return [problem("audit-broken", where, broken, why=why, do=do)]


async def _channels(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    rows = await connection.fetch(CHANNELS, limits.late)
    return [finding for row in rows for finding in _channel(where, row, json.loads(row["health"]))]


def _channel(where: str, row: Any, health: dict[str, Any]) -> list[Finding]:
    found = _stopped(where, row)
    if row["state"] != "paused":
        # Of one that is paused the reason says it already.
        for check in health.get("failed_checks", []):
            word = check["check"].removeprefix("CHANNEL_CHECK_KIND_").lower()
            what = f"the channel {row['name']} fails the check of its {word}: {check['message']}"
            do = check["remedy"] or f"switchboard channels check {row['id']} says how it does now."
            found.append(problem("channel-unhealthy", where, what, why="Some of it will not work.", do=do))
    if row["ends"] and row["state"] == "active":
        what = f"the token of the channel {row['name']} ends at {health['token']['expire_time']}"
        do = f"Make one that does not end, then: switchboard channels reauthorize {row['id']} --access-token …"
        found.append(note("channel-token-ends", where, what, why="Nothing is sent from then on.", do=do))
    if row["stale"]:
        what = f"the channel {row['name']} was to be read again, and was not"
        found.append(problem("channel-stale", where, what, why="What is shown of it may be old.", do=RESTART_WORK))
    if health.get("restriction") and row["state"] == "active":
        ways = "; ".join(filter(None, (each.get("remediation") for each in health.get("restrictions", []))))
        what = f"the account of the channel {row['name']} is restricted: {health['restriction']}"
        do = ways or "Meta Business Support > Account quality says why, and takes an appeal."
        found.append(
            note("channel-restricted", where, what, why="Some of what it sends is refused, or will be.", do=do)
        )
    if health.get("quality") == "red":
        what = f"many of those whom the channel {row['name']} writes to complain: its quality is red"
        do = "Send less that nobody asked for, and only to who wants it: docs/templates.md."
        found.append(note("channel-quality", where, what, why="Meta lowers its limits, and restricts it then.", do=do))
    pace = health.get("webhook_pace")
    if pace in ("slow", "late"):
        what = f"messages of the channel {row['name']} come {pace}, the last one after {health.get('webhook_lag')}"
        do = (
            "See whether its webhooks are answered in time: the metrics of intake, and Meta's App dashboard > Webhooks."
        )
        found.append(note("channel-late", where, what, why="Customers wait for longer than anybody sees.", do=do))
    return found


def _stopped(where: str, row: Any) -> list[Finding]:
    why = "Its sends wait in their queue, and new ones are refused with CHANNEL_NOT_SENDING."
    told = f"{row['queued']} sends wait: {row['reason']}"
    if row["state"] == "paused":
        do = (
            f"Mend what the reason says, then: switchboard channels resume {row['id']}; with a new token:"
            f" switchboard channels reauthorize {row['id']} --access-token …"
        )
        return [problem("channel-paused", where, f"the channel {row['name']} is paused, {told}", why=why, do=do)]
    if row["state"] == "blocked":
        do = (
            "Meta Business Support > Account quality says why, and takes an appeal; what has ended:"
            f" switchboard channels resume {row['id']}"
        )
        return [problem("channel-blocked", where, f"the channel {row['name']} is blocked, {told}", why=why, do=do)]
    return []


async def _loads(where: str, connection: Connection, _limits: Limits) -> list[Finding]:
    """The counters of agents against their conversations."""
    wrong = await connection.fetchval(LOADS)
    if not wrong:
        return []
    what = f"{wrong} agents are counted to hold something else than they do"
    why = "Policies give them too many conversations, or too few."
    return [problem("loads-drifted", where, what, why=why, do="In its database: SELECT recount_agent_loads();")]


async def _erasures(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    found, why = [], "Somebody was promised that nothing is kept of him."
    stuck: Any = await connection.fetchrow(ERASURES, limits.late)
    if stuck["failed"]:
        what = (
            f"{stuck['failed']} erasures were given up, the oldest {age(stuck['failed_seconds'])} ago: {stuck['error']}"
        )
        do = "Mend what the log of `work` says at erasure.waits; then, for each: switchboard erasures erase-contact …"
        found.append(problem("erasures-failed", where, what, why=why, do=do))
    if stuck["overdue"]:
        what = f"{stuck['overdue']} erasures are overdue, the oldest for {age(stuck['overdue_seconds'])}"
        found.append(problem("erasures-overdue", where, what, why=why, do=RESTART_WORK))
    return found


async def _files(where: str, connection: Connection, limits: Limits) -> list[Finding]:
    """Files that customers sent and nobody has, and such as wait for a worker."""
    found = []
    failed: Any = await connection.fetchrow(FILES_FAILED)
    if failed["files"]:
        what = (
            f"{failed['files']} files of the last day's messages did not come, most with {failed['error'] or 'no word'}"
        )
        do = "docs/media.md says what each word means; what may come now: switchboard messages retry-attachment …"
        found.append(note("files-failed", where, what, why="Agents cannot see what these customers sent.", do=do))
    late: Any = await connection.fetchrow(FILES_LATE, limits.late)
    if late["files"]:
        what = f"{late['files']} files are overdue, the oldest for {age(late['seconds'])}"
        found.append(problem("files-overdue", where, what, why="They are neither fetched nor sent.", do=RESTART_WORK))
    return found


LOOKS: tuple[Look, ...] = (
    _files,
    _settings,
    _rights,
    _clock,
    _log,
    _consumers,
    _timers,
    _deliveries,
    _journal,
    _erasures,
    _channels,
    _audit,
    _loads,
)
