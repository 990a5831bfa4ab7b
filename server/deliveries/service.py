"""Claims deliveries and moves them through their states. A delivery knows a kind and a part; `worker.py` maps kinds to functions.

queued -> in_flight (committed before the first byte) -> accepted | failed | unknown | queued again.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.kit.db import Connection

LEASE = timedelta(seconds=60)
# An unknown send keeps the conversation's next one waiting for so long.
HOLD = timedelta(seconds=60)

# Only a conversation's first queued delivery is taken, and only while none of it is in flight or held by an unknown one.
CLAIM = """
UPDATE deliveries SET state = 'in_flight', attempt = attempt + 1, worker = $1, lease_until = clock_now() + $2::interval
WHERE id IN (
    SELECT d.id FROM deliveries d
    JOIN channels c ON c.id = d.channel_id AND c.state = 'active'
    WHERE d.state = 'queued' AND d.due_time <= clock_now() AND NOT EXISTS (
        SELECT FROM deliveries e
        WHERE e.conversation_id = d.conversation_id AND e.state IN ('queued', 'in_flight', 'unknown') AND (
            (e.state = 'queued' AND e.position < d.position) OR e.state = 'in_flight'
            OR (e.state = 'unknown' AND e.hold_until > clock_now())
        )
    )
    ORDER BY d.due_time, d.id LIMIT $3 FOR UPDATE OF d SKIP LOCKED
)
RETURNING id, kind, part_id, conversation_id, channel_id, attempt
"""
EXPIRED = """
SELECT id, kind, part_id, conversation_id, channel_id, attempt FROM deliveries
WHERE state = 'in_flight' AND lease_until <= clock_now() ORDER BY lease_until LIMIT $1
"""
# The guard: whoever finishes a delivery must still be the one who has it.
FINISH = """
UPDATE deliveries
SET state = $3, hold_until = $4, error_code = $5, error_message = $6, worker = NULL, lease_until = NULL
WHERE id = $1 AND attempt = $2 AND state = 'in_flight'
RETURNING id
"""
AGAIN = """
UPDATE deliveries
SET state = 'queued', due_time = clock_now() + $3::interval, attempt = attempt - $4::integer, error_code = $5, error_message = $6,
    worker = NULL, lease_until = NULL
WHERE id = $1 AND attempt = $2 AND state = 'in_flight'
RETURNING id
"""
# A queued one too: whatever made us try again, the provider has it.
RESOLVE = """
UPDATE deliveries SET state = $2, hold_until = NULL, worker = NULL, lease_until = NULL
WHERE part_id = ANY($1::uuid[]) AND state IN ('unknown', 'in_flight', 'queued')
"""
TAKE_BACK = """
UPDATE deliveries SET state = 'queued', due_time = clock_now(), worker = NULL, lease_until = NULL
WHERE state = 'in_flight' AND worker = $1 AND id <> ALL($2::uuid[])
"""
NEXT = """
SELECT least(
    (SELECT min(d.due_time) FROM deliveries d JOIN channels c ON c.id = d.channel_id AND c.state = 'active' WHERE d.state = 'queued'),
    (SELECT min(lease_until) FROM deliveries WHERE state = 'in_flight')
)
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is in flight. attempt counts from 1 and guards the end: a later claim has another number."""

    id: uuid.UUID
    kind: str
    part_id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    attempt: int


async def claim(connection: Connection, *, worker: str, limit: int) -> list[Claimed]:
    """Takes due deliveries, committed as in flight, before anything is sent."""
    return [Claimed(**record) for record in await connection.fetch(CLAIM, worker, LEASE, limit)]


async def expired(connection: Connection, *, limit: int = 100) -> list[Claimed]:
    """Deliveries whose worker did not come back: nobody knows whether the provider has them."""
    return [Claimed(**record) for record in await connection.fetch(EXPIRED, limit)]


async def finish(
    connection: Connection,
    claimed: Claimed,
    *,
    state: str,
    hold_until: datetime | None = None,
    code: str | None = None,
    message: str | None = None,
) -> bool:
    """Ends a delivery; false when it is no longer this claim's."""
    found = await connection.fetchval(FINISH, claimed.id, claimed.attempt, state, hold_until, code, message)
    return found is not None


async def again(
    connection: Connection,
    claimed: Claimed,
    *,
    after: timedelta,
    code: str | None,
    message: str | None,
    counts: bool = True,
) -> bool:
    """Queues a delivery again; counts: whether the attempt is spent. False when it is no longer this claim's."""
    back = 0 if counts else 1
    found = await connection.fetchval(AGAIN, claimed.id, claimed.attempt, after, back, code, message)
    return found is not None


async def take_back(connection: Connection, *, worker: str, sending: list[uuid.UUID]) -> None:
    """Queues again what this worker claimed and does not send: the answer to its claim was lost, so nothing was sent."""
    await connection.execute(TAKE_BACK, worker, sending)


async def resolve(connection: Connection, part_ids: list[uuid.UUID], *, state: str) -> None:
    """A receipt showed that the provider has these parts (accepted), or took them and could not deliver them (failed)."""
    await connection.execute(RESOLVE, part_ids, state)


async def next_due(connection: Connection) -> datetime | None:
    """When the next delivery is due or the next lease ends."""
    found: datetime | None = await connection.fetchval(NEXT)
    return found


def jittered(delay: timedelta) -> timedelta:
    """A delay made longer by up to a fifth, so that what failed together does not come back together."""
    return delay * random.uniform(1.0, 1.2)
