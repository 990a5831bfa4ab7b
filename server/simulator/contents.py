"""What a message carries, in Meta's shapes, and everything Meta refuses of it.

Source: Meta's Cloud API documentation, "Interactive reply buttons messages", "Interactive list messages", "Interactive call-to-action
URL button messages", "Location request messages", "Location messages", "Contacts messages". Lengths are counted in code points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import emoji as emojis
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from server.simulator import errors
from server.simulator.errors import ErrorKind


class _Object(BaseModel):
    """An object of a message; anything unknown in it is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


def _text(most: int) -> object:
    return Field(min_length=1, max_length=most)


class _Sent(_Object):
    """A file that a message names."""

    id: Annotated[str | None, _text(512)] = None
    link: Annotated[str | None, Field(pattern=r"^https://", max_length=2048)] = None

    @model_validator(mode="after")
    def _check(self) -> _Sent:
        if (self.id is None) == (self.link is None):
            raise ValueError("either an id or a link is required")
        return self


class _Captioned(_Sent):
    caption: Annotated[str | None, Field(max_length=1024)] = None


class _Document(_Captioned):
    filename: Annotated[str | None, _text(240)] = None


class _Audio(_Sent):
    voice: bool | None = None


class _HeaderDocument(_Sent):
    filename: Annotated[str | None, _text(240)] = None


class _Header(_Object):
    type: Literal["text"]
    text: Annotated[str, _text(60)]


class _ImageHeader(_Object):
    type: Literal["image"]
    image: _Sent


class _VideoHeader(_Object):
    type: Literal["video"]
    video: _Sent


class _DocumentHeader(_Object):
    type: Literal["document"]
    document: _HeaderDocument


_AnyHeader = Annotated[_Header | _ImageHeader | _VideoHeader | _DocumentHeader, Field(discriminator="type")]


class _Footer(_Object):
    text: Annotated[str, _text(60)]


class _Body(_Object):
    text: Annotated[str, _text(1024)]


class _ListBody(_Object):
    text: Annotated[str, _text(4096)]


class _Reply(_Object):
    id: Annotated[str, _text(256)]
    title: Annotated[str, _text(20)]


class _ReplyButton(_Object):
    type: Literal["reply"]
    reply: _Reply


def _different(buttons: list[_ReplyButton]) -> list[_ReplyButton]:
    for name in ("id", "title"):
        if len({getattr(button.reply, name) for button in buttons}) < len(buttons):
            raise ValueError(f"Button {name}s must be unique")
    return buttons


def _one_emoji(emoji: str) -> str:
    if emoji and not emojis.is_emoji(emoji):
        raise ValueError("Param reaction.emoji is not an emoji")
    return emoji


class _ButtonsAction(_Object):
    buttons: Annotated[list[_ReplyButton], Field(min_length=1, max_length=3), AfterValidator(_different)]


class _Row(_Object):
    id: Annotated[str, _text(200)]
    title: Annotated[str, _text(24)]
    description: Annotated[str | None, Field(max_length=72)] = None


class _Section(_Object):
    title: Annotated[str | None, Field(max_length=24)] = None
    rows: Annotated[list[_Row], Field(min_length=1)]


class _ListAction(_Object):
    button: Annotated[str, _text(20)]
    sections: Annotated[list[_Section], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _check(self) -> _ListAction:
        rows = [row for section in self.sections for row in section.rows]
        if len(rows) > 10:
            raise ValueError("Total row count exceed max allowed count: 10")
        if len({row.id for row in rows}) < len(rows):
            raise ValueError("Row ids must be unique")
        if len(self.sections) > 1 and not all(section.title for section in self.sections):
            raise ValueError("Section title is required if there is more than one section")
        return self


class _Destination(_Object):
    display_text: Annotated[str, _text(20)]
    url: Annotated[str, Field(pattern="^https?://")]


class _LinkAction(_Object):
    name: Literal["cta_url"]
    parameters: _Destination


class _LocationAction(_Object):
    name: Literal["send_location"]


class _Buttons(_Object):
    type: Literal["button"]
    header: _AnyHeader | None = None
    body: _Body
    footer: _Footer | None = None
    action: _ButtonsAction


class _List(_Object):
    type: Literal["list"]
    header: _Header | None = None
    body: _ListBody
    footer: _Footer | None = None
    action: _ListAction


class _Link(_Object):
    type: Literal["cta_url"]
    header: _AnyHeader | None = None
    body: _Body
    footer: _Footer | None = None
    action: _LinkAction


class _LocationRequest(_Object):
    type: Literal["location_request_message"]
    body: _Body
    action: _LocationAction


class _ProductAction(_Object):
    catalog_id: Annotated[str, _text(64)]
    product_retailer_id: Annotated[str, _text(256)]


class _Product(_Object):
    type: Literal["product"]
    body: _Body | None = None
    footer: _Footer | None = None
    action: _ProductAction


class _ProductItem(_Object):
    product_retailer_id: Annotated[str, _text(256)]


class _ProductSection(_Object):
    title: Annotated[str | None, Field(max_length=24)] = None
    product_items: Annotated[list[_ProductItem], Field(min_length=1)]


def _products(sections: list[_ProductSection] | None) -> list[_ProductSection] | None:
    found = sections or []
    if sum(len(section.product_items) for section in found) > 30:
        raise ValueError("Total product count exceed max allowed count: 30")
    if len(found) > 1 and not all(section.title for section in found):
        raise ValueError("Section title is required if there is more than one section")
    return sections


class _ProductsAction(_Object):
    catalog_id: Annotated[str, _text(64)]
    sections: Annotated[list[_ProductSection], Field(min_length=1, max_length=10), AfterValidator(_products)]


class _ProductList(_Object):
    type: Literal["product_list"]
    header: _Header
    body: _Body
    footer: _Footer | None = None
    action: _ProductsAction


class _Thumbnail(_Object):
    thumbnail_product_retailer_id: Annotated[str | None, _text(256)] = None


class _CatalogAction(_Object):
    name: Literal["catalog_message"]
    parameters: _Thumbnail | None = None


class _Catalog(_Object):
    type: Literal["catalog_message"]
    body: _Body
    footer: _Footer | None = None
    action: _CatalogAction


def _no_emoji(text: str) -> str:
    if emojis.emoji_count(text):
        raise ValueError("Emoji are not allowed here")
    return text


class _FlowPayload(_Object):
    screen: Annotated[str, _text(256)]
    data: Annotated[dict[str, object] | None, Field(min_length=1)] = None


class _FlowParameters(_Object):
    flow_message_version: Literal["3"]
    flow_cta: Annotated[str, _text(30), AfterValidator(_no_emoji)]
    flow_token: Annotated[str | None, _text(512)] = None
    flow_id: Annotated[str | None, Field(pattern="^[0-9]+$")] = None
    flow_name: Annotated[str | None, _text(256)] = None
    flow_action: Literal["navigate", "data_exchange"] = "navigate"
    flow_action_payload: _FlowPayload | None = None
    mode: Literal["draft", "published"] = "published"

    @model_validator(mode="after")
    def _check(self) -> _FlowParameters:
        if (self.flow_id is None) == (self.flow_name is None):
            raise ValueError("either flow_id or flow_name is required")
        if self.flow_action == "data_exchange" and self.flow_action_payload is not None:
            raise ValueError("flow_action_payload must be omitted if flow_action is data_exchange")
        return self


class _OpensFlow(_Object):
    name: Literal["flow"]
    parameters: _FlowParameters


class _Flow(_Object):
    type: Literal["flow"]
    header: _AnyHeader | None = None
    body: _Body
    footer: _Footer | None = None
    action: _OpensFlow


class _ContactAction(_Object):
    name: Literal["request_contact_info"]


class _ContactRequest(_Object):
    type: Literal["request_contact_info"]
    body: _Body
    action: _ContactAction


class _Location(_Object):
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    name: str | None = None
    address: str | None = None

    @model_validator(mode="after")
    def _check(self) -> _Location:
        if self.address and not self.name:
            raise ValueError("name is required if address is given")
        return self


class _Name(_Object):
    formatted_name: Annotated[str, Field(min_length=1)]
    first_name: str | None = None
    last_name: str | None = None
    middle_name: str | None = None
    prefix: str | None = None
    suffix: str | None = None

    @model_validator(mode="after")
    def _check(self) -> _Name:
        if not any((self.first_name, self.last_name, self.middle_name, self.prefix, self.suffix)):
            raise ValueError("at least one more part of the name is required")
        return self


class _Phone(_Object):
    phone: str
    type: str | None = None
    wa_id: str | None = None


class _Email(_Object):
    email: str
    type: str | None = None


class _Url(_Object):
    url: str
    type: str | None = None


class _Address(_Object):
    street: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    country_code: str | None = None
    type: str | None = None


class _Organization(_Object):
    company: str | None = None
    department: str | None = None
    title: str | None = None


class _Contact(_Object):
    name: _Name
    phones: list[_Phone] | None = None
    emails: list[_Email] | None = None
    addresses: list[_Address] | None = None
    urls: list[_Url] | None = None
    org: _Organization | None = None
    birthday: Annotated[str | None, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] = None


class _Fallback(_Object):
    fallback_value: Annotated[str, _text(1024)]


class _Currency(_Fallback):
    code: str
    amount_1000: int


class _File(_Object):
    id: str | None = None
    link: Annotated[str | None, Field(pattern=r"^https://")] = None
    filename: str | None = None

    @model_validator(mode="after")
    def _check(self) -> _File:
        if (self.id is None) == (self.link is None):
            raise ValueError("either an id or a link is required")
        return self


class _ButtonAction(_Object):
    """Of a FLOW, a CATALOG or an MPM button."""

    flow_token: str | None = None
    flow_action_data: Annotated[dict[str, object] | None, Field(min_length=1)] = None
    thumbnail_product_retailer_id: str | None = None
    sections: Annotated[list[_ProductSection] | None, Field(min_length=1, max_length=10), AfterValidator(_products)] = (
        None
    )


class _Parameter(_Object):
    type: Literal[
        "text", "currency", "date_time", "image", "video", "document", "location", "payload", "coupon_code", "action"
    ]
    parameter_name: Annotated[str | None, _text(512)] = None
    text: Annotated[str | None, _text(2000)] = None
    currency: _Currency | None = None
    date_time: _Fallback | None = None
    image: _File | None = None
    video: _File | None = None
    document: _File | None = None
    location: _Location | None = None
    payload: Annotated[str | None, _text(256)] = None
    coupon_code: Annotated[str | None, _text(20)] = None
    action: _ButtonAction | None = None

    @model_validator(mode="after")
    def _check(self) -> _Parameter:
        if getattr(self, self.type) is None:
            raise ValueError(f"{self.type} is required")
        return self


class _Component(_Object):
    type: Literal["header", "body", "button"]
    sub_type: Literal["quick_reply", "url", "copy_code", "flow", "catalog", "mpm"] | None = None
    index: Annotated[str | None, Field(pattern=r"^[0-9]$")] = None
    parameters: Annotated[list[_Parameter], Field(min_length=1)]


class _Language(_Object):
    code: Annotated[str, Field(pattern=r"^[a-z]{2,3}(_[A-Za-z]{2,4})?$")]
    policy: Literal["deterministic"] = "deterministic"


class _Template(_Object):
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,512}$")]
    language: _Language
    components: list[_Component] | None = None


class _Reaction(_Object):
    message_id: Annotated[str, _text(512)]
    # Empty takes the reaction away.
    emoji: Annotated[str, Field(max_length=64), AfterValidator(_one_emoji)]


_Interactive = (
    _Buttons | _List | _Link | _LocationRequest | _Product | _ProductList | _Catalog | _Flow | _ContactRequest
)
# By the message's type; what is not here this number neither sends nor receives. A text has rows of its own.
SHAPES: Mapping[str, TypeAdapter[object]] = {
    "interactive": TypeAdapter(Annotated[_Interactive, Field(discriminator="type")]),
    "image": TypeAdapter(_Captioned),
    "video": TypeAdapter(_Captioned),
    "audio": TypeAdapter(_Audio),
    "document": TypeAdapter(_Document),
    "sticker": TypeAdapter(_Sent),
    "location": TypeAdapter(_Location),
    "reaction": TypeAdapter(_Reaction),
    "template": TypeAdapter(_Template),
    "contacts": TypeAdapter(Annotated[list[_Contact], Field(min_length=1, max_length=257)]),
}
_MISSING = frozenset({"missing", "union_tag_not_found"})


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a message's content, and the error that Meta answers with."""

    error: ErrorKind
    detail: str


def problem(body: Mapping[str, object]) -> Problem | None:
    """The first thing Meta refuses of what a message carries; None of one that is no business of SHAPES, or is in order."""
    word = body.get("type")
    shape = SHAPES.get(word) if isinstance(word, str) else None
    if shape is None or body.get(str(word)) is None:
        return None
    try:
        shape.validate_python(body[str(word)])
    except ValidationError as error:
        return _problem(str(word), error.errors(include_url=False, include_input=False)[0])
    return None


def _problem(word: str, error: ErrorDetails) -> Problem:
    path, parent = _path(word, error["loc"]), _path(word, error["loc"][:-1])
    if error["type"] in _MISSING:
        return Problem(errors.MISSING_PARAMETER, f"Required parameter is missing: {path}.")
    if error["type"] == "extra_forbidden":
        return Problem(errors.INVALID_PARAMETER, f'Unexpected key "{error["loc"][-1]}" on param "{parent}".')
    return Problem(errors.BAD_VALUE, f"Param {path} is not valid: {error['msg']}.")


def _path(word: str, loc: Sequence[int | str]) -> str:
    """Such as interactive.action.buttons[0].reply.title; the tag that chose a shape is no part of it."""
    steps = loc[1:] if loc and loc[0] in _TAGS else loc
    return word + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


_TAGS = frozenset(
    {"button", "list", "cta_url", "location_request_message", "product", "product_list", "catalog_message", "flow"}
    | {"request_contact_info"}
)
