"""Processes of a run that was killed: each ends by itself, but until then holds ports and data of the next run."""

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from server.embedded.home import start_time, write_private
from server.embedded.processes import state


def record(file: Path, pids: Mapping[str, int]) -> None:
    """Write down which processes run now."""
    running = {name: [pid, start_time(pid)] for name, pid in pids.items()}
    write_private(file, json.dumps(running))


def clear(file: Path, *, within: timedelta = timedelta(seconds=15)) -> None:
    """Wait until all processes written down have ended; end by force what takes longer.

    The signal of the dead parent waits in those that were stopped, so they are let go on.
    """
    left = _read(file)
    deadline = time.monotonic() + within.total_seconds()
    while left := {pid: started for pid, started in left.items() if start_time(pid) == started and not _ended(pid)}:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if time.monotonic() > deadline else signal.SIGCONT)
        time.sleep(0.02)
    file.unlink(missing_ok=True)


def _read(file: Path) -> dict[int, str]:
    try:
        return {pid: started for pid, started in json.loads(file.read_text()).values() if started}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _ended(pid: int) -> bool:
    """A zombie has ended: where nobody reaps orphans it stays for ever."""
    return state(pid) in ("Z", "")
