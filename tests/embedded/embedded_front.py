"""Envoy in front of a stand-in server, for the tests of the edge."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
from embedded_upstream import Upstream

from server.embedded import envoy, ports
from server.embedded.envoy import Edge, Endpoint
from server.embedded.home import Home
from server.embedded.processes import Child

ORIGIN = "https://inbox.example"


@dataclass
class Front:
    """Envoy, what stands behind it, and a client."""

    edge: Edge
    child: Child
    upstream: Upstream
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.edge.http}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.edge.http}"


def free_ports(home: Home) -> dict[str, int]:
    return ports.choose(home.ports, ["admin"], fixed={"http": 0, "tls": 0})


def start_envoy(home: Home, endpoint: Endpoint, page: Path) -> tuple[Edge, Child]:
    given = free_ports(home)
    edge = Edge(
        http=given["http"],
        tls=given["tls"],
        admin=given["admin"],
        endpoints=(endpoint,),
        cors_origins=(ORIGIN,),
        page=page,
    )
    child = Child(envoy.program(home, edge), logs=home.logs)
    child.start()
    return edge, child


async def wait_for_envoy(child: Child) -> None:
    # Not on the loop: the health that Envoy asks for is answered there.
    await asyncio.to_thread(child.wait_ready, within=timedelta(seconds=20))
