"""What a look finds, and from where on something is a finding at all."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import timedelta


class Severity(enum.Enum):
    """How bad it is. BLIND: it could not be looked at, so nobody knows."""

    WELL = "well"
    NOTE = "note"
    PROBLEM = "problem"
    BLIND = "blind"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    name: a stable word for programs, such as "tenant-outdated". where: the part it is about, such as "tenant acme". what, why, do:
    sentences for a person; do names a command wherever there is one. None of them holds a secret or customers' data.
    """

    severity: Severity
    name: str
    where: str
    what: str
    why: str = ""
    do: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is a finding."""

    clock: timedelta = timedelta(seconds=1)
    """Postgres and Valkey against this machine."""
    transaction: timedelta = timedelta(minutes=5)
    late: timedelta = timedelta(seconds=30)
    """Timers, deliveries, payloads and tenants that were due so long ago and are not done."""
    consumer: timedelta = timedelta(seconds=30)
    disk_free_bytes: int = 1 << 30
    certificate: timedelta = timedelta(days=14)
    key: timedelta = timedelta(days=14)
    head_bytes: int = 8 << 20
    """The one row of stream_head is a page or two; more are dead versions that nobody may clean away."""
    check: timedelta = timedelta(seconds=8)
    """One look; what takes longer is itself a finding."""
    whole: timedelta = timedelta(seconds=60)


@dataclass(slots=True)
class Report:
    """Everything that was found."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: all is well, notes apart; 1: problems; 2: something could not be looked at."""
        found = {finding.severity for finding in self.findings}
        return 2 if Severity.BLIND in found else 1 if Severity.PROBLEM in found else 0


def well(name: str, where: str, what: str) -> Finding:
    """It was looked at, and is as it should be."""
    return Finding(Severity.WELL, name, where, what)


def note(name: str, where: str, what: str, *, why: str, do: str) -> Finding:
    """Nothing is wrong yet."""
    return Finding(Severity.NOTE, name, where, what, why, do)


def problem(name: str, where: str, what: str, *, why: str, do: str) -> Finding:
    """Something is wrong."""
    return Finding(Severity.PROBLEM, name, where, what, why, do)


def blind(name: str, where: str, what: str, *, why: str, do: str) -> Finding:
    """It could not be looked at."""
    return Finding(Severity.BLIND, name, where, what, why, do)


def age(seconds: float) -> str:
    """A duration in words that fit a table: "40 s", "3 min", "5 h", "2 days"."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes in words."""
    return f"{count / (1 << 30):.1f} GB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MB"
