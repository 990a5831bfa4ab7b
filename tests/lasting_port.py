"""A port for what can only be told its number before it starts, or is started again at the same one."""

import random
import socket

# Below those that the kernel gives to connections and to whoever asks for any port: nobody is given one of these meanwhile.
PORTS = range(20_000, 32_000)


def lasting_port() -> int:
    """A port of the loopback that nobody listens at."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port")
