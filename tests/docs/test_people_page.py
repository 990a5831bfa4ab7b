"""The table of permissions in docs/people.md is that of the code."""

from __future__ import annotations

from pathlib import Path

from switchboard.v1 import options_pb2

from server.agents.roles import PERMISSIONS


def rows() -> list[str]:
    """The table as it must stand."""
    return [
        f"| {options_pb2.Permission.Name(number).removeprefix('PERMISSION_')} | "  # type: ignore[arg-type]
        + " | ".join("yes" if number in held else "no" for held in PERMISSIONS.values())
        + " |"
        for number in sorted(PERMISSIONS["owner"])
    ]


def test_the_table_of_permissions_is_that_of_the_roles(checkout: Path) -> None:
    page = (checkout / "docs/people.md").read_text().splitlines()
    assert list(PERMISSIONS) == ["owner", "admin", "supervisor", "agent", "service", "read_only"]
    start = page.index("|---|---|---|---|---|---|---|") + 1
    assert page[start : start + len(rows()) + 1] == [*rows(), ""]
