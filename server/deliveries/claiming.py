"""Takes what may be sent now: the heads of conversations, by channel, at the pace of their accounts and recipients.

An account has as many places as its provider takes of it in a second. A send holds one from its claim until a second after its
answer, so that between the arrivals of a send and of the one that many after it lies a second at least, whatever held either of
them up on the way. Places of sends whose worker died are free again after PLACE. A claim takes places too that become free within
AHEAD, and says for how long their sends have to wait. A recipient has a bucket: the time its next send may be taken at, which
taking one moves on by the pace; it may get a burst within one span, borrowed from the time after it, in which nothing goes.
Both are rows of the tenant's database, taken in the statement that claims.

A claim reads at most LOOK heads of each channel that may send, however long the queues are: what is behind another send of
its conversation is not a head, what has to wait for its recipient is put off to when that may be, and a channel that is
paused, or has no place, is not looked at. How many places there are is read with the account's row, so a change holds from the next
claim on.

There are three lanes (Lane). A claim looks at the oldest heads of each, and takes first what is oldest when for each lane behind
the first AGING is added: an answer of a person passes all that is bulk and became due less than twice AGING before it, and nothing
waits for ever. Where the provider lets an account answer but not begin, only the first lane is looked at.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from server.kit.db import Connection
from server.providers.contract import Provider

LEASE = timedelta(seconds=60)
# A send begins at most BEGIN after its turn, and what is on the way for longer than the rest of PLACE is not counted.
PLACE, BEGIN = timedelta(seconds=3), timedelta(seconds=1.5)
AHEAD = timedelta(milliseconds=50)
LOOK = 64
AGING = timedelta(seconds=30)


class Lane(IntEnum):
    """Who goes first where a channel has more to send than it may: what people write, then their templates, then bulk."""

    PERSON = 0
    TEMPLATE = 1
    BULK = 2


LANES = f"(VALUES {', '.join(f'({lane.value}::smallint)' for lane in Lane)})"
# When the lanes behind the first are looked at again: of a channel `c`, NULL where nothing holds them.
BEGINS = "templates_held(c)"

# The places of an account that are taken, as times they are free at, soonest first. What lies further ahead than any claim may put it
# is of a clock that went back.
BUSY = """
ARRAY(
    SELECT b FROM unnest(c.send_places) b WHERE b > clock_now() AND b < clock_now() + {place}::interval * 2 ORDER BY b
)
"""

# A channel whose row another claim holds is left to that claim, so buckets are taken by one at a time. The rows of locked
# buckets are read as they are after the lock, whatever the statement's snapshot.
CLAIM = f"""
WITH pace AS (
    SELECT * FROM unnest($4::text[], $5::integer[], $6::interval[], $7::interval[])
        AS p (provider, most, recipient_every, recipient_ahead)
), account AS (
    SELECT c.id, coalesce(c.sends_per_second, c.throughput_per_second, p.most) AS most, p.recipient_every, p.recipient_ahead,
        open.most AS last_lane, {BUSY.format(place="$11")} AS busy
    FROM channels c JOIN pace p ON p.provider = c.provider
    CROSS JOIN LATERAL (
        SELECT CASE WHEN {BEGINS} > clock_now() THEN {Lane.PERSON.value} ELSE {Lane.BULK.value} END AS most
    ) open
    WHERE c.state = 'active' AND c.next_send_time <= clock_now() AND EXISTS (
        SELECT FROM {LANES} l (lane), LATERAL (
            SELECT FROM deliveries WHERE channel_id = c.id AND lane = l.lane AND state = 'queued' AND due_time <= clock_now()
            ORDER BY due_time, id LIMIT 1
        ) d WHERE l.lane <= open.most
    )
    FOR NO KEY UPDATE OF c SKIP LOCKED
), head AS (
    SELECT d.*, a.id AS account_id, c.identity_id, a.recipient_every, a.recipient_ahead, a.busy,
        a.most - cardinality(a.busy) AS unused,
        a.most - (SELECT count(*) FROM unnest(a.busy) b WHERE b > clock_now() + $10::interval) AS places,
        row_number() OVER (PARTITION BY c.identity_id ORDER BY d.rank, d.id) AS turn
    FROM account a JOIN {LANES} l (lane) ON l.lane <= a.last_lane
    CROSS JOIN LATERAL (
        SELECT id, conversation_id, due_time, due_time + $9::interval * lane AS rank FROM deliveries
        WHERE channel_id = a.id AND lane = l.lane AND state = 'queued' AND due_time <= clock_now()
        ORDER BY due_time, id LIMIT $8 FOR UPDATE SKIP LOCKED
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
    SELECT p.*, free AND place <= places
        AND row_number() OVER (PARTITION BY free AND place <= places ORDER BY place, rank, id) <= $3 AS goes,
        CASE WHEN place <= unused THEN clock_now() ELSE busy[place - unused] END AS begin_time
    FROM placed p
), taken AS (
    SELECT v.*, begin_time + $11::interval AS place_until FROM verdict v WHERE goes
), recipient_taken AS (
    INSERT INTO recipient_buckets AS b (identity_id, next_send_time, span_until)
    SELECT identity_id, greatest(next_send_time, clock_now()) + recipient_every,
        CASE WHEN next_send_time > clock_now() THEN span_until ELSE clock_now() + recipient_every END
    FROM taken ORDER BY identity_id
    ON CONFLICT (identity_id) DO UPDATE
    SET next_send_time = greatest(b.next_send_time, excluded.next_send_time), span_until = excluded.span_until
), account_taken AS (
    UPDATE channels c SET send_places = a.busy[greatest(1, 1 + t.number - (a.most - cardinality(a.busy))):] || t.places
    FROM account a JOIN (
        SELECT account_id, count(*)::integer AS number, array_agg(place_until) AS places FROM taken GROUP BY account_id
    ) t ON t.account_id = a.id
    WHERE c.id = a.id
)
UPDATE deliveries d
SET state = CASE WHEN v.goes THEN 'in_flight' ELSE 'queued' END, attempt = d.attempt + v.goes::integer,
    worker = CASE WHEN v.goes THEN $1 END, lease_until = CASE WHEN v.goes THEN clock_now() + $2::interval END,
    due_time = CASE WHEN v.goes THEN d.due_time ELSE v.wait_until END
FROM verdict v LEFT JOIN taken t ON t.id = v.id
WHERE d.id = v.id AND (v.goes OR v.wait_until > clock_now())
RETURNING d.id, d.kind, d.part_id, d.conversation_id, d.channel_id, d.attempt, d.uncounted, t.place_until,
    t.begin_time - clock_now() - (clock_timestamp() - now()) AS wait, v.goes, clock_now() - v.due_time AS late
"""
# A probe of an index for each lane of a channel and one for its read marks, and one for the leases.
NEXT = f"""
SELECT clock_now() AS now,
    (SELECT nullif(min(greatest(c.next_send_time, d.due_time, (
        SELECT busy[cardinality(busy) - most + 1] - $3::interval
        FROM (SELECT {BUSY.format(place="$4")} AS busy, coalesce(c.sends_per_second, c.throughput_per_second, p.most) AS most) q
        WHERE cardinality(busy) >= most
     ), CASE WHEN l.lane > {Lane.PERSON.value} THEN {BEGINS} END)), 'infinity')
     FROM channels c LEFT JOIN unnest($1::text[], $2::integer[]) AS p (provider, most) ON p.provider = c.provider
     CROSS JOIN {LANES} l (lane) CROSS JOIN LATERAL (
        SELECT due_time FROM deliveries WHERE channel_id = c.id AND lane = l.lane AND state = 'queued'
        ORDER BY due_time, id LIMIT 1
     ) d WHERE c.state = 'active') AS send,
    (SELECT min(lease_until) FROM deliveries WHERE state = 'in_flight') AS lease,
    (SELECT min(m.due_time) FROM channels c CROSS JOIN LATERAL (
        SELECT due_time FROM marks WHERE channel_id = c.id ORDER BY due_time LIMIT 1
     ) m WHERE c.state = 'active') AS mark,
    EXISTS (SELECT FROM channels c WHERE c.state = 'disconnected' AND (
        EXISTS (SELECT FROM deliveries WHERE channel_id = c.id AND state = 'queued')
        OR EXISTS (SELECT FROM marks WHERE channel_id = c.id AND expire_time IS NULL)
    )) AS ended
"""
# Places that are free at the same time are as good as each other: each row takes the place of one of them.
GIVE_BACK = """
UPDATE channels SET send_places = ARRAY(
    SELECT coalesce(until, b)
    FROM (SELECT b, row_number() OVER (PARTITION BY b) AS n FROM unnest(send_places) b) held
    LEFT JOIN (
        SELECT p AS b, clock_now() + held AS until, row_number() OVER (PARTITION BY p) AS n
        FROM unnest($2::timestamptz[], $3::interval[]) AS t (p, held)
    ) told USING (b, n)
    WHERE coalesce(until, b) > clock_now())
WHERE id = $1
"""
HOLD_ACCOUNT = """
UPDATE channels SET next_send_time = greatest(next_send_time, clock_now() + $2::interval) WHERE id = $1
"""
HOLD_TEMPLATES = """
UPDATE channels SET templates_held_until = greatest(templates_held_until, clock_now() + $2::interval) WHERE id = $1
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
    delivery's budget is not charged for. wait: after the claim before it begins. place_until: when its place is free again, unless
    `give_back` says better; None of one that holds none.
    """

    id: uuid.UUID
    kind: str
    part_id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    attempt: int
    uncounted: int = 0
    wait: timedelta = field(default=timedelta(0), compare=False)
    place_until: datetime | None = field(default=None, compare=False)

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
    """When, by the database's clock, the next send may be taken, the next lease ends, the next read mark is due; None for never.

    ended: whether a channel that was disconnected has something still to send or to tell.
    """

    now: datetime
    send: datetime | None
    lease: datetime | None
    mark: datetime | None
    ended: bool


async def claim(connection: Connection, *, worker: str, limit: int, providers: Mapping[str, Provider]) -> Claim:
    """Takes what may be sent now, committed as in flight, before anything is sent."""
    able = [provider.capabilities for provider in providers.values()]
    paces = (
        *_places(providers),
        [can.recipient_pace.every for can in able],
        [can.recipient_pace.ahead for can in able],
    )
    records = await connection.fetch(CLAIM, worker, LEASE, limit, *paces, LOOK, AGING, AHEAD, PLACE)
    taken = [record for record in records if record["goes"]]
    names = ("id", "kind", "part_id", "conversation_id", "channel_id", "attempt", "uncounted", "wait", "place_until")
    return Claim(
        claimed=[Claimed(**{name: record[name] for name in names}) for record in taken],
        late=[record["late"] for record in taken],
        put_off=len(records) - len(taken),
    )


def _places(providers: Mapping[str, Provider]) -> tuple[list[str], list[int]]:
    return list(providers), [provider.capabilities.sends_per_second for provider in providers.values()]


async def give_back(connection: Connection, channel_id: uuid.UUID, held: Sequence[tuple[datetime, timedelta]]) -> None:
    """Of an account's places, by their `place_until`: for how long each is held from now on."""
    await connection.execute(GIVE_BACK, channel_id, [place for place, _ in held], [wait for _, wait in held])


async def upcoming(connection: Connection, providers: Mapping[str, Provider]) -> Next:
    """What comes next."""
    record = await connection.fetchrow(NEXT, *_places(providers), AHEAD, PLACE)
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
    """When the next delivery or read mark may be taken, places aside, which are free again soon, or the next lease ends."""
    coming = await upcoming(connection, {})
    times = (coming.send, coming.lease, coming.mark, coming.now if coming.ended else None)
    return min((time for time in times if time is not None), default=None)


async def hold_account(connection: Connection, claimed: Claimed, *, after: timedelta) -> None:
    """The provider wants nothing from the account for a time."""
    await connection.execute(HOLD_ACCOUNT, claimed.channel_id, after)


async def hold_templates(connection: Connection, claimed: Claimed, *, after: timedelta) -> None:
    """The provider lets the account answer, and nothing else for a time."""
    await connection.execute(HOLD_TEMPLATES, claimed.channel_id, after)


async def hold_recipient(connection: Connection, claimed: Claimed, *, after: timedelta) -> None:
    """The provider wants nothing from the account to this recipient for a time."""
    await connection.execute(HOLD_RECIPIENT, claimed.conversation_id, after)


async def forget(connection: Connection) -> None:
    """Deletes buckets that have been full for long."""
    await connection.execute(FORGET)
