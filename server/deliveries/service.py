"""Moves deliveries through their states. A delivery knows a kind and a part; the slices above know what those are.

waiting -> queued (head of its conversation) -> in_flight (committed before the first byte) -> accepted | failed | unknown, or
queued again. Whoever ends a head holds the conversation's lock, as those who add to its queue do, and makes the next one head.
A template that the provider makes wait for long steps aside: it is waiting again while others of its conversation go.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta

from server.deliveries.claiming import Claimed
from server.kit.db import Connection, Raced

# An unknown send keeps the conversation's next one back for so long.
HOLD = timedelta(seconds=60)

LOCK = "SELECT id FROM conversations WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"
EXPIRED = """
SELECT id, kind, part_id, conversation_id, channel_id, attempt, uncounted FROM deliveries
WHERE state = 'in_flight' AND lease_until <= clock_now() ORDER BY lease_until LIMIT $1
"""
# The guard: whoever finishes a delivery must be the last who had it, and it must not have gone on since.
FINISH = """
UPDATE deliveries
SET state = $3, hold_until = CASE WHEN $3 = 'unknown' THEN clock_now() + $4::interval END, error_code = $5, error_message = $6,
    worker = NULL, lease_until = NULL
WHERE id = $1 AND attempt = $2 AND (state = 'in_flight' OR (state = 'unknown' AND $3 = 'failed'))
RETURNING id
"""
AGAIN = """
UPDATE deliveries
SET state = 'queued', due_time = clock_now() + $3::interval, uncounted = uncounted + $4::integer, error_code = $5,
    error_message = $6, worker = NULL, lease_until = NULL, awaited_template_id = $7, aside = lane > 0 AND $8
WHERE id = $1 AND attempt = $2 AND state = 'in_flight'
RETURNING id
"""
# A conversation's lowest waiting one becomes its head, where it has none; of those that step aside, the one that is due first.
PROMOTE = """
UPDATE deliveries SET state = 'queued', due_time = greatest(due_time, clock_now())
WHERE id IN (
    SELECT w.id FROM unnest($1::uuid[]) AS c (id)
    CROSS JOIN LATERAL (
        SELECT coalesce((
            SELECT d.id FROM deliveries d WHERE d.conversation_id = c.id AND d.state = 'waiting' AND NOT steps_aside(d)
            ORDER BY position, id LIMIT 1
        ), (
            SELECT d.id FROM deliveries d WHERE d.conversation_id = c.id AND d.state = 'waiting'
            ORDER BY due_time, position, id LIMIT 1
        )) AS id
    ) w
    WHERE NOT EXISTS (SELECT FROM deliveries h WHERE h.conversation_id = c.id AND h.state IN ('queued', 'in_flight'))
)
"""
# Heads that others of their conversation do not wait for.
HEADS_ASIDE = """
SELECT DISTINCT h.conversation_id FROM channels c JOIN deliveries h ON h.channel_id = c.id
WHERE h.lane > 0 AND h.state = 'queued' AND (h.due_time > clock_now() OR templates_held(c) > clock_now()) AND EXISTS (
    SELECT FROM deliveries w WHERE w.conversation_id = h.conversation_id AND w.state = 'waiting' AND NOT steps_aside(w)
) AND steps_aside(h) LIMIT $1
"""
STEP_ASIDE = """
UPDATE deliveries h SET state = 'waiting'
WHERE h.conversation_id = ANY($1::uuid[]) AND h.state = 'queued' AND steps_aside(h) AND EXISTS (
    SELECT FROM deliveries w WHERE w.conversation_id = h.conversation_id AND w.state = 'waiting' AND NOT steps_aside(w)
)
"""
# What a claim put off until these unknown ones stop holding it need not wait longer.
RELEASE = """
UPDATE deliveries h SET due_time = clock_now()
FROM deliveries u
WHERE u.part_id = ANY($1::uuid[]) AND u.state = 'unknown'
    AND h.conversation_id = u.conversation_id AND h.state = 'queued' AND h.due_time = u.hold_until
"""
RELEASE_TEMPLATE = """
UPDATE deliveries SET due_time = clock_now(), awaited_template_id = NULL, aside = false
WHERE awaited_template_id = ANY($1::uuid[]) AND state IN ('queued', 'waiting')
"""
# One that is not sent yet too: whatever made us try again, the provider has it.
RESOLVE = """
UPDATE deliveries SET state = $2, hold_until = NULL, worker = NULL, lease_until = NULL, error_code = $3, error_message = $4
WHERE part_id = ANY($1::uuid[]) AND state <> $2
RETURNING conversation_id, state
"""
LEFT = """
SELECT EXISTS (SELECT FROM deliveries WHERE channel_id = $1 AND state = 'queued') OR EXISTS (
    SELECT FROM deliveries f JOIN deliveries w ON w.conversation_id = f.conversation_id AND w.state = 'waiting'
    WHERE f.state = 'in_flight' AND f.channel_id = $1
) OR EXISTS (SELECT FROM marks WHERE channel_id = $1 AND expire_time IS NULL)
"""
GIVE_UP = """
UPDATE deliveries SET state = 'failed', hold_until = NULL, awaited_template_id = NULL, error_code = $2, error_message = $3
WHERE id = ANY($1::uuid[])
"""
TAKE_BACK = """
UPDATE deliveries SET state = 'queued', due_time = clock_now(), uncounted = uncounted + 1, worker = NULL, lease_until = NULL
WHERE state = 'in_flight' AND worker = $1 AND id <> ALL($2::uuid[])
"""


async def lock(connection: Connection, conversation_ids: Iterable[uuid.UUID]) -> None:
    """Locks the queues of conversations, by id, before anything else."""
    await connection.fetch(LOCK, sorted(set(conversation_ids)))


async def expired(connection: Connection, *, limit: int = 100) -> list[Claimed]:
    """Deliveries whose worker did not come back: nobody knows whether the provider has them."""
    return [Claimed(**record) for record in await connection.fetch(EXPIRED, limit)]


async def finish(
    connection: Connection, claimed: Claimed, *, state: str, code: str | None = None, message: str | None = None
) -> bool:
    """Ends a delivery whose conversation is locked; an unknown one may still fail. False when it is no longer this claim's."""
    found = await connection.fetchval(FINISH, claimed.id, claimed.attempt, state, HOLD, code, message)
    if found is not None:
        await promote(connection, [claimed.conversation_id])
    return found is not None


async def again(
    connection: Connection,
    claimed: Claimed,
    *,
    after: timedelta,
    code: str | None,
    message: str | None,
    counts: bool = True,
    awaited_template_id: uuid.UUID | None = None,
    aside: bool = False,
) -> bool:
    """Queues a delivery again; counts: whether the attempt is spent. awaited_template_id: what it waits for, at most so long.

    aside: a template lets what comes after it go meanwhile; its conversation is locked then. False when it is no longer this claim's.
    """
    free = 0 if counts else 1
    found = await connection.fetchval(
        AGAIN, claimed.id, claimed.attempt, after, free, code, message, awaited_template_id, aside
    )
    if found is not None and aside:
        await step_aside(connection, [claimed.conversation_id])
    return found is not None


async def heads_aside(connection: Connection, *, limit: int = 1000) -> list[uuid.UUID]:
    """Conversations in which something waits for a template that steps aside, since when it was queued nothing held the template."""
    return [record["conversation_id"] for record in await connection.fetch(HEADS_ASIDE, limit)]


async def step_aside(connection: Connection, conversation_ids: Sequence[uuid.UUID]) -> None:
    """Lets what need not wait go before the heads of locked conversations that step aside."""
    await connection.execute(STEP_ASIDE, conversation_ids)
    await promote(connection, conversation_ids)


async def take_back(connection: Connection, *, worker: str, sending: list[uuid.UUID]) -> None:
    """Queues again what this worker claimed and does not send: the answer to its claim was lost, so nothing was sent."""
    await connection.execute(TAKE_BACK, worker, sending)


async def release(connection: Connection, part_ids: Sequence[uuid.UUID]) -> None:
    """Before unknown deliveries stop being unknown: what they hold back need not wait."""
    await connection.execute(RELEASE, part_ids)


async def release_template(connection: Connection, template_ids: Sequence[uuid.UUID]) -> None:
    """What waits for these templates need not wait longer."""
    await connection.execute(RELEASE_TEMPLATE, template_ids)


async def promote(connection: Connection, conversation_ids: Sequence[uuid.UUID]) -> None:
    """Gives locked conversations without a head their next one."""
    await connection.execute(PROMOTE, conversation_ids)


async def give_up(connection: Connection, ids: Sequence[uuid.UUID], *, code: str, message: str) -> None:
    """Ends deliveries of locked conversations which nobody has in flight. What stands behind them is the caller's to promote."""
    await connection.execute(GIVE_UP, ids, code, message)


async def left(connection: Connection, channel_id: uuid.UUID) -> bool:
    """Whether a channel has anything still to send, or to tell: whose head is under way may have more behind it."""
    found: bool = await connection.fetchval(LEFT, channel_id)
    return found


async def resolve(
    connection: Connection,
    part_ids: Sequence[uuid.UUID],
    *,
    state: str,
    locked: frozenset[uuid.UUID],
    code: str | None = None,
    message: str | None = None,
) -> None:
    """Something better than our own request showed that the provider has these parts (accepted), or does not (failed).

    locked: the conversations that are locked. Raced when one of another's was to be sent still.
    """
    await release(connection, part_ids)
    ended = await connection.fetch(RESOLVE, part_ids, state, code, message)
    concerned = {record["conversation_id"] for record in ended}
    if concerned - locked:
        raise Raced
    await promote(connection, list(concerned))


def jittered(delay: timedelta) -> timedelta:
    """A delay made longer by up to a fifth, so that what failed together does not come back together."""
    return delay * random.uniform(1.0, 1.2)
