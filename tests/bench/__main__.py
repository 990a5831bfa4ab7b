"""Starts a stack of its own, loads it from this process, and prints a table. Every row names its reference.

Load generator, servers and Postgres share the machine, so compare rows of one run with each other, not runs of different
machines. One serve process takes the load, without Envoy; validation, credentials, fsync and the log are on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop
from grpc import aio

from server.embedded.stack import Options, Stack
from tests.bench import fanout, intake, live, outbound, reference, sends
from tests.bench.measuring import Row, show
from tests.bench.stand import Stand, connect

GROUPS: Mapping[str, Callable[[Stand], Awaitable[list[Row]]]] = {
    "sends": sends.rows,
    "live": live.rows,
    "fanout": lambda stand: fanout.measured(stand.stack),
    "intake": intake.rows,
    "outbound": outbound.rows,
}


async def run(stack: Stack, bare: reference.Reference, *, groups: Sequence[str], quick: bool) -> list[Row]:
    """The rows of some groups, in their order."""
    dev = stack.dev()
    # As the owner: what is measured bare makes tables of its own.
    owner = stack.server_dsn(dev["postgres"]["tenant"].rpartition("/")[2])
    database = await connect(owner)
    async with (
        aio.insecure_channel(dev["serve"][0]["grpc"]) as channel,
        aio.insecure_channel(bare.address) as bare_channel,
    ):
        stand = Stand(stack, dev, channel, bare_channel, database, bare, quick=quick)
        await stand.prepare()
        found = [row for name in groups for row in await GROUPS[name](stand)]
    await database.close()
    return found


def options(home: Path, **more: Any) -> Options:
    """Rate limits are counted, and so far away that nobody meets them: one caller makes all the load."""
    names = ("SWITCHBOARD_CALLS_PER_SECOND", "SWITCHBOARD_CALLS_PER_SECOND_OF_CALLER")
    return Options(home=home, receipts=None, environment=dict.fromkeys(names, "1000000"), **more)


def main() -> None:
    """Runs the benchmark in a home of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "groups", nargs="*", choices=[*GROUPS, []], help="which rows; all of them unless said otherwise"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    parser.add_argument("--quick", action="store_true", help="a quarter of the load, for a first look")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, reference.running() as bare:
        with Stack(options(Path(folder) / "home", processes=1)) as stack:
            stack.terminate("work")
            rows = uvloop.run(run(stack, bare, groups=asked.groups or list(GROUPS), quick=asked.quick))
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
