"""Everything the README tells people to type is typed here, in its order, and must print what the README shows.

A ```sh block is run; a ```text block right behind it is what it prints on standard output. `make up` keeps running in a terminal
of its own, the other blocks share a second one. A line of … alone stands for any lines, a … inside a line for any text. Ids,
times, ports, tokens and widths of columns may differ.
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
from typing import NamedTuple

import pytest

START = "make up\n"
READY = "Ctrl-C stops it\n"
END = "---- end of block, exit code"
BLOCK = re.compile(r"^```sh\n(?P<typed>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
DIFFERS = (
    (r"SWITCHBOARD_HOME=\S+ ", ""),
    (r"\S*/\.switchboard", "HOME"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\d+\.\d s", "SECONDS"),
    (r"wamid\.[\w+/]+=*", "WAMID"),
    (r"\b\d{15}\b", "NUMBER"),
    (r'"A[\w-]{40,}"', "CURSOR"),
    (r" +", " "),
)


class Block(NamedTuple):
    """What is typed, what is shown, and in which line of the README."""

    typed: str
    shown: str | None
    line: int


def blocks(markdown: str) -> list[Block]:
    return [
        Block(found["typed"], found["shown"], markdown[: found.start()].count("\n") + 1)
        for found in BLOCK.finditer(markdown)
    ]


def normalised(text: str) -> str:
    for pattern, name in DIFFERS:
        text = re.sub(pattern, name, text)
    return "".join(f"{line.strip()}\n" for line in text.strip().splitlines())


def shows(shown: str, printed: str) -> bool:
    lines = normalised(shown).splitlines()
    patterns = ["(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in lines]
    return re.fullmatch("".join(patterns), normalised(printed)) is not None


class Terminal:
    """A shell in the checkout that keeps its variables from block to block."""

    def __init__(self, checkout: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._file = folder / "block.sh"
        self._errors = folder / "errors.txt"
        with self._errors.open("wb") as errors:
            self._shell = subprocess.Popen(
                ["bash"],
                cwd=checkout,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @property
    def errors(self) -> str:
        """What was printed on standard error so far."""
        return self._errors.read_text()

    def types(self, text: str) -> tuple[str, int]:
        """What a block prints, and its exit code."""
        assert self._shell.stdin
        assert self._shell.stdout
        self._file.write_text(text)
        self._shell.stdin.write(f". {self._file} </dev/null; printf '\\n{END} %d\\n' $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        while not (line := self._shell.stdout.readline()).startswith(END):
            assert line, self.errors
            lines.append(line)
        return "".join(lines), int(line.removeprefix(END))

    def close(self) -> None:
        self._shell.communicate()


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
