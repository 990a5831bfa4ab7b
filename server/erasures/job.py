"""The job: takes the erasure that is due, and does one batch of its present step in one transaction with where it goes on.

Every batch may be done again: what is gone already is not found. A worker that dies leaves the erasure to be taken again when its time
is over; one that was only slow, and is overtaken, finds that the erasure has moved on and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from prometheus_client import Counter
from switchboard.v1 import actor_pb2

from server.erasures import erasing, webhooks
from server.erasures.erasing import Batch, Went
from server.erasures.steps import STEPS
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.errors import DatabaseUnavailable
from server.log.append import append
from server.log.event import SYSTEM, Cause, Origin
from server.providers.contract import Provider
from server.tenancy.quarantine import Quarantine
from server.tenancy.tenants import Tenant

log = structlog.get_logger(__name__)
# Attempts in a row that come to nothing: after 5 s, then 10 s, 20 s and so on, ten within an hour and a half.
ATTEMPTS = 10
ERASED = Counter("switchboard_erasures_erased_total", "What erasures of contacts have erased.", ["what"])
FAILED = Counter(
    "switchboard_erasures_failed_total",
    "Batches of erasures that failed; each is tried again later.",
    ["step", "error"],
)
DONE = Counter("switchboard_erasures_total", "Erasures of contacts that ended.", ["state"])

# The attempt is counted before it begins, so that one which ends with its process counts too.
TAKE = """
WITH due AS (
    SELECT id FROM erasures WHERE due_time <= clock_now() ORDER BY due_time LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE erasures e SET attempt = attempt + 1, start_time = coalesce(start_time, clock_now()),
    state = CASE WHEN attempt >= $1 THEN 'failed' ELSE 'running' END,
    due_time = CASE WHEN attempt < $1 THEN clock_now() + interval '5 seconds' * power(2, attempt) END
FROM due WHERE e.id = due.id RETURNING e.*
"""
HOLD = "SELECT step, place, attempt, state FROM erasures WHERE id = $1 FOR UPDATE"
GO_ON = """
UPDATE erasures SET step = $2, place = $3, counts = $4::jsonb, attempt = 0, error = NULL, due_time = clock_now() + $5,
    update_time = clock_now()
WHERE id = $1
"""
END = """
UPDATE erasures SET state = 'done', place = NULL, counts = $2::jsonb, attempt = 0, error = NULL, due_time = NULL, addresses = '{}',
    update_time = clock_now(), end_time = clock_now()
WHERE id = $1
"""
NOTE = "UPDATE erasures SET error = $2 WHERE id = $1 AND state = 'running'"
NEXT_DUE = "SELECT min(due_time) AS time, min(due_time) - clock_now() AS wait FROM erasures WHERE due_time IS NOT NULL"
DO: Mapping[str, Callable[[Batch], Awaitable[Went]]] = {
    "sends": erasing.sends,
    "webhooks": webhooks.webhooks,
    "items": webhooks.items,
    "messages": erasing.messages,
    "files": erasing.files,
    "conversations": erasing.conversations,
    "quarantine": webhooks.quarantine,
    "followers": erasing.followers,
    "events": erasing.events,
    "contact": erasing.contact,
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What erasing takes beside the tenant's database."""

    providers: Mapping[str, Provider]
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class Next:
    """When an erasure goes on, and how long that is from now by the database's clock."""

    time: datetime
    wait: timedelta


async def next_due(connection: Connection) -> Next | None:
    """The next time that an erasure goes on."""
    record: Any = await connection.fetchrow(NEXT_DUE)
    return None if record["time"] is None else Next(record["time"], record["wait"])


async def run_due(tenant: Tenant, tools: Tools) -> bool:
    """Does one batch of the erasure that is due for longest; whether there was one. A failed batch is noted and tried again later.

    DatabaseUnavailable.
    """
    async with tenant.database.connection() as connection:
        taken: Any = await connection.fetchrow(TAKE, ATTEMPTS)
    if taken is None:
        return False
    step = STEPS[taken["step"]]
    if taken["state"] == "failed":
        DONE.labels("failed").inc()
        log.error("erasure.failed", tenant=str(tenant.id), erasure=str(taken["id"]), step=step, error=taken["error"])
        return True
    ended = await attempt(tenant.database.write(partial(_unit, tenant=tenant, tools=tools, taken=taken)))
    if isinstance(ended, DatabaseUnavailable):
        raise ended
    if isinstance(ended, Exception):
        FAILED.labels(step, type(ended).__name__).inc()
        log.error("erasure.waits", tenant=str(tenant.id), erasure=str(taken["id"]), step=step, exc_info=ended)
        async with tenant.database.connection() as connection:
            await connection.execute(
                NOTE, taken["id"], f"{type(ended).__name__} {getattr(ended, 'sqlstate', '')}".strip()
            )
    return True


async def _unit(write: Write, *, tenant: Tenant, tools: Tools, taken: Any) -> None:
    held: Any = await write.connection.fetchrow(HOLD, taken["id"])
    if tuple(held) != tuple(taken[name] for name in held.keys()):  # noqa: SIM118
        return
    cause = Cause(kind=actor_pb2.CAUSE_KIND_TIMER, id=f"erasure/{taken['id']}")
    batch = Batch(
        write=write,
        tenant_id=tenant.id,
        erasure=taken,
        providers=tools.providers,
        quarantine=tools.quarantine,
        origin=Origin(actor=SYSTEM, cause=cause),
    )
    went = await DO[STEPS[taken["step"]]](batch)
    counts = json.loads(taken["counts"])
    for name, count in went.counts.items():
        counts[name] = counts.get(name, 0) + count
        ERASED.labels(name).inc(count)
    if went.more:
        await write.connection.execute(GO_ON, taken["id"], taken["step"], went.place, json.dumps(counts), went.wait)
    elif taken["step"] + 1 < len(STEPS):
        await write.connection.execute(GO_ON, taken["id"], taken["step"] + 1, None, json.dumps(counts), timedelta(0))
    else:
        await write.connection.execute(END, taken["id"], json.dumps(counts))
        DONE.labels("done").inc()
    await append(write, went.events)
