"""Who dies is started again: at once, then ever more rarely, with a line each time; a stopped one is named."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from server.embedded import supervisor as supervisors
from server.embedded.errors import StartError
from server.embedded.processes import Child, Program, state
from server.embedded.supervisor import Supervisor


def count_of(folder: Path) -> int:
    """Processes that have to do with this folder, zombies left out."""
    found = 0
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            mine = entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes()
            found += mine and state(int(entry.name)) != "Z"
    return found


STAYS = "import time; open(ready, 'w'); time.sleep(60)"


@dataclass
class Nursery:
    """One child and its supervisor, looked at as `up` does."""

    folder: Path
    said: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    late: bool = False
    """Whether the refusal comes when the child runs already."""

    def begin(self, code: str) -> None:
        ready = self.folder / "ready"
        command = (sys.executable, "-c", f"ready = {str(ready)!r}\n{code}")
        program = Program("one", command, ready=ready.exists, before=lambda: ready.unlink(missing_ok=True))
        self.child = Child(program, logs=self.folder)
        self.supervisor = Supervisor(launch=self._launch, say=self.said.append, logs=self.folder)
        self.child.start()
        self.supervisor.look([self.child])

    def _launch(self, child: Child) -> None:
        self.starts.append(time.monotonic())
        if self.refusals and self.late:
            child.start()
        if self.refusals:
            raise self.refusals.pop(0)
        child.start()

    def look_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, self.said
            self.supervisor.look([self.child])
            time.sleep(0.01)

    def says(self, text: str) -> bool:
        return any(text in line for line in self.said)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(tmp_path)
    yield made
    made.child.close()


def test_a_killed_child_is_back_and_both_are_said(nursery: Nursery) -> None:
    nursery.begin(STAYS)
    nursery.child.wait_ready(within=timedelta(seconds=10))
    before = nursery.child.pid

    nursery.child.kill()
    assert nursery.supervisor.look([nursery.child]) == ["one"]
    nursery.look_until(lambda: nursery.says("is back"))

    assert nursery.child.pid != before
    assert nursery.child.running
    assert nursery.said[0] == "one ended by SIGKILL; starting it again"
    assert nursery.said[1].startswith("one is back after 0.")
    assert nursery.supervisor.restarts("one") == 1
    assert nursery.supervisor.look([nursery.child]) == []


def test_one_that_keeps_dying_is_started_ever_more_rarely(nursery: Nursery) -> None:
    nursery.begin("raise SystemExit(3)")

    nursery.look_until(lambda: len(nursery.starts) == 4 and nursery.says("5th time"))

    assert nursery.starts[3] - nursery.starts[2] >= 1.0
    assert nursery.said[:3] == ["one ended with exit code 3; starting it again"] * 3
    assert nursery.says("one ended with exit code 3, for the 4th time in a row; next try in 1 s")
    assert nursery.says("one ended with exit code 3, for the 5th time in a row; next try in 2 s")
    assert nursery.says(f"{nursery.folder / 'one'}.log")


def test_the_pause_grows_to_half_a_minute_and_no_further() -> None:
    assert [supervisors._pause(deaths) for deaths in (1, 3, 4, 5, 8, 9, 10_000)] == [0, 0, 1, 2, 16, 30, 30]


def test_one_that_ran_well_for_a_while_starts_at_once_again(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "HEALTHY_AFTER", timedelta(seconds=0.05))
    nursery.begin(STAYS)
    for _ in range(5):
        nursery.child.wait_ready(within=timedelta(seconds=10))
        nursery.look_until(lambda: len([line for line in nursery.said if "is back" in line]) == len(nursery.starts))
        time.sleep(0.1)
        nursery.child.kill()
        nursery.supervisor.look([nursery.child])

    assert len(nursery.starts) == 5
    assert not nursery.says("in a row")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("refusal", [StartError("the folder is in use"), OSError("no memory")])
def test_a_start_that_is_refused_is_tried_again(nursery: Nursery, refusal: Exception, *, late: bool) -> None:
    nursery.begin(STAYS)
    nursery.late = late
    nursery.refusals.append(refusal)

    nursery.child.kill()
    nursery.look_until(lambda: nursery.says("is back"))

    assert nursery.says(f"one could not be started ({refusal}); starting it again")
    assert count_of(nursery.folder) == 1


def test_one_that_never_gets_ready_is_ended_and_started_again(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "READY_WITHIN", timedelta(seconds=0.2))
    nursery.begin("import time; time.sleep(60)")

    nursery.child.kill()
    nursery.look_until(lambda: len(nursery.starts) == 3)

    assert [line for line in nursery.said if "SIGKILL" in line][1:]


def test_a_stopped_child_is_named_once_with_the_cure(nursery: Nursery) -> None:
    nursery.begin(STAYS)
    os.kill(nursery.child.pid, signal.SIGSTOP)
    nursery.look_until(lambda: bool(nursery.said))
    for _ in range(5):
        nursery.supervisor.look([nursery.child])

    assert len(nursery.said) == 1
    assert f"kill -CONT {nursery.child.pid}" in nursery.said[0]


def test_a_stopped_child_is_asked_to_end_all_the_same(nursery: Nursery) -> None:
    nursery.begin(STAYS)
    nursery.child.wait_ready(within=timedelta(seconds=10))
    os.kill(nursery.child.pid, signal.SIGSTOP)

    nursery.child.stop()

    assert nursery.child.exit_code == -signal.SIGTERM
