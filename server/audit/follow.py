"""The follower: gives calls their place in the trail, and takes messages sent from the log. It alone writes the trail.

Calls wait in a table that their own transactions wrote, so no two of them wait for each other. An entry, its place in the chain of
hashes and the cursor in the log commit together.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from switchboard.v1 import actor_pb2, event_pb2, message_pb2

from server.audit.chain import hash_of
from server.audit.record import COLUMNS, DONE, Record
from server.audit.trail import SENDS
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.read import PAGE_EVENTS

CONSUMER = "audit"
CREATED = event_pb2.EVENT_TYPE_MESSAGE_CREATED
CALLERS = (actor_pb2.ACTOR_KIND_AGENT, actor_pb2.ACTOR_KIND_API_KEY)
BEHIND = """
SELECT EXISTS (SELECT FROM audit_pending) OR h.head > coalesce((SELECT seq FROM consumers WHERE name = $1), 0) FROM stream_head h
"""
HEAD = "SELECT number, hash FROM audit_head WHERE id = 1 FOR UPDATE"
# One that was given up goes on at the floor: what it missed is gone, and the trail says so by what it does not have.
START = """
INSERT INTO consumers AS c (name, seq, update_time) SELECT $1, floor - 1, $2 FROM stream_head
ON CONFLICT (name) DO UPDATE SET seq = greatest(c.seq, excluded.seq), broken_time = NULL
WHERE c.seq < excluded.seq OR c.broken_time IS NOT NULL
"""
POSITION = "SELECT seq FROM consumers WHERE name = $1"
TAKE = f"""
WITH taken AS (
    DELETE FROM audit_pending WHERE id IN (SELECT id FROM audit_pending ORDER BY create_time, id LIMIT $1) RETURNING *
)
SELECT {", ".join(COLUMNS)} FROM taken ORDER BY create_time, id
"""
LOGGED = """
SELECT seq, kind, event_id, create_time, actor_kind, actor_id, cause_id, conversation_id,
    CASE WHEN kind = $3 THEN payload END AS payload
FROM stream_event WHERE seq > $1 AND seq <= $1 + $2 ORDER BY seq
"""
SENT_FROM = "SELECT id, client_address, user_agent FROM messages WHERE id = ANY($1::uuid[])"
KNOWN = "SELECT id FROM audit_entries WHERE id = ANY($1::uuid[])"
INSERT = f"""
INSERT INTO audit_entries (number, hash, {", ".join(COLUMNS)})
VALUES ({", ".join(f"${n}" for n in range(1, len(COLUMNS) + 3))})
"""
ADVANCE = "UPDATE consumers SET seq = $2, update_time = $3 WHERE name = $1"
SAVE = "UPDATE audit_head SET number = $1, hash = $2 WHERE id = 1"


async def behind(connection: Connection) -> bool:
    """Whether anything has no place in the trail yet."""
    found: bool = await connection.fetchval(BEHIND, CONSUMER)
    return found


async def follow(write: Write, *, limit: int = PAGE_EVENTS) -> int:
    """Adds what waits and what the log says next; returns how much was looked at."""
    connection = write.connection
    # The lock of whoever follows: only one at a time knows the end of the chain.
    head: Any = await connection.fetchrow(HEAD)
    await connection.execute(START, CONSUMER, utc_now())
    seq = await connection.fetchval(POSITION, CONSUMER)
    taken = [Record(*row.values()) for row in await connection.fetch(TAKE, limit)]
    logged = await connection.fetch(LOGGED, seq, limit, CREATED)
    sent = await _sends(connection, logged)
    # A call that wrote in two units of work may have been taken after the first of them: it is one entry all the same.
    await _add(connection, head, await _unknown(connection, [*taken, *sent]))
    if logged:
        await connection.execute(ADVANCE, CONSUMER, logged[-1]["seq"], utc_now())
    return len(taken) + len(logged)


async def _add(connection: Connection, head: Any, records: Sequence[Record]) -> None:
    number, chain, rows = head["number"], bytes(head["hash"]), []
    for record in sorted(records, key=lambda item: (item.create_time, item.id)):
        values, number = astuple(record), number + 1
        chain = hash_of(chain, number, dict(zip(COLUMNS, values, strict=True)))
        rows.append((number, chain, *values))
    if rows:
        await connection.executemany(INSERT, rows)
        await connection.execute(SAVE, number, chain)


async def _sends(connection: Connection, logged: Sequence[Any]) -> list[Record]:
    """The messages that agents and keys sent. Where from is in the message's row, unless that was purged meanwhile."""
    sent = [
        (row, event_pb2.InboxEvent.FromString(row["payload"]).message_created.message)
        for row in logged
        if row["kind"] == CREATED and row["actor_kind"] in CALLERS
    ]
    if not sent:
        return []
    found = await connection.fetch(SENT_FROM, [uuid.UUID(message.id) for _, message in sent])
    places = {str(row["id"]): (row["client_address"], row["user_agent"]) for row in found}
    return [_sent(row, message, *places.get(message.id, (None, None))) for row, message in sent]


def _sent(row: Any, message: message_pb2.Message, client_address: str | None, user_agent: str | None) -> Record:
    """A message that an agent or a key sent. Its event's id is the entry's, so that it is never entered twice."""
    return Record(
        id=row["event_id"],
        create_time=row["create_time"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        method=SENDS.lstrip("/").replace("/", "."),
        outcome=DONE,
        resource_fields=["conversation_id", "message_id"],
        resource_ids=[str(row["conversation_id"]), message.id],
        fields=["conversation_id", *(["text"] if message.HasField("text") else [])],
        cause_id=row["cause_id"],
        client_address=client_address,
        user_agent=user_agent,
    )


async def _unknown(connection: Connection, records: list[Record]) -> list[Record]:
    if not records:
        return []
    known = {row["id"] for row in await connection.fetch(KNOWN, [record.id for record in records])}
    return [record for record in records if record.id not in known]
