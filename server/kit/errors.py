"""Refusals: errors that a caller can understand and act on.

A slice raises a noun with a reason of the contract's ErrorReason (without prefix) and data; `server.rpc.errors` alone turns it
into a gRPC status. Anything else that escapes is our fault and reaches the caller as INTERNAL with an incident id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field: its proto path such as "text.body", and what is wrong with it."""

    field: str
    description: str


class Refusal(Exception):
    """Base of every typed refusal.

    status: canonical gRPC code name. reason: ErrorReason without prefix. metadata: ErrorInfo metadata, no customer data. quota: whose
    limit is reached ("caller:<id>") and which. headers: more of them for the answer.
    """

    status: ClassVar[str]
    reason: ClassVar[str]

    def __init__(
        self, message: str, *, metadata: Mapping[str, str] | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.violations: tuple[FieldViolation, ...] = ()
        self.quota: tuple[str, str] | None = None
        self.headers: Mapping[str, str] = {}


class InvalidFields(Refusal):
    """Fields are at fault."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELDS"

    def __init__(self, *violations: FieldViolation, metadata: Mapping[str, str] | None = None) -> None:
        text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(text, metadata=metadata)
        self.violations = violations


class NotFound(Refusal):
    """Unknown, foreign or invisible: answered alike."""

    status = "NOT_FOUND"
    reason = "RESOURCE_NOT_FOUND"

    def __init__(self, resource: str) -> None:
        super().__init__(f"no such {resource}", metadata={"resource": resource})


class AlreadyExists(Refusal):
    """A unique value is taken."""

    status = "ALREADY_EXISTS"
    reason = "RESOURCE_EXISTS"

    def __init__(self, resource: str, message: str) -> None:
        super().__init__(message, metadata={"resource": resource})


class DatabaseUnavailable(Refusal):
    """No connection in time, a lost connection, or a commit whose outcome is unknown: repeat with the same request id."""

    status = "UNAVAILABLE"
    reason = "DATABASE_UNAVAILABLE"

    def __init__(self, message: str = "the database does not answer; repeat with the same request id") -> None:
        super().__init__(message, retry_after=timedelta(seconds=1))


class Contended(DatabaseUnavailable):
    """A unit of work lost the race, or waited for a lock in vain, in every attempt; nothing was written."""

    def __init__(self) -> None:
        super().__init__("too many writes at the same place; repeat with the same request id")
