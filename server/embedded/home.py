"""The state folder of an embedded run: who owns it, what lies where, and the secrets made on the first start."""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from server.embedded.errors import StartError
from server.kit.secrets import new_master_key

SPACE_FIRST = 512 * 1024 * 1024
"""Bytes a new home needs: two tenants, their template, the first write-ahead log."""
SPACE_AGAIN = 64 * 1024 * 1024


@dataclass(frozen=True)
class Secrets:
    """What is generated once per home and kept in `secrets.json` (0600)."""

    postgres_password: str
    valkey_password: str

    @classmethod
    def generate(cls) -> "Secrets":
        """New ones, 192 bits each."""
        return cls(postgres_password=secrets.token_hex(24), valkey_password=secrets.token_hex(24))


class Home:
    """A state folder (0700). Paths in it are absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.postgres = self.path / "postgres"
        self.valkey = self.path / "valkey"
        self.envoy = self.path / "envoy"
        self.logs = self.path / "logs"
        self.lock = self.path / "lock"
        self.ports = self.path / "ports.json"
        self.secrets = self.path / "secrets.json"
        self.master_key = self.path / "master.key"
        self.children = self.path / "children.json"
        self.accounts = self.path / "accounts.json"
        self.simulator = self.path / "simulator.json"
        self.simulator_state = self.path / "simulator.state"
        self.dev = self.path / "dev.json"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for this process: made, checked and locked. Raises `StartError` where one of these fails."""
        self._make()
        with _locked(self.lock):
            self._check_space()
            yield

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            _probe(self.path / ".probe")
            for folder in (self.valkey, self.envoy, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _refusal(self.path, error) from error

    def _check_space(self) -> None:
        needed = SPACE_AGAIN if self.postgres.exists() else SPACE_FIRST
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise StartError(
                f"The state folder {self.path} is full: {free >> 20} MB are free and {needed >> 20} MB are needed; "
                "make room, or choose another folder with SWITCHBOARD_HOME."
            )

    def load_secrets(self) -> Secrets:
        """The home's secrets, generated on the first call."""
        try:
            return Secrets(**json.loads(self.secrets.read_text()))
        except FileNotFoundError:
            made = Secrets.generate()
            write_private(self.secrets, json.dumps(asdict(made)))
            return made
        except (ValueError, TypeError) as error:
            raise StartError(
                f"{self.secrets} is damaged, and without it the data cannot be read: restore it, or remove {self.path}."
            ) from error

    def make_master_key(self) -> None:
        """Make the master key, unless it is there: a lost one loses every secret in the databases."""
        if not self.master_key.exists():
            write_private(self.master_key, new_master_key() + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file (0600) in one step: a reader sees the old text or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot (field 22 of /proc/PID/stat), or None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold spaces and parentheses of its own.
    return stat.rpartition(")")[2].split()[19]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        written = file.read().split()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f" (process {written[0]})" if written else ""
            raise StartError(f"Switchboard is already running in {path.parent}{holder}: stop that one first.") from None
        _check_owner(path, written)
        _write_owner(file.fileno())
        yield
        os.ftruncate(file.fileno(), 0)


def _check_owner(path: Path, written: list[str]) -> None:
    """The lock is free. A run of ours that was killed left its pid and start time; a bare pid is somebody else's."""
    if len(written) != 1 or not written[0].isdigit() or start_time(int(written[0])) is None:
        return
    raise StartError(f"{path} names process {written[0]}, which runs and is not ours: end it, or remove that file.")


def _write_owner(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {start_time(os.getpid())}\n".encode(), 0)


def _probe(path: Path) -> None:
    try:
        path.write_bytes(b"\0" * 4096)
    finally:
        path.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> StartError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StartError(
            f"The state folder {path} is full: make room, or choose another folder with SWITCHBOARD_HOME."
        )
    return StartError(
        f"The state folder {path} cannot be written ({error.strerror}): choose another one with SWITCHBOARD_HOME."
    )
