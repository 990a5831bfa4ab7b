"""Everything docs/erasure.md tells people to type is typed here, against an installation."""

import os
from pathlib import Path
from typing import Any

import pytest
from docs_typed import Terminal, blocks, normalised, shows


def test_every_block_prints_what_the_page_shows(checkout: Path, tmp_path: Path, dev: dict[str, Any]) -> None:
    page = (checkout / "docs" / "erasure.md").read_text()
    known = {"SWITCHBOARD_URL": dev["url"], "SWITCHBOARD_TOKEN": dev["tenant_key"]}
    known |= {"SIMULATOR": dev["simulator"]["url"], "CHANNEL": dev["channels"][0]["id"]}
    terminal = Terminal(
        tmp_path, tmp_path, {**os.environ, **known, "PATH": f"{checkout}/.venv/bin:{os.environ['PATH']}"}
    )
    try:
        for block in blocks(page):
            printed, _ = terminal.types(block.typed)
            if block.shown is None or not shows(block.shown, printed):
                pytest.fail(f"erasure.md:{block.line}\n{block.typed}\nprinted\n{normalised(printed)}{terminal.errors}")
    finally:
        terminal.close()
