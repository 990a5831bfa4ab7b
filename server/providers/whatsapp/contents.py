"""What is sent beside plain text, as the Cloud API wants it, and how much of it Meta takes.

Source: Meta's Cloud API documentation, "Location messages", "Contacts messages", "Template messages", and those of interactive.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from server.providers.content import (
    AddressKind,
    Card,
    Contacts,
    Content,
    ContentKind,
    ContentLimits,
    FileKind,
    FilledTemplate,
    Location,
    Media,
)
from server.providers.contract import Json
from server.providers.template import ButtonParameter, Parameter
from server.providers.whatsapp import files, interactive

# Groups take text, files and templates of these.
_NO_GROUP: Mapping[str, frozenset[AddressKind]] = {"": frozenset({"group"})}
# Codes to sign in with go to phone numbers.
_CODES: Mapping[str, frozenset[AddressKind]] = {"AUTHENTICATION": frozenset({"bsuid", "parent_bsuid", "group"})}
# As what a file may stand above a text.
_ABOVE: Mapping[str, tuple[FileKind, ...]] = {"header_media": ("image", "video", "document")}
LIMITS: Mapping[ContentKind, ContentLimits] = {
    "media": ContentLimits(characters={"items.caption": 1024, "items.file_name": 240}, most={"items": 10}),
    "buttons": ContentLimits(
        not_to=_NO_GROUP,
        characters={"body": 1024, "header": 60, "footer": 60, "buttons.id": 256, "buttons.title": 20},
        most={"buttons": 3},
        unique=frozenset({"buttons.id", "buttons.title"}),
        files=_ABOVE,
    ),
    "list": ContentLimits(
        not_to=_NO_GROUP,
        characters={
            **{"body": 4096, "header": 60, "footer": 60, "label": 20, "sections.title": 24},
            **{"sections.rows.id": 200, "sections.rows.title": 24, "sections.rows.description": 72},
        },
        # Ten rows in all, however many sections they stand in.
        most={"sections": 10, "sections.rows": 10},
        unique=frozenset({"sections.rows.id"}),
        titled=frozenset({"sections"}),
    ),
    "link": ContentLimits(
        not_to=_NO_GROUP, characters={"body": 1024, "header": 60, "footer": 60, "label": 20}, files=_ABOVE
    ),
    "location_request": ContentLimits(not_to=_NO_GROUP, characters={"body": 1024}),
    "contact_request": ContentLimits(not_to=_NO_GROUP, characters={"body": 1024}),
    "product": ContentLimits(not_to=_NO_GROUP, characters={"body": 1024, "footer": 60}),
    "product_list": ContentLimits(
        not_to=_NO_GROUP,
        characters={"body": 1024, "header": 60, "footer": 60, "product_sections.title": 24},
        # Thirty products in all, however many sections they stand in.
        most={"product_sections": 10, "product_sections.product_retailer_ids": 30},
        titled=frozenset({"product_sections"}),
    ),
    "catalog": ContentLimits(not_to=_NO_GROUP, characters={"body": 1024, "footer": 60}),
    "flow": ContentLimits(
        not_to=_NO_GROUP,
        characters={"body": 1024, "header": 60, "footer": 60, "label": 30},
        worded=frozenset({"label"}),
        files=_ABOVE,
    ),
    # What a template may carry is known of each one, and checked when its places are filled.
    "template": ContentLimits(outside_window=True, not_to=_CODES),
    "location": ContentLimits(needs={"address": "name"}),
    "contacts": ContentLimits(
        most={"contacts": 257},
        any_of={"contacts.name": ("first_name", "last_name", "middle_name", "prefix", "suffix")},
    ),
}


def rendered(content: Content) -> dict[str, Json]:
    """The members `type` and the object named after it, of the body of POST /{phone_number_id}/messages."""
    match content:
        case Media():
            (file,) = content.items
            return {"type": file.type, file.type: files.rendered(file)}
        case Location():
            return {"type": "location", "location": _plain(content)}
        case FilledTemplate():
            return {"type": "template", "template": _template(content)}
        case Contacts():
            return {"type": "contacts", "contacts": [_card(card) for card in content.contacts]}
        case _:
            return {"type": "interactive", "interactive": interactive.rendered(content)}


def _plain(value: Any) -> Any:
    """A value whose members Meta calls as we do; without those that are not there."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    members = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return {name: _plain(member) for name, member in members if member not in (None, ()) and name != "kind"}


def _card(card: Card) -> dict[str, Json]:
    made: dict[str, Json] = _plain(card)
    organization = made.pop("organization", None)
    return made if organization is None else {**made, "org": organization}


_SUB_TYPES = {
    **{"QUICK_REPLY": "quick_reply", "URL": "url", "OTP": "url", "COPY_CODE": "copy_code"},
    **{"FLOW": "flow", "CATALOG": "catalog", "MPM": "mpm"},
}
# What Meta takes in an address as it is; everything else of a suffix is percent-encoded.
_ADDRESS = "!#$%&'()*+,/:;=?@[]~"


def _template(content: FilledTemplate) -> dict[str, Json]:
    filling = content.filling
    components: list[Json] = [
        {"type": part, "parameters": [_parameter(each) for each in given]}
        for part, given in (("header", filling.header), ("body", filling.body))
        if given
    ]
    for button in filling.buttons:
        sub_type = _SUB_TYPES[content.buttons[button.index].type]
        # Meta wants the index as text.
        where = {"type": "button", "sub_type": sub_type, "index": str(button.index)}
        components.append({**where, "parameters": [_pressed(button)]})
    made: dict[str, Json] = {
        "name": content.name,
        "language": {"code": content.language, "policy": "deterministic"},
    }
    return {**made, "components": components} if components else made


def _parameter(given: Parameter) -> dict[str, Json]:
    named = {} if given.name is None else {"parameter_name": given.name}
    if given.kind == "text":
        return {"type": "text", **named, "text": given.value}
    value = dict(given.value)
    if given.kind in ("currency", "date_time"):
        value["fallback_value"] = value.pop("fallback")
    if "amount_1000" in value:
        value["amount_1000"] = int(value["amount_1000"])
    for ours, theirs in (("media_id", "id"), ("file_name", "filename")):
        if ours in value:
            value[theirs] = value.pop(ours)
    return {"type": given.kind, **named, given.kind: value}


def _pressed(given: ButtonParameter) -> dict[str, Json]:
    match given.kind:
        case "payload" | "coupon_code":
            return {"type": given.kind, given.kind: given.value}
        case "url_suffix":
            return {"type": "text", "text": quote(given.value, safe=_ADDRESS)}
        case "flow":
            names = {"token": "flow_token", "data": "flow_action_data"}
            return {"type": "action", "action": {names[name]: value for name, value in given.value.items()}}
        case "products":
            sections: Json = [
                interactive.products(section["product_retailer_ids"], section.get("title"))
                for section in given.value["product_sections"]
            ]
            shown = {"thumbnail_product_retailer_id": given.value["product_retailer_id"]}
            return {"type": "action", "action": {**shown, "sections": sections}}
        case _:
            return {"type": "action", "action": {"thumbnail_product_retailer_id": given.value}}
