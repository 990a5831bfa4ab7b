"""Takes over what was told of a channel, by a webhook or by an answer: the newest of each value stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from server.models.tenant import Channel
from server.providers.checks import CheckReport

# It stands in a column of its own: sends are paced by it.
THROUGHPUT = "throughput_per_second"
# Told at each look, and nothing that anybody waits for.
QUIET = frozenset({"check_time", "last_inbound_time", "webhook_lag"})


def take(row: Channel, values: Mapping[str, Any], *, at: datetime) -> bool:
    """Changes the row; whether anything is different now that is worth an event. values: as of AccountChange."""
    before = shown(row)
    times, health = dict(row.told), dict(row.condition)
    for name, value in values.items():
        if not newest(times, name, at=at):
            continue
        if name == THROUGHPUT:
            row.throughput_per_second = value
        elif name == "token":
            health[name] = _token(health.get(name, {}), value, at=at)
        else:
            health[name] = value
    row.health_times, row.health = times, health
    return before != shown(row)


def shown(row: Channel) -> tuple[Any, ...]:
    """What makes an event when it changes."""
    health = {name: value for name, value in row.condition.items() if name not in QUIET}
    return health, row.throughput_per_second, row.state, row.state_reason


def newest(times: dict[str, str], name: str, *, at: datetime) -> bool:
    """Whether nothing newer was told of a value; its time is noted then."""
    if name in times and datetime.fromisoformat(times[name]) > at:
        return False
    times[name] = at.isoformat()
    return True


def take_report(row: Channel, report: CheckReport, *, at: datetime) -> bool:
    """Takes over what the provider answered; whether anything is different now. A report without checks tells nothing."""
    if not report.checks:
        return False
    failed = [
        {
            "check": f"CHANNEL_CHECK_KIND_{check.name.upper()}",
            "result": "CHANNEL_CHECK_RESULT_FAILED",
            "message": check.message,
            "remedy": check.remedy,
            "code": check.code,
            "trace_id": check.trace_id,
        }
        for check in report.checks
        if check.result == "failed"
    ]
    before = row.account
    row.details = before | dict(report.details)
    told = {**report.values, "failed_checks": failed, "check_time": at.isoformat()}
    return take(row, told, at=at) or row.account != before


def _token(before: Mapping[str, Any], told: Mapping[str, Any], *, at: datetime) -> dict[str, Any]:
    """The moment since when it is not accepted is that of the first who was told so."""
    if told.get("valid"):
        return dict(told)
    return {**told, "revoke_time": before.get("revoke_time") or at.isoformat()}
