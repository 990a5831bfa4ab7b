"""The floor: how old events go. It rises in the transaction that drops what lies below it, so no reader sees a log that has less
than its head row says.

Whole partitions are dropped where a tenant fills them; of the partition that is left, rows are deleted a few at a time, because
the head is locked meanwhile. Consumers that are behind hold the floor for 30 days; then they are broken and hold nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Counter

from server.kit.db import Connection, Database, Write
from server.log.append import PARTITION_WIDTH

RETENTION = timedelta(days=7)
CONSUMERS_WAIT = timedelta(days=30)
# Times are taken before the append, so two events may stand in the other order by the length of a transaction.
DISORDER = timedelta(minutes=1)
ROWS_AT_ONCE, ROWS_MOST = 1000, 200_000
DROPPED = Counter("switchboard_log_events_dropped_total", "Events below the floor that were removed.")
BROKEN = Counter(
    "switchboard_log_consumers_broken_total", "Consumers given up after 30 days behind. Must be 0.", ["name"]
)
log = structlog.get_logger(__name__)

BOUNDS = "SELECT floor, head, clock_now() AS now FROM stream_head WHERE id = 1"
TIME = "SELECT create_time FROM stream_event WHERE seq = $1"
# A consumer whose next event is that old is given up.
BREAK = """
UPDATE consumers c SET broken_time = $2 FROM stream_event e
WHERE c.broken_time IS NULL AND e.seq = c.seq + 1 AND e.create_time < $1 RETURNING c.name, c.seq
"""
WAITS = "SELECT min(seq) + 1 FROM consumers WHERE broken_time IS NULL"
DELETE = """
WITH raised AS (
    UPDATE stream_head SET floor = least(floor + $2, $1) WHERE floor < $1 AND $1 <= head + 1
    RETURNING old.floor AS first, new.floor AS following
)
DELETE FROM stream_event e USING raised WHERE e.seq >= raised.first AND e.seq < raised.following
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """The floor after a round, and how many events went."""

    floor: int
    dropped: int


async def keep(database: Database, *, retention: timedelta = RETENTION) -> Kept:
    """Raises the floor to the oldest event that is younger than the retention, or that a consumer still needs."""
    async with database.connection() as connection:
        bounds: Any = await connection.fetchrow(BOUNDS)
        target = await _first_since(connection, bounds, bounds["now"] - retention - DISORDER)
        if target > bounds["floor"]:
            await _give_up(connection, bounds["now"])
            target = min(target, await connection.fetchval(WAITS) or target)
    floor = await _drop_partitions(database, bounds["floor"], target)
    floor = await _delete_rows(database, floor, min(target, floor + ROWS_MOST))
    DROPPED.inc(floor - bounds["floor"])
    return Kept(floor=floor, dropped=floor - bounds["floor"])


async def _first_since(connection: Connection, bounds: Any, time: datetime) -> int:
    """The first event that is not older, head + 1 when all are. By halves: there is no index on the time, and seqs are dense."""
    low, high = bounds["floor"], bounds["head"] + 1
    while low < high:
        middle = (low + high) // 2
        if await connection.fetchval(TIME, middle) < time:
            low = middle + 1
        else:
            high = middle
    return int(low)


async def _give_up(connection: Connection, now: datetime) -> None:
    for row in await connection.fetch(BREAK, now - CONSUMERS_WAIT, now):
        BROKEN.labels(row["name"]).inc()
        log.error("log.consumer_broken", consumer=row["name"], seq=row["seq"])


async def _drop_partitions(database: Database, floor: int, target: int) -> int:
    """Drops what lies wholly below the target. Readers and writers wait for the drop, for the moment that it takes."""
    wanted = target // PARTITION_WIDTH * PARTITION_WIDTH
    if wanted <= floor:
        return floor

    async def work(write: Write) -> None:
        await write.connection.execute("SELECT drop_events_below($1)", wanted)

    await database.write(work)
    return wanted


async def _delete_rows(database: Database, floor: int, target: int) -> int:
    async with database.connection() as connection:
        while floor < target:
            # One statement, which commits by itself: the head is locked for no longer than it runs.
            await connection.execute(DELETE, target, ROWS_AT_ONCE)
            floor = min(floor + ROWS_AT_ONCE, target)
    return floor
