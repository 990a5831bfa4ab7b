"""A report for a person, calm: what is wrong first, with what to do; then what is well, in a line each. Or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.doctor.finding import Finding, Report, Severity

MARKS = {
    Severity.PROBLEM: ("✗", "red"),
    Severity.BLIND: ("?", "magenta"),
    Severity.NOTE: ("!", "yellow"),
    Severity.WELL: ("✓", "green"),
}
ORDER = list(MARKS)
# So many parts that are well are named each; more tenants than this are counted.
TENANTS_NAMED = 8


def show(report: Report, *, as_json: bool = False, console: Console | None = None) -> None:
    """Prints it: a table on a terminal, plain lines elsewhere."""
    if as_json:
        click.echo(json.dumps(as_data(report), indent=2, ensure_ascii=False))
        return
    out = console or Console(highlight=False, soft_wrap=True)
    found = sorted(_folded(report.findings), key=lambda finding: ORDER.index(finding.severity))
    if out.is_terminal:
        # A table wraps its cells by itself.
        out.soft_wrap = False
        out.print(_table(found))
    else:
        for finding in found:
            out.print(_line(finding), markup=False)
    out.print(summary(report), markup=False)


def as_data(report: Report) -> dict[str, Any]:
    """For programs: {"exit_code", "summary", "findings": [{"severity", "name", "where", "what", "why", "do"}]}."""
    findings = [{**dataclasses.asdict(finding), "severity": finding.severity.value} for finding in report.findings]
    return {"exit_code": report.exit_code, "summary": summary(report), "findings": findings}


def summary(report: Report) -> str:
    """One sentence."""
    count = {severity: sum(each.severity is severity for each in report.findings) for severity in Severity}
    parts = [
        _counted(count[Severity.PROBLEM], "problem"),
        _counted(count[Severity.BLIND], "part not looked at", "parts not looked at"),
        _counted(count[Severity.NOTE], "note"),
    ]
    told = ", ".join(part for part in parts if part)
    return f"{told}." if told else "All is well."


def _counted(count: int, one: str, many: str | None = None) -> str:
    return "" if not count else f"{count} {one if count == 1 else many or one + 's'}"


def _folded(findings: Sequence[Finding]) -> list[Finding]:
    """Many tenants that are well make one line."""
    tenants = [finding for finding in findings if finding.name == "tenant"]
    if len(tenants) <= TENANTS_NAMED:
        return list(findings)
    one = Finding(Severity.WELL, "tenant", "tenants", f"{len(tenants)} of them: nothing is late")
    return [*(finding for finding in findings if finding.name != "tenant"), one]


def _table(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.severity]
        text = Text(finding.what)
        if finding.why:
            text.append(f"\n{finding.why}", style="dim")
        if finding.do:
            text.append("\n→ ", style=colour).append(finding.do)
        table.add_row(Text(mark, style=colour), Text(finding.where, style="bold"), text)
    return table


def _line(finding: Finding) -> str:
    more = "".join(f"\n    {text}" for text in (finding.why, finding.do and f"→ {finding.do}") if text)
    return f"{MARKS[finding.severity][0]} {finding.where}: {finding.what}{more}"
