"""`up`, whose children are killed one after another: how soon each serves again, and what a killed `up` leaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server.embedded.children import accepts, takes_calls

pytestmark = pytest.mark.faults

KILLS = 6
WITHIN = {"serve-1": 3.0, "serve-2": 3.0, "envoy": 3.0, "valkey": 3.0, "simulator": 3.0, "work": 5.0, "postgres": 10.0}
UP = """
import sys
from pathlib import Path
from server.embedded.up import up
sys.exit(up(home=Path(sys.argv[1]), http_port=0, tls_port=0))
"""


class Up:
    """`up` in a process of its own, and what it prints."""

    def __init__(self, home: Path) -> None:
        self.home = home
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._printed = home.with_suffix(".txt")
        with self._printed.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", UP, str(home)], env=environment, stdout=file, stderr=file
            )

    def printed(self) -> str:
        return self._printed.read_text()

    def wait_ready(self) -> None:
        wait(lambda: "Ctrl-C stops it" in self.printed() or self.process.poll() is not None, within=90)
        assert self.process.poll() is None, self.printed()

    @property
    def dev(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "dev.json").read_text())
        return found

    def pid(self, name: str) -> int:
        return next(each["pid"] for each in self.dev["processes"] if each["name"] == name)

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.printed()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = Up(tmp_path_factory.mktemp("supervised") / "home")
    started.wait_ready()
    yield started
    started.end()


def wait(true: Callable[[], bool], *, within: float) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def serves(up: Up, name: str) -> bool:
    """Whether the process does what it is for, asked as its users ask."""
    dev, ports = up.dev, json.loads((up.home / "ports.json").read_text())
    if name == "envoy":
        return lists(dev)
    if name == "postgres":
        return asyncio.run(answers(dev["postgres"]["tenant"]))
    if name in ("valkey", "simulator"):
        return accepts(ports[name])
    return takes_calls(ports[f"{name}-internal" if name.startswith("serve") else name])


def lists(dev: dict[str, Any]) -> bool:
    headers = {"authorization": f"Bearer {dev['tenant_key']}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{dev['url']}/v1/conversations", headers=headers), timeout=5
        ) as found:
            return bool(found.status == 200)
    except OSError:
        return False


async def answers(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1") == 1)
    finally:
        await connection.close()


@pytest.mark.timeout(600)
def test_every_child_that_is_killed_serves_again_in_time(up: Up) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    rng = random.Random(seed)
    order = [name for name in WITHIN for _ in range(KILLS)]
    rng.shuffle(order)
    took: dict[str, list[float]] = {name: [] for name in WITHIN}
    for name in order:
        killed = up.pid(name)
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        wait(lambda killed=killed, name=name: up.pid(name) != killed and serves(up, name), within=30)  # type: ignore[misc]
        took[name].append(time.monotonic() - began)
        wait(lambda: lists(up.dev), within=30)
    for name, seconds in took.items():
        print(f"{name:<10} {len(seconds)} kills, slowest {max(seconds):.2f} s, of {WITHIN[name]:.0f}")
    print(f"seed {seed}")
    said = up.printed()
    assert all(said.count(f"{name} ended by SIGKILL") == KILLS for name in WITHIN)
    assert {name: max(seconds) for name, seconds in took.items() if max(seconds) > WITHIN[name]} == {}


@pytest.mark.timeout(600)
def test_a_killed_up_never_stops_the_next_start(tmp_path: Path) -> None:
    """Killed while it runs, while its children are stopped, and while it starts; each time all is there again."""
    rng = random.Random(seed := int.from_bytes(os.urandom(4), "big"))
    home = tmp_path / "home"
    first = Up(home)
    first.wait_ready()
    tenant, current, slowest = first.dev["tenant"], first, 0.0
    for turn in range(6):
        names = [each["name"] for each in current.dev["processes"]]
        for name in rng.sample(names, turn % 4):
            os.kill(current.pid(name), signal.SIGSTOP)
        current.process.kill()
        current.process.wait()
        half = Up(home)
        time.sleep(rng.uniform(0.1, 4))
        half.process.kill()
        half.process.wait()
        began = time.monotonic()
        current = Up(home)
        current.wait_ready()
        slowest = max(slowest, time.monotonic() - began)
        assert current.dev["tenant"] == tenant
        assert lists(current.dev)
    current.end()
    assert not [name for name in os.listdir("/proc") if name.isdigit() and works_in(home, name)]
    print(f"12 kills of up, slowest start {slowest:.1f} s, seed {seed}")


def works_in(home: Path, pid: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return str(home).encode() in command and b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return False


@pytest.mark.timeout(120)
def test_a_second_up_in_the_same_home_is_refused_and_the_first_goes_on(up: Up) -> None:
    second = subprocess.run(
        [sys.executable, "-c", UP, str(up.home)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"already running in {up.home} (process {up.process.pid})" in second.stderr
    assert lists(up.dev)
