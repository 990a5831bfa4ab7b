"""Faults at random: processes die or stand still, and connections to Postgres are cut."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg

from server.embedded.stack import Stack

VICTIMS = ("serve-1", "serve-2", "work", "valkey", "envoy")
KINDS = ("kill", "kill", "stop", "cut", "cut", "strand")
BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
)


@dataclass
class Chaos:
    """Does one fault after another, from one thread."""

    stack: Stack
    rng: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    """Processes that ended although nobody had killed them."""
    began: float = field(default_factory=time.monotonic)

    def run(self, *, seconds: float) -> None:
        """Returns with everything running again. Postgres dies once, in the middle third."""
        until = time.monotonic() + seconds
        crash = time.monotonic() + seconds * self.rng.uniform(0.35, 0.6)
        while time.monotonic() < until:
            if crash and time.monotonic() > crash:
                crash = 0.0
                self._kill(["postgres"])
            else:
                self._any()
            self.died += self.stack.resurrect()
            time.sleep(self.rng.uniform(0.3, 2.5))

    def _any(self) -> None:
        kind = self.rng.choice(KINDS)
        if kind == "kill":
            self._kill(self.rng.sample(VICTIMS, self.rng.choice((1, 1, 2))))
        elif kind == "stop":
            self._stop(self.rng.choice((*VICTIMS, "simulator")))
        elif kind == "strand":
            self._strand()
        else:
            asyncio.run(self._cut(self.rng.choice((1, 2, 5, 20))))

    def _kill(self, names: list[str]) -> None:
        for name in names:
            self._tell(f"kill {name}")
            self.stack.kill(name)
        time.sleep(self.rng.uniform(0, 3))
        # Envoy last: it is ready once every serve process answers.
        for name in sorted(names, key=lambda name: name == "envoy"):
            self.stack.restart(name)
        self._tell(f"back {' '.join(names)}", count=False)

    def _stop(self, name: str) -> None:
        self._tell(f"stop {name}")
        with self._standing(name):
            time.sleep(self.rng.uniform(2, 4))

    def _strand(self) -> None:
        """The worker dies with requests on their way: the provider, which stands still, may take them when it goes on."""
        self._tell("strand work")
        with self._standing("simulator"):
            time.sleep(self.rng.uniform(0.5, 2))
            self.stack.kill("work")
        time.sleep(self.rng.uniform(0, 1))
        self.stack.restart("work")

    @contextmanager
    def _standing(self, name: str) -> Iterator[None]:
        pid = self.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _cut(self, count: int) -> None:
        self._tell("cut")
        connection = await asyncpg.connect(self.stack.server_dsn())
        try:
            pids = [row["pid"] for row in await connection.fetch(BACKENDS)]
            chosen = self.rng.sample(pids, min(count, len(pids)))
            await connection.fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", chosen)
        finally:
            await connection.close()

    def _tell(self, what: str, *, count: bool = True) -> None:
        if count:
            self.faults[what] += 1
        self.story.append(f"{time.monotonic() - self.began:6.1f} {what}")
