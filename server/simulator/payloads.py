"""The bodies of Meta's webhooks for text messages and receipts, and their signature. Pure functions.

Tests build and send bodies of their own with these; the simulator sends nothing that was not made here.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from server.simulator.errors import Json
from server.simulator.wamid import new_wamid


@dataclass(frozen=True, slots=True)
class Number:
    """The business side of a webhook."""

    waba_id: str
    phone_number_id: str
    display_phone_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundText:
    """A text message a customer wrote. At least one of `phone` (digits) and `bsuid` is there; times are Unix seconds.

    A message without `phone` is one of a customer who has a username and has hidden the number.
    """

    text: str
    timestamp: int
    phone: str | None = None
    bsuid: str | None = None
    name: str | None = None
    wamid: str = ""

    def __post_init__(self) -> None:
        if not self.phone and not self.bsuid:
            raise ValueError("an inbound message needs a phone number or a user id")
        if not self.wamid:
            object.__setattr__(self, "wamid", new_wamid(peer=self.phone or self.bsuid or "", direction="inbound"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One receipt. `errors` is for `failed`; `pricing` stands on `sent` and on one of `delivered` and `read`."""

    wamid: str
    status: str
    timestamp: int
    phone: str | None = None
    bsuid: str | None = None
    name: str | None = None
    opaque: str | None = None
    pricing: Mapping[str, object] | None = None
    errors: Sequence[Mapping[str, object]] | None = None


# Free text inside the window, on a number that has not used up its free messages of the month. `conversation` is gone
# since v24 for everything but free entry points.
SERVICE_PRICING: Mapping[str, object] = {
    "billable": False,
    "pricing_model": "PMP",
    "type": "free_customer_service",
    "category": "service",
}


def inbound_body(number: Number, messages: Iterable[InboundText]) -> Json:
    """One webhook with all `messages`, of one or many customers; `contacts` names each customer once."""
    messages = list(messages)
    contacts = {message.phone or message.bsuid: message for message in messages}
    return webhook_body(
        number,
        contacts=[_contact(person.phone, person.bsuid, person.name) for person in contacts.values()],
        messages=[_message(message) for message in messages],
    )


def statuses_body(number: Number, statuses: Iterable[Status]) -> Json:
    """One webhook with all `statuses`. `contacts` accompanies every status but `failed`."""
    statuses = list(statuses)
    reached = {status.phone or status.bsuid: status for status in statuses if status.status != "failed"}
    contacts = [_contact(person.phone, person.bsuid, person.name) for key, person in reached.items() if key]
    return webhook_body(
        number,
        **({"contacts": contacts} if contacts else {}),
        statuses=[_status(status) for status in statuses],
    )


def webhook_body(number: Number, **items: object) -> Json:
    """The envelope of the field `messages` around any of `contacts`, `messages`, `statuses`, `errors`."""
    value: Json = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": number.display_phone_number,
            "phone_number_id": number.phone_number_id,
        },
        **items,
    }
    entry = {"id": number.waba_id, "changes": [{"value": value, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def merge(*bodies: Json) -> Json:
    """One POST with the entries of several bodies, as when two businesses share an app."""
    return {
        "object": "whatsapp_business_account",
        "entry": [entry for body in bodies for entry in cast(list[Json], body["entry"])],
    }


def encode(body: Json) -> bytes:
    """The bytes Meta sends: no spaces, non-ASCII as lower-case \\u00e4, a slash as \\/."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def sign(body: bytes, secret: str) -> str:
    """The value of X-Hub-Signature-256: HMAC-SHA256 of the raw body with the app secret."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def sign_legacy(body: bytes, secret: str) -> str:
    """The value of X-Hub-Signature (SHA-1), which Meta still sends and nobody should trust."""
    return "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


def _contact(phone: str | None, bsuid: str | None, name: str | None) -> Json:
    contact: Json = {} if name is None else {"profile": {"name": name}}
    return contact | _present({"wa_id": phone, "user_id": bsuid})


def _message(message: InboundText) -> Json:
    sender = _present({"from": message.phone, "from_user_id": message.bsuid})
    return sender | {
        "id": message.wamid,
        "timestamp": str(message.timestamp),
        "text": {"body": message.text},
        "type": "text",
    }


def _status(status: Status) -> Json:
    return {"id": status.wamid, "status": status.status, "timestamp": str(status.timestamp)} | _present(
        {
            "recipient_id": status.phone,
            "recipient_user_id": status.bsuid,
            "biz_opaque_callback_data": status.opaque,
            "pricing": status.pricing,
            "errors": status.errors,
        }
    )


def _present(fields: Mapping[str, object]) -> Json:
    """Meta leaves absent fields out; it sends neither null nor empty ones."""
    return {name: value for name, value in fields.items() if value is not None}
