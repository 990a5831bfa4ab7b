"""Everything docs/api-channel.md tells people to type is typed here, against an installation."""

import os
from pathlib import Path
from typing import Any

import pytest
from docs_typed import Terminal, blocks, normalised, shows

from tests.lasting_port import lasting_port


def test_every_block_prints_what_the_page_shows(checkout: Path, tmp_path: Path, dev: dict[str, Any]) -> None:
    page = (checkout / "docs" / "api-channel.md").read_text()
    port = lasting_port()
    known = {"SWITCHBOARD_URL": dev["url"], "SWITCHBOARD_TOKEN": dev["tenant_key"]}
    terminal = Terminal(tmp_path, tmp_path, {**os.environ, **known})
    try:
        for block in blocks(page):
            printed, _ = terminal.types(
                block.typed.replace("127.0.0.1:9902", f"127.0.0.1:{port}").replace("9902", str(port))
            )
            if block.shown is None or not shows(block.shown, printed):
                pytest.fail(
                    f"api-channel.md:{block.line}\n{block.typed}\nprinted\n{normalised(printed)}{terminal.errors}"
                )
    finally:
        terminal.types("kill %1 2>/dev/null; wait")
        terminal.close()
