"""How the rows measure: rates, medians, and whose CPU time an operation costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Call = Callable[[], Awaitable[Any]]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """A line of the table. met: whether the target is reached, None where there is none."""

    name: str
    measured: str
    reference: str
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    cost: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def at_least(ratio: float, target: float) -> dict[str, Any]:
    """Fields of a row whose ratio is to be that high."""
    return {"ratio": ratio, "target": f"≥ {target:.2f}", "met": ratio >= target}


def at_most(ratio: float, target: float) -> dict[str, Any]:
    """Fields of a row whose ratio is to be that low."""
    return {"ratio": ratio, "target": f"≤ {target:.2f}", "met": ratio <= target}


async def throughput(call: Call, *, in_flight: int, seconds: float) -> float:
    """Calls per second with so many in flight."""
    done = 0
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            await call()
            done += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def median(call: Call, *, times: int = 400) -> float:
    """Median milliseconds at one in flight."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


async def medians(*calls: Call, times: int = 400) -> list[float]:
    """Median milliseconds of calls that take turns, so that what else the machine does meets all of them alike."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, times_of in zip(calls, found, strict=True):
            began = time.perf_counter()
            await call()
            times_of.append((time.perf_counter() - began) * 1000)
    return [statistics.median(times_of) for times_of in found]


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def family(pid: int) -> dict[int, float]:
    """A process and all its children, each with the CPU time in seconds of itself and of those it has outlived."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = sum(map(int, fields[11:15])) / TICKS
    waiting, found = [pid], {}
    while waiting:
        member = waiting.pop()
        found[member] = spent.get(member, 0.0)
        waiting += children.get(member, [])
    return found


def queued_seconds(pids: Iterable[int]) -> float:
    """How long the threads of these processes were ready to run while others had the cores (/proc/PID/task/TID/schedstat)."""
    total = 0
    for pid in pids:
        for path in Path("/proc", str(pid), "task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text().split()[1])
    return total / 1e9


class Costs:
    """What each process takes of the machine inside the `with`, which may be entered again.

    spent: seconds of CPU time. queued: seconds that its threads were ready and had no core.
    """

    def __init__(self, **pids: int) -> None:
        self._pids = {**pids, "client": os.getpid()}
        self._before: dict[str, tuple[float, float]] = {}
        self._began = self.seconds = 0.0
        self.spent = dict.fromkeys(self._pids, 0.0)
        self.queued = dict.fromkeys(self._pids, 0.0)

    def _now(self) -> dict[str, tuple[float, float]]:
        families = {name: family(pid) for name, pid in self._pids.items() if name != "client"}
        found = {name: (sum(members.values()), queued_seconds(members)) for name, members in families.items()}
        return {**found, "client": (time.process_time(), queued_seconds([os.getpid()]))}

    def __enter__(self) -> Costs:
        self._before, self._began = self._now(), time.monotonic()
        return self

    def __exit__(self, *_error: object) -> None:
        self.seconds += time.monotonic() - self._began
        for name, (spent, queued) in self._now().items():
            self.spent[name] += spent - self._before[name][0]
            self.queued[name] += queued - self._before[name][1]

    def each(self, operations: float) -> str:
        """Microseconds of CPU time for each of so many operations."""
        return ", ".join(f"{name} {spent / operations * 1e6:,.0f}" for name, spent in self.spent.items()) + " µs"

    def shares(self) -> str:
        """Per cent of a core that each had, and that each was without while it wanted one."""
        had = ", ".join(f"{name} {spent / self.seconds:.0%}" for name, spent in self.spent.items())
        wanted = sum(self.queued.values()) / self.seconds
        return f"{had} of a core; waited for one {wanted:.0%}"


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    table = Table("what", "measured", "reference in the same run", "ratio", "target", "CPU each")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = "" if row.met is None else (" met" if row.met else " MISSED")
        table.add_row(row.name, row.measured, row.reference, ratio, row.target + met, row.cost)
    Console(width=200).print(table)
