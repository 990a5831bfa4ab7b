"""What a provider is asked before an account is connected, and whenever somebody wants to know how it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CheckName = Literal["token", "permissions", "number", "account", "registration", "messaging", "subscription", "app"]
CheckResult = Literal["passed", "failed", "skipped"]

# Without these nothing would be sent, or nothing would ever come.
FOR_CONNECTING: frozenset[CheckName] = frozenset(
    {"token", "permissions", "number", "account", "registration", "subscription"}
)
FOR_SENDING: frozenset[CheckName] = frozenset(
    {"token", "permissions", "number", "account", "registration", "messaging"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. message: what was found; remedy: the way out; code and trace_id: of the provider's refusal.

    One that is skipped could not be asked, since another failed or the provider shows it to somebody else alone.
    """

    name: CheckName
    result: CheckResult
    message: str = ""
    remedy: str = ""
    code: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAccount:
    """Whose checks are wanted. token, settings: as of Outgoing. subscribe: have its webhooks sent, if they are not.

    app_secret: the secret of an app of this installation by the app's id, None for one that it does not know.
    """

    account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, Any]
    subscribe: bool = False
    app_secret: Callable[[str], Awaitable[str | None]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All checks in the order of CheckName. values: as of AccountChange; details: fields of Account.details as the provider has them.

    app_id: the provider's app that the token was made for; None where it does not tell.
    """

    checks: tuple[Check, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    app_id: str | None = None

    def failed(self, names: frozenset[CheckName]) -> Check | None:
        """The first of these that failed."""
        return next((check for check in self.checks if check.result == "failed" and check.name in names), None)
