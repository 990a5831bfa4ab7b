"""Blocks of a document: what is typed into a shell, and whether it printed what the document shows.

A ```sh block is run; a ```text block right behind it is what it prints on standard output. A line of … alone stands for any
lines, a … inside a line for any text. Ids, times, ports, tokens and widths of columns may differ.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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
    """A shell that keeps its variables from block to block."""

    def __init__(self, place: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._file = folder / "block.sh"
        self._errors = folder / "errors.txt"
        with self._errors.open("wb") as errors:
            self._shell = subprocess.Popen(
                ["bash"],
                cwd=place,
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
