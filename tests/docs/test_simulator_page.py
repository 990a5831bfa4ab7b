"""Everything docs/simulator.md tells people to type is typed here, and its table names every fault and every field."""

import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from docs_typed import Terminal, blocks, normalised, shows

from server.simulator.faults import Fault, FaultBase
from tests.lasting_port import lasting_port


def test_every_block_prints_what_the_page_shows(checkout: Path, tmp_path: Path) -> None:
    page = (checkout / "docs" / "simulator.md").read_text()
    ports = {"9900": lasting_port(), "9901": lasting_port()}
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    terminal = Terminal(tmp_path, tmp_path, {**os.environ, "PATH": path})
    try:
        for block in blocks(page):
            typed = re.sub(r"127\.0\.0\.1:(990\d)", lambda found: f"127.0.0.1:{ports[found[1]]}", block.typed)
            printed, _ = terminal.types(typed)
            if block.shown is not None and not shows(block.shown, printed):
                pytest.fail(
                    f"simulator.md:{block.line}\n{block.typed}\nprinted\n{normalised(printed)}{terminal.errors}"
                )
    finally:
        terminal.types("kill %1 2>/dev/null; wait")
        terminal.close()


@pytest.mark.parametrize("fault", get_args(get_args(Fault)[0]), ids=lambda fault: fault.__name__)
def test_every_fault_stands_in_the_table_with_its_fields(fault: Any, checkout: Path) -> None:
    page = (checkout / "docs" / "simulator.md").read_text()
    table = page[page.index("| kind |") : page.index("Every kind takes")]
    kind = get_args(fault.model_fields["kind"].annotation)[0]
    row = re.search(rf"^\| `{kind}` \|.*\n(?:\| \|.*\n)*", table, re.MULTILINE)
    assert row, kind
    own = [field.alias for name, field in fault.model_fields.items() if name not in {*FaultBase.model_fields, "kind"}]
    assert [name for name in own if f"`{name}" not in row[0]] == []
