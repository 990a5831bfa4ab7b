"""Webhooks about a WhatsApp business account and its numbers. They name a number by its display form alone.

Source: Meta's webhook fields account_update, account_review_update, account_alerts, business_capability_update,
phone_number_quality_update, phone_number_name_update, security and business_username_updates, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from server.providers.contract import Change, Json
from server.providers.health import AccountChange
from server.providers.meta import errors
from server.providers.meta.text import fingerprint
from server.providers.whatsapp import fields
from server.providers.whatsapp.fields import Malformed
from server.providers.whatsapp.templates import word

# Meta raises numbers from 80 to 1,000 messages a second, and says so without the number.
UPGRADED_PER_SECOND = 1000

_BLOCKING = frozenset(
    {"ACCOUNT_DELETED", "ACCOUNT_OFFBOARDED", "ACCOUNT_RESTRICTION", "PARTNER_REMOVED", "PARTNER_APP_UNINSTALLED"}
)
RESTRICTED = "ACCOUNT_RESTRICTION"
# Whom this forbids to answer, Meta also forbids to write first.
_FORBIDS_SENDING = frozenset({"RESTRICTED_CUSTOMER_INITIATED_MESSAGING"})
_FORBIDS_TEMPLATES = _FORBIDS_SENDING | {"RESTRICTED_BIZ_INITIATED_MESSAGING"}
_LIFTING = frozenset({"ACCOUNT_RECONNECTED", "PARTNER_ADDED", "PARTNER_APP_INSTALLED"})
_QUALITIES = {"FLAGGED": "red", "UNFLAGGED": None}
_LIMITS = {250: "TIER_250", 1000: "TIER_1K", 2000: "TIER_2K", 10_000: "TIER_10K", 100_000: "TIER_100K", -1: "UNLIMITED"}
_DECISIONS = frozenset({"approved", "declined", "deferred", "expired", "pending", "rejected"})
_TEXT_MOST = 1024


def read_change(change: Change) -> AccountChange:
    """The one change that a webhook of the fields in READERS tells. Malformed."""
    value = fields.mapping(change.value, "value")
    if change.entry_id is None:
        raise Malformed("entry.id is missing")
    return AccountChange(
        business_account_id=change.entry_id,
        number=_number(value),
        provider_id=change.entry_id,
        discriminator=f"{change.field}/{fingerprint(change.value)}",
        provider_time=change.time,
        **READERS[change.field](value),
    )


def read_error(item: Mapping[str, Json], change: Change, *, account_id: str) -> AccountChange:
    """An error of a number that is no message's own: the code and its title. What is beside them may name a customer. Malformed."""
    code = errors.number(item.get("code"))
    if code is None:
        raise Malformed("code is no number")
    said = fields.text(item, "title") or fields.text(item, "message") or ""
    told = {"code": str(code), "message": said[:_TEXT_MOST]}
    if change.time is not None:
        told["time"] = change.time.isoformat()
    return AccountChange(
        business_account_id=change.entry_id or "",
        account_id=account_id,
        provider_id=account_id,
        discriminator=f"error/{code}/{fingerprint(dict(item))}",
        provider_time=change.time,
        values={"last_error": told},
    )


def _number(value: Mapping[str, Json]) -> str | None:
    """The digits of a number as Meta shows it; it may have spaces, a plus and brackets."""
    shown = fields.text(value, "display_phone_number") or fields.text(value, "phone_number") or ""
    return digits(shown) or None


def digits(shown: str) -> str:
    """What is left of a number without what it is written with."""
    return "".join(character for character in shown if character.isascii() and character.isdigit())[:32]


def _quality(value: Mapping[str, Json]) -> dict[str, Any]:
    event = _event(value)
    limit = word(value, "max_daily_conversations_per_business") or word(value, "current_limit")
    values: dict[str, Any] = {"messaging_limit": limit} if limit else {}
    if event == "THROUGHPUT_UPGRADE":
        values["throughput_per_second"] = UPGRADED_PER_SECOND
    if quality := _QUALITIES.get(event):
        values["quality"] = quality
    # Below red there are two: which one it is now, only the number itself tells.
    return {"values": values, "stale": event == "UNFLAGGED" or not values}


def _name(value: Mapping[str, Json]) -> dict[str, Any]:
    decision = word(value, "decision").lower()
    values: dict[str, Any] = {"name_status": decision if decision in _DECISIONS else "unknown"}
    name = fields.text(value, "requested_verified_name")
    if decision == "approved" and name:
        values["verified_name"] = name[:_TEXT_MOST]
    return {"values": values, "stale": values["name_status"] == "unknown"}


def _update(value: Mapping[str, Json]) -> dict[str, Any]:
    event = _event(value)
    if event == "DISABLED_UPDATE":
        return _ban(value)
    if event in _BLOCKING:
        restrictions = _restrictions(value)
        told = {"values": {"restriction": event, "restrictions": restrictions}}
        # A restriction that says of what forbids no more than that: who wrote first is still answered.
        partial = restrictions and not any(each["forbids_sending"] for each in restrictions)
        return told if event == RESTRICTED and partial else told | {"blocks": event}
    if event in _LIFTING:
        return {"values": {"restriction": "", "restrictions": []}, "lifts": True, "stale": True}
    return {"values": {"alert": _alert(event, severity="", description=_violation(value))}}


def _ban(value: Mapping[str, Json]) -> dict[str, Any]:
    """A ban, one that is to come, or the end of one."""
    state = word(fields.optional_mapping(value.get("ban_info"), "ban_info"), "waba_ban_state")
    if state == "REINSTATE":
        return {"values": {"restriction": "", "restrictions": []}, "lifts": True, "stale": True}
    told = {"values": {"restriction": f"DISABLED_UPDATE {state}".strip(), "restrictions": []}}
    return told if state == "SCHEDULE_FOR_DISABLE" else told | {"blocks": told["values"]["restriction"]}


def _restrictions(value: Mapping[str, Json]) -> list[dict[str, Any]]:
    listed = fields.listed(value.get("restriction_info"), "restriction_info")
    return [_restriction(fields.mapping(item, "restriction_info")) for item in listed]


def _restriction(given: Mapping[str, Json]) -> dict[str, Any]:
    kind = word(given, "restriction_type")
    made: dict[str, Any] = {
        "type": kind,
        "forbids_sending": kind in _FORBIDS_SENDING,
        "forbids_templates": kind in _FORBIDS_TEMPLATES,
    }
    if given.get("expiration") is not None:
        made["expire_time"] = fields.second(given, "expiration").isoformat()
    if remediation := fields.text(given, "remediation"):
        made["remediation"] = remediation[:_TEXT_MOST]
    return made


def _violation(value: Mapping[str, Json]) -> str:
    return word(fields.optional_mapping(value.get("violation_info"), "violation_info"), "violation_type")


def _review(value: Mapping[str, Json]) -> dict[str, Any]:
    decision = word(value, "decision").lower()
    return {"values": {"review_status": decision if decision in _DECISIONS else "unknown"}}


def _told(value: Mapping[str, Json]) -> dict[str, Any]:
    """An alert: its parts stand in alert_info, and did not always."""
    info = fields.optional_mapping(value.get("alert_info"), "alert_info") or value
    description = (fields.text(info, "alert_description") or "")[:_TEXT_MOST]
    kind = word(info, "alert_type") or "ALERT"
    return {"values": {"alert": _alert(kind, severity=word(info, "alert_severity"), description=description)}}


def _capability(value: Mapping[str, Json]) -> dict[str, Any]:
    """A number in one field, a word in the other."""
    name = "max_daily_conversations_per_business"
    given = value.get(name, value.get("max_daily_conversation_per_phone"))
    if isinstance(given, int) and not isinstance(given, bool):
        return {"values": {"messaging_limit": _LIMITS.get(given, f"TIER_{given}"[:64])}}
    limit = word(value, name)
    return {"values": {"messaging_limit": limit}} if limit else {"stale": True}


def _security(value: Mapping[str, Json]) -> dict[str, Any]:
    """Of a number's PIN; who asked for it is none of our business."""
    return {"values": {"alert": _alert(_event(value), severity="WARNING", description="")}}


def _username(value: Mapping[str, Json]) -> dict[str, Any]:
    status, username = word(value, "status"), (fields.text(value, "username") or "")[:_TEXT_MOST]
    # One that is reserved is kept for it, and nobody finds it by that.
    return {"values": {"APPROVED": {"username": username}, "DELETED": {"username": ""}}.get(status, {})}


def _alert(kind: str, *, severity: str, description: str) -> dict[str, str]:
    return {"type": kind, "severity": severity, "description": description}


def _event(value: Mapping[str, Json]) -> str:
    found = word(value, "event")
    if not found:
        raise Malformed("event is missing")
    return found


READERS: Mapping[str, Callable[[Mapping[str, Json]], dict[str, Any]]] = {
    "account_alerts": _told,
    "account_review_update": _review,
    "account_update": _update,
    "business_capability_update": _capability,
    "business_username_updates": _username,
    "phone_number_name_update": _name,
    "phone_number_quality_update": _quality,
    "security": _security,
}
