"""The bodies of Meta's webhooks for messages, receipts and other fields, and their signature. Pure functions.

Tests build and send bodies of their own with these; the simulator sends nothing that was not made here.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
class Inbound:
    """One item of the array `messages`, in Meta's words. At least one of `phone` (digits) and `bsuid` is there.

    type: what it is; `content` stands under that name, None where Meta puts nothing there. timestamp: Unix seconds.
    more: what stands beside these, such as `context`, `referral`, `group_id` and `errors`. An item without `phone` is one of
    a customer who has a username and has hidden the number.
    """

    type: str
    timestamp: int
    content: object = None
    phone: str | None = None
    bsuid: str | None = None
    name: str | None = None
    username: str | None = None
    wamid: str = ""
    more: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.phone and not self.bsuid:
            raise ValueError("an inbound message needs a phone number or a user id")
        if not self.wamid:
            object.__setattr__(self, "wamid", new_wamid(peer=self.phone or self.bsuid or "", direction="inbound"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundText(Inbound):
    """A text message a customer wrote."""

    text: str
    type: str = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", {"body": self.text})
        Inbound.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One receipt. `errors` is for `failed`; `pricing` stands on `sent` and on one of `delivered` and `read`; `more` beside all."""

    wamid: str
    status: str
    timestamp: int
    phone: str | None = None
    bsuid: str | None = None
    name: str | None = None
    opaque: str | None = None
    pricing: Mapping[str, object] | None = None
    errors: Sequence[Mapping[str, object]] | None = None
    more: Mapping[str, object] = field(default_factory=dict)


# Free text inside the window, on a number that has not used up its free messages of the month. `conversation` is gone
# since v24 for everything but free entry points.
SERVICE_PRICING: Mapping[str, object] = {
    "billable": False,
    "pricing_model": "PMP",
    "type": "free_customer_service",
    "category": "service",
}


def inbound_body(number: Number, messages: Iterable[Inbound]) -> Json:
    """One webhook with all `messages`, of one or many customers; `contacts` names each customer once."""
    messages = list(messages)
    # A message of the system itself names nobody.
    people = {message.phone or message.bsuid: message for message in messages if message.type != "system"}
    contacts = [_contact(person.phone, person.bsuid, person.name, person.username) for person in people.values()]
    return webhook_body(
        number, **({"contacts": contacts} if contacts else {}), messages=[_message(message) for message in messages]
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
    value = numbered(number) | dict(items)
    entry = {"id": number.waba_id, "changes": [{"value": value, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def numbered(number: Number) -> Json:
    """What a value begins with that names the number."""
    metadata = {"display_phone_number": number.display_phone_number, "phone_number_id": number.phone_number_id}
    return {"messaging_product": "whatsapp", "metadata": metadata}


def field_body(number: Number, name: str, value: object, *, time: int) -> Json:
    """One webhook of another field than `messages`. time: when it is sent, Unix seconds."""
    entry = {"id": number.waba_id, "time": time, "changes": [{"value": value, "field": name}]}
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


def _contact(phone: str | None, bsuid: str | None, name: str | None, username: str | None = None) -> Json:
    profile = _present({"name": name, "username": username})
    contact: Json = {"profile": profile} if profile else {}
    return contact | _present({"wa_id": phone, "user_id": bsuid})


def _message(message: Inbound) -> Json:
    sender = _present({"from": message.phone, "from_user_id": message.bsuid})
    said: Json = {"id": message.wamid, "timestamp": str(message.timestamp)}
    content: Json = {} if message.content is None else {message.type: message.content}
    return sender | said | content | {"type": message.type} | dict(message.more)


def _status(status: Status) -> Json:
    told: Json = {"id": status.wamid, "status": status.status, "timestamp": str(status.timestamp)}
    beside = _present(
        {
            "recipient_id": status.phone,
            "recipient_user_id": status.bsuid,
            "biz_opaque_callback_data": status.opaque,
            "pricing": status.pricing,
            "errors": status.errors,
        }
    )
    return told | beside | dict(status.more)


def _present(fields: Mapping[str, object]) -> Json:
    """Meta leaves absent fields out; it sends neither null nor empty ones."""
    return {name: value for name, value in fields.items() if value is not None}
