"""Our own processes as children: serve, work, simulator: `python -m server …`, with settings in the environment."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.embedded.ports import LOOPBACK
from server.embedded.processes import Program, Spare
from server.settings import PREFIX


def serve(name: str, *, port: int, internal: int, media: int, environment: Mapping[str, str]) -> Program:
    """A server process: public gRPC on one port, health and metrics on the next, files on the last."""
    addresses = {"LISTEN": f"{LOOPBACK}:{port}", "INTERNAL_LISTEN": f"{LOOPBACK}:{internal}"}
    addresses["MEDIA_LISTEN"] = f"{LOOPBACK}:{media}"
    settings = {f"{PREFIX}{name}": address for name, address in addresses.items()}
    return _program(name, ("serve",), internal, {**environment, **settings})


def spare_serve(environment: Mapping[str, str]) -> Spare:
    """What takes the place of a server process that died: its settings but the addresses are known before."""
    return Spare((sys.executable, "-m", "server", "serve", "--standby"), {**_paths(), **environment})


def work(name: str, *, internal: int, environment: Mapping[str, str]) -> Program:
    """A worker process: health and metrics on its port."""
    return _program(name, ("work", "--internal-listen", f"{LOOPBACK}:{internal}"), internal, environment)


def simulator(*, port: int, file: Path, environment: Mapping[str, str]) -> Program:
    """The other side: a Graph API, configured by a file."""
    arguments = ("simulator", "--listen", f"{LOOPBACK}:{port}", "--config", str(file))
    return Program(
        name="simulator",
        command=(sys.executable, "-m", "server", *arguments),
        environment={**_paths(), **environment},
        ready=lambda: accepts(port),
    )


def accepts(port: int) -> bool:
    """Whether somebody listens on this port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def takes_calls(internal: int) -> bool:
    """Whether the process behind this internal port says that it takes calls (grpc.health.v1, service "")."""
    # A channel to a closed port waits a second before it tries again, so the port is asked first.
    if not accepts(internal):
        return False
    with grpc.insecure_channel(f"{LOOPBACK}:{internal}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _program(name: str, arguments: tuple[str, ...], internal: int, environment: Mapping[str, str]) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-m", "server", *arguments),
        environment={**_paths(), **environment},
        ready=lambda: takes_calls(internal),
    )


def _paths() -> dict[str, str]:
    """A child imports what this process imports, however it was started."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUNBUFFERED": "1"}
