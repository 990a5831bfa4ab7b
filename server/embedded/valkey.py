"""Valkey as a child: loopback, a generated password, nothing on disk. It holds hints alone and may lose them."""

import socket
from pathlib import Path

from server.embedded import binaries
from server.embedded.home import Home, write_private
from server.embedded.ports import LOOPBACK
from server.embedded.processes import Program


def url(port: int, password: str) -> str:
    """A connection string."""
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def program(home: Home, *, port: int, password: str) -> Program:
    """The server on this port. The password goes by a file: a command line can be read by every user of the machine."""
    file = home.valkey / "valkey.conf"
    write_private(file, _configuration(home.valkey, port, password))
    return Program(
        name="valkey", command=(str(binaries.valkey_server()), str(file)), ready=lambda: _answers(port, password)
    )


def _configuration(folder: Path, port: int, password: str) -> str:
    lines = (
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        'save ""',
        "appendonly no",
        "daemonize no",
        "maxmemory 256mb",
        "maxmemory-policy allkeys-lru",
        "client-output-buffer-limit pubsub 32mb 8mb 60",
        "timeout 0",
        "tcp-keepalive 60",
    )
    return "\n".join(lines) + "\n"


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return connection.recv(64).startswith(b"+OK")
    except OSError:
        return False
