"""One message of a customer: who wrote it, and what it carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from server.providers.content import AddressKind
from server.providers.contract import (
    Address,
    AttachmentKind,
    InboundAttachment,
    InboundMessage,
    Json,
    MessageChange,
    MessageChangeKind,
    MessageKind,
)
from server.providers.whatsapp import carried, fields

_NO_TYPE = "application/octet-stream"
_NAME_MOST = 1024

CHANGES: Mapping[str, MessageChangeKind] = {"reaction": "reaction", "edit": "edit", "revoke": "revoke"}

# Placeholders of things that are not messages; nothing says that Meta opens the window for them.
_NO_WINDOW = frozenset({"edit", "reaction", "pin", "keep_in_chat", "poll_update"})


@dataclass(frozen=True, slots=True)
class Content:
    """What a type carries: the text shown, the file, and what `details` has of it."""

    type: MessageKind
    text: str | None = None
    attachment: InboundAttachment | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class People:
    """`contacts` of a change. They belong to messages by address, never by index.

    alone: the only contact, when all messages are one sender's.
    """

    by_phone: Mapping[str, Mapping[str, Json]]
    by_user: Mapping[str, Mapping[str, Json]]
    alone: Mapping[str, Json] | None

    @classmethod
    def of(cls, value: Mapping[str, Json]) -> People:
        """Never raises: a contact that cannot be read is nobody."""
        contacts, messages = value.get("contacts"), value.get("messages")
        items = messages if isinstance(messages, list) else []
        senders = {str(item.get("from") or item.get("from_user_id")) for item in items if isinstance(item, dict)}
        known = [item for item in contacts if isinstance(item, dict)] if isinstance(contacts, list) else []
        alone = known[0] if len(known) == 1 and len(senders) == 1 else None
        return cls(_by(known, "wa_id"), _by(known, "user_id"), alone)

    def find(self, item: Mapping[str, Json]) -> Mapping[str, Json]:
        """The contact of a message's sender. `from` and `wa_id` may differ (Brazil), so the only one is taken too."""
        phone, user = item.get("from"), item.get("from_user_id")
        found = self.by_phone.get(phone) if isinstance(phone, str) else None
        if found is None and isinstance(user, str):
            found = self.by_user.get(user)
        if found is None and "group_id" not in item:
            found = self.alone
        return {} if found is None else found

    def of_addresses(self, who: Sequence[Address]) -> Mapping[str, Json]:
        """The contact of somebody who was written to."""
        found = (self.by_phone.get(address.value) or self.by_user.get(address.value) for address in who)
        return next((contact for contact in found if contact is not None), {})


def _by(contacts: Sequence[Mapping[str, Json]], name: str) -> dict[str, Mapping[str, Json]]:
    return {key: contact for contact in contacts if isinstance(key := contact.get(name), str)}


def read_message(item: Mapping[str, Json], account_id: str, people: People) -> InboundMessage:
    """Reads a message of any type. Raises Malformed when it lacks id, time or sender, or its content has wrong types."""
    contact = people.find(item)
    profile = fields.optional_mapping(contact.get("profile"), "contacts.profile")
    content = read_content(item)
    context = fields.optional_mapping(item.get("context"), "context")
    return InboundMessage(
        provider_id=fields.identifier(item, "id"),
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
        addresses=thread(item, contact),
        type=content.type,
        profile_name=_name(profile, item),
        text=content.text,
        attachments=() if content.attachment is None else (content.attachment,),
        details=_details(item, profile, context, content),
        reply_to_id=fields.optional_identifier(context, "id"),
        opens_reply_window=_opens_window(item),
    )


def read_change(
    item: Mapping[str, Json], account_id: str, who: tuple[Address, ...], change: MessageChangeKind
) -> MessageChange:
    """What a customer does to a message that was there before: a reaction, an edit, a withdrawal. Malformed without its target."""
    what = fields.mapping(item.get(change), change)
    target = "message_id" if change == "reaction" else "original_message_id"
    text = None
    if change == "edit":
        text = read_content(fields.mapping(what.get("message"), "edit.message")).text
    return MessageChange(
        provider_id=fields.identifier(item, "id"),
        discriminator=change,
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
        addresses=who,
        target_id=fields.identifier(what, target),
        member=_member(item) if "group_id" in item else None,
        # A reaction that is taken away has no emoji, or an empty one.
        emoji=(fields.text(what, "emoji") or None) if change == "reaction" else None,
        text=text,
    )


def _member(item: Mapping[str, Json]) -> str | None:
    """Who of a group: the user id, which stays when the number is hidden."""
    return fields.optional_identifier(item, "from_user_id") or fields.optional_identifier(item, "from")


def addresses(item: Mapping[str, Json], **names: str) -> tuple[Address, ...]:
    """The addresses under these names (kind=name), in their order, those that are there; a phone number loses its plus."""
    found = []
    for kind in _KINDS:
        value = fields.optional_identifier(item, names[kind]) if kind in names else None
        if value is not None:
            found.append(Address(kind, value.removeprefix("+") if kind == "wa_id" else value))
    return tuple(found)


# The best thread key first: the phone number stays when a user id is made anew, and is what agents know people by.
_KINDS: tuple[AddressKind, ...] = ("group", "wa_id", "bsuid", "parent_bsuid")


def thread(item: Mapping[str, Json], contact: Mapping[str, Json]) -> tuple[Address, ...]:
    """A group is a thread of its own, whoever of it writes."""
    if item.get("group_id") is not None:
        return addresses(item, group="group_id") or _nobody("group_id is empty")
    found = (
        *addresses(item, wa_id="from"),
        *addresses(contact, wa_id="wa_id"),
        *addresses(item, bsuid="from_user_id"),
        *addresses(contact, bsuid="user_id"),
        *addresses(item, parent_bsuid="from_parent_user_id"),
        *addresses(contact, parent_bsuid="parent_user_id"),
    )
    return tuple(dict.fromkeys(found)) or _nobody("from and from_user_id are missing")


def _nobody(problem: str) -> NoReturn:
    raise fields.Malformed(problem)


def _name(profile: Mapping[str, Json], item: Mapping[str, Json]) -> str | None:
    """The name the person chose; a group is not called after the member who wrote."""
    name = fields.text(profile, "name")
    return name[:_NAME_MOST] if name and "group_id" not in item else None


def _details(
    item: Mapping[str, Json], profile: Mapping[str, Json], context: Mapping[str, Json], content: Content
) -> dict[str, Json]:
    """What its content has, what stands beside it, and who of a group wrote."""
    details = {**content.details, **carried.beside(item, context)}
    if "group_id" in item:
        sender = carried.words(item, ("from", "from_user_id")) | carried.words(profile, ("name", "username"))
        return {**details, "sender": sender} if sender else details
    return details | carried.words(profile, ("username",))


def _opens_window(item: Mapping[str, Json]) -> bool:
    unsupported = item.get("unsupported")
    word = unsupported.get("type") if isinstance(unsupported, dict) else None
    return not (isinstance(word, str) and word in _NO_WINDOW)


def read_content(item: Mapping[str, Json]) -> Content:
    """What a message carries; a placeholder of what this version does not know."""
    word = item.get("type")
    reader = _READERS.get(word) if isinstance(word, str) else None
    return _unsupported(item) if reader is None else reader(item)


def _unsupported(item: Mapping[str, Json]) -> Content:
    return Content("unsupported", details={"unsupported": carried.unsupported(item)})


def _text(item: Mapping[str, Json]) -> Content:
    return Content("text", fields.required_text(fields.mapping(item.get("text"), "text"), "body"))


def _media(kind: AttachmentKind) -> Callable[[Mapping[str, Json]], Content]:
    """A file. Without an id Meta could not fetch it (131052): the message comes all the same, the file never will."""

    def read(item: Mapping[str, Json]) -> Content:
        media = fields.optional_mapping(item.get(kind), kind)
        attachment = InboundAttachment(
            kind=kind,
            mime_type=fields.text(media, "mime_type") or _NO_TYPE,
            file_name=fields.text(media, "filename"),
            provider_media_id=fields.optional_identifier(media, "id"),
            sha256=fields.text(media, "sha256"),
            voice=media.get("voice") is True,
            animated=media.get("animated") is True,
        )
        return Content(kind, fields.text(media, "caption"), attachment)

    return read


def _location(item: Mapping[str, Json]) -> Content:
    place = carried.location(fields.mapping(item.get("location"), "location"))
    return Content("location", details={"location": place})


def _contacts(item: Mapping[str, Json]) -> Content:
    cards = item.get("contacts")
    if not isinstance(cards, list):
        raise fields.Malformed("contacts is missing or has the wrong type")
    return Content("contacts", details={"contacts": carried.contacts(cards)})


def _interactive(item: Mapping[str, Json]) -> Content:
    """The title of the button or row chosen. The object can be missing altogether, with the reason in value.errors."""
    if item.get("interactive") is None:
        return Content("unsupported", details={"unsupported": carried.unsupported(item, code=carried.NOT_HANDED_OVER)})
    text, reply = carried.reply(fields.mapping(item["interactive"], "interactive"))
    return Content("interactive", text, details={"interactive": reply})


def _button(item: Mapping[str, Json]) -> Content:
    """The quick reply of a template."""
    button = fields.mapping(item.get("button"), "button")
    return Content("interactive", fields.text(button, "text"), details={"interactive": carried.pressed(button)})


def _order(item: Mapping[str, Json]) -> Content:
    cart = fields.mapping(item.get("order"), "order")
    return Content("order", fields.text(cart, "text") or None, details={"order": carried.order(cart)})


_READERS: Mapping[str, Callable[[Mapping[str, Json]], Content]] = {
    "text": _text,
    "image": _media("image"),
    "video": _media("video"),
    "audio": _media("audio"),
    "document": _media("document"),
    "sticker": _media("sticker"),
    "location": _location,
    "contacts": _contacts,
    "interactive": _interactive,
    "button": _button,
    "order": _order,
}
