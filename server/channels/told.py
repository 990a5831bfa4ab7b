"""Takes over what was told of a channel, by a webhook or by an answer: the newest of each value stays."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from server.models.tenant import Channel
from server.providers.checks import CheckReport

# It stands in a column of its own: sends are paced by it.
THROUGHPUT = "throughput_per_second"
# Told at each look, and nothing that anybody waits for.
QUIET = frozenset({"check_time", "last_inbound_time", "webhook_lag"})

# After a webhook: others of the same moment come too. Once a day otherwise, each at a moment of its own.
SOON, SOON_SPREAD = timedelta(seconds=5), 10.0
DAILY, DAILY_SPREAD = timedelta(hours=22), 4 * 3600.0
# The word of a block that ends with the restrictions that are behind it.
RESTRICTED = "ACCOUNT_RESTRICTION"


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
        elif name == "last_error":
            health[name] = {"time": at.isoformat(), **value}
        else:
            health[name] = value
    row.health_times, row.health = times, health
    return before != shown(row)


def shown(row: Channel) -> tuple[Any, ...]:
    """What makes an event when it changes: of an error its code, of a pace that it is not as it should be."""
    health = {name: value for name, value in row.condition.items() if name not in QUIET}
    health["last_error"] = health.get("last_error", {}).get("code")
    if health.get("webhook_pace") == "timely":
        del health["webhook_pace"]
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
    # Webhooks have whole seconds: one of the same second is the later one.
    return take(row, told, at=at.replace(microsecond=0)) or row.account != before


def _token(before: Mapping[str, Any], told: Mapping[str, Any], *, at: datetime) -> dict[str, Any]:
    """The moment since when it is not accepted is that of the first who was told so."""
    if told.get("valid"):
        return dict(told)
    return {**told, "revoke_time": before.get("revoke_time") or at.isoformat()}


def plan(row: Channel, *, now: datetime) -> None:
    """Sets when its provider is asked next: soon where something is open, else in a day; when a restriction ends, if that is before."""
    wait = SOON if row.condition.get("stale") else DAILY
    spread = SOON_SPREAD if wait is SOON else DAILY_SPREAD
    ends = [end for end in map(_end, row.condition.get("restrictions", [])) if end is not None and end > now]
    row.check_due_time = min([now + wait + timedelta(seconds=random.uniform(0, spread)), *(end + SOON for end in ends)])


def expire(row: Channel, *, now: datetime) -> None:
    """Forgets the restrictions that have ended."""
    health = dict(row.condition)
    held = health.get("restrictions", [])
    kept = [each for each in held if (end := _end(each)) is None or end > now]
    if len(kept) == len(held):
        return
    health["restrictions"] = kept
    if not kept and health.get("restriction") == RESTRICTED:
        health["restriction"] = ""
    row.health = health


def restricted(row: Channel) -> bool:
    """Whether a restriction that is known forbids all sending."""
    return any(each.get("forbids_sending") for each in row.condition.get("restrictions", []))


def _end(restriction: Mapping[str, Any]) -> datetime | None:
    told = restriction.get("expire_time")
    return None if told is None else datetime.fromisoformat(told)
