"""The test's side of named points: arms one for a process, and hears when it was passed. `points/` has the child's side."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from pathlib import Path

ENTRY = Path(__file__).with_name("points")
SERVE_POINTS = ("before_append", "appended", "committed", "unanswered", "journaled", "unapplied")
WORK_POINTS = (
    *("before_append", "appended", "committed", "before_request", "accepted", "responded", "settling"),
    *("timer_fired", "retire"),
)


class Points:
    """The points of one stack's children."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace = folder / "trace"
        (folder / "armed").mkdir(parents=True)
        self._trace.touch()

    def environment(self, *, bug: str = "") -> dict[str, str]:
        """Settings for the children: what they import first, and a bug that they have."""
        path = os.pathsep.join([str(ENTRY), *filter(None, sys.path)])
        return {"PYTHONPATH": path, "SWITCHBOARD_TEST_POINTS": str(self._folder), "SWITCHBOARD_TEST_BUG": bug}

    def arm(self, pid: int, point: str, action: str) -> None:
        """Makes a process kill or stop itself when it next passes the point. action: kill, stop."""
        file = self._file(pid, point)
        # Two cards of a deck may arm the same point at once, each from its own thread.
        made = file.with_name(f"{file.name}.{threading.get_ident()}.new")
        made.write_text(action)
        made.replace(file)

    def disarm(self, pid: int, point: str) -> bool:
        """Takes an armed point back; false when the process has passed it."""
        try:
            self._file(pid, point).unlink()
        except FileNotFoundError:
            return False
        return True

    def armed(self, pid: int, point: str) -> bool:
        """Whether the process has still to pass the point."""
        return self._file(pid, point).exists()

    def _file(self, pid: int, point: str) -> Path:
        return self._folder / "armed" / f"{pid}.{point}"

    def passed(self) -> Counter[str]:
        """How often each point ended or stopped a process."""
        return Counter(line.split()[2] for line in self._trace.read_text().splitlines())
