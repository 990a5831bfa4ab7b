"""How a report is told, and what its exit code says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from server.doctor import show, visit
from server.doctor.finding import Finding, Limits, Report, age, blind, note, problem, well
from server.doctor.processes import differences
from server.doctor.visit import Asked
from server.embedded.envoy import DESCRIPTOR

WELL = well("valkey", "Valkey", "version 9.1.2")
NOTE = note("key-ends", "tenant acme", "a key ends", why="It is refused then.", do="make another")
PROBLEM = problem("disk-full", "home", "1 MB free", why="Postgres stops.", do="make room [now]")
BLIND = blind("control-unreachable", "control database", "no answer", why="Nothing is served.", do="start it")


def told(*findings: Finding, terminal: bool = False) -> str:
    out = io.StringIO()
    show.show(Report([*findings]), console=Console(file=out, force_terminal=terminal, width=80, soft_wrap=not terminal))
    return out.getvalue()


@pytest.mark.parametrize(
    ("findings", "code"), [((WELL,), 0), ((WELL, NOTE), 0), ((WELL, PROBLEM, NOTE), 1), ((PROBLEM, BLIND), 2)]
)
def test_the_exit_code_is_that_of_the_worst(findings: tuple[Finding, ...], code: int) -> None:
    assert Report([*findings]).exit_code == code


def test_plain_lines_name_what_is_wrong_first_and_what_to_do() -> None:
    assert told(WELL, NOTE, PROBLEM).splitlines() == [
        "✗ home: 1 MB free",
        "    Postgres stops.",
        "    → make room [now]",
        "! tenant acme: a key ends",
        "    It is refused then.",
        "    → make another",
        "✓ Valkey: version 9.1.2",
        "1 problem, 1 note.",
    ]
    assert told(WELL).splitlines()[-1] == "All is well."


def test_a_terminal_gets_a_table_and_many_tenants_are_counted() -> None:
    tenants = [well("tenant", f"tenant t{number}", "nothing is late") for number in range(300)]
    text = told(PROBLEM, *tenants, terminal=True)
    assert "\x1b[" in text
    assert "300 of them" in text
    assert "make room [now]" in text
    assert len(text.splitlines()) < 10


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    show.show(Report([WELL, PROBLEM]), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["exit_code"], found["summary"], found["findings"][1]["severity"]) == (1, "1 problem.", "problem")


async def test_without_settings_nothing_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_HOME", str(tmp_path))
    monkeypatch.delenv("SWITCHBOARD_CONTROL_DSN", raising=False)
    report = await visit.examine(Asked(limits=Limits()))
    assert [finding.name for finding in report.findings] == ["settings"]
    assert report.exit_code == 2


def test_the_descriptors_of_this_checkout_are_this_release() -> None:
    assert differences(DESCRIPTOR.read_bytes()) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text
