"""docs/whatsapp.md knows every check, every error that stops a channel, and no command that is not there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from switchboard.v1 import channel_pb2

from server.providers.contract import ErrorClass
from server.providers.meta.errors import RULES
from server.providers.meta.remedies import REMEDIES, remedy
from server.providers.whatsapp.checking import FIELD_NEEDED, FIELDS_WANTED

STOPS = sorted(code for code, rule in RULES.items() if rule.error_class is ErrorClass.STOP_CHANNEL)


@pytest.fixture
def page(checkout: Path) -> str:
    return (checkout / "docs" / "whatsapp.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    below = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_check_is_explained_in_the_order_in_which_they_are_answered(page: str) -> None:
    kinds = [name.removeprefix("CHANNEL_CHECK_KIND_") for name in channel_pb2.ChannelCheckKind.keys()[1:]]
    assert [row[0].strip("`") for row in rows(page, "Connecting")] == kinds


def test_every_error_that_stops_a_channel_has_a_way_out_on_the_page_and_in_the_refusal(page: str) -> None:
    told: set[int] = set()
    for row in rows(page, "What Meta's refusals mean"):
        for first, last in re.findall(r"\b(\d+)(?: to (\d+))?", row[0]):
            told |= set(range(int(first), int(last or first) + 1))
    assert [code for code in STOPS if code not in told] == []
    assert [code for code in STOPS if not remedy(str(code))] == []
    assert {int(code) for code in REMEDIES if code.isdigit()} <= told


def test_every_field_that_is_looked_for_is_on_the_page(page: str) -> None:
    fields = {field for row in rows(page, "The app and its webhooks") for field in re.findall(r"`(\w+)`", row[0])}
    assert {FIELD_NEEDED, *FIELDS_WANTED} <= fields


def test_every_command_on_the_page_is_there(page: str, checkout: Path) -> None:
    named = set(re.findall(r"switchboard channels ([a-z-]+)", page))
    command = [str(checkout / ".venv" / "bin" / "switchboard"), "channels", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert named
    assert [name for name in named if not re.search(rf"^\s+{name}\b", shown, re.MULTILINE)] == []
