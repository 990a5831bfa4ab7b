"""What can be wrong with an installation, each as a context that makes it so and puts it right again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
from doctor_stack import Ill

from server.doctor.finding import Limits
from server.doctor.visit import Asked
from server.kit.secrets import new_master_key
from server.models.migration import newest
from server.settings import load
from tests.moved_time import move_database

Plant = Callable[[Ill], AbstractAsyncContextManager[Asked]]
QUICK = Limits(late=timedelta(0), consumer=timedelta(0), transaction=timedelta(seconds=1))


@dataclass(frozen=True)
class Planted:
    """A fault, and what the doctor must call it. where: stands in the finding's where."""

    plant: Plant
    name: str
    where: str
    exit_code: int = 1
    also: tuple[str, ...] = field(default=())


def by_sql(database: str, do: str, undo: str) -> Plant:
    """Statements of the superuser; {tenant}, {role}, {other} stand for acme's database and role, and globex' database."""

    @asynccontextmanager
    async def plant(ill: Ill) -> AsyncIterator[Asked]:
        await ill.execute(database, do)
        try:
            yield Asked(limits=QUICK)
        finally:
            await ill.execute(database, undo)

    return plant


def asked(**more: Any) -> Plant:
    """Nothing is changed but what the doctor goes by."""

    @asynccontextmanager
    async def plant(_ill: Ill) -> AsyncIterator[Asked]:
        yield Asked(**more)

    return plant


@asynccontextmanager
async def valkey_stopped(ill: Ill) -> AsyncIterator[Asked]:
    ill.stack.terminate("valkey")
    try:
        # The processes notice a dead session within 3 s and tell it within 2.
        await asyncio.sleep(6)
        yield Asked()
    finally:
        ill.stack.restart("valkey")
        await asyncio.sleep(6)


@asynccontextmanager
async def worker_stopped(ill: Ill) -> AsyncIterator[None]:
    ill.stack.kill("work")
    try:
        yield
    finally:
        ill.stack.restart("work")


@asynccontextmanager
async def timers_overdue(ill: Ill) -> AsyncIterator[Asked]:
    async with worker_stopped(ill):
        insert = "INSERT INTO timers (kind, key, due_time, generation) VALUES ('snooze', gen_random_uuid(), now() - interval '1 h', 0)"
        await ill.execute("tenant", insert)
        due = "UPDATE tenant_work SET next_due_time = now() - interval '1 h', active_until = NULL, lease_until = NULL"
        await ill.execute("control", due)
        yield Asked(limits=QUICK)
        await ill.execute("tenant", "DELETE FROM timers WHERE due_time <= now()")


@asynccontextmanager
async def delivery_overdue(ill: Ill) -> AsyncIterator[Asked]:
    async with worker_stopped(ill):
        await ill.execute("tenant", DELIVERY)
        yield Asked(limits=QUICK)
        await ill.execute("tenant", "DELETE FROM deliveries WHERE position = 987654")


DELIVERY = """
INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)
SELECT gen_random_uuid(), 'send', gen_random_uuid(), gen_random_uuid(), id, 987654, 'queued', now() - interval '1 h', now()
FROM channels LIMIT 1
"""
DEAD_TIMER = """
INSERT INTO timers (kind, key, due_time, generation, attempt, dead_time, error)
VALUES ('snooze', gen_random_uuid(), now() - interval '1 h', 0, 8, now(), 'ValueError')
"""
PAYLOAD = """
INSERT INTO journal (id, receive_time, provider, meta_app_id, body, sha256, split, secret_index, state)
SELECT '00000000-0000-7000-8000-000000000000', now(), 'whatsapp', 'doctor', '{{}}', '', false, 0, 'received'
"""


# Of a message of now, by its id, that nobody wrote.
LOST_FILE = """
SET session_replication_role = replica;
INSERT INTO message_attachments (id, message_id, position, kind, mime_type, file_name, state, error)
SELECT gen_random_uuid(), rpad(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0'), 32, '0')::uuid, 0, 'image',
    'image/jpeg', 'doctor', 'failed', 'not_at_provider';
RESET session_replication_role
"""
ERASURE = """
INSERT INTO erasures (id, contact_id, state, step, place, counts, contact_ids, identity_ids, conversation_ids, addresses, attempt,
    error, due_time, create_time, update_time)
SELECT gen_random_uuid(), gen_random_uuid(), {}, 3, 'doctor', '{{{{}}}}', '{{{{}}}}', '{{{{}}}}', '{{{{}}}}', '{{{{}}}}', 10,
    'ValueError', {}, now(), now()
"""


@asynccontextmanager
async def erasure_overdue(ill: Ill) -> AsyncIterator[Asked]:
    async with worker_stopped(ill):
        await ill.execute("tenant", ERASURE.format("'running'", "now() - interval '1 h'"))
        yield Asked(limits=QUICK)
        await ill.execute("tenant", "DELETE FROM erasures WHERE place = 'doctor'")


@asynccontextmanager
async def payload_waiting(ill: Ill) -> AsyncIterator[Asked]:
    async with worker_stopped(ill):
        await ill.execute("tenant", "SELECT ensure_journal_day(now()::date)")
        await ill.execute("tenant", PAYLOAD)
        yield Asked(limits=QUICK)
        await ill.execute("tenant", "DELETE FROM journal WHERE meta_app_id = 'doctor'")


@asynccontextmanager
async def held(ill: Ill, statement: str) -> AsyncIterator[None]:
    """A transaction that stays open."""
    connection = await asyncpg.connect(ill.dsn("tenant"))
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def long_transaction(ill: Ill) -> AsyncIterator[Asked]:
    async with held(ill, "SELECT pg_current_xact_id()"):
        await asyncio.sleep(1.2)
        yield Asked(limits=QUICK)


@asynccontextmanager
async def consumer_behind(ill: Ill) -> AsyncIterator[Asked]:
    """Somebody locks the consumer's row, and a customer writes."""
    ill.customer_writes()
    await ill.until("SELECT count(*) FROM consumers")
    async with held(ill, "SELECT * FROM consumers FOR UPDATE"):
        ill.customer_writes()
        await asyncio.sleep(1.0)
        yield Asked(limits=Limits(consumer=timedelta(seconds=0.5)))


@asynccontextmanager
async def quarantined(ill: Ill) -> AsyncIterator[Asked]:
    ill.stranger_number_writes()
    try:
        yield Asked(limits=QUICK)
    finally:
        await ill.execute("control", "DELETE FROM quarantine")


@asynccontextmanager
async def tenant_clock_moved(ill: Ill) -> AsyncIterator[Asked]:
    await move_database(ill.dsn("other"), to=timedelta(hours=1))
    try:
        yield Asked()
    finally:
        await move_database(ill.dsn("other"), to=timedelta(0))


@asynccontextmanager
async def envoy_killed(ill: Ill) -> AsyncIterator[Asked]:
    ill.stack.kill("envoy")
    try:
        yield Asked()
    finally:
        ill.stack.restart("envoy")


def frozen(name: str) -> Plant:
    """A process that is there and does nothing: whoever asks it waits."""

    @asynccontextmanager
    async def plant(ill: Ill) -> AsyncIterator[Asked]:
        pid = ill.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield Asked()
        finally:
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(3)

    return plant


@asynccontextmanager
async def wrong_master_key(ill: Ill) -> AsyncIterator[Asked]:
    given = {"control_dsn": ill.dsn("control"), "valkey_url": ill.stack.valkey_url(), "home": ill.stack.home.path}
    yield Asked(settings=load({**given, "master_key": new_master_key()}))


@asynccontextmanager
async def no_control_database(ill: Ill) -> AsyncIterator[Asked]:
    given = {"control_dsn": "postgresql://switchboard:x@127.0.0.1:1/none", "valkey_url": ill.stack.valkey_url()}
    yield Asked(settings=load({**given, "master_key": new_master_key()}))


@asynccontextmanager
async def older_descriptors(ill: Ill) -> AsyncIterator[Asked]:
    """Envoy says that it runs with the descriptors of another release."""
    old = ill.older_descriptors()
    port, runner = await ill.envoy_saying({"proto_descriptor": str(old)})
    try:
        yield Asked(envoy_admin=f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


ROLE = "ALTER ROLE {role} IN DATABASE {tenant}"
KEY = "UPDATE api_keys SET expire_time = {when} WHERE tenant_id IS NOT NULL"
GLOBEX = "UPDATE tenants SET {} WHERE name = 'globex'"
PLANTED: dict[str, Planted] = {
    "Valkey is stopped": Planted(valkey_stopped, "valkey-unreachable", "Valkey", also=("process-without-valkey",)),
    "a tenant is outdated": Planted(
        by_sql(
            "control",
            GLOBEX.format("schema_revision = '0001'"),
            GLOBEX.format(f"schema_revision = '{newest('tenant')}'"),
        ),
        "tenant-outdated",
        "globex",
    ),
    "a migration failed": Planted(
        by_sql("control", GLOBEX.format("migration_error = 'no room'"), GLOBEX.format("migration_error = NULL")),
        "migration-failed",
        "globex",
    ),
    "the master key is another": Planted(wrong_master_key, "master-key-wrong", "master key"),
    "the worker is dead and timers are due": Planted(
        timers_overdue, "timers-overdue", "acme", also=("process-dead", "no-worker")
    ),
    "sends wait for a worker": Planted(delivery_overdue, "deliveries-overdue", "acme"),
    "a payload is not applied": Planted(payload_waiting, "payloads-waiting", "acme"),
    "a timer was given up": Planted(
        by_sql("other", DEAD_TIMER, "DELETE FROM timers WHERE dead_time IS NOT NULL"), "timers-dead", "globex"
    ),
    "a payload was given up": Planted(
        by_sql(
            "other",
            "SELECT ensure_journal_day(now()::date); " + PAYLOAD.replace("'received'", "'failed'"),
            "DELETE FROM journal WHERE meta_app_id = 'doctor'",
        ),
        "payloads-given-up",
        "globex",
    ),
    "an erasure was given up": Planted(
        by_sql("other", ERASURE.format("'failed'", "NULL"), "DELETE FROM erasures WHERE place = 'doctor'"),
        "erasures-failed",
        "globex",
    ),
    "files did not come": Planted(
        by_sql("other", LOST_FILE, "DELETE FROM message_attachments WHERE file_name = 'doctor'"),
        "files-failed",
        "globex",
        exit_code=0,
    ),
    "an erasure waits for a worker": Planted(erasure_overdue, "erasures-overdue", "acme"),
    "sends failed for good": Planted(
        by_sql("other", DELIVERY.replace("'queued'", "'failed'"), "DELETE FROM deliveries WHERE position = 987654"),
        "deliveries-failed",
        "globex",
        0,
    ),
    "a consumer was given up": Planted(
        by_sql(
            "other",
            "INSERT INTO consumers (name, seq, update_time, broken_time) VALUES ('doctor', -1, now(), now())",
            "DELETE FROM consumers WHERE name = 'doctor'",
        ),
        "consumer-broken",
        "globex",
    ),
    "the end of the audit trail was cut off": Planted(
        by_sql("other", "UPDATE audit_head SET number = number + 1", "UPDATE audit_head SET number = number - 1"),
        "audit-broken",
        "globex",
    ),
    "the tenant's role may change the audit trail": Planted(
        by_sql("tenant", "GRANT UPDATE ON audit_entries TO {role}", "REVOKE UPDATE ON audit_entries FROM {role}"),
        "audit-open",
        "acme",
    ),
    "a channel is paused": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET state = 'paused', state_reason = '190: the token ended'",
            "UPDATE channels SET state = 'active', state_reason = NULL",
        ),
        "channel-paused",
        "acme",
    ),
    "a channel is blocked": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET state = 'blocked', state_reason = 'ACCOUNT_RESTRICTION'",
            "UPDATE channels SET state = 'active', state_reason = NULL",
        ),
        "channel-blocked",
        "acme",
    ),
    "a channel fails a check": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET health = jsonb_build_object('failed_checks', jsonb_build_array(jsonb_build_object("
            "'check', 'CHANNEL_CHECK_KIND_APP', 'message', 'no message would come', 'remedy', 'Subscribe to it.')))",
            "UPDATE channels SET health = '{{}}'",
        ),
        "channel-unhealthy",
        "acme",
    ),
    "a token ends soon": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET health = jsonb_build_object('token', jsonb_build_object('valid', true,"
            " 'expire_time', now() + interval '3 days'))",
            "UPDATE channels SET health = '{{}}'",
        ),
        "channel-token-ends",
        "acme",
        exit_code=0,
    ),
    "an account is to be banned": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET health = jsonb_build_object('restriction', 'DISABLED_UPDATE SCHEDULE_FOR_DISABLE')",
            "UPDATE channels SET health = '{{}}'",
        ),
        "channel-restricted",
        "acme",
        exit_code=0,
    ),
    "customers complain": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET health = jsonb_build_object('quality', 'red')",
            "UPDATE channels SET health = '{{}}'",
        ),
        "channel-quality",
        "acme",
        exit_code=0,
    ),
    "messages come late": Planted(
        by_sql(
            "tenant",
            "UPDATE channels SET health = jsonb_build_object('webhook_pace', 'late', 'webhook_lag', '900.000s')",
            "UPDATE channels SET health = '{{}}'",
        ),
        "channel-late",
        "acme",
        exit_code=0,
    ),
    "an agent's counters drifted": Planted(
        by_sql(
            "other",
            "INSERT INTO agents (id, name, kind, role, state, create_time)"
            " VALUES (gen_random_uuid(), 'doctor', 'bot', 'agent', 'active', now());"
            " UPDATE agent_loads SET load = 100 WHERE agent_id = (SELECT id FROM agents WHERE name = 'doctor')",
            "DELETE FROM agents WHERE name = 'doctor'",
        ),
        "loads-drifted",
        "globex",
    ),
    "statistics are behind": Planted(consumer_behind, "consumer-behind", "acme"),
    "a transaction stays open": Planted(long_transaction, "long-transaction", "Postgres"),
    "a tenant's commits are not durable": Planted(
        by_sql("tenant", f"{ROLE} SET synchronous_commit = 'off'", f"{ROLE} SET synchronous_commit = 'on'"),
        "tenant-not-durable",
        "acme",
    ),
    "a server's pages may tear": Planted(
        by_sql(
            "server",
            "ALTER SYSTEM SET full_page_writes = 'off'; SELECT pg_reload_conf(); SELECT pg_sleep(0.3)",
            "ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf(); SELECT pg_sleep(0.3)",
        ),
        "postgres-not-durable",
        "Postgres",
    ),
    "payloads are in quarantine": Planted(quarantined, "quarantine", "control"),
    "a tenant's role may not connect": Planted(
        by_sql(
            "server",
            "REVOKE CONNECT ON DATABASE {tenant} FROM {role}",
            "GRANT CONNECT ON DATABASE {tenant} TO {role}",
        ),
        "tenant-unreachable",
        "acme",
    ),
    "a tenant's role is locked": Planted(
        by_sql("server", "ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"), "tenant-unreachable", "acme"
    ),
    "a tenant may come into another's": Planted(
        by_sql(
            "server", "GRANT CONNECT ON DATABASE {other} TO {role}", "REVOKE CONNECT ON DATABASE {other} FROM {role}"
        ),
        "door-open",
        "Postgres",
    ),
    "a tenant's role is too strong": Planted(
        by_sql("server", "ALTER ROLE {role} CREATEDB", "ALTER ROLE {role} NOCREATEDB"), "role-strong", "Postgres"
    ),
    "a right is missing": Planted(
        by_sql("tenant", "REVOKE INSERT ON messages FROM {role}", "GRANT INSERT ON messages TO {role}"),
        "rights-missing",
        "acme",
    ),
    "the next partition is missing": Planted(
        by_sql("tenant", "ALTER TABLE stream_event_1 RENAME TO gone", "ALTER TABLE gone RENAME TO stream_event_1"),
        "partition-missing",
        "acme",
    ),
    "this machine's clock is wrong": Planted(asked(clock=lambda: time.time() - 3600), "clock-apart", "Postgres"),
    "a tenant's clock is moved": Planted(tenant_clock_moved, "clock-moved", "globex"),
    "the disk is nearly full": Planted(asked(limits=Limits(disk_free_bytes=1 << 60)), "disk-full", "home"),
    "the certificate ends soon": Planted(
        asked(limits=Limits(certificate=timedelta(days=400))), "certificate-ends", "certificate"
    ),
    "the head row is bloated": Planted(asked(limits=Limits(head_bytes=0)), "head-bloated", "acme"),
    "Envoy is dead": Planted(envoy_killed, "envoy-away", "Envoy", also=("process-dead",)),
    "Envoy carries another contract": Planted(older_descriptors, "envoy-drift", "Envoy"),
    "a server is frozen": Planted(frozen("serve-1"), "process-away", "serve-1"),
    "Valkey is frozen": Planted(frozen("valkey"), "valkey-unreachable", "Valkey"),
    "Postgres is frozen": Planted(frozen("postgres"), "control-unreachable", "control", 2),
    "Envoy is frozen": Planted(frozen("envoy"), "envoy-away", "Envoy"),
    "a key ends soon": Planted(
        by_sql("control", KEY.format(when="now() + interval '3 days'"), KEY.format(when="NULL")),
        "key-ends",
        "tenant",
        0,
    ),
    "no control database": Planted(no_control_database, "control-unreachable", "control", 2),
}
