"""What a long snapshot does to the head row, which every append updates: docs/decisions/0013.

Run it alone: .venv/bin/python -m tests.bench.head_bloat [updates] (40,000 take a minute; the whole is quadratic).
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from server.kit.db import Connection
from server.log.append import APPEND
from tests.bench.append_lock import events
from tests.bench.lab import tenant_desk

STEPS, CONTENDED_SECONDS = 5, 3
# Each update commits by itself, as appends do; without waiting for the disk, which is not what is measured here.
ADVANCE = """
CREATE PROCEDURE advance(times int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..times LOOP
        UPDATE stream_head SET head = head + 1;
        COMMIT;
    END LOOP;
END $$
"""
STATE = """
SELECT s.n_tup_upd AS updates, s.n_tup_hot_upd AS hot, pg_relation_size('stream_head') AS heap,
    pg_indexes_size('stream_head') AS indexes
FROM pg_stat_user_tables s WHERE s.relname = 'stream_head'
"""
LOOK_UP = "SELECT head FROM stream_head WHERE id = 1"


@dataclass(frozen=True)
class State:
    """The table at a moment."""

    when: str
    updates: int
    hot: float
    kilobytes: int
    look_up: float
    update: float

    def cells(self) -> tuple[str, ...]:
        return (
            self.when,
            f"{self.updates:,}",
            f"{self.hot:.3f}",
            f"{self.kilobytes:,} kB",
            f"{self.look_up * 1000:.3f} ms",
            f"{self.update * 1e6:.0f} µs",
        )


async def look(connection: Connection, when: str, update: float) -> State:
    """Reads the state, and how long a look-up by key takes."""
    await asyncio.sleep(1.1)
    row = await connection.fetchrow(STATE)
    assert row is not None
    times = []
    for _ in range(50):
        began = time.perf_counter()
        await connection.fetchval(LOOK_UP)
        times.append(time.perf_counter() - began)
    size = (row["heap"] + row["indexes"]) // 1024
    return State(when, row["updates"], row["hot"] / max(1, row["updates"]), size, sorted(times)[25], update)


async def advance(connection: Connection, times: int) -> float:
    """Seconds for one update."""
    began = time.perf_counter()
    await connection.execute(f"CALL advance({times})", timeout=600)
    return (time.perf_counter() - began) / times


async def appends(dsn: str, writers: int, seconds: float) -> int:
    """Appends of so many writers that all wait for the one row, and look at its newest version when they get it."""
    connections = [await asyncpg.connect(dsn) for _ in range(writers)]
    done, end = 0, time.perf_counter() + seconds

    async def write(connection: Connection) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await connection.fetchrow(APPEND, *events(1))
            done += 1

    await asyncio.gather(*map(write, connections))
    for connection in connections:
        await connection.close()
    return done


async def run(updates: int) -> None:
    table = Table("when", "updates so far", "HOT", "table + index", "look-up by key", "one update")
    async with tenant_desk() as (_, dsn):
        # A connection each: statistics of a backend are told when it is idle.
        reader, writer, holder = [await asyncpg.connect(dsn) for _ in range(3)]
        await writer.execute("SET synchronous_commit = off")
        await writer.execute(ADVANCE)
        states = [await look(reader, "fresh", 0)]
        states.append(await look(reader, "nobody looks back", await advance(writer, updates // 10)))
        contended = {"before": await appends(dsn, 64, CONTENDED_SECONDS)}
        snapshot = holder.transaction(isolation="repeatable_read", readonly=True)
        await snapshot.start()
        await holder.fetchval(LOOK_UP)
        for step in range(1, STEPS + 1):
            took = await advance(writer, updates // STEPS)
            states.append(await look(reader, f"snapshot open, step {step}", took))
        contended["snapshot open"] = await appends(dsn, 64, CONTENDED_SECONDS)
        await snapshot.rollback()
        states.append(await look(reader, "snapshot closed", await advance(writer, updates // 100)))
        await writer.execute("VACUUM stream_head")
        states.append(await look(reader, "after VACUUM", await advance(writer, updates // 100)))
        contended["after VACUUM"] = await appends(dsn, 64, CONTENDED_SECONDS)
        numbers = await reader.fetchval("SELECT count(DISTINCT seq) FROM stream_event")
        assert numbers == sum(contended.values()), "each append has a number of its own"
        for connection in (reader, writer, holder):
            await connection.close()
    for state in states:
        table.add_row(*state.cells())
    Console(width=140).print(table)
    print("appends/s of 64 writers:", {name: done // CONTENDED_SECONDS for name, done in contended.items()})


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000))
