"""How long the append keeps the head row locked, and what a late event loop makes of it: docs/decisions/0012.

Run it alone: .venv/bin/python -m tests.bench.append_lock (about a minute). Postgres has track_commit_timestamp on, so that a
lock's time can be read from the rows: from the append's clock_timestamp() to the commit's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table
from switchboard.v1 import event_pb2

from server.kit.db import Connection
from server.kit.ids import new_id
from server.log.append import APPEND, columns
from server.log.event import SYSTEM, Cause, CauseKind, NewEvent
from tests.bench.lab import tenant_desk

SECONDS = 1.5
LAGS, WRITERS = (0, 20, 100), (1, 16, 64)
# A row for each append, in its transaction: when the head was locked. The commit's time is Postgres' own.
LOCKED = "CREATE TABLE locked (at timestamptz NOT NULL DEFAULT clock_timestamp(), events int NOT NULL)"
NOTED = APPEND.replace(
    "SELECT prev_head, new_head FROM advanced",
    ", noted AS (INSERT INTO locked (events) SELECT new_head - prev_head FROM advanced) SELECT prev_head, new_head FROM advanced",
)
HELD = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - at) * 1000 AS held, events FROM locked
"""
Writer = Callable[[Connection], Awaitable[None]]


def events(number: int) -> list[list[Any]]:
    body = event_pb2.InboxEvent(conversation_updated=event_pb2.ConversationUpdated(changed_fields=["x" * 400]))
    cause = Cause(CauseKind.CAUSE_KIND_REQUEST, "bench")
    return columns([NewEvent(body=body, actor=SYSTEM, cause=cause) for _ in range(number)])


@contextlib.asynccontextmanager
async def late_loop(milliseconds: int) -> AsyncIterator[None]:
    """Every turn of the loop takes so long, as when something computes in it: whatever comes from a socket waits."""

    async def hog() -> None:
        while True:
            time.sleep(milliseconds / 1000)
            await asyncio.sleep(0)

    task = asyncio.create_task(hog()) if milliseconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def two_flights(connection: Connection) -> None:
    """The unit of work: BEGIN, a statement of its own, append, COMMIT."""
    async with connection.transaction():
        await connection.execute("SELECT 1")
        await connection.fetchrow(NOTED, *events(1))


async def one_flight(connection: Connection) -> None:
    """The append as a statement of its own: the server commits it when it ends."""
    await connection.fetchrow(NOTED, *events(1))


async def simple_query(connection: Connection) -> None:
    """BEGIN and a statement; then append and COMMIT as text, in one simple query, whose rows the driver throws away."""
    await connection.execute("BEGIN")
    await connection.execute("SELECT 1")
    await connection.execute(f"""
        WITH a AS (UPDATE stream_head SET head = head + 1 RETURNING head),
        noted AS (INSERT INTO locked (events) SELECT 1 FROM a)
        INSERT INTO stream_event (seq, tx_last, event_id, kind, create_time, actor_kind, cause_kind, cause_id,
            conversation_version, payload)
        SELECT head, head, '{new_id()}', 1, now(), 1, 1, 'bench', 0, '\\x{"78" * 400}' FROM a; COMMIT""")


def batched(write: Writer) -> Any:
    """One connection, writers that queue: what waits when a transaction returns is in the next one."""

    async def run(connections: list[Connection], end: float) -> int:
        waiting: list[asyncio.Future[None]] = []
        done = 0

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < end:
                future = asyncio.get_running_loop().create_future()
                waiting.append(future)
                await future
                done += 1

        async def writer() -> None:
            while True:
                taken, waiting[:] = waiting[:128], waiting[128:]
                if not taken:
                    await asyncio.sleep(0)
                    continue
                if write is one_flight:
                    await connections[0].fetchrow(NOTED, *events(len(taken)))
                else:
                    async with connections[0].transaction():
                        await connections[0].execute("SELECT 1")
                        await connections[0].fetchrow(NOTED, *events(len(taken)))
                for future in taken:
                    future.set_result(None)

        writing = asyncio.create_task(writer())
        await asyncio.gather(*(caller() for _ in connections))
        writing.cancel()
        return done

    return run


def each(write: Writer) -> Any:
    """Every writer on a connection of its own."""

    async def run(connections: list[Connection], end: float) -> int:
        done = 0

        async def caller(connection: Connection) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await write(connection)
                done += 1

        await asyncio.gather(*map(caller, connections))
        return done

    return run


WAYS = {
    "unit of work: append, then COMMIT": each(two_flights),
    "append + COMMIT in one simple query": each(simple_query),
    "append alone, one flight": each(one_flight),
    "batch writer: append, then COMMIT": batched(two_flights),
    "batch writer: one flight": batched(one_flight),
}


async def measure(connections: list[Connection], way: Any, lag: int) -> tuple[float, float, float]:
    """Events per second, and the median and the longest time that the head was locked, in ms."""
    await connections[0].execute("TRUNCATE locked")
    async with late_loop(lag):
        began = time.perf_counter()
        done = await way(connections, began + SECONDS)
        took = time.perf_counter() - began
    held = [float(row["held"]) for row in await connections[0].fetch(HELD)]
    return done / took, statistics.median(held), max(held)


async def run() -> None:
    table = Table("writers", "way", *(f"lag {lag} ms: events/s, head locked p50 / max ms" for lag in LAGS))
    async with tenant_desk("track_commit_timestamp=on") as (_, dsn):
        connections = [await asyncpg.connect(dsn) for _ in range(max(WRITERS))]
        await connections[0].execute(LOCKED)
        for writers in WRITERS:
            for name, way in WAYS.items():
                found = [await measure(connections[:writers], way, lag) for lag in LAGS]
                cells = (f"{rate:,.0f} /s, {middle:.2f} / {longest:.1f}" for rate, middle, longest in found)
                table.add_row(str(writers), name, *cells)
        for connection in connections:
            await connection.close()
    Console(width=160).print(table)


if __name__ == "__main__":
    uvloop.run(run())
