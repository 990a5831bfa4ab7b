"""Messages that were not sent through the API, of numbers that are used in the WhatsApp Business app as well (coexistence).

What the business writes on its phone comes as an echo; what was written before the number was connected comes as its history, in chunks
in any order. Either may hold what is known here already.
Source: Meta's webhooks reference, fields `smb_message_echoes` and `history`, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from server.providers.contract import (
    Address,
    Change,
    Ignored,
    Item,
    Json,
    MessageChange,
    MessageCopy,
    MessageOrigin,
    ReceiptStatus,
)
from server.providers.health import AccountChange
from server.providers.meta.errors import number as code_of
from server.providers.meta.text import fingerprint
from server.providers.whatsapp import carried, fields
from server.providers.whatsapp.account import digits
from server.providers.whatsapp.fields import Malformed
from server.providers.whatsapp.message import CHANGES, People, addresses, read_change, read_content

# It stands for a file that comes in a webhook of its own, later or never.
PLACEHOLDER = "media_placeholder"
_NOT_YET = "A file of the history. WhatsApp hands it over later, or never."
_DECLINED = 2593109
_STATUSES: Mapping[str, ReceiptStatus] = {
    "PENDING": "sent",
    "SENT": "sent",
    "DELIVERED": "delivered",
    "READ": "read",
    "PLAYED": "played",
    "ERROR": "failed",
}
Side = Literal["customer", "business"]


def of_echo(item: Mapping[str, Json], account_id: str, people: People) -> Item:
    """What the business wrote on its phone, or did to what it had written. Malformed without id, time or customer."""
    who = _to(item)
    if not who:
        raise Malformed("to and to_user_id are missing")
    contact = people.of_addresses(who)
    profile = fields.optional_mapping(contact.get("profile"), "contacts.profile")
    name = fields.text(profile, "name")
    return _read(item, account_id, who, side="business", origin="phone_app", name=name)


def reader(talk: Mapping[str, Json], account_id: str, number: str) -> Callable[[Mapping[str, Json]], Item]:
    """What reads the messages of a thread of the history. talk: the thread, empty where none is told; number: of the business."""

    def read(item: Mapping[str, Json]) -> Item:
        sender = fields.optional_identifier(item, "from") or ""
        ours = bool(item.get("to") or item.get("to_user_id")) or (bool(sender) and digits(sender) == number)
        who = (*_of_thread(talk), *(_to(item) if ours else addresses(item, wa_id="from", bsuid="from_user_id")))
        if not who:
            raise Malformed("the customer is missing")
        side: Side = "business" if ours else "customer"
        return _read(item, account_id, tuple(dict.fromkeys(who)), side=side, origin="history", name=None)

    return read


def number_of(value: Mapping[str, Json]) -> str:
    """The digits of the business's number as it is shown; empty where it is not told."""
    return digits(fields.text(carried.inner(value.get("metadata")), "display_phone_number") or "")


def of_error(item: Mapping[str, Json], change: Change, *, account_id: str) -> AccountChange:
    """Why there is no history: the business did not want to share it (2593109), or something went wrong. Malformed without a code."""
    code = code_of(item.get("code"))
    if code is None:
        raise Malformed("code is no number")
    # What stands beside the title may name a customer.
    title = fields.text(item, "title") or fields.text(item, "message") or ""
    kind = "HISTORY_DECLINED" if code == _DECLINED else "HISTORY_FAILED"
    return AccountChange(
        business_account_id=change.entry_id or "",
        account_id=account_id,
        provider_id=account_id,
        discriminator=f"history/{fingerprint(dict(item))}",
        provider_time=change.time,
        values={"alert": {"type": kind, "severity": "INFO", "description": f"{code}: {title[:1024]}"}},
    )


def _read(
    item: Mapping[str, Json],
    account_id: str,
    who: tuple[Address, ...],
    *,
    side: Side,
    origin: MessageOrigin,
    name: str | None,
) -> MessageCopy | MessageChange | Ignored:
    word = item.get("type")
    if isinstance(word, str) and word in CHANGES:
        return replace(read_change(item, account_id, who, CHANGES[word]), by=side)
    if word in ("system", "request_welcome"):
        return Ignored(
            kind=str(word),
            provider_id=fields.identifier(item, "id"),
            provider_time=fields.second(item, "timestamp"),
            account_id=account_id,
            reason="event_not_applied",
        )
    content = read_content(item)
    context = fields.optional_mapping(item.get("context"), "context")
    details = {**content.details, **carried.beside(item, context)}
    if word == PLACEHOLDER:
        details["unsupported"] = {"type": PLACEHOLDER, "reason": _NOT_YET}
    return MessageCopy(
        provider_id=fields.identifier(item, "id"),
        discriminator=PLACEHOLDER if word == PLACEHOLDER else "",
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
        addresses=who,
        origin=origin,
        direction="outbound" if side == "business" else "inbound",
        type=content.type,
        status=_status(item),
        profile_name=name,
        text=content.text,
        attachments=() if content.attachment is None else (content.attachment,),
        details=details,
        reply_to_id=fields.optional_identifier(context, "id"),
        opaque=fields.opaque(item),
    )


def _to(item: Mapping[str, Json]) -> tuple[Address, ...]:
    """The customer of what the business wrote; a group is a thread of its own."""
    if item.get("group_id") is not None:
        return addresses(item, group="group_id")
    return addresses(item, wa_id="to", bsuid="to_user_id", parent_bsuid="to_parent_user_id")


def _of_thread(talk: Mapping[str, Json]) -> tuple[Address, ...]:
    """The customer of a thread: a number or a user id, and beside it what its context has."""
    given = fields.optional_identifier(talk, "id")
    context = carried.inner(talk.get("context"))
    found = () if given is None else addresses({"id": given}, **{"wa_id" if given.isdigit() else "bsuid": "id"})
    return (*found, *addresses(context, wa_id="wa_id", bsuid="user_id"))


def _status(item: Mapping[str, Json]) -> ReceiptStatus:
    word = carried.inner(item.get("history_context")).get("status")
    return _STATUSES.get(word.upper(), "sent") if isinstance(word, str) else "sent"
