"""Deliveries per second of CPU of a bare grpc.aio server: docs/decisions/0015-no-waiting-for-company.md. Prints a table.

The reader/writer form on uvloop, to 50 streams: events in batches of 1, 8 and 64 per write, and single events whose streams are
woken 0, 2 and 5 ms after an event, at a low and at a high rate. CPU is that of the server's process.
"""

from __future__ import annotations

import asyncio

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.fanout import MATCHING, Server, running, streams
from tests.bench.fanout_server import METHOD
from tests.bench.measuring import quantiles

BATCHES, WINDOWS, RATES = {1: 400, 8: 1600, 64: 6400}, (0, 2, 5), (200, 1000)
SECONDS = 4.0


async def batches(server: Server) -> list[tuple[str, ...]]:
    """Deliveries per second of CPU by batch."""
    found = []
    for batch, count in BATCHES.items():
        answer = await server.ask(f"lockstep {count} {MATCHING} {batch}")
        found.append((f"batch {batch}", f"{count * MATCHING / answer['cpu']:,.0f}", "", ""))
    return found


async def windows(server: Server) -> list[tuple[str, ...]]:
    """The same, and the latency at the client, by window and rate."""
    found = []
    for rate in RATES:
        for window in WINDOWS:
            await server.ask(f"window {window}")
            async with streams(server.address, f"/{METHOD}/Watch", [b"1"] * MATCHING) as client:
                answer = await server.ask(f"paced {rate} {SECONDS}")
                await asyncio.sleep(1)
                p50, p99 = quantiles(client.milliseconds(answer["made"]))
            speed = rate * SECONDS * MATCHING / answer["cpu"]
            found.append((f"{rate} events/s, woken after {window} ms", f"{speed:,.0f}", f"{p50:.2f}", f"{p99:.2f}"))
    return found


async def rows() -> list[tuple[str, ...]]:
    """All of them."""
    async with running({}) as server:
        async with streams(server.address, f"/{METHOD}/Watch", [b"1"] * MATCHING):
            found = await batches(server)
    async with running({}) as server:
        return found + await windows(server)


def main() -> None:
    """Prints the table."""
    table = Table("50 streams", "deliveries per second of CPU", "p50 ms", "p99 ms")
    for row in uvloop.run(rows()):
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
