"""Children: ready or refused with their last words, logged, stopped, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from server.embedded import binaries, leftovers, processes
from server.embedded.errors import StartError
from server.embedded.processes import Child, Program, RotatedFile, Spare, state

SOON = timedelta(seconds=10)


def child(tmp_path: Path, code: str, **options: object) -> Child:
    ready = tmp_path / "ready"
    command = (sys.executable, "-c", f"ready = {str(ready)!r}\n{code}")
    return Child(Program(name="one", command=command, ready=ready.exists, **options), logs=tmp_path)


def test_a_child_is_ready_logged_with_its_name_and_stopped(tmp_path: Path) -> None:
    one = child(tmp_path, "import time; print('hello', flush=True); open(ready, 'w'); time.sleep(60)")
    one.start()
    one.wait_ready(within=SOON)
    assert one.running
    assert os.getsid(one.pid) == one.pid
    one.close()
    assert one.exit_code == -signal.SIGTERM
    assert (tmp_path / "one.log").read_text() == "one | hello\n"


WAITS = """
import json, sys, time
open(json.loads(sys.stdin.readline())['READY'], 'w')
print('here', flush=True)
time.sleep(60)
"""


def test_a_spare_takes_the_place_of_a_child_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = tmp_path / "ready"
    cold = (sys.executable, "-c", "import os, time; open(os.environ['READY'], 'w'); time.sleep(60)")
    spare = Spare((sys.executable, "-c", WAITS), {})
    program = Program(
        "one", cold, ready=ready.exists, before=lambda: ready.unlink(missing_ok=True), environment={"READY": str(ready)}
    )
    one = Child(program, logs=tmp_path, spare=spare)
    one.start()
    one.wait_ready(within=SOON)
    spare.keep()
    assert spare.pid == 0, "the moments after a start belong to who starts"
    monkeypatch.setattr(processes, "SPARE_AFTER", timedelta(0))
    one.kill()
    one.start()
    one.wait_ready(within=SOON)
    spare.keep()
    waiting = spare.pid
    assert waiting
    assert waiting != one.pid
    one.kill()
    one.start()
    one.wait_ready(within=SOON)
    assert one.pid == waiting
    one.close()
    assert (tmp_path / "one.log").read_text() == "one | here\n"


def test_a_spare_that_died_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SPARE_AFTER", timedelta(0))
    ready = tmp_path / "ready"
    cold = (sys.executable, "-c", f"import time; open({str(ready)!r}, 'w'); time.sleep(60)")
    spare = Spare((sys.executable, "-c", WAITS), {})
    spare.keep()
    dead = spare.pid
    os.kill(dead, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    one = Child(Program("one", cold, ready=ready.exists), logs=tmp_path, spare=spare)
    one.start()
    one.wait_ready(within=SOON)
    assert one.pid != dead
    one.close()
    spare.keep()
    left = spare.pid
    assert left not in (0, dead)
    spare.close()
    assert state(left) == ""


def test_a_child_that_dies_while_it_starts_is_refused_with_its_last_lines(tmp_path: Path) -> None:
    one = child(tmp_path, "raise SystemExit('no such database')")
    one.start()
    with pytest.raises(StartError, match=r"one ended with exit code 1 while it started(.|\n)*no such database"):
        one.wait_ready(within=SOON)
    one.close()


def test_a_program_replaced_by_false_is_refused(tmp_path: Path) -> None:
    one = Child(Program(name="envoy", command=("/bin/false",), ready=lambda: False), logs=tmp_path)
    one.start()
    with pytest.raises(StartError, match="envoy ended with exit code 1 while it started"):
        one.wait_ready(within=SOON)
    one.close()


def test_a_child_that_never_gets_ready_is_refused(tmp_path: Path) -> None:
    one = child(tmp_path, "import time; time.sleep(60)")
    one.start()
    with pytest.raises(StartError, match="one was not ready within 0 s"):
        one.wait_ready(within=timedelta(seconds=0.3))
    one.close()


def test_a_child_that_does_not_listen_is_ended_by_force(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open(ready, 'w'); time.sleep(60)"
    one = child(tmp_path, deaf, stop_within=timedelta(seconds=0.2))
    one.start()
    one.wait_ready(within=SOON)
    one.close()
    assert one.exit_code == -signal.SIGKILL


PARENT = """
import sys, time
from pathlib import Path
from server.embedded.processes import Child, Program
one = Child(Program(name="one", command=("/bin/sleep", "60"), ready=lambda: True), logs=Path(sys.argv[1]))
one.start()
print(one.pid, flush=True)
time.sleep(60)
"""


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
    wait_until(lambda: gone(pid))


def gone(pid: int) -> bool:
    """Ended; as a zombie it may stay where nobody reaps orphans."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(true, *, within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_log_is_moved_aside_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    log = RotatedFile(tmp_path / "x.log", limit=10)
    for number in range(9):
        log.write(f"line {number}\n".encode())
    log.close()
    log.write(b"too late\n")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"x.log": "line 8\n", "x.log.1": "line 7\n", "x.log.2": "line 6\n", "x.log.3": "line 5\n"}
    assert (tmp_path / "x.log").stat().st_mode & 0o777 == 0o600


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "glibc_version", lambda: (2, 28))
    with pytest.raises(StartError, match=r"glibc 2\.31 or newer, and this machine has glibc 2\.28"):
        binaries.check_machine()
    monkeypatch.setattr(binaries, "glibc_version", lambda: None)
    with pytest.raises(StartError, match="another C library"):
        binaries.check_machine()


def test_the_next_run_waits_for_what_a_killed_run_left_and_ends_it_by_force(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as left:
        leftovers.record(tmp_path / "children.json", {"one": left.pid})
        leftovers.clear(tmp_path / "children.json", within=timedelta(seconds=0.1))
        assert left.wait(timeout=5) == -signal.SIGKILL


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text(f'{{"one": [{os.getpid()}, "17"], "two": [4194304, "1"]}}')
    leftovers.clear(tmp_path / "children.json")
    assert not (tmp_path / "children.json").exists()
