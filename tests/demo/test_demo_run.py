"""The demo as it is typed: a short play, and one in which everything goes wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = re.compile(
    r"written by customers +(\d+) = received (\d+) = streamed (\d+)\n +replies sent +(\d+) = accepted (\d+)"
)


def play(*arguments: str, within: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", "demo", "--plain", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def totals(done: subprocess.CompletedProcess[str]) -> list[int]:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("nothing was lost, doubled or reordered\n")
    assert done.stderr == ""
    found = PROOF.search(done.stdout)
    assert found, done.stdout
    return [int(number) for number in found.groups()]


def test_a_short_play_proves_that_nothing_is_lost(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"

    done = play("--seconds", "4", "--speed", "3", "--customers", "8", "--picture", str(picture), within=90)

    written, received, streamed, sent, accepted = totals(done)
    assert written == received == streamed >= 8
    assert sent == accepted >= 3
    assert "message received" in done.stdout
    assert picture.read_text().startswith("<svg")
    assert re.search(r"seen on the way +an image\b", done.stdout)


@pytest.mark.faults
def test_a_longer_play_shows_everything() -> None:
    done = play("--seconds", "25", "--speed", "3", "--customers", "4", within=90)

    totals(done)
    for seen in (
        "an image, a voice note, a list reply, a reaction, a template outside the window, a number change",
        "a revoked and restored token",
    ):
        assert seen in done.stdout


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_play_with_faults_proves_it_too() -> None:
    done = play("--seconds", "40", "--faults", "--customers", "18", within=300)

    print("\n".join(done.stdout.splitlines()[-12:]))
    written, received, streamed, sent, accepted = totals(done)
    assert written == received == streamed >= 30
    assert sent >= accepted >= 15
    assert "ended by SIGKILL" in done.stdout
    assert re.search(r"faults of the provider .*duplicate \d+", done.stdout)
