"""Our own processes as children: serve, work, simulator: `python -m server …`, with settings in the environment."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.embedded.ports import LOOPBACK
from server.embedded.processes import Program


def serve(name: str, *, port: int, internal: int, environment: Mapping[str, str]) -> Program:
    """A server process: public gRPC on one port, health and metrics on the other."""
    arguments = ("serve", "--listen", f"{LOOPBACK}:{port}", "--internal-listen", f"{LOOPBACK}:{internal}")
    return _program(name, arguments, internal, environment)


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
