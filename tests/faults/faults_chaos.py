"""Faults: a deck of them, shuffled by a seed, laid down one after another at a steady pace, whatever became of those before.

The deck decides how often each kind of process is hit, the seed in which order, with which delays and which victims.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import redis.asyncio
from faults_points import SERVE_POINTS, WORK_POINTS, Points
from faults_probe import until_back
from faults_recorder import Recorder
from redis.exceptions import RedisError

from server.embedded.stack import Stack
from server.log.hints import PREFIX

# The stack restarts at once what had run for ten seconds, and waits longer each time where a process keeps dying.
RESTED = 11.0
RARE = {"retire": 45.0, "timer_fired": 15.0}
"""How long an armed point may wait for somebody to pass it; others 5 s."""
BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
)


@dataclass(frozen=True)
class Card:
    """One fault.

    kind: kill, crash (of one backend of Postgres), stop, cut (connections to Postgres), strand (a worker dies with requests on
    their way), lie (a hint of what nobody wrote).

    victim: a kind of process; point: where it is to happen, empty for at once.
    """

    kind: str
    victim: str
    point: str = ""


def deck(rng: random.Random, *, faults: int) -> list[Card]:
    """A shuffled deck of about so many faults. Of 160, at least 13 hit each kind of process."""
    cards = [Card(kind, "serve", point) for point in SERVE_POINTS for kind in ("kill", "kill", "kill", "stop")]
    cards += [Card(kind, "work", point) for point in WORK_POINTS for kind in ("kill", "kill", "kill", "stop")]
    cards += [Card("kill", "serve")] * 10 + [Card("stop", "serve")] * 6
    cards += [Card("kill", "work")] * 6 + [Card("stop", "work")] * 4 + [Card("strand", "work")] * 4
    cards += [Card("kill", "valkey")] * 9 + [Card("stop", "valkey")] * 6
    cards += [Card("kill", "envoy")] * 11 + [Card("stop", "envoy")] * 4
    cards += [Card("kill", "postgres")] * 6 + [Card("crash", "postgres")] * 5 + [Card("stop", "postgres")] * 4
    cards += [Card("cut", "postgres")] * 20
    cards += [Card("stop", "simulator")] * 4 + [Card("lie", "valkey")] * 3
    whole = [*cards] * (faults // len(cards))
    whole += rng.sample(cards, faults % len(cards))
    rng.shuffle(whole)
    return whole


@dataclass
class Chaos:
    """Lays a deck. `hits` counts what was done, by (kind of process, fault); a point that nobody passed is not counted."""

    stack: Stack
    points: Points
    rng: random.Random
    out: Recorder
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    _free: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _back: dict[str, float] = field(default_factory=dict)
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def run(self, cards: list[Card], *, seconds: float) -> None:
        """Returns when the last fault is over; what died may not be back yet."""
        began = time.monotonic()
        for index, card in enumerate(cards):
            time.sleep(max(0.0, began + seconds * index / len(cards) - time.monotonic()))
            dice = random.Random(self.rng.random())
            self._begin(lambda card=card, dice=dice: self._lay(card, dice))
        self.join()

    def join(self) -> None:
        """Waits until all faults are over and everybody who was killed has answered again."""
        while self._threads:
            self._threads.pop().join()

    def _begin(self, target: object) -> None:
        thread = threading.Thread(target=target)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _lay(self, card: Card, dice: random.Random) -> None:
        if card.kind in ("cut", "lie"):
            self._cut(dice) if card.kind == "cut" else self._lie()
            return
        if card.point in RARE:
            self._at_point(card, self._names(card.victim), dice)
            return
        # Only one of the workers has the tenant: whoever passes the point first is the victim.
        names = self._choose(card.victim, dice, everybody=bool(card.point) and card.victim == "work")
        if not names:
            self.missed[f"{card.kind} {card.victim}: busy"] += 1
            return
        try:
            self._at_point(card, names, dice) if card.point else self._hit(card, names[0], dice)
        finally:
            for name in names:
                self._free[name].release()

    def _choose(self, kind: str, dice: random.Random, *, everybody: bool) -> list[str]:
        """A process of this kind that no other fault holds now; everybody: as many as there are."""
        names = self._names(kind)
        dice.shuffle(names)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = [name for name in names if self._rested(name) and self._free[name].acquire(blocking=False)]
            for name in [] if everybody else found[1:]:
                self._free[name].release()
            if found:
                return found if everybody else found[:1]
            time.sleep(0.05)
        return []

    def _names(self, kind: str) -> list[str]:
        return [name for name in self.stack.names() if name.partition("-")[0] == kind]

    def _rested(self, name: str) -> bool:
        return time.monotonic() - self._back.get(name, 0.0) > RESTED

    def _hit(self, card: Card, name: str, dice: random.Random) -> None:
        if card.kind == "kill":
            self.kill(name)
        elif card.kind == "crash":
            self._crash(name, dice)
        elif card.kind == "strand":
            self._strand(name, dice)
        else:
            self._stop(name, dice)

    def _at_point(self, card: Card, names: list[str], dice: random.Random) -> None:
        pids: dict[str, int] = {}
        passed: list[str] = []
        until = time.monotonic() + RARE.get(card.point, 5.0)
        while not passed and time.monotonic() < until:
            self._arm(card, names, pids)
            time.sleep(0.01)
            passed = [name for name, pid in pids.items() if not self.points.armed(pid, card.point)]
        passed = [name for name, pid in pids.items() if not self.points.disarm(pid, card.point)]
        for name in passed:
            at = self._tell(card.kind, name, point=card.point)
            if card.kind == "kill":
                self._watch_return(name, pids[name], at)
            else:
                time.sleep(dice.uniform(1.5, 3.5))
                _signal(pids[name], signal.SIGCONT)
                self._tell("continue", name, count=False)
        if not passed:
            self.missed[f"{card.kind} {card.victim} at {card.point}"] += 1

    def _arm(self, card: Card, names: list[str], pids: dict[str, int]) -> None:
        """Arms the point for each of these processes, and anew for one that another fault has ended meanwhile."""
        for name in names:
            pid = self.stack.pid(name)
            if pids.get(name) != pid and self._rested(name):
                if name in pids and not self.points.disarm(pids[name], card.point):
                    continue
                pids[name] = pid
                self.points.arm(pid, card.point, card.kind)

    def kill(self, name: str) -> None:
        """SIGKILL, and the time until the process answers again."""
        pid = self.stack.pid(name)
        _signal(pid, signal.SIGKILL)
        self._watch_return(name, pid, self._tell("kill", name))

    def returning(self, name: str, pid: int, *, point: str) -> None:
        """Counts a kill at a point that the caller armed, and times the return, beside the caller."""
        self.hits[(name.partition("-")[0], "kill")] += 1
        self._begin(lambda: self._watch_return(name, pid, self._tell("kill", name, point=point, count=False)))

    def _crash(self, name: str, dice: random.Random) -> None:
        """One backend dies; Postgres ends all of them and recovers by itself."""
        pids = [pid for pid in _below(self.stack.pid(name)) if b"postgres: " in _command(pid)]
        victim = dice.choice(pids)
        _signal(victim, signal.SIGKILL)
        at = self._tell("kill", name, point=_command(victim).replace(b"\0", b" ").decode(errors="replace")[10:30])
        time.sleep(0.05)
        self._watch_return(name, 0, at)

    def _watch_return(self, name: str, pid: int, at: float) -> None:
        # The port may still take a connection of the dead process: wait until its pid is another one's.
        while pid and self.stack.pid(name) == pid and time.monotonic() < at + 30:
            time.sleep(0.01)
        back = until_back(self.stack, name)
        self._back[name] = time.monotonic()
        self._write(k="back", name=name, t=round(at, 3), after=None if back is None else round(back - at, 3))

    def _stop(self, name: str, dice: random.Random) -> None:
        pid = self.stack.pid(name)
        pids = [pid, *_below(pid)] if name == "postgres" else [pid]
        self._tell("stop", name)
        for each in pids:
            _signal(each, signal.SIGSTOP)
        try:
            time.sleep(dice.uniform(1.5, 3.5))
        finally:
            for each in pids:
                _signal(each, signal.SIGCONT)
            self._tell("continue", name, count=False)

    def _strand(self, name: str, dice: random.Random) -> None:
        """The worker dies with requests on their way: the provider, which stands still, may take them when it goes on."""
        with self._free["simulator"]:
            provider = self.stack.pid("simulator")
            _signal(provider, signal.SIGSTOP)
            try:
                time.sleep(dice.uniform(0.3, 1.0))
                pid = self.stack.pid(name)
                _signal(pid, signal.SIGKILL)
                at = self._tell("kill", name, point="requests on their way")
            finally:
                _signal(provider, signal.SIGCONT)
        self._watch_return(name, pid, at)

    def _cut(self, dice: random.Random) -> None:
        self._tell("cut", "postgres")
        try:
            asyncio.run(cut(self.stack.server_dsn(), dice))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.missed["cut: Postgres was away"] += 1

    def _lie(self) -> None:
        """A hint of a thousand events that nobody wrote: hints are not the truth."""
        self._tell("lie", "valkey")
        try:
            asyncio.run(lie(self.stack))
        except (OSError, TimeoutError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.missed["lie: Valkey or Postgres was away"] += 1

    def _tell(self, kind: str, name: str, *, point: str = "", count: bool = True) -> float:
        at = time.monotonic()
        with self._writing:
            if count:
                self.hits[(name.partition("-")[0], kind)] += 1
            self.out.write(k=kind, name=name, point=point, t=round(at, 3))
        return at

    def _write(self, **line: object) -> None:
        with self._writing:
            self.out.write(**line)


async def cut(dsn: str, dice: random.Random) -> None:
    """Ends some connections to Postgres, as a failing network would."""
    connection = await asyncpg.connect(dsn, timeout=2)
    try:
        pids = [row["pid"] for row in await connection.fetch(BACKENDS)]
        chosen = dice.sample(pids, min(dice.choice((1, 2, 5, 20)), len(pids)))
        await connection.fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", chosen)
    finally:
        await connection.close(timeout=1)


async def lie(stack: Stack) -> None:
    """Publishes a hint that the first tenant's head is a thousand events further."""
    dev = stack.dev()
    connection = await asyncpg.connect(dev["postgres"]["tenant"], timeout=2)
    try:
        head = await connection.fetchval("SELECT head FROM stream_head")
    finally:
        await connection.close(timeout=1)
    async with redis.asyncio.from_url(dev["valkey"]["url"], socket_timeout=2) as valkey:
        await valkey.publish(f"{PREFIX}{dev['tenant']}", f"1:{head}:{head + 1000}")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _below(pid: int) -> list[int]:
    """The children of a process."""
    return [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/stat") if _parent(file) == pid]


def _parent(file: Path) -> int:
    try:
        return int(file.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
