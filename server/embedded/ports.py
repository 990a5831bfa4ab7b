"""Ports: the public two are the user's choice, all others ours, kept for the next start while they are free."""

import json
import random
import socket
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from server.embedded.errors import StartError
from server.embedded.home import write_private

LOOPBACK = "127.0.0.1"
# Below what kernels hand out by themselves (Linux from 32768, others from 49152): a child that was killed comes back on
# its port, and until then any outgoing connection of the machine might have been given that port as its own end.
RANGE = range(20_000, 32_768)


def choose(file: Path, names: Iterable[str], *, fixed: Mapping[str, int]) -> dict[str, int]:
    """A port for each name, on loopback, remembered in `file`.

    `fixed` maps a name to the port it must have; `StartError` where that one is taken. 0 there means: any.
    """
    remembered = _read(file)
    with ExitStack() as held:
        wanted = {name: port for name, port in fixed.items() if port}
        ports = {name: _hold_fixed(held, name, port) for name, port in wanted.items()}
        for name in [*fixed, *names]:
            if name not in ports:
                ports[name] = _hold(held, remembered.get(name), taken=ports.values())
    write_private(file, json.dumps(ports))
    return ports


def _hold_fixed(held: ExitStack, name: str, port: int) -> int:
    try:
        return _bind(held, port)
    except OSError as error:
        raise StartError(
            f"Port {port} is taken ({error.strerror}): choose another one with SWITCHBOARD_{name.upper()}_PORT."
        ) from error


def _hold(held: ExitStack, remembered: int | None, *, taken: Collection[int]) -> int:
    candidates = [] if remembered is None else [remembered]
    for port in [*candidates, *random.sample(RANGE, len(RANGE))]:
        if port in RANGE and port not in taken:
            with suppress(OSError):
                return _bind(held, port)
    raise StartError(f"No port from {RANGE.start} to {RANGE.stop - 1} is free on {LOOPBACK}.")


def _bind(held: ExitStack, port: int) -> int:
    taken = held.enter_context(socket.socket())
    # Lets go of connections of the last run that are still winding down; a port that is listened on stays refused.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((LOOPBACK, port))
    number: int = taken.getsockname()[1]
    return number


def _read(file: Path) -> dict[str, int]:
    try:
        read = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in read.items() if isinstance(port, int)} if isinstance(read, dict) else {}
