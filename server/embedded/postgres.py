"""PostgreSQL as a child: TCP on loopback, scram with a generated password, durable writes, no new system user."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from server.embedded import binaries
from server.embedded.errors import StartError
from server.embedded.home import Home
from server.embedded.ports import LOOPBACK
from server.embedded.processes import Program

USER = "postgres"
LEFTOVER_ENDS_WITHIN = timedelta(seconds=20)
"""A server that was told to end writes out everything first."""
ORPHANS_END_WITHIN = timedelta(seconds=3)
"""Processes without their server have nothing to write."""

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # No Unix socket: its path would have to fit 107 bytes, and the home may lie anywhere.
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "random_page_cost": "1.1",
    # After a crash: one call for the whole file system, where some thousand files would be flushed one by one.
    "recovery_init_sync_method": "syncfs",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and key values are customers' data; the log holds neither.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


def dsn(port: int, password: str, *, database: str = "postgres") -> str:
    """A connection string for the superuser."""
    return f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{database}"


def wrapper() -> tuple[str, ...]:
    """What comes before a PostgreSQL program, which does not run as root.

    Nor does initdb as a user that /etc/passwd does not know, as containers like to have it.

    A user namespace, where this user has another number; else `nobody`, who may read the home but owns only the data.
    """
    if os.geteuid() != 0 and _named(os.geteuid()):
        return ()
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    user = next(account.pw_uid for account in (*_named(1000), *pwd.getpwall()) if account.pw_uid != 0)
    namespace = (unshare or "unshare", "--user", f"--map-user={user}", f"--map-group={user}")
    if unshare and _works(namespace):
        return namespace
    nobody = (
        *(
            setpriv or "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--inh-caps=-all,+dac_read_search",
        ),
        *("--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search"),
    )
    if setpriv and os.geteuid() == 0 and _works(nobody):
        return nobody
    raise StartError(
        "PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` works here: use an ordinary user."
    )


def initialise(home: Home, *, password: str, prefix: tuple[str, ...]) -> None:
    """Make the data folder, unless it is there. A half-made one, of a start that was cut short, is made anew."""
    if home.postgres.exists():
        return
    made = home.path / "postgres.new"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700)
    secret = made.with_name("postgres.password")
    secret.touch(0o600)
    secret.write_text(password)
    _give_away(prefix, made, secret)
    try:
        _initdb(made, secret, prefix)
    finally:
        secret.unlink()
    made.rename(home.postgres)


def program(home: Home, *, port: int, prefix: tuple[str, ...]) -> Program:
    """The server on this port."""
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return Program(
        name="postgres",
        command=(str(binaries.postgres("postgres")), "-D", str(home.postgres), f"--port={port}", *settings),
        ready=lambda: _status(home.postgres) == "ready",
        before=lambda: _clear_leftover(home.postgres),
        wrapper=prefix,
        # Fast shutdown; SIGTERM would wait for every client to leave.
        stop_signal=signal.SIGINT,
        stop_within=timedelta(seconds=30),
    )


def _initdb(data: Path, secret: Path, prefix: tuple[str, ...]) -> None:
    command = (
        *(str(binaries.postgres("initdb")), "-D", str(data), f"--username={USER}", f"--pwfile={secret}"),
        *(
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ),
    )
    done = subprocess.run([*prefix, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not (data / "PG_VERSION").exists():
        told = done.stderr.strip() or done.stdout.strip() or "It said nothing."
        raise StartError(f"initdb failed with exit code {done.returncode}:\n{told}")


def _give_away(prefix: tuple[str, ...], *paths: Path) -> None:
    if any("--reuid=nobody" in part for part in prefix):
        for path in paths:
            shutil.chown(path, "nobody", "nogroup")


def _named(user: int) -> list[pwd.struct_passwd]:
    return [account for account in pwd.getpwall() if account.pw_uid == user]


def _works(prefix: tuple[str, ...]) -> bool:
    return (
        subprocess.run([*prefix, sys.executable, "-I", "-S", "-c", ""], capture_output=True, check=False).returncode
        == 0
    )


def _clear_leftover(data: Path) -> None:
    """Wait until nobody works on this folder; then its pid file means nothing, whoever has that number now.

    A killed server's own processes notice its death and end, but one that was stopped, or is in the middle of something,
    lives on for a while. A second server beside it would spoil the data, and what keeps servers apart is the very file that
    is removed here. Raises StartError where somebody stays.
    """
    began = time.monotonic()
    while (server := _serves(data)) is not None or _attached(data):
        waited = time.monotonic() - began
        patience = LEFTOVER_ENDS_WITHIN if server is not None else ORPHANS_END_WITHIN
        if waited > 2 * patience.total_seconds():
            raise StartError(f"Somebody still works on {data}: end the processes that hold its shared memory.")
        for pid in {*([server] if server else []), *_workers(data)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if waited > patience.total_seconds() else signal.SIGCONT)
        time.sleep(0.02)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(data: Path) -> int | None:
    """The pid of the server that runs on this folder, by its pid file and its command line."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if str(data).encode() in arguments else None


def _attached(data: Path) -> bool:
    """Whether a process is attached to the shared memory that the pid file names (its line 7: key and id)."""
    try:
        key, number = (data / "postmaster.pid").read_text().splitlines()[6].split()
        segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    except (FileNotFoundError, IndexError, ValueError):
        return False
    return any(segment[:2] == [key, number] and int(segment[6]) > 0 for segment in segments)


def _workers(data: Path) -> list[int]:
    """The processes that have this folder as their own: a server and all that it started."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == data:
                found.append(int(entry.name))
    return found


def _status(data: Path) -> str:
    """The last line of postmaster.pid: `starting`, `ready`, `stopping`."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""
