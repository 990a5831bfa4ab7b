"""The walk of docs/a-day-in-the-inbox.md: every block is typed at a fresh installation and prints what the page shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_typed import Terminal, blocks, normalised, shows

from server.embedded.stack import Options, Stack


@pytest.fixture
def terminal(checkout: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A shell of somebody who has just typed `make up`."""
    home = tmp_path / ".switchboard"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
    with Stack(Options(home=home)):
        opened = Terminal(checkout, tmp_path, {**inherited, "SWITCHBOARD_HOME": str(home), "TZ": "UTC"})
        yield opened
        opened.types('kill "$HEARTBEATS" 2>/dev/null')
        opened.close()


@pytest.mark.timeout(240)
def test_every_block_of_the_day_prints_what_it_shows(checkout: Path, terminal: Terminal) -> None:
    found = blocks((checkout / "docs" / "a-day-in-the-inbox.md").read_text())
    assert len(found) > 15
    for block in found:
        printed, code = terminal.types(block.typed)
        story = f"a-day-in-the-inbox.md:{block.line}\n{block.typed}printed\n{printed}{terminal.errors}"
        assert code == 0, story
        if block.shown is not None and not shows(block.shown, printed):
            pytest.fail(
                f"{story}\nshown, normalised\n{normalised(block.shown)}\nprinted, normalised\n{normalised(printed)}"
            )
