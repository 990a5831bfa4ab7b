"""A worker that dies and is started again until a file says stop: `python dying_worker.py`, told by one line of JSON on stdin.

Each life is a fork with the real dispatcher, sender and provider, and a point at which it sends itself SIGKILL. What it passed
is a line in the trace file, written before it dies. Production code has no switches for this.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from server.deliveries import claiming
from server.messages import delivering, dispatching
from server.messages.delivering import Sender
from server.messages.dispatching import Dispatcher, Slots
from server.providers.contract import Provider
from server.providers.meta.graph import GraphClient
from server.providers.registry import ProviderSettings, create_providers
from server.settings import load
from server.tenancy.control import open_control
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory

# Around the provider call: before the request, accepted and unanswered, answered and not stored, stored in part, stored.
POINTS = ("claimed", "before_request", "unanswered", "answered", "before_commit", "settled", "any_time")
LIFE_SECONDS = 4.0


class Death:
    """When this life ends: the nth time it comes to a point, or at any time."""

    def __init__(self, point: str, number: int, trace: str) -> None:
        self._point, self._left, self._trace = point, number, trace

    def at(self, point: str) -> bool:
        """Whether this is the moment."""
        if point == self._point:
            self._left -= 1
        return point == self._point and self._left == 0

    def come(self, point: str) -> None:
        """Says where it died, and dies."""
        handle = os.open(self._trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, f"{point}\n".encode())
        os.close(handle)
        os.kill(os.getpid(), signal.SIGKILL)

    def check(self, point: str) -> None:
        if self.at(point):
            self.come(point)


def plant(death: Death) -> None:
    """Puts the points into this process."""
    claim, post, start, append, settle = (
        *(claiming.claim, GraphClient.post, aiohttp.ClientResponse.start),
        *(delivering.append, Sender.settle),
    )

    async def claimed(*arguments: Any, **named: Any) -> Any:
        found = await claim(*arguments, **named)
        if found.claimed:
            death.check("claimed")
        return found

    async def posted(self: Any, *arguments: Any, **named: Any) -> Any:
        death.check("before_request")
        answer = await post(self, *arguments, **named)
        death.check("answered")
        return answer

    async def started(self: Any, *arguments: Any, **named: Any) -> Any:
        if death.at("unanswered"):
            # The request is written; the provider has time to take it, and its answer is not read.
            await asyncio.sleep(0.05)
            death.come("unanswered")
        return await start(self, *arguments, **named)

    async def appended(*arguments: Any, **named: Any) -> Any:
        result = await append(*arguments, **named)
        death.check("before_commit")
        return result

    async def settled(self: Any, *arguments: Any, **named: Any) -> None:
        await settle(self, *arguments, **named)
        death.check("settled")

    claiming.claim, GraphClient.post, aiohttp.ClientResponse.start = claimed, posted, started  # type: ignore[method-assign]
    delivering.append, Sender.settle = appended, settled  # type: ignore[method-assign]


async def live(told: dict[str, Any], death: Death, chance: random.Random) -> None:
    """One life."""
    settings = load({"control_dsn": told["control_dsn"], "master_key": told["master_key"]})
    providers: dict[str, Provider] = create_providers(ProviderSettings(meta_graph_url=told["graph_url"]))
    control = await open_control(settings)
    directory = WorkDirectory(control.database)
    dispatcher = Dispatcher(
        uuid.UUID(told["tenant_id"]),
        worker=f"dying-{os.getpid()}-{chance.getrandbits(32)}",
        tenants=Tenants(control, directory, pool_size=4),
        directory=directory,
        providers=providers,
        slots=Slots(),
    )
    dispatcher.start()
    if death.at("any_time"):
        asyncio.get_running_loop().call_later(chance.uniform(0.05, 0.6), death.come, "any_time")
    await asyncio.sleep(LIFE_SECONDS)


def main() -> None:
    told = json.loads(sys.stdin.readline())
    dispatching.TENANT_MOST = told["at_once"]
    chance = random.Random(told["seed"])
    stop = Path(told["folder"]) / "stop"
    while not stop.exists():
        point, number = chance.choice(POINTS), chance.randint(1, 4)
        pid = os.fork()
        if pid == 0:
            death = Death(point, 1 if point == "any_time" else number, str(Path(told["folder"]) / "trace"))
            plant(death)
            try:
                asyncio.run(live(told, death, chance))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        chance.random()


if __name__ == "__main__":
    main()
