"""A child process: its own session, a signal when this process dies, its output in a rotated file."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO

from server.embedded.errors import StartError

LAUNCH = Path(__file__).with_name("launch.py")
POLL = 0.01
LAST_LINES = 20
SPARE_AFTER = timedelta(seconds=0.5)
"""A new spare begins so long after the last one was taken; by then that one serves."""


@dataclass(frozen=True)
class Program:
    """What to run and how to end it. `wrapper` comes before everything else (`unshare …`)."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    before: Callable[[], None] = lambda: None
    """What must be done before each start."""
    environment: Mapping[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: timedelta = timedelta(seconds=10)


class Spare:
    """A process that has imported everything and waits, so that who takes the place of a dead one need not begin with that.

    It runs `command` and reads one line from standard input: a JSON object of the settings it shall start with. When the input
    ends without a line, it ends. Use it from a thread that lives as long as the children shall.
    """

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    @property
    def pid(self) -> int:
        """The process that waits; 0 where there is none."""
        return self._process.pid if self._process else 0

    def keep(self) -> None:
        """Have one ready; not in the moments after one was taken, which belong to that one."""
        if time.monotonic() < self._not_before or (self._process and self._process.poll() is None):
            return
        self.close()
        self._rest()
        self._process = spawn(self._command, self._environment, stop_signal=signal.SIGTERM, stdin=subprocess.PIPE)

    def take(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        """The process, which starts now with these settings; None where there is none."""
        process, self._process = self._process, None
        self._rest()
        if process is None:
            return None
        try:
            with _stdin(process) as pipe:
                pipe.write(json.dumps(dict(environment)).encode() + b"\n")
        except BrokenPipeError:
            # It died; nobody reads its input any more.
            _discard(process)
            return None
        return process

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            _discard(process)

    def _rest(self) -> None:
        self._not_before = time.monotonic() + SPARE_AFTER.total_seconds()


class Child:
    """A program and the process that runs it now. Start it from a thread that lives as long as the child shall.

    Linux sends the parent-death signal when the *thread* that started the child ends.
    """

    def __init__(self, program: Program, *, logs: Path, spare: Spare | None = None) -> None:
        self.program = program
        self._spare = spare
        self._log = RotatedFile(logs / f"{program.name}.log")
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before the first start; negative: the signal that ended it."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return at once."""
        program = self.program
        self._last.clear()
        program.before()
        self._process = self._spare.take(program.environment) if self._spare else None
        if self._process is None:
            self._process = spawn(
                program.command,
                program.environment,
                wrapper=program.wrapper,
                stop_signal=program.stop_signal,
                folder=program.folder,
            )
        self._pump = threading.Thread(
            target=self._read, args=(self._process.stdout,), name=f"log of {self.name}", daemon=True
        )
        self._pump.start()

    def wait_ready(self, *, within: timedelta) -> None:
        """Return when the program is ready; `StartError` with its last lines where it ends first, or takes longer."""
        deadline = time.monotonic() + within.total_seconds()
        while not self.program.ready():
            if not self.running:
                self._join()
                raise StartError(f"{self.name} ended with exit code {self.exit_code} while it started. {self._told()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready within {within.total_seconds():.0f} s. {self._told()}")
            time.sleep(POLL)

    def stop(self) -> None:
        """Ask it to end; end it by force when it takes longer than `stop_within`."""
        if self._process and self.running:
            self._process.send_signal(self.program.stop_signal)
            # One that was stopped hears nothing before it goes on.
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(self.program.stop_within.total_seconds())
            except subprocess.TimeoutExpired:
                self.kill()
        self._join()

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._join()

    def close(self) -> None:
        """Stop it and close its log."""
        self.stop()
        self._log.close()

    def _join(self) -> None:
        # A grandchild may hold the pipe a little longer than the child lived.
        if self._pump:
            self._pump.join(timeout=2)

    def _told(self) -> str:
        lines = "\n".join(f"    {line}" for line in self._last)
        return f"Its last lines, from {self._log.path}:\n{lines}" if lines else f"It wrote nothing to {self._log.path}."

    def _read(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        with pipe:
            for line in pipe:
                self._last.append(line.decode(errors="replace").rstrip())
                self._log.write(self.name.encode() + b" | " + line)


def spawn(
    command: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    stop_signal: signal.Signals,
    wrapper: tuple[str, ...] = (),
    folder: Path | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """A process in a session of its own that gets the signal when the calling thread ends; its output is one pipe."""
    launch = (sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(stop_signal)))
    return subprocess.Popen(
        [*wrapper, *launch, *command],
        env={**os.environ, **environment},
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _discard(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP, or a terminal, keeps this process from running."""
    return state(pid) == "T"


def state(pid: int) -> str:
    """One letter of /proc/PID/stat: R, S, D, T (stopped), Z (ended, not reaped); empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class RotatedFile:
    """A log file (0600) that is moved aside to `.1`, `.2`, `.3` when it is full."""

    KEPT = 3

    def __init__(self, path: Path, *, limit: int = 10 * 1024 * 1024) -> None:
        self.path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._file = self._open()

    def write(self, line: bytes) -> None:
        """Append a line; after `close` it is dropped."""
        with self._lock:
            if self._file.closed:
                return
            if self._file.tell() + len(line) > self._limit:
                self._rotate()
            self._file.write(line)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self.KEPT, 0, -1):
            older = self.path if number == 1 else self._aside(number - 1)
            if older.exists():
                older.replace(self._aside(number))
        self._file = self._open()

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _open(self) -> IO[bytes]:
        # Unbuffered: what a process said last is in the file when somebody asks why it died.
        return open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)
