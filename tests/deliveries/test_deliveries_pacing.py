"""The pace of a number against a provider that counts every second strictly: three workers, one of them killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deliveries_load import control, fill, simulator

from server.deliveries.claiming import PLACE
from tests.desk import Desk
from tests.installation import Installed

SECONDS = float(os.environ.get("SWITCHBOARD_PACING_SECONDS", "60"))
# Of 80 a second, what a second that is counted strictly leaves where a request may be 20 ms on its way.
LEAST = 78.4
JITTER = {"kind": "delay", "delay_ms": 0, "jitter_ms": 20, "of": "request"}


class Paced:
    """Workers of one tenant, each in a process of its own, so that they can be killed."""

    def __init__(self, desk: Desk, installed: Installed, channel: Any, url: str) -> None:
        self.desk, self.installed, self.channel, self.url = desk, installed, channel, url
        self.workers: list[asyncio.subprocess.Process] = []

    async def start_worker(self) -> None:
        settings = self.installed.settings
        assert settings.master_key is not None
        told = {
            "control_dsn": settings.control_dsn.get_secret_value(),
            "master_key": settings.master_key.get_secret_value(),
            "graph_url": self.url,
            "tenant_id": str(self.desk.tenant.id),
        }
        program = [sys.executable, str(Path(__file__).with_name("pacing_worker.py"))]
        child = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(told).encode() + b"\n")
        self.workers.append(child)

    async def requests(self) -> list[tuple[float, int]]:
        """When each message was handed in, and how it was answered."""
        found = (await control(self.url, "GET", "requests"))["requests"]
        messages = [item for item in found if "type" in item["body"]]
        return sorted((datetime.fromisoformat(item["time"]).timestamp(), item["status"]) for item in messages)

    async def begun(self) -> None:
        """Waits until something was sent."""
        while not await self.requests():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def paced(desk: Desk, installed: Installed, folder: Path, *, many: int, per_second: int) -> AsyncIterator[Paced]:
    channel = await desk.new_channel()
    limits = {"pair_seconds": None, "throughput_per_second": per_second}
    await fill(installed, desk, channel, many=many, conversations=200)
    async with simulator([desk.account(channel.id, limits=limits)], folder) as url:
        made = Paced(desk, installed, channel, url)
        try:
            yield made
        finally:
            for process in made.workers:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def most_in_a_second(times: list[float]) -> int:
    """Of all seconds that begin with a request, the most requests."""
    first, most = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.faults
@pytest.mark.timeout(400)
async def test_a_number_sends_as_fast_as_it_may_and_no_faster(own_desk: Desk, desks: Installed, tmp_path: Path) -> None:
    async with paced(own_desk, desks, tmp_path, many=10_000, per_second=80) as made:
        await control(made.url, "POST", "faults", JITTER)
        for _ in range(3):
            await made.start_worker()
        await made.begun()
        began = time.monotonic()
        await asyncio.sleep(SECONDS / 2)
        made.workers[0].kill()
        await asyncio.sleep(began + SECONDS + 1 - time.monotonic())
        found = await made.requests()
    first = found[0][0]
    accepted = [at for at, status in found if status == 200 and at < first + SECONDS]
    refused = sum(1 for _, status in found if status != 200)
    rate = len(accepted) / SECONDS
    print(f"{rate:.2f} sends a second, at most {most_in_a_second(accepted)} in one, {refused} refused")
    assert refused == 0
    assert rate >= LEAST


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_the_pace_follows_an_upgrade_within_seconds(own_desk: Desk, desks: Installed, tmp_path: Path) -> None:
    async with paced(own_desk, desks, tmp_path, many=20_000, per_second=1000) as made:
        await made.start_worker()
        await made.begun()
        await asyncio.sleep(4)
        await own_desk.execute("UPDATE channels SET throughput_per_second = 1000")
        changed = time.time()
        await asyncio.sleep(10)
        times = [at for at, _ in await made.requests()]
        await own_desk.execute("UPDATE channels SET throughput_per_second = 20")
        lowered = time.time()
        await asyncio.sleep(PLACE.total_seconds() + 4)
        after = [at for at, _ in await made.requests() if at > lowered + PLACE.total_seconds()]
    before = [at for at in times if at < changed]
    quick = next(at for at in times if at >= changed and sum(at - 1 <= other <= at for other in times) > 100)
    most = most_in_a_second([at for at in times if at > changed])
    print(f"at most {most_in_a_second(before)} a second; more {quick - changed:.2f} s after the upgrade, up to {most}")
    assert most_in_a_second(before) <= 80
    assert quick - changed < 10
    assert most > 160
    assert 10 < most_in_a_second(after) <= 20
