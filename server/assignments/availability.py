"""What agents say of themselves, and what becomes of those who say nothing any more. Works inside the caller's unit of work.

Heartbeats go to Valkey, and to the database once a minute at most. A timer of each agent at work asks the database alone: who is
silent there for longer than that counts as offline, until the next heartbeat.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.assignments import convert, reclaim
from server.kit.db import Connection, Database, Write
from server.kit.errors import NotFound
from server.log.append import append
from server.log.event import NewEvent, Origin
from server.timers import service as timers
from server.timers.service import Fired, Handlers

SILENT = "agent_silent"
HEARTBEAT_EVERY, KEEP_EVERY = timedelta(seconds=15), timedelta(minutes=1)
# The database hears of a heartbeat a minute late; two more may be lost on their way.
SILENT_AFTER = KEEP_EVERY + 3 * HEARTBEAT_EVERY
GET = "SELECT * FROM agent_loads WHERE agent_id = $1"
LOCK = "SELECT * FROM agent_loads WHERE agent_id = ANY($1::uuid[]) ORDER BY agent_id FOR UPDATE"
PAGE = "SELECT * FROM agent_loads WHERE $1::uuid IS NULL OR agent_id > $1 ORDER BY agent_id LIMIT $2"
# Who is away, and says so in another way, is away for as long as before.
SET = """
UPDATE agent_loads SET availability = $2, availability_time = CASE
        WHEN $2 NOT IN ('away', 'offline') THEN clock_now()
        WHEN availability IN ('away', 'offline') THEN availability_time
        ELSE coalesce(lost_time, clock_now())
    END, heartbeat_time = clock_now(), lost_time = NULL,
    idle_since = CASE WHEN $2 = 'online' THEN clock_now() ELSE idle_since END
WHERE agent_id = $1 RETURNING *
"""
BEAT = """
UPDATE agent_loads SET heartbeat_time = clock_now(), lost_time = NULL,
    idle_since = CASE WHEN lost_time IS NOT NULL AND availability = 'online' THEN clock_now() ELSE idle_since END
WHERE agent_id = $1 RETURNING *
"""
LOSE = "UPDATE agent_loads SET lost_time = clock_now() WHERE agent_id = $1 RETURNING *"
CAPACITY = "UPDATE agent_loads SET capacity = $2, skills = $3 WHERE agent_id = $1 RETURNING *"
# Whether a heartbeat has anything to write.
NEWS = """
SELECT *, lost_time IS NOT NULL OR heartbeat_time < clock_now() - $2::interval AS news FROM agent_loads WHERE agent_id = $1
"""
AT_WORK = ("online", "busy", "away")


async def get(connection: Connection, agent_id: uuid.UUID) -> Any:
    """What an agent takes and holds. NotFound."""
    record = await connection.fetchrow(GET, agent_id)
    if record is None:
        raise NotFound("agent")
    return record


async def page(connection: Connection, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Of all agents, by id."""
    records: list[Any] = await connection.fetch(PAGE, uuid.UUID(after[0]) if after else None, limit)
    return records


async def set_availability(write: Write, agent_id: uuid.UUID, *, origin: Origin, to: str) -> tuple[Any, list[NewEvent]]:
    """Says whether an agent takes conversations; it is a heartbeat as well. Saying the same again is no event. NotFound."""
    before = await _locked(write.connection, agent_id)
    record: Any
    if convert.counts_as(before) == to and before["availability"] == to:
        record = await write.connection.fetchrow(BEAT, agent_id)
        return record, []
    record = await write.connection.fetchrow(SET, agent_id, to)
    if to in AT_WORK:
        due = record["heartbeat_time"] + SILENT_AFTER
        await timers.set_timer(write.connection, kind=SILENT, key=agent_id, due_time=due)
    else:
        await timers.cancel(write.connection, kind=SILENT, keys=[agent_id])
    await reclaim.follow(write.connection, [agent_id])
    return record, [_changed(origin, record, before)]


async def heartbeat(database: Database, agent_id: uuid.UUID, *, origin: Origin) -> Any:
    """An agent is still there: written once a minute at most, or when it was lost. NotFound."""
    async with database.connection() as connection:
        record = await connection.fetchrow(NEWS, agent_id, KEEP_EVERY)
    if record is None:
        raise NotFound("agent")
    if not record["news"]:
        return record

    async def unit(write: Write) -> Any:
        before = await _locked(write.connection, agent_id)
        after: Any = await write.connection.fetchrow(BEAT, agent_id)
        if before["lost_time"] is not None:
            due = after["heartbeat_time"] + SILENT_AFTER
            await timers.set_timer(write.connection, kind=SILENT, key=agent_id, due_time=due)
            await append(write, [_changed(origin, after, before)])
        return after

    return await database.write(unit)


async def set_capacity(
    write: Write, agent_id: uuid.UUID, *, origin: Origin, capacity: int, skills: Sequence[str]
) -> tuple[Any, list[NewEvent]]:
    """Sets how much an agent takes and what it can do. NotFound."""
    before = await _locked(write.connection, agent_id)
    if (before["capacity"], list(before["skills"])) == (capacity, list(skills)):
        return before, []
    record = await write.connection.fetchrow(CAPACITY, agent_id, capacity, list(skills))
    body = event_pb2.AgentCapacityChanged(availability=convert.availability(record))
    event = NewEvent(body=event_pb2.InboxEvent(agent_capacity_changed=body), actor=origin.actor, cause=origin.cause)
    return record, [event]


async def _locked(connection: Connection, agent_id: uuid.UUID) -> Any:
    records = await connection.fetch(LOCK, [agent_id])
    if not records:
        raise NotFound("agent")
    return records[0]


def _changed(origin: Origin, record: Any, before: Any) -> NewEvent:
    body = event_pb2.AgentAvailabilityChanged(
        availability=convert.availability(record),
        **{"from": convert.AVAILABILITY.number(convert.counts_as(before))},
    )
    return NewEvent(body=event_pb2.InboxEvent(agent_availability_changed=body), actor=origin.actor, cause=origin.cause)


class SilenceTimers:
    """The timers of some agents who are at work, whose counters are locked."""

    def __init__(self, write: Write, records: Mapping[uuid.UUID, Any]) -> None:
        self._write = write
        self._records = records
        self._again: dict[uuid.UUID, datetime] = {}
        self._lost: list[uuid.UUID] = []

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Whoever was heard of since is asked again later; the others count as offline."""
        record = self._records.get(fired.key)
        if record is None or record["availability"] not in AT_WORK or record["lost_time"] is not None:
            return []
        due = record["heartbeat_time"] + SILENT_AFTER
        if due > fired.due_time + timedelta(milliseconds=1):
            self._again[fired.key] = due
            return []
        lost = await self._write.connection.fetchrow(LOSE, fired.key)
        self._lost.append(fired.key)
        return [_changed(fired.origin, lost, record)]

    async def save(self) -> None:
        """Sets the timers that were early, and those that take back what the lost ones have."""
        await timers.set_timers(self._write.connection, kind=SILENT, due_times=self._again)
        if self._lost:
            await reclaim.follow(self._write.connection, self._lost)


async def open_agents(write: Write, keys: Sequence[uuid.UUID]) -> SilenceTimers:
    """Locks the counters of the agents."""
    records = await write.connection.fetch(LOCK, list(keys))
    return SilenceTimers(write, {record["agent_id"]: record for record in records})


HANDLERS: Handlers = {SILENT: open_agents, **reclaim.HANDLERS}
