"""A way to a server on which answers can be lost: requests go on, nothing comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Mute:
    """Forwards connections to an address, until `mute`: then only towards the server."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.muted = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._to)
            self._sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server), kwargs={"back": False}, daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client), kwargs={"back": True}, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not (back and self.muted):
                    target.sendall(data)


@contextlib.contextmanager
def mute_way(address: str) -> Iterator[Mute]:
    """Open while the caller needs it."""
    made = Mute(address)
    try:
        yield made
    finally:
        made.close()
