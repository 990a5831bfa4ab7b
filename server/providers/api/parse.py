"""Reads what was handed in by a call, as the intake journals it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from server.providers.contract import (
    Address,
    Broken,
    Change,
    Erased,
    ErrorClass,
    InboundMessage,
    Item,
    Json,
    ProviderError,
    Receipt,
    ReceiptStatus,
)

VERSION = 2
OBJECT = "api"
STATUSES: Mapping[str, ReceiptStatus] = {
    "MESSAGE_STATUS_DELIVERED": "delivered",
    "MESSAGE_STATUS_READ": "read",
    "MESSAGE_STATUS_FAILED": "failed",
}


# Ids of messages that we sent, as they are stored. No id that is handed in has a space, so none of theirs is taken for one of ours.
SENT = "sent "


def changes(raw: bytes) -> Sequence[Change]:
    """One change for each list of a body."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return ()
    account_id = body.get("account_id") if isinstance(body, dict) else None
    if not isinstance(account_id, str):
        return ()
    return [
        Change(OBJECT, 0, index, account_id, field, body[field], account_id)
        for index, field in enumerate(READERS)
        if field in body
    ]


def without(raw: bytes, erased: Erased) -> bytes | None:
    """A body without the entries that are about somebody; None when none is."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    found = False
    for field in READERS if isinstance(body, dict) else ():
        listed = body.get(field)
        if isinstance(listed, list):
            body[field] = [entry for entry in listed if not _is_about(entry, erased)]
            found |= len(body[field]) < len(listed)
    return json.dumps(body, separators=(",", ":")).encode("ascii") if found else None


def _is_about(entry: Json, erased: Erased) -> bool:
    given = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(given, str) or not {given, SENT + given}.isdisjoint(erased.kept):
        return False
    return not {given, SENT + given}.isdisjoint(erased.ids) or entry.get("user_ref") in erased.addresses


def parse(change: Change) -> Sequence[Item]:
    """Every entry of a change, in order."""
    reader = READERS.get(change.field)
    if reader is None or not isinstance(change.value, list) or change.account_id is None:
        return ()
    return [_read(reader, entry, change.account_id) for entry in change.value]


def _read(reader: Callable[[Mapping[str, str], str], Item], entry: Json, account_id: str) -> Item:
    fields = {str(name): value for name, value in entry.items()} if isinstance(entry, dict) else {}
    try:
        return reader({name: value for name, value in fields.items() if isinstance(value, str)}, account_id)
    except (KeyError, ValueError) as error:
        named = fields.get("id")
        provider_id = named if isinstance(named, str) and named else "none"
        return Broken(provider_id=provider_id, error=f"{type(error).__name__} in an item", account_id=account_id)


def _message(fields: Mapping[str, str], account_id: str) -> Item:
    return InboundMessage(
        provider_id=fields["id"],
        provider_time=_time(fields["create_time"]),
        account_id=account_id,
        addresses=(Address("user_ref", fields["user_ref"]),),
        type="text",
        profile_name=fields.get("profile_name"),
        text=fields["text"],
        reply_to_id=fields.get("reply_to_id"),
    )


def _receipt(fields: Mapping[str, str], account_id: str) -> Item:
    status = STATUSES[fields["status"]]
    words = fields.get("error_message", "")
    return Receipt(
        provider_id=SENT + fields["id"],
        discriminator=status,
        provider_time=_time(fields["create_time"]),
        account_id=account_id,
        status=status,
        opaque=fields["id"],
        errors=(ProviderError("callback", words, ErrorClass.PERMANENT),) if status == "failed" else (),
    )


def _time(text: str) -> datetime:
    """A time as protobuf's JSON has it, with up to nine digits behind the second; the last three are beyond what we store."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").replace(tzinfo=UTC)


READERS: Mapping[str, Callable[[Mapping[str, str], str], Item]] = {"messages": _message, "receipts": _receipt}
