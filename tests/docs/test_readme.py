"""Everything the README tells people to type is typed here, in its order, and must print what the README shows.

`make up` keeps running in a terminal of its own, the other blocks share a second one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from docs_typed import Terminal, blocks, normalised, shows

START = "make up\n"
READY = "Ctrl-C stops it\n"


class Stack:
    """`make up` in a terminal of its own, until Ctrl-C."""

    def __init__(self, checkout: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._printed = folder / "up.txt"
        with self._printed.open("wb") as file:
            self._make = subprocess.Popen(
                ["bash", "-c", START], cwd=checkout, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def printed(self, within: float) -> str:
        """What it prints up to its last line."""
        until = time.monotonic() + within
        while not (text := self._printed.read_text()).endswith(READY):
            assert self._make.poll() is None, text
            assert time.monotonic() < until, text
            time.sleep(0.1)
        return text

    def close(self) -> None:
        os.killpg(self._make.pid, signal.SIGINT)
        self._make.wait(60)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a person: nothing of the make that runs the tests, an empty home, ports given by the kernel."""
    foreign = ("MAKE", "MFLAGS", "SWITCHBOARD_", "PYTHON", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    places = {"HOME": str(tmp_path / ".switchboard"), "HTTP_PORT": "0", "TLS_PORT": "0"}
    return inherited | {f"SWITCHBOARD_{name}": value for name, value in places.items()}


@pytest.fixture
def up(checkout: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Stack]:
    stack = Stack(checkout, tmp_path, environment)
    yield stack
    stack.close()


@pytest.fixture
def terminal(checkout: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(checkout, tmp_path, environment)
    yield opened
    opened.close()


@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("npm") is None, reason="the README shows a machine with Node")
def test_every_block_of_the_readme_prints_what_it_shows(checkout: Path, up: Stack, terminal: Terminal) -> None:
    found = blocks((checkout / "README.md").read_text())
    assert found[0].typed == START
    for block in found:
        printed, code = (up.printed(120), 0) if block.typed == START else terminal.types(block.typed)
        story = f"README.md:{block.line}\n{block.typed}printed\n{printed}{terminal.errors}"
        assert code == 0, story
        if block.shown is not None and not shows(block.shown, printed):
            pytest.fail(
                f"{story}\nshown, normalised\n{normalised(block.shown)}\nprinted, normalised\n{normalised(printed)}"
            )


def test_every_file_that_the_documents_link_to_exists(checkout: Path) -> None:
    pages = [checkout / "README.md", *(checkout / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())]
    assert len(links) > 5
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("one\n", "one\n", True),
        ("one\n", "one\ntwo\n", False),
        ("one\n…\nfour\n", "one\ntwo\nthree\nfour\n", True),
        ("one\n…\nfour\n", "one\nfour\n", True),
        ("one\n…\nfour\n", "two\nfour\n", False),
        ("took 1.5 s (…)", "took 21.0 s (all of it)", True),
        ("a  b", "a     b", True),
        ("a  b", "a     c", False),
        ("in /home/you/.switchboard/logs", "in /tmp/x/.switchboard/logs", True),
    ],
)
def test_only_what_may_differ_differs(shown: str, printed: str, same: bool) -> None:
    assert shows(shown, printed) is same
