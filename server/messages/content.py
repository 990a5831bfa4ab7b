"""What a message carries beside plain text: as the contract asks for it, as the column `details` holds it, as the contract shows it."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from google.protobuf import json_format
from pydantic import Field, TypeAdapter
from switchboard.v1 import content_pb2, message_pb2, message_service_pb2

from server.kit import pb
from server.providers.content import Contacts, Content, Flow, Location, Media, QuickReplies, QuickReply

KIND = pb.Words(content_pb2.InteractiveKind, "INTERACTIVE_KIND_")
ORIGIN = pb.Words(message_pb2.MessageOrigin, "MESSAGE_ORIGIN_")
FORWARDING = pb.Words(message_pb2.Forwarding, "FORWARDING_")
INTERACTIVE, REPLY_TO, SAME_AS = "interactive", "reply_to_message_id", "same_as_message_id"
# Kinds that are types of their own, and have no text.
_WHOLE = frozenset({"location", "contacts", "template"})
# What is stored of them, and not shown.
_HIDDEN = frozenset({"kind", "filling"})
# What the contract shows as it is stored.
_AS_STORED = frozenset({"order", "referral", "referred_product", "unsupported", REPLY_TO, SAME_AS})
# Who of a group wrote, as the provider calls it.
_MEMBER = {"from": "phone_number", "from_user_id": "user_id", "name": "name", "username": "username"}
# Who reacted, where it is no member of a group.
_SIDES = frozenset({"customer", "business"})
_CONTENT: TypeAdapter[Content] = TypeAdapter(Annotated[Content, Field(discriminator="kind")])


def asked(request: message_service_pb2.SendMessageRequest) -> Content | QuickReplies | None:
    """What a request wants sent; None for plain text."""
    kind = request.WhichOneof("content")
    if kind == "text":
        replies = tuple(QuickReply(id=reply.id, title=reply.title) for reply in request.text.quick_replies)
        return QuickReplies(body=request.text.body, quick_replies=replies) if replies else None
    has_data = kind == "flow" and request.flow.flow.HasField("data")
    data = pb.data_object(request.flow.flow.data, field="flow.flow.data") if has_data else None
    fields = json_format.MessageToDict(
        getattr(request, str(kind)), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # Files are looked up first, and stand beside.
    fields.pop("header_media", None)
    if data is not None:
        fields["flow"]["data"] = data
    return _CONTENT.validate_python({"kind": kind, **fields})


def tokened(content: Content | None, message_id: uuid.UUID) -> Content | None:
    """A form whose answer names the message it answers, where the caller has no word of its own for it."""
    if not isinstance(content, Flow) or content.flow.token is not None:
        return content
    return dataclasses.replace(content, flow=dataclasses.replace(content.flow, token=str(message_id)))


def kind_of(content: Content | QuickReplies | None) -> str:
    """The word of the type of a message that carries this."""
    if isinstance(content, Media):
        return content.items[0].type
    return "text" if content is None else content.kind if content.kind in _WHOLE else INTERACTIVE


def text_of(content: Content | QuickReplies) -> str | None:
    """The text of a message that carries this; None of what has none. Of files, what stands below the first."""
    if isinstance(content, Media):
        return content.items[0].caption
    return None if isinstance(content, Location | Contacts) else content.body


def stored(content: Content | None, reply_to_message_id: uuid.UUID | None) -> str | None:
    """The column `details` of an answer, as JSON; its text has a column of its own. None for plain text that quotes nothing."""
    details: dict[str, Any] = {}
    # Files have rows of their own.
    if content is not None and not isinstance(content, Media):
        details[kind_of(content)] = _CONTENT.dump_python(content, exclude={"body"}, exclude_none=True)
    if reply_to_message_id is not None:
        details[REPLY_TO] = str(reply_to_message_id)
    return json.dumps(details) if details else None


def loaded(text: str | None, details: Mapping[str, Any]) -> Content | None:
    """The content of an answer whose `details`, as an object, are these; None for plain text."""
    fields = next((details[name] for name in (INTERACTIVE, *_WHOLE) if name in details), None)
    return None if fields is None else _CONTENT.validate_python({**fields, **({} if text is None else {"body": text})})


def of(text: str | None, details: str | None) -> Content | None:
    """The same of the column as it is stored."""
    return None if details is None else loaded(text, json.loads(details))


def shown(details: str | None) -> dict[str, Any]:
    """The fields of Message that `details` fill, of either side's messages."""
    if details is None:
        return {}
    read = json.loads(details)
    found: dict[str, Any] = {name: read[name] for name in _AS_STORED & read.keys()}
    if INTERACTIVE in read:
        found[INTERACTIVE] = _interactive(read[INTERACTIVE])
    for name in _WHOLE & read.keys():
        found[name] = {member: value for member, value in read[name].items() if member not in _HIDDEN}
    if "sender" in read:
        found["member"] = {_MEMBER[name]: value for name, value in read["sender"].items()}
    if "forwarding" in read:
        found["forwarding"] = FORWARDING.number(read["forwarding"])
    if "origin" in read:
        found["origin"] = ORIGIN.number(read["origin"])
    if "reactions" in read:
        found["reactions"] = [_reaction(each) for each in read["reactions"] if each["emoji"] is not None]
    if len(read.get("versions", ())) > 1:
        found["edit_time"] = _time(read["versions"][-1]["time"])
    if "delete_time" in read:
        found["delete_time"] = _time(read["delete_time"])
    return found


def _interactive(read: Mapping[str, Any]) -> dict[str, Any]:
    found = {**read, "kind": KIND.number(read["kind"])}
    # It is an attachment.
    found.pop("header_media", None)
    permission = read.get("call_permission")
    if permission is not None and "expire_time" in permission:
        found["call_permission"] = {**permission, "expire_time": _time(permission["expire_time"])}
    return found


def _reaction(each: Mapping[str, Any]) -> dict[str, Any]:
    found = {"emoji": each["emoji"], "author": each["author"], "reaction_time": _time(each["time"])}
    return found if each["by"] in _SIDES else {**found, "member": each["by"]}


def _time(value: str) -> Any:
    return pb.time_fields(datetime.fromisoformat(value))
