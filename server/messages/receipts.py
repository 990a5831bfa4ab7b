"""Receipts: they move a part forward by rank, in whatever order they come, and every one is kept."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from switchboard.v1 import event_pb2

from server.contacts import consents
from server.conversations import repository as conversations
from server.conversations import rules
from server.conversations import timers as conversation_timers
from server.conversations.events import updated
from server.deliveries import marks
from server.deliveries import service as deliveries
from server.deliveries.marks import Reaction
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced, Write, ensure
from server.kit.ids import new_id
from server.log.event import NewEvent, Origin, Routing
from server.messages import changes, convert, joining
from server.messages.row import MessageRow

RANK = {"pending": 0, "unknown": 1, "sent": 2, "failed": 2, "delivered": 3, "read": 4, "played": 4}

# closed_time: of a receipt that waits for the id which comes with our own, and says that the reply window is closed.
FIND = """
SELECT p.*, d.state FROM (
    SELECT p.id, p.conversation_id, p.channel_id, p.provider_message_id, (
        SELECT max(r.provider_time) FROM parked_receipts r
        WHERE r.channel_id = k.channel_id AND r.provider_message_id = k.provider_message_id AND r.closes_reply_window
    ) AS closed_time
    FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS k (channel_id, provider_message_id, part_id)
    JOIN message_parts p ON p.id = k.part_id AND p.channel_id = k.channel_id
    UNION ALL
    SELECT p.id, p.conversation_id, p.channel_id, p.provider_message_id, NULL
    FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS k (channel_id, provider_message_id, part_id)
    JOIN message_parts p ON p.channel_id = k.channel_id AND p.provider_message_id = k.provider_message_id
) p LEFT JOIN deliveries d ON d.part_id = p.id
"""
# With their messages: whose parts two transactions move at once has a status that both of them see.
LOCK = """
SELECT p.id, p.message_id, p.conversation_id, p.channel_id, p.position, p.provider_message_id, p.status, m.direction,
    p.error_code, p.error_message
FROM message_parts p JOIN messages m ON m.id = p.message_id
WHERE p.id = ANY($1::uuid[]) ORDER BY p.id FOR UPDATE OF p FOR NO KEY UPDATE OF m
"""
CONTEXT = """
SELECT c.id, c.channel_id, c.identity_id, c.team_id, c.assignee_id, c.version FROM conversations c WHERE c.id = ANY($1::uuid[])
"""
SAVE_PARTS = """
UPDATE message_parts p
SET status = u.status, provider_message_id = coalesce(p.provider_message_id, u.provider_message_id),
    error_code = u.error_code, error_message = u.error_message
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS u (id, status, provider_message_id, error_code, error_message)
WHERE p.id = u.id
"""
# The message's status: failed or unknown when a part is, else the lowest of its parts by rank.
SAVE_MESSAGES = """
UPDATE messages m SET status = s.status
FROM (
    SELECT message_id, CASE
        WHEN bool_or(status = 'failed') THEN 'failed'
        WHEN bool_or(status = 'unknown') THEN 'unknown'
        WHEN bool_or(status = 'pending') THEN 'pending'
        WHEN bool_or(status = 'sent') THEN 'sent'
        WHEN bool_or(status = 'delivered') THEN 'delivered'
        ELSE 'read' END AS status
    FROM message_parts WHERE message_id = ANY($1::uuid[]) GROUP BY message_id
) s
WHERE m.id = s.message_id
RETURNING m.id, m.status
"""
FIRST_IDS = (
    "SELECT message_id, provider_message_id FROM message_parts WHERE message_id = ANY($1::uuid[]) AND position = 0"
)
RECORD = """
INSERT INTO message_status_updates (
    id, create_time, message_id, part_id, position, status, source, applied, error_code, error_message, provider_time,
    note, member
)
SELECT * FROM unnest(
    $1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::smallint[], $6::text[], $7::text[], $8::boolean[], $9::text[],
    $10::text[], $11::timestamptz[], $12::text[], $13::text[]
)
"""
# Whoever parks a receipt and whoever stores the id it waits for take turns; without it both could miss the other.
TAKE_TURNS = """
SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM (SELECT DISTINCT key FROM unnest($1::text[]) AS key ORDER BY key) k
"""
STORED = """
SELECT true FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN message_parts p USING (channel_id, provider_message_id) JOIN messages m ON m.id = p.message_id AND m.direction = 'outbound'
UNION ALL
SELECT true FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
JOIN sent_reactions r USING (channel_id, provider_message_id)
LIMIT 1
"""
PARK = """
INSERT INTO parked_receipts (
    id, channel_id, provider_message_id, status, error_code, error_message, closes_reply_window, stops_marketing, provider_time,
    create_time, member
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
"""
# A customer who wrote after the provider said so has opened the window again.
CLOSED_CONVERSATIONS = """
SELECT p.conversation_id, p.id FROM unnest($1::uuid[], $2::timestamptz[]) AS k (part_id, provider_time)
JOIN message_parts p ON p.id = k.part_id
WHERE k.provider_time IS NULL OR NOT EXISTS (
    SELECT FROM messages m
    WHERE m.conversation_id = p.conversation_id AND m.direction = 'inbound' AND m.provider_time > k.provider_time
)
"""
UNPARK = """
DELETE FROM parked_receipts r USING unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
WHERE r.channel_id = k.channel_id AND r.provider_message_id = k.provider_message_id
RETURNING r.*
"""
APPLIED = """
UPDATE journal_items i SET state = 'applied' FROM unnest($1::uuid[], $2::text[]) AS k (channel_id, provider_message_id)
WHERE i.channel_id = k.channel_id AND i.kind = 'receipt' AND i.provider_id = k.provider_message_id AND i.state = 'parked'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What is known of a part now: from a receipt, the answer to the send, or ourselves.

    part_id: when it is known (our own callback data). status: a word of message_status_updates. closes_reply_window: the
    provider says that the window is closed; stops_marketing: that the customer wants no marketing messages. asked: an
    operator asked for a second send, which moves the part whatever it had. member: who of a group it is about.
    """

    channel_id: uuid.UUID
    provider_message_id: str | None
    part_id: uuid.UUID | None
    status: str
    source: str
    origin: Origin
    provider_time: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    closes_reply_window: bool = False
    stops_marketing: bool = False
    note: str | None = None
    asked: bool = False
    member: str | None = None


@dataclass(slots=True)
class Part:
    """A locked part, as updates change it."""

    id: uuid.UUID
    message_id: uuid.UUID
    conversation_id: uuid.UUID
    channel_id: uuid.UUID
    position: int
    provider_message_id: str | None
    status: str
    direction: str
    error_code: str | None = None
    error_message: str | None = None

    def take(self, update: Update) -> bool:
        """Moves forward if the update outranks what is known; says whether it did."""
        status = update.status
        if update.member is not None:
            # That one member has it proves that it was sent, and that one has not says nothing of the others.
            status = self.status if status == "failed" else "sent"
        if not (update.asked or moves(self.status, status)):
            return False
        self.status = convert.SHOWN.get(status, status)
        failed = self.status == "failed"
        self.error_code = update.error_code if failed else None
        self.error_message = update.error_message if failed else None
        return True


@dataclass(frozen=True, slots=True)
class Queues:
    """The deliveries of the parts that updates are about: their states before, and the conversations locked for them."""

    states: Mapping[uuid.UUID, str]
    locked: frozenset[uuid.UUID]

    @staticmethod
    def of(found: Sequence[Any], updates: Sequence[Update]) -> Queues:
        """found: records of FIND. An accepted delivery that a receipt confirms, which most are, needs no lock.

        An answer to the send may bring a failure that was parked, so its conversation is locked whatever is known of it.
        """
        failing = any(update.status == "failed" or update.source == "response" for update in updates)
        sends = [record for record in found if record["state"] is not None]
        return Queues(
            states={record["id"]: record["state"] for record in sends},
            locked=frozenset(record["conversation_id"] for record in sends if failing or record["state"] != "accepted"),
        )


@dataclass(slots=True)
class Applied:
    """What came of updates: events to append, and those that no part answers to."""

    events: list[NewEvent] = field(default_factory=list)
    unmatched: list[Update] = field(default_factory=list)


def moves(before: str, after: str) -> bool:
    """Whether a status gives way: forward by rank; failed only to delivered, read and played, and only before those."""
    if before == "failed":
        return after in ("delivered", "read", "played")
    if after == "failed":
        return RANK[before] < RANK["delivered"]
    return RANK[after] > RANK[before]


async def apply(write: Write, updates: Sequence[Update]) -> Applied:
    """Applies updates in their order, and after them the receipts that waited for an id which they bring.

    Locks conversations (only where one's queue of sends may move or its reply window close), then parts, by id.
    """
    applied = Applied()
    connection, now = write.connection, utc_now()
    found = await connection.fetch(FIND, *_keys(updates))
    queues = Queues.of(found, updates)
    reactions = {(each.channel_id, each.provider_message_id): each for each in await _reactions(connection, updates)}
    needed = {*queues.locked, *_meeting(found, updates), *(each.conversation_id for each in reactions.values())}
    if needed:
        await deliveries.lock(connection, needed)
    closing = _closing(updates, found)
    if closing:
        applied.events += await _close_windows(connection, closing, now=now)
    parts = {
        record["id"]: Part(**record) for record in await connection.fetch(LOCK, [record["id"] for record in found])
    }
    steps = await _join(write, parts, updates, applied)
    learned = _learn(parts, updates)
    by_provider_id = {(part.channel_id, part.provider_message_id): part for part in parts.values()}
    records: list[tuple[Part, Update, dict[str, Any]]] = []
    failed: list[tuple[Reaction, Origin]] = []
    waited = await _unpark(connection, learned)
    if any(update.closes_reply_window for update in waited) and not closing:
        # It was parked a moment ago; conversations are locked before parts, so begin anew.
        raise Raced
    for update in (*updates, *steps, *waited):
        part = parts.get(update.part_id) if update.part_id else None
        part = part or by_provider_id.get((update.channel_id, update.provider_message_id))
        if part is None and (reaction := reactions.get((update.channel_id, update.provider_message_id or ""))):
            # One that failed for one member of a group is on the others' phones.
            failed += [(reaction, update.origin)] if update.status == "failed" and update.member is None else []
            continue
        if part is None or part.direction != "outbound":
            applied.unmatched.append(update)
            continue
        records.append((part, update, _record(part, update, now=now)))
    if records:
        applied.events += await _store(write, records, queues, now=now)
    for reaction, origin in failed:
        applied.events += await _take_back(write, reaction, origin=origin)
    return applied


async def _reactions(connection: Connection, updates: Sequence[Update]) -> list[Reaction]:
    """The reactions of the tenant among what receipts are about."""
    keys = _turns([update for update in updates if update.source == "receipt" and update.part_id is None])
    return await marks.reactions(connection, *keys) if keys[0] else []


async def _take_back(write: Write, reaction: Reaction, *, origin: Origin) -> list[NewEvent]:
    """The customer does not see it, so nobody does; one that was wanted since is still to be told."""
    if await marks.changing(write.connection, reaction.message_id):
        return []
    about = (reaction.conversation_id, reaction.message_id, reaction.emoji)
    return await changes.take_back(write, *about, origin=origin)


def _meeting(found: Sequence[Any], updates: Sequence[Update]) -> set[uuid.UUID]:
    """The conversations of parts that are told of by one id of the provider's, which one of them has."""
    ours = {record["id"]: record for record in found if record["provider_message_id"] is None}
    held = {(record["channel_id"], record["provider_message_id"]): record for record in found}
    met: set[uuid.UUID] = set()
    for update in updates:
        other = held.get((update.channel_id, update.provider_message_id))
        if update.part_id in ours and update.provider_message_id is not None and other is not None:
            met |= {ours[update.part_id]["conversation_id"], other["conversation_id"]}
    return met


async def _join(
    write: Write, parts: Mapping[uuid.UUID, Part], updates: Sequence[Update], applied: Applied
) -> list[Update]:
    """Makes one of each message of ours and what was told of it as written elsewhere; what receipts had told of that."""
    held = {(part.channel_id, part.provider_message_id): part for part in parts.values()}
    steps: list[Update] = []
    for update in updates:
        ours = parts.get(update.part_id) if update.part_id else None
        copy = held.get((update.channel_id, update.provider_message_id))
        if ours is None or copy is None or update.provider_message_id is None or ours.provider_message_id is not None:
            continue
        about = {"copy_part_id": copy.id, "copy_id": copy.message_id, "message_id": ours.message_id}
        joined = await joining.join(write, **about, origin=update.origin)
        if joined is not None:
            copy.provider_message_id = None
            applied.events += joined.events
            steps += [_step(update, step) for step in joined.steps]
    return steps


def _step(update: Update, step: Mapping[str, Any]) -> Update:
    """What a receipt had told of the copy that this update makes one with its part."""
    return Update(
        channel_id=update.channel_id,
        provider_message_id=update.provider_message_id,
        part_id=update.part_id,
        source="receipt",
        origin=update.origin,
        **step,
    )


def _learn(parts: dict[uuid.UUID, Part], updates: Sequence[Update]) -> list[Update]:
    """Gives parts the provider's id that comes with our own; returns the updates that brought one, one for each part."""
    learned = []
    # One that a copy of the message brought first stays the copy's.
    held = {(part.channel_id, part.provider_message_id) for part in parts.values()}
    for update in updates:
        part = parts.get(update.part_id) if update.part_id else None
        if (update.channel_id, update.provider_message_id) in held:
            continue
        if part is not None and part.provider_message_id is None and update.provider_message_id is not None:
            part.provider_message_id = update.provider_message_id
            learned.append(update)
    return learned


def _keys(updates: Sequence[Update]) -> list[list[Any]]:
    return [
        [update.channel_id for update in updates],
        [update.provider_message_id for update in updates],
        [update.part_id for update in updates],
    ]


def _record(part: Part, update: Update, *, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "create_time": now,
        "message_id": part.message_id,
        "part_id": part.id,
        "position": part.position,
        "status": update.status,
        "source": update.source,
        "applied": part.take(update),
        "error_code": update.error_code,
        "error_message": update.error_message,
        "provider_time": update.provider_time,
        "note": update.note,
        "member": update.member,
    }


async def _store(
    write: Write, records: Sequence[tuple[Part, Update, dict[str, Any]]], queues: Queues, *, now: datetime
) -> list[NewEvent]:
    connection = write.connection
    parts = sorted({part.id: part for part, _, _ in records}.values(), key=lambda part: part.id)
    names = ("id", "status", "provider_message_id", "error_code", "error_message")
    try:
        await connection.execute(SAVE_PARTS, *([getattr(part, name) for part in parts] for name in names))
    except asyncpg.UniqueViolationError as error:
        # It was told of as written elsewhere a moment ago.
        raise Raced from error
    message_ids = sorted({part.message_id for part in parts})
    statuses = {row["id"]: row["status"] for row in await connection.fetch(SAVE_MESSAGES, message_ids)}
    await _resolve(connection, records, queues)
    await ensure(write, "SELECT ensure_receipt_month($1)", now.date().replace(day=1))
    rows = [row for _, _, row in records]
    await connection.execute(RECORD, *([row[name] for row in rows] for name in rows[0]))
    context = {
        row["id"]: row for row in await connection.fetch(CONTEXT, sorted({part.conversation_id for part in parts}))
    }
    external = {row["message_id"]: row["provider_message_id"] for row in await connection.fetch(FIRST_IDS, message_ids)}
    events = [
        _event(part, update, row, context=context[part.conversation_id], statuses=statuses, external=external)
        for part, update, row in records
    ]
    stops = [
        consents.Stop(context[part.conversation_id]["identity_id"], update.provider_time or now, update.origin)
        for part, update, _ in records
        if update.stops_marketing
    ]
    return events + await consents.stop(connection, stops)


async def _resolve(
    connection: Connection, records: Sequence[tuple[Part, Update, dict[str, Any]]], queues: Queues
) -> None:
    """Ends the deliveries of which these updates say more than their own requests did."""
    parts = {part.id: part for part, _, _ in records}
    proven = [
        part.id
        for part in parts.values()
        if RANK[part.status] >= RANK["sent"] and part.status != "failed" and queues.states.get(part.id) != "accepted"
    ]
    if proven:
        await deliveries.resolve(connection, proven, state="accepted", locked=queues.locked)
    for part, update, row in records:
        if row["applied"] and update.status == "failed" and update.source == "receipt":
            error = {"code": update.error_code, "message": update.error_message}
            await deliveries.resolve(connection, [part.id], state="failed", locked=queues.locked, **error)


def _event(
    part: Part,
    update: Update,
    row: dict[str, Any],
    *,
    context: Any,
    statuses: dict[Any, str],
    external: dict[Any, Any],
) -> NewEvent:
    body = event_pb2.MessageStatusUpdated(
        message_id=str(part.message_id),
        conversation_id=str(part.conversation_id),
        status=convert.STATUS.number(statuses[part.message_id]),
        external_id=external[part.message_id],
        status_update=convert.status_update(row),
    )
    routing = Routing(channel_id=context["channel_id"], team_id=context["team_id"], assignee_id=context["assignee_id"])
    return NewEvent(
        body=event_pb2.InboxEvent(message_status_updated=body),
        actor=update.origin.actor,
        cause=update.origin.cause,
        conversation_id=part.conversation_id,
        conversation_version=context["version"],
        before=routing,
        after=routing,
    )


def _closing(updates: Sequence[Update], found: Sequence[Any]) -> dict[uuid.UUID, tuple[datetime | None, Origin]]:
    """Parts by which the provider says that a reply window is closed: when it said so, and the origin of what follows."""
    waiting = {record["id"]: record["closed_time"] for record in found if record["closed_time"] is not None}
    ids = {record["id"] for record in found}
    by_provider_id = {(record["channel_id"], record["provider_message_id"]): record["id"] for record in found}
    closing = {}
    for update in updates:
        part_id = update.part_id if update.part_id in ids else None
        part_id = part_id or by_provider_id.get((update.channel_id, update.provider_message_id))
        if part_id is not None and (update.closes_reply_window or part_id in waiting):
            time = update.provider_time if update.closes_reply_window else waiting[part_id]
            closing[part_id] = (time, update.origin)
    return closing


async def _close_windows(
    connection: Connection, closing: dict[uuid.UUID, tuple[datetime | None, Origin]], *, now: datetime
) -> list[NewEvent]:
    """The provider's word beats our own reckoning: the windows of the conversations are closed now."""
    times = [time for time, _ in closing.values()]
    records = await connection.fetch(CLOSED_CONVERSATIONS, list(closing), times)
    origins = {record["conversation_id"]: closing[record["id"]][1] for record in records}
    events = []
    for row in (await conversations.lock_many(connection, sorted(origins))).values():
        if row.reply_window_expire_time is not None and row.reply_window_expire_time > now:
            row.reply_window_expire_time = now
            rules.touch(row, now)
            await conversations.save(connection, row)
            await conversation_timers.closed_now(connection, row)
            events.append(updated(origins[row.id], row, "reply_window"))
    return events


async def park(connection: Connection, updates: Sequence[Update]) -> None:
    """Keeps receipts that came before what they are about. Raced when that was stored just now."""
    keys = _turns(updates)
    if not keys[1]:
        return
    await connection.execute(TAKE_TURNS, keys[1])
    if await connection.fetchval(STORED, *keys):
        raise Raced
    for update in updates:
        if update.provider_message_id is not None:
            values = (
                update.status,
                update.error_code,
                update.error_message,
                update.closes_reply_window,
                update.stops_marketing,
                update.provider_time or utc_now(),
                utc_now(),
                update.member or "",
            )
            await connection.execute(PARK, new_id(), update.channel_id, update.provider_message_id, *values)


def _turns(updates: Sequence[Update]) -> tuple[list[uuid.UUID], list[str]]:
    """Channels and provider message ids of the updates that have one."""
    keys = [
        (update.channel_id, update.provider_message_id) for update in updates if update.provider_message_id is not None
    ]
    return [channel_id for channel_id, _ in keys], [provider_message_id for _, provider_message_id in keys]


async def waited(
    connection: Connection, channel_id: uuid.UUID, provider_message_id: str, *, origin: Origin
) -> list[Update]:
    """Takes the receipts that wait for a message which is about to be stored with this id, the lowest rank first."""
    update = Update(
        channel_id=channel_id,
        provider_message_id=provider_message_id,
        part_id=None,
        status="sent",
        source="receipt",
        origin=origin,
    )
    return await _unpark(connection, [update])


async def moved(connection: Connection, message: MessageRow, part_id: uuid.UUID, updates: Sequence[Update]) -> str:
    """Records receipts of a message that is about to be stored; the status that they leave it with."""
    part = Part(
        id=part_id,
        message_id=message.id,
        conversation_id=message.conversation_id,
        channel_id=message.channel_id,
        position=0,
        provider_message_id=message.provider_message_id,
        status=message.status,
        direction=message.direction,
    )
    rows = [_record(part, update, now=utc_now()) for update in updates]
    if rows:
        await connection.execute(RECORD, *([row[name] for row in rows] for name in rows[0]))
    return part.status


async def _unpark(connection: Connection, learned: Sequence[Update]) -> list[Update]:
    """Takes the receipts that wait for the ids that these updates brought, the lowest rank first."""
    if not learned:
        return []
    keys = _turns(learned)
    await connection.execute(TAKE_TURNS, keys[1])
    records = await connection.fetch(UNPARK, *keys)
    if records:
        await connection.execute(APPLIED, *keys)
    origins = {(update.channel_id, update.provider_message_id): update.origin for update in learned}
    return [
        Update(
            channel_id=record["channel_id"],
            provider_message_id=record["provider_message_id"],
            part_id=None,
            status=record["status"],
            source="receipt",
            origin=origins[(record["channel_id"], record["provider_message_id"])],
            provider_time=record["provider_time"],
            error_code=record["error_code"],
            error_message=record["error_message"],
            closes_reply_window=record["closes_reply_window"],
            stops_marketing=record["stops_marketing"],
            member=record["member"] or None,
        )
        for record in sorted(records, key=lambda record: (RANK[record["status"]], record["id"]))
    ]
