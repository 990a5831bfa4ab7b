"""Takes what may be sent now: the heads of conversations, by channel, at the pace of their accounts and recipients.

A bucket is the time its next send may be taken at, and taking one moves it on by the pace. For an account, time that passed
unused counts up to what the pace lets be saved (GCRA, ITU-T I.371, told from the other end). A recipient may get a burst
within one span, borrowed from the time after it, in which nothing goes. Both kinds are rows of the tenant's database, taken in
the statement that claims.

A claim reads at most LOOK heads of each channel that may send, however long the queues are: what is behind another send of
its conversation is not a head, what has to wait for its recipient is put off to when that may be, and a channel that is
paused, or whose bucket is empty, is not looked at. An account's pace is read with its row, so a changed one holds from the next
claim on.

There are three lanes (Lane). A claim looks at the oldest heads of each, and takes first what is oldest when for each lane behind
the first AGING is added: an answer of a person passes all that is bulk and became due less than twice AGING before it, and nothing
waits for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from server.kit.db import Connection
from server.providers.contract import Provider

LEASE = timedelta(seconds=60)
LOOK = 64
AGING = timedelta(seconds=30)


class Lane(IntEnum):
    """Who goes first where a channel has more to send than it may: what people write, then their templates, then bulk."""

    PERSON = 0
    TEMPLATE = 1
    BULK = 2


LANES = f"(VALUES {', '.join(f'({lane.value}::smallint)' for lane in Lane)})"

# A channel whose row another claim holds is left to that claim, so buckets are taken by one at a time. The rows of locked
# buckets are read as they are after the lock, whatever the statement's snapshot.
CLAIM = f"""
WITH pace AS (
    SELECT * FROM unnest($4::text[], $5::interval[], $6::interval[], $7::interval[], $8::interval[])
        AS p (provider, every, ahead, recipient_every, recipient_ahead)
), account AS (
    SELECT c.id, coalesce(interval '1 second' / coalesce(c.sends_per_second, c.throughput_per_second), p.every) AS every,
        p.ahead, p.recipient_every,
        p.recipient_ahead, greatest(c.next_send_time, clock_now() - p.ahead) AS next_send_time
    FROM channels c JOIN pace p ON p.provider = c.provider
    WHERE c.state = 'active' AND c.next_send_time <= clock_now() AND EXISTS (
        SELECT FROM {LANES} l (lane), LATERAL (
            SELECT FROM deliveries WHERE channel_id = c.id AND lane = l.lane AND state = 'queued' AND due_time <= clock_now() LIMIT 1
        ) d
    )
    FOR NO KEY UPDATE OF c SKIP LOCKED
), head AS (
    SELECT d.*, a.id AS account_id, c.identity_id, a.recipient_every, a.recipient_ahead,
        1 + floor(extract(epoch FROM clock_now() - a.next_send_time) / extract(epoch FROM a.every)) AS tokens,
        row_number() OVER (PARTITION BY c.identity_id ORDER BY d.rank, d.id) AS turn
    FROM account a CROSS JOIN {LANES} l (lane)
    CROSS JOIN LATERAL (
        SELECT id, conversation_id, due_time, due_time + $10::interval * lane AS rank FROM deliveries
        WHERE channel_id = a.id AND lane = l.lane AND state = 'queued' AND due_time <= clock_now()
        ORDER BY due_time, id LIMIT $9 FOR UPDATE SKIP LOCKED
    ) d
    JOIN conversations c ON c.id = d.conversation_id
), recipient AS (
    SELECT identity_id, next_send_time, span_until FROM recipient_buckets
    WHERE identity_id IN (SELECT identity_id FROM head) FOR UPDATE
), looked AS (
    SELECT h.*, r.next_send_time, r.span_until, greatest(
        u.hold_until,
        CASE WHEN clock_now() >= r.span_until OR r.next_send_time > clock_now() + h.recipient_ahead THEN r.next_send_time END
    ) AS wait_until
    FROM head h
    LEFT JOIN recipient r ON r.identity_id = h.identity_id
    LEFT JOIN LATERAL (
        SELECT max(hold_until) AS hold_until FROM deliveries WHERE conversation_id = h.conversation_id AND state = 'unknown'
    ) u ON true
), weighed AS (
    SELECT l.*, turn = 1 AND coalesce(wait_until <= clock_now(), true) AS free FROM looked l
), placed AS (
    SELECT w.*, row_number() OVER (PARTITION BY account_id, free ORDER BY rank, id) AS place FROM weighed w
), verdict AS (
    SELECT p.*, free AND place <= tokens
        AND row_number() OVER (PARTITION BY free AND place <= tokens ORDER BY place, rank, id) <= $3 AS goes
    FROM placed p
), recipient_taken AS (
    INSERT INTO recipient_buckets AS b (identity_id, next_send_time, span_until)
    SELECT identity_id, greatest(next_send_time, clock_now()) + recipient_every,
        CASE WHEN next_send_time > clock_now() THEN span_until ELSE clock_now() + recipient_every END
    FROM verdict WHERE goes ORDER BY identity_id
    ON CONFLICT (identity_id) DO UPDATE
    SET next_send_time = greatest(b.next_send_time, excluded.next_send_time), span_until = excluded.span_until
), account_taken AS (
    UPDATE channels c SET next_send_time = a.next_send_time + a.every * v.number
    FROM account a JOIN (SELECT account_id, count(*) AS number FROM verdict WHERE goes GROUP BY account_id) v
        ON v.account_id = a.id
    WHERE c.id = a.id
)
UPDATE deliveries d
SET state = CASE WHEN v.goes THEN 'in_flight' ELSE 'queued' END, attempt = d.attempt + v.goes::integer,
    worker = CASE WHEN v.goes THEN $1 END, lease_until = CASE WHEN v.goes THEN clock_now() + $2::interval END,
    due_time = CASE WHEN v.goes THEN d.due_time ELSE v.wait_until END
FROM verdict v
WHERE d.id = v.id AND (v.goes OR v.wait_until > clock_now())
RETURNING d.id, d.kind, d.part_id, d.conversation_id, d.channel_id, d.attempt, d.uncounted, v.goes,
    clock_now() - v.due_time AS late
"""
# A probe of an index for each lane of a channel and one for its read marks, and one for the leases.
NEXT = f"""
SELECT clock_now() AS now,
    (SELECT min(greatest(c.next_send_time, d.due_time)) FROM channels c
     CROSS JOIN {LANES} l (lane) CROSS JOIN LATERAL (
        SELECT due_time FROM deliveries WHERE channel_id = c.id AND lane = l.lane AND state = 'queued'
        ORDER BY due_time, id LIMIT 1
     ) d WHERE c.state = 'active') AS send,
    (SELECT min(lease_until) FROM deliveries WHERE state = 'in_flight') AS lease,
    (SELECT min(m.due_time) FROM channels c CROSS JOIN LATERAL (
        SELECT due_time FROM read_marks WHERE channel_id = c.id ORDER BY due_time LIMIT 1
     ) m WHERE c.state = 'active') AS mark
"""
HOLD_ACCOUNT = """
UPDATE channels SET next_send_time = greatest(next_send_time, clock_now() + $2::interval) WHERE id = $1
"""
HOLD_RECIPIENT = """
INSERT INTO recipient_buckets AS b (identity_id, next_send_time, span_until)
SELECT identity_id, clock_now() + $2::interval, clock_now() FROM conversations WHERE id = $1
ON CONFLICT (identity_id) DO UPDATE
SET next_send_time = greatest(b.next_send_time, excluded.next_send_time), span_until = excluded.span_until
"""
# How many there are, counted up to a limit: a page for operators needs no more, and no queue makes it slow.
DEPTH = f"""
SELECT (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 'waiting' LIMIT $1) w)
        + (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 'queued' LIMIT $1) q) AS queued,
    (SELECT count(*) FROM (SELECT FROM deliveries WHERE state = 'unknown' LIMIT $1) u) AS unknown,
    coalesce((SELECT greatest(extract(epoch FROM clock_now() - min(d.due_time)), 0) FROM channels c
        CROSS JOIN {LANES} l (lane) CROSS JOIN LATERAL (
            SELECT due_time FROM deliveries WHERE channel_id = c.id AND lane = l.lane AND state = 'queued'
            ORDER BY due_time, id LIMIT 1
        ) d), 0)::float8 AS oldest_seconds
"""
DEPTH_MOST = 10_000
FORGET = "DELETE FROM recipient_buckets WHERE next_send_time < clock_now() - interval '1 day'"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is in flight.

    attempt: counts the claims and guards the end; a later claim has another number. uncounted: those of them that the
    delivery's budget is not charged for.
    """

    id: uuid.UUID
    kind: str
    part_id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    attempt: int
    uncounted: int = 0

    @property
    def tries(self) -> int:
        """Attempts that count, this one included."""
        return self.attempt - self.uncounted


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took, how long each of that had been due, and how many others it put off."""

    claimed: list[Claimed]
    late: list[timedelta]
    put_off: int


@dataclass(frozen=True, slots=True)
class Next:
    """When, by the database's clock, the next send may be taken, the next lease ends, the next read mark is due; None for never."""

    now: datetime
    send: datetime | None
    lease: datetime | None
    mark: datetime | None


async def claim(connection: Connection, *, worker: str, limit: int, providers: Mapping[str, Provider]) -> Claim:
    """Takes what may be sent now, committed as in flight, before anything is sent."""
    paces = [(name, provider.capabilities) for name, provider in providers.items()]
    columns = (
        [name for name, _ in paces],
        [can.account_pace.every for _, can in paces],
        [can.account_pace.ahead for _, can in paces],
        [can.recipient_pace.every for _, can in paces],
        [can.recipient_pace.ahead for _, can in paces],
    )
    records = await connection.fetch(CLAIM, worker, LEASE, limit, *columns, LOOK, AGING)
    taken = [record for record in records if record["goes"]]
    names = ("id", "kind", "part_id", "conversation_id", "channel_id", "attempt", "uncounted")
    return Claim(
        claimed=[Claimed(**{name: record[name] for name in names}) for record in taken],
        late=[record["late"] for record in taken],
        put_off=len(records) - len(taken),
    )


async def upcoming(connection: Connection) -> Next:
    """What comes next."""
    record = await connection.fetchrow(NEXT)
    assert record is not None
    return Next(**record)


@dataclass(frozen=True, slots=True)
class Depth:
    """Deliveries that wait to be sent and those that are unknown, each counted up to DEPTH_MOST; how long the oldest is due."""

    queued: int
    unknown: int
    oldest_seconds: float


async def depth(connection: Connection) -> Depth:
    """How much there is to do."""
    record = await connection.fetchrow(DEPTH, DEPTH_MOST)
    assert record is not None
    return Depth(**record)


async def next_due(connection: Connection) -> datetime | None:
    """When the next delivery or read mark may be taken or the next lease ends."""
    coming = await upcoming(connection)
    return min((time for time in (coming.send, coming.lease, coming.mark) if time is not None), default=None)


async def hold_account(connection: Connection, claimed: Claimed, *, after: timedelta) -> None:
    """The provider wants nothing from the account for a time."""
    await connection.execute(HOLD_ACCOUNT, claimed.channel_id, after)


async def hold_recipient(connection: Connection, claimed: Claimed, *, after: timedelta) -> None:
    """The provider wants nothing from the account to this recipient for a time."""
    await connection.execute(HOLD_RECIPIENT, claimed.conversation_id, after)


async def forget(connection: Connection) -> None:
    """Deletes buckets that have been full for long."""
    await connection.execute(FORGET)
