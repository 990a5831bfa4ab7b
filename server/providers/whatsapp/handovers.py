"""Who answers a customer: the business, or an agent of Meta's, which tells what was said when it hands a conversation over.

Source: Meta's webhooks reference, field `messaging_handovers`, and `conversation_context` of the field `messages`, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from server.providers.contract import Address, Handover, Ignored, Json
from server.providers.meta.text import fingerprint
from server.providers.whatsapp import fields
from server.providers.whatsapp.carried import inner
from server.providers.whatsapp.fields import Malformed
from server.providers.whatsapp.message import People, addresses, thread

_CHANGES: Mapping[str, Literal["passed", "taken"]] = {"control_passed": "passed", "control_taken": "taken"}


def read(value: Mapping[str, Json], account_id: str) -> Handover | Ignored:
    """A change of the field messaging_handovers. Ignored with a type that Meta has yet to invent; Malformed without customer or time."""
    word = fields.text(value, "type") or ""
    time = fields.second(value, "timestamp")
    change = _CHANGES.get(word)
    if change is None:
        return Ignored(
            kind="handover",
            provider_id=fingerprint(dict(value)),
            provider_time=time,
            account_id=account_id,
            reason="unknown_handover",
        )
    sender = fields.mapping(value.get("sender"), "sender")
    who = addresses(sender, wa_id="phone_number", bsuid="user_id")
    if not who:
        raise Malformed("sender.phone_number and sender.user_id are missing")
    told = inner(value.get(word))
    return Handover(
        provider_id=fingerprint(dict(value)),
        provider_time=time,
        account_id=account_id,
        addresses=tuple(Address(each.kind, each.value.removeprefix("+")) for each in who),
        change=change,
        previous=_role(told, "previous"),
        current=_role(told, "new"),
        summary=_summary(value) or _words(told.get("metadata")),
    )


def of_messages(value: Mapping[str, Json], account_id: str) -> Handover | None:
    """What is told beside the first message after a conversation was handed over. Malformed where that message cannot be read."""
    summary = _summary(value)
    messages = fields.listed(value.get("messages"), "messages")
    if summary is None or not messages:
        return None
    item = fields.mapping(messages[0], "messages")
    return Handover(
        provider_id=fingerprint([summary, fields.identifier(item, "id")]),
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
        addresses=thread(item, People.of(value).find(item)),
        change="told",
        summary=summary,
    )


def _summary(value: Mapping[str, Json]) -> str | None:
    context = inner(value.get("conversation_context"))
    return _words(inner(context.get("summary")).get("text"))


def _role(told: Mapping[str, Json], which: str) -> str | None:
    """Meta's pages call it `previous_owner_role` here and `previous_owner` there."""
    return _words(told.get(f"{which}_owner_role")) or _words(told.get(f"{which}_owner"))


def _words(value: Json) -> str | None:
    return fields.text({"value": value}, "value") if isinstance(value, str) and value.strip() else None
