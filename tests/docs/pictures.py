"""The pictures of the terminal in docs/, made from what the commands print: `make pictures` writes them.

The day of docs/a-day-in-the-inbox.md is typed at a fresh installation; right after the block that a picture belongs to, its command
runs in a terminal of its own.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from server.embedded.stack import Options, Stack
from tests.docs.docs_typed import Terminal, blocks

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
ROWS = 60


class Picture(NamedTuple):
    """name: of the file. after: words of the block it follows. command: what is typed. columns: how wide the terminal is."""

    name: str
    after: str
    command: str
    columns: int


PICTURES = (
    Picture("preview", "assignments preview", "switchboard assignments preview $JONAS", 96),
    Picture("inbox", "--filter-or", "switchboard conversations list --order oldest --with-counts", 132),
    Picture("watch", "--filter-or", "switchboard inbox watch --start earliest --limit 30", 132),
    Picture(
        "statistics",
        "statistics get",
        "switchboard statistics get --start-time $FROM --end-time $TO --dimensions agent",
        160,
    ),
    Picture("audit", "audit list-entries", "switchboard audit list-entries --page-size 12", 140),
    Picture("doctor", "audit list-entries", "switchboard doctor", 110),
)


def main() -> None:
    """Writes every picture."""
    with tempfile.TemporaryDirectory(prefix="switchboard-pictures-") as folder:
        home = Path(folder) / "home"
        with Stack(Options(home=home)):
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
            terminal = Terminal(CHECKOUT, Path(folder), {**environment, "SWITCHBOARD_HOME": str(home), "TZ": "UTC"})
            try:
                for picture, printed in _played(terminal):
                    (DOCS / f"{picture.name}.svg").write_text(drawn(picture, printed.replace(str(home), "/home/you")))
            finally:
                terminal.types('kill "$HEARTBEATS"')
                terminal.close()


def _played(terminal: Terminal) -> Iterator[tuple[Picture, str]]:
    """What each picture shows, at its time of the day."""
    terminal.types("set -a")
    for block in blocks((DOCS / "a-day-in-the-inbox.md").read_text()):
        printed, code = terminal.types(block.typed)
        assert code == 0, printed + terminal.errors
        for picture in PICTURES:
            if picture.after in block.typed:
                variables = terminal.types("env -0 | tr '\\0' '\\1'")[0].split("\1")
                yield picture, in_terminal(picture, dict(each.split("=", 1) for each in variables if "=" in each))


def in_terminal(picture: Picture, environment: Mapping[str, str]) -> str:
    """What a command writes to a terminal, colours included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, picture.columns, 0, 0))
    terminal = {**environment, "TERM": "xterm-256color"}
    with subprocess.Popen(["bash", "-c", picture.command], env=terminal, stdout=theirs, stderr=theirs) as typed:
        os.close(theirs)
        written = bytearray()
        while more := _read(ours):
            written += more
        os.close(ours)
    assert typed.returncode == 0, written
    return written.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux says EIO when the last process has closed its end.
        return b""


def drawn(picture: Picture, printed: str) -> str:
    """SVG with the fonts of whoever looks at it: the command, and what it printed."""
    shown = Text.assemble(("$ ", "dim"), " ".join(shlex.split(picture.command)), "\n", Text.from_ansi(printed.rstrip()))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=picture.columns, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(shown, highlight=False, no_wrap=True, overflow="ellipsis")
        exported = console.export_svg(title=picture.name, unique_id=picture.name)
    exported = re.sub(r"@font-face \{.*?\}\s*", "", exported, flags=re.DOTALL)
    return "".join(f"{line.rstrip()}\n" for line in exported.splitlines())


if __name__ == "__main__":
    main()
