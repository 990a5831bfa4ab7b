"""Starts again what died, ever more rarely where it keeps dying, and says each time what happened."""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from server.embedded.errors import StartError
from server.embedded.processes import Child, is_stopped

READY_WITHIN = timedelta(seconds=60)
HEALTHY_AFTER = timedelta(seconds=2)
"""A child that was ready for so long has shown that it can run: its next death is the first one again."""
AT_ONCE = 3
"""Deaths in a row that are answered at once."""
LONGEST_PAUSE = timedelta(seconds=30)


@dataclass(slots=True)
class _Watched:
    """What is known of a child: `ready_at` is None while it starts, `due` None while it runs (times are monotonic)."""

    ready_at: float | None
    deaths: int = 0
    restarts: int = 0
    due: float | None = None
    hung: bool = False
    stopped: bool = False


class Supervisor:
    """Looks after children. `look` must be called again and again from the thread that started them.

    `launch` starts a child and returns at once; `say` takes one line for the person who watches.
    """

    def __init__(self, *, launch: Callable[[Child], None], say: Callable[[str], None], logs: Path) -> None:
        self._launch = launch
        self._say = say
        self._logs = logs
        self._watched: dict[str, _Watched] = {}

    def restarts(self, name: str) -> int:
        """How often a child was started again."""
        return self._watched[name].restarts if name in self._watched else 0

    def forget(self, name: str) -> None:
        """Somebody else has started the child anew: it is looked at as on the first day."""
        if name in self._watched:
            self._watched[name] = _Watched(time.monotonic(), restarts=self._watched[name].restarts)

    def look(self, children: Iterable[Child]) -> list[str]:
        """Notes who died, starts who is due; the names of those found dead in this round."""
        died = []
        for child in children:
            watched = self._watched.setdefault(child.name, _Watched(time.monotonic()))
            if watched.due is None and child.exit_code is not None:
                died.append(child.name)
                self._note_death(child, watched)
            if watched.due is not None and time.monotonic() >= watched.due:
                self._start(child, watched)
            elif watched.hung:
                child.kill()
            self._note_stop(child, watched)
        return died

    def _note_death(self, child: Child, watched: _Watched) -> None:
        now = time.monotonic()
        proven = watched.ready_at is not None and now - watched.ready_at > HEALTHY_AFTER.total_seconds()
        watched.deaths = 1 if proven else watched.deaths + 1
        self._plan(child, watched, f"{child.name} ended {_how(child.exit_code)}")

    def _plan(self, child: Child, watched: _Watched, what: str) -> None:
        pause = _pause(watched.deaths)
        watched.due = time.monotonic() + pause
        if pause:
            self._say(
                f"{what}, for the {watched.deaths}th time in a row; next try in {pause:.0f} s. "
                f"Its last words are in {self._logs / child.name}.log"
            )
        else:
            self._say(f"{what}; starting it again")

    def _start(self, child: Child, watched: _Watched) -> None:
        watched.due, watched.ready_at, watched.hung = None, None, False
        watched.restarts += 1
        began = time.monotonic()
        try:
            self._launch(child)
        except (StartError, OSError) as error:
            # It may run all the same, where what comes after the start went wrong.
            child.kill()
            watched.deaths += 1
            self._plan(child, watched, f"{child.name} could not be started ({error})")
            return
        # Asking whether it is ready may take seconds, and the others are not to wait for that.
        threading.Thread(target=self._await, args=(child, watched, began), daemon=True).start()

    def _await(self, child: Child, watched: _Watched, began: float) -> None:
        pid = child.pid
        try:
            child.wait_ready(within=READY_WITHIN)
        except StartError:
            # Where it ended, the next look finds that out. One that still runs and serves nobody is of no use.
            watched.hung = child.pid == pid and child.running
            return
        if child.pid == pid:
            watched.ready_at = time.monotonic()
            self._say(f"{child.name} is back after {watched.ready_at - began:.1f} s")

    def _note_stop(self, child: Child, watched: _Watched) -> None:
        stopped = child.running and is_stopped(child.pid)
        if stopped and not watched.stopped:
            self._say(
                f"{child.name} was stopped by a signal and answers nobody; `kill -CONT {child.pid}` lets it go on"
            )
        watched.stopped = stopped


def _pause(deaths: int) -> float:
    """Seconds until the next start: none at first, then 1, 2, 4, … up to the longest."""
    if deaths <= AT_ONCE:
        return 0.0
    return min(2.0 ** min(deaths - AT_ONCE - 1, 16), LONGEST_PAUSE.total_seconds())


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"by {signal.Signals(-exit_code).name}"
    return f"with exit code {exit_code}"
