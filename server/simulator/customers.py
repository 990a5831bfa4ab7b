"""What the control API takes about customers: what they write, of any type, and that they have a new number."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from server.simulator import samples
from server.simulator.accounts import Account
from server.simulator.addresses import is_phone
from server.simulator.config import PhoneDigits
from server.simulator.errors import Json
from server.simulator.inputs import Address, Input, UnixSeconds, UserId
from server.simulator.payloads import Inbound, InboundText

BATCH_MOST = 1000
Word = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
Wamid = Annotated[str, Field(min_length=1, max_length=512)]


class InboundMessage(Input):
    """One message by one customer: a `text`, or a `type` with Meta's object for it as `content`.

    `from` is a phone number, or a user id for a customer who hides the number. Without `content` a type that has a usual one
    gets that. `reply_to` is the id of the message quoted, or answered by a button. `more` stands beside, as it is given.
    """

    from_: Annotated[Address, Field(alias="from")]
    user_id: UserId | None = None
    name: Annotated[str, Field(max_length=512)] | None = None
    username: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    type: Word = "text"
    content: Any = None
    reply_to: Wamid | None = None
    more: dict[str, Any] = {}
    wamid: Wamid | None = None
    timestamp: UnixSeconds | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "InboundMessage":
        if (self.text is None) == (self.type == "text"):
            raise ValueError("either text, or a type other than text, is needed")
        if self.text is not None and self.content is not None:
            raise ValueError("content belongs to a type other than text")
        return self


class InboundBatch(Input):
    """Many messages, of many customers, in one webhook."""

    phone_number_id: str | None = None
    messages: Annotated[tuple[InboundMessage, ...], Field(min_length=1, max_length=BATCH_MOST)]


class InboundSingle(InboundMessage):
    """One message in one webhook."""

    phone_number_id: str | None = None


class MoveInput(Input):
    """A customer's new phone number, with which the user id is made anew; without one, only the user id is."""

    phone_number_id: str | None = None
    phone: PhoneDigits | None = None
    user_id: UserId | None = None


def inbound(account: Account, given: InboundMessage, now: int) -> Inbound:
    """The message as its webhook carries it."""
    phone = given.from_.removeprefix("+") if is_phone(given.from_) else None
    bsuid = given.user_id if phone else given.from_
    content, more = (given.content, {}) if given.content is not None else samples.content(given.type) or (None, {})
    sender: dict[str, Any] = {
        "phone": phone,
        "bsuid": account.person(phone=phone, bsuid=bsuid).bsuid,
        "name": given.name,
        "username": given.username,
        "wamid": given.wamid or "",
        "timestamp": now if given.timestamp is None else given.timestamp,
        "more": more | _context(account, given) | given.more,
    }
    if given.text is not None:
        return InboundText(text=given.text, **sender)
    return Inbound(type=given.type, content=content, **sender)


def _context(account: Account, given: InboundMessage) -> Json:
    """The message quoted, and who wrote it: we, or the customer himself."""
    if given.reply_to is None:
        return {}
    ours = account.sent(given.reply_to) is not None
    return {"context": {"from": account.config.display_phone_number if ours else given.from_, "id": given.reply_to}}


@dataclass(frozen=True, slots=True)
class Moved:
    """What Meta says of a customer who moved: an item of `messages`, and the value of `user_id_update` where user ids are in use."""

    message: Inbound
    update: Json | None
    user_id: str | None


def moved(account: Account, address: str, given: MoveInput, now: int) -> Moved | None:
    """Moves a customer; None for a stranger."""
    person = account.known(address.removeprefix("+"))
    if person is None:
        return None
    phone, user_id = person.phone, person.bsuid
    account.move(person, phone=given.phone, bsuid=given.user_id)
    told = {"user_id": person.bsuid, "previous_user_id": user_id}
    if given.phone is not None:
        words = f"{person.name or 'The user'} changed from {phone or user_id} to {person.phone}"
        what: Json = {"type": "user_changed_number", "wa_id": person.phone, "body": words}
    else:
        what = {"type": "user_changed_user_id", "body": "The user's id changed"}
    message = Inbound(type="system", content=_present(what | told), phone=phone, bsuid=user_id, timestamp=now)
    if user_id is None:
        return Moved(message, None, None)
    change = _present({"wa_id": person.phone, "detail": "User ID updated", "timestamp": str(now)})
    ids = {"previous": user_id, "current": person.bsuid}
    return Moved(message, {"user_id_update": [change | {"user_id": ids}]}, person.bsuid)


def _present(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
