"""What may go out by Meta's tables: an example of every kind, and for each limit the field, the bound and Meta's code.

The names of rows begin with the section of the design's facts that they are of: 3.2 types, 3.3 templates. Paths are of the fields of
SendMessageRequest, and of the body of POST /{phone_number_id}/messages.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.templates.sent_templates import BODY, PLAIN, SENT

ABSENT = object()
# Five code points, ten units of UTF-16, eighteen bytes, and one sign on the screen.
FAMILY, FACE = "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f600"


def words(number: int) -> str:
    """A text of so many code points."""
    return FAMILY + FACE * (number - len(FAMILY))


def plain(number: int) -> str:
    return "x" * number


def put(tree: Any, path: str, value: Any) -> Any:
    """A copy with another value at a path such as "buttons.buttons[0].title"; ABSENT takes it away."""
    made = copy.deepcopy(tree)
    *way, last = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    found = made
    for step in way:
        found = found[step]
    if value is ABSENT:
        del found[last]
    else:
        found[last] = value
    return made


def at(tree: Any, path: str) -> Any:
    for step in re.findall(r"[^.\[\]]+", path):
        tree = tree[int(step) if step.isdigit() else step]
    return tree


def _replies(number: int) -> list[dict[str, Any]]:
    return [{"id": f"id-{index}", "title": f"Title {index}"} for index in range(number)]


def _buttons(number: int) -> list[dict[str, Any]]:
    return [{"type": "reply", "reply": reply} for reply in _replies(number)]


def _sections(number: int) -> list[dict[str, Any]]:
    return [{"title": f"Section {index}", "rows": [{"id": f"s-{index}", "title": "Row"}]} for index in range(number)]


def _products(number: int) -> list[str]:
    return [f"sku-{index}" for index in range(number)]


def _items(number: int) -> list[dict[str, str]]:
    return [{"product_retailer_id": each} for each in _products(number)]


def _shelves(number: int) -> list[dict[str, Any]]:
    return [{"title": f"Section {index}", "product_retailer_ids": [f"sku-{index}"]} for index in range(number)]


def _shelf_items(number: int) -> list[dict[str, Any]]:
    return [
        {"title": f"Section {index}", "product_items": [{"product_retailer_id": f"sku-{index}"}]}
        for index in range(number)
    ]


def _cards(number: int) -> list[dict[str, Any]]:
    return [{"name": {"formatted_name": f"Mia {index}", "first_name": "Mia"}} for index in range(number)]


SHOWN = {"body": "Shall we come?", "header": "Delivery", "footer": "Or call"}
ROWS = [{"id": "early", "title": "Early", "description": "Eight to ten"}, {"id": "late", "title": "Late"}]
CARD = {
    "name": {
        **{"formatted_name": "Dr. Mia A. Roth", "first_name": "Mia", "last_name": "Roth", "middle_name": "A."},
        **{"prefix": "Dr.", "suffix": "PhD"},
    },
    "phones": [{"phone": "+49 30 901820", "type": "WORK", "wa_id": "4930901820"}],
    "emails": [{"email": "mia@example.org", "type": "WORK"}],
    "addresses": [
        {"street": "Hauptstr. 1", "city": "Berlin", "state": "BE", "zip": "10827", "country": "Germany", "type": "WORK"}
    ],
    "urls": [{"url": "https://example.org/mia", "type": "WORK"}],
    "organization": {"company": "Shop", "department": "Sales", "title": "Head"},
    "birthday": "1990-02-28",
}
# Files are brought first; <kind> stands for their ids.
EXAMPLES: dict[str, dict[str, Any]] = {
    "text": {"text": {"body": f"Good morning {FAMILY}\nhttps://example.org"}},
    "image": {"media": {"items": [{"media_id": "<image>", "caption": "Here it is"}]}},
    "video": {"media": {"items": [{"media_id": "<video>", "caption": "Here it is"}]}},
    "audio": {"media": {"items": [{"media_id": "<audio>"}]}},
    "voice": {"media": {"items": [{"media_id": "<audio>", "voice": True}]}},
    "document": {"media": {"items": [{"media_id": "<document>", "caption": "Yours", "file_name": "Bill 7.pdf"}]}},
    "sticker": {"media": {"items": [{"media_id": "<sticker>", "kind": "ATTACHMENT_KIND_STICKER"}]}},
    "location": {"location": {"latitude": 52.5, "longitude": -13.4, "name": "Shop", "address": "Hauptstr. 1"}},
    "contacts": {"contacts": {"contacts": [CARD]}},
    "buttons": {"buttons": {**SHOWN, "buttons": _replies(2)}},
    "buttons_image": {
        "buttons": {"body": "Shall we come?", "header_media": {"media_id": "<image>"}, "buttons": _replies(1)}
    },
    "list": {
        "list": {**SHOWN, "label": "Times", "sections": [{"title": "Today", "rows": ROWS}]},
    },
    "cta_url": {"link": {**SHOWN, "label": "Track", "url": "https://example.org/t/17?a=b"}},
    "location_request": {"location_request": {"body": "Where are you?"}},
    "product": {
        "product": {"body": "Look", "footer": "In stock", "catalog_id": "1940", "product_retailer_id": "sku-1"}
    },
    "product_list": {
        "product_list": {
            **SHOWN,
            "catalog_id": "1940",
            "product_sections": [{"title": "Shoes", "product_retailer_ids": ["sku-1", "sku-2"]}],
        }
    },
    "catalog": {"catalog": {"body": "Look", "footer": "All of it", "product_retailer_id": "sku-1"}},
    "flow": {"flow": {**SHOWN, "label": "Choose", "flow": {"flow_id": "77", "token": "t-1", "screen": "DAY"}}},
    "contact_request": {"contact_request": {"body": "Which number?"}},
}


def _otp(**button: str) -> tuple[dict[str, Any], ...]:
    told = {"type": "OTP", "text": "Copy", **button}
    code = {"type": "BODY", "text": "{{1}} is your code.", "add_security_recommendation": True}
    return (code, {"type": "FOOTER", "code_expiration_minutes": 5}, {"type": "BUTTONS", "buttons": [told]})


_APP = {"package_name": "org.example.shop", "signature_hash": "K8a%2FAINcGX7"}
CODE = {"body": [{"text": "123456"}], "buttons": [{"index": 0, "url_suffix": "123456"}]}
# Authentication templates beside those of SENT: one tap and none have the same send, and Meta may list the button as an address.
OTP: dict[str, tuple[dict[str, Any], ...]] = {
    "otp_copy_code": _otp(otp_type="COPY_CODE"),
    "otp_one_tap": _otp(otp_type="ONE_TAP", autofill_text="Autofill", **_APP),
    "otp_zero_tap": _otp(otp_type="ZERO_TAP", autofill_text="Autofill", **_APP),
    "otp_as_url": (
        {"type": "BODY", "text": "{{1}} is your code."},
        {
            "type": "BUTTONS",
            "buttons": [{"type": "URL", "text": "Copy", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}"}],
        },
    ),
}
_LONG = {"type": "BODY", "text": "Hello {{1}}"}
TEMPLATES: list[dict[str, Any]] = [
    *(
        {
            "name": f"limit_{name}",
            "category": sent.category,
            "parameterFormat": "NAMED" if sent.named else "POSITIONAL",
            "components": list(sent.components),
        }
        for name, sent in SENT.items()
    ),
    *({"name": f"limit_{name}", "category": "AUTHENTICATION", "components": list(OTP[name])} for name in OTP),
    {"name": "limit_long", "components": [_LONG]},
    *({"name": f"limit_{status.lower()}", "status": status, "components": [BODY]} for status in ("PAUSED", "DISABLED")),
    {"name": "limit_rejected", "status": "REJECTED", "components": [PLAIN]},
]


def template(name: str, filling: Any = None, language: str = "en_US") -> dict[str, Any]:
    filled = {} if filling is None else {"filling": filling}
    return {"template": {"key": {"name": f"limit_{name}", "language": language}, **filled}}


def snake(tree: Any) -> Any:
    """The names of fields as paths have them."""
    if isinstance(tree, dict):
        return {re.sub(r"([A-Z]|1000)", r"_\1", name).lower(): snake(value) for name, value in tree.items()}
    return [snake(item) for item in tree] if isinstance(tree, list) else tree


EXAMPLES |= {f"template_{name}": template(name, snake(sent.filling)) for name, sent in SENT.items()}
EXAMPLES |= {f"template_{name}": template(name, CODE) for name in OTP}
EXAMPLES["template_long"] = template("long", {"body": [{"text": "Mia"}]})


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A bound. of: the example it is tried with; field, meta: where; made: what has such a size; code: Meta's, for one more.

    meta_made: the same for Meta, where that is another one; named: the field that the refusal names, where that is another one.
    """

    of: str
    field: str
    meta: str
    most: int
    made: Callable[[int], Any] = words
    meta_made: Callable[[int], Any] | None = None
    code: int = 131009
    named: str = ""


def _above(name: str, of: str, kind: str) -> dict[str, Limit]:
    """Header, body and footer of a question."""
    return {
        f"3.2 {name}: header 60": Limit(of=of, field=f"{kind}.header", meta="interactive.header.text", most=60),
        f"3.2 {name}: footer 60": Limit(of=of, field=f"{kind}.footer", meta="interactive.footer.text", most=60),
    }


_REPLY = "interactive.action.buttons[1].reply"
_ROW = "interactive.action.sections[0].rows[0]"
_COUPON = "template.filling.buttons[0].coupon_code"
_PRESSED = "template.components[0].parameters[0]"
LIMITS: dict[str, Limit] = {
    "3.2 text: body 4096": Limit(of="text", field="text.body", meta="text.body", most=4096, code=100),
    "3.2 image: caption 1024": Limit(of="image", field="media.items[0].caption", meta="image.caption", most=1024),
    "3.2 video: caption 1024": Limit(of="video", field="media.items[0].caption", meta="video.caption", most=1024),
    "3.2 document: caption 1024": Limit(
        of="document", field="media.items[0].caption", meta="document.caption", most=1024
    ),
    "3.2 document: filename 240": Limit(
        of="document", field="media.items[0].file_name", meta="document.filename", most=240, made=plain
    ),
    "3.2 contacts: 257": Limit(of="contacts", field="contacts.contacts", meta="contacts", most=257, made=_cards),
    **_above("button", "buttons", "buttons"),
    "3.2 button: body 1024": Limit(of="buttons", field="buttons.body", meta="interactive.body.text", most=1024),
    "3.2 button: 3 buttons": Limit(
        of="buttons",
        field="buttons.buttons",
        meta="interactive.action.buttons",
        most=3,
        made=_replies,
        meta_made=_buttons,
    ),
    "3.2 button: title 20": Limit(of="buttons", field="buttons.buttons[1].title", meta=f"{_REPLY}.title", most=20),
    "3.2 button: id 256": Limit(of="buttons", field="buttons.buttons[1].id", meta=f"{_REPLY}.id", most=256),
    **_above("list", "list", "list"),
    "3.2 list: body 4096": Limit(of="list", field="list.body", meta="interactive.body.text", most=4096),
    "3.2 list: label 20": Limit(of="list", field="list.label", meta="interactive.action.button", most=20),
    "3.2 list: 10 sections": Limit(
        of="list", field="list.sections", meta="interactive.action.sections", most=10, made=_sections
    ),
    "3.2 list: 10 rows in a section": Limit(
        of="list",
        field="list.sections[0].rows",
        meta="interactive.action.sections[0].rows",
        most=10,
        made=_replies,
    ),
    "3.2 list: 10 rows in all": Limit(
        of="list",
        field="list.sections",
        meta="interactive.action.sections",
        most=10,
        made=lambda number: [
            {"title": "Today", "rows": _replies(6)},
            {"title": "Later", "rows": [{"id": f"l-{index}", "title": "Row"} for index in range(number - 6)]},
        ],
        named="list.sections[1].rows",
    ),
    "3.2 list: section title 24": Limit(
        of="list", field="list.sections[0].title", meta="interactive.action.sections[0].title", most=24
    ),
    "3.2 list: row id 200": Limit(of="list", field="list.sections[0].rows[0].id", meta=f"{_ROW}.id", most=200),
    "3.2 list: row title 24": Limit(of="list", field="list.sections[0].rows[0].title", meta=f"{_ROW}.title", most=24),
    "3.2 list: row description 72": Limit(
        of="list", field="list.sections[0].rows[0].description", meta=f"{_ROW}.description", most=72
    ),
    **_above("cta_url", "cta_url", "link"),
    "3.2 cta_url: body 1024": Limit(of="cta_url", field="link.body", meta="interactive.body.text", most=1024),
    "3.2 cta_url: label 20": Limit(
        of="cta_url", field="link.label", meta="interactive.action.parameters.display_text", most=20
    ),
    "3.2 location request: body 1024": Limit(
        of="location_request", field="location_request.body", meta="interactive.body.text", most=1024
    ),
    "3.2 product: body 1024": Limit(of="product", field="product.body", meta="interactive.body.text", most=1024),
    "3.2 product: footer 60": Limit(of="product", field="product.footer", meta="interactive.footer.text", most=60),
    **_above("product_list", "product_list", "product_list"),
    "3.2 product_list: body 1024": Limit(
        of="product_list", field="product_list.body", meta="interactive.body.text", most=1024
    ),
    "3.2 product_list: 30 products": Limit(
        of="product_list",
        field="product_list.product_sections[0].product_retailer_ids",
        meta="interactive.action.sections[0].product_items",
        most=30,
        made=_products,
        meta_made=_items,
    ),
    "3.2 product_list: 10 sections": Limit(
        of="product_list",
        field="product_list.product_sections",
        meta="interactive.action.sections",
        most=10,
        made=_shelves,
        meta_made=_shelf_items,
    ),
    "3.2 product_list: section title 24": Limit(
        of="product_list",
        field="product_list.product_sections[0].title",
        meta="interactive.action.sections[0].title",
        most=24,
    ),
    "3.2 catalog_message: body 1024": Limit(
        of="catalog", field="catalog.body", meta="interactive.body.text", most=1024
    ),
    "3.2 catalog_message: footer 60": Limit(
        of="catalog", field="catalog.footer", meta="interactive.footer.text", most=60
    ),
    **_above("flow", "flow", "flow"),
    "3.2 flow: body 1024": Limit(of="flow", field="flow.body", meta="interactive.body.text", most=1024),
    "3.2 flow: label 30": Limit(
        of="flow", field="flow.label", meta="interactive.action.parameters.flow_cta", most=30, made=plain
    ),
    "3.2 request_contact_info: body 1024": Limit(
        of="contact_request", field="contact_request.body", meta="interactive.body.text", most=1024
    ),
    "3.2 location: latitude 90": Limit(
        of="location", field="location.latitude", meta="location.latitude", most=90, made=float
    ),
    "3.2 location: longitude 180": Limit(
        of="location", field="location.longitude", meta="location.longitude", most=180, made=float
    ),
    "3.3 copy_code: 20": Limit(
        of="template_button_copy_code", field=_COUPON, meta=f"{_PRESSED}.coupon_code", most=20, made=plain
    ),
    "3.3 quick_reply: payload 256": Limit(
        of="template_button_quick_reply",
        field="template.filling.buttons[0].payload",
        meta=f"{_PRESSED}.payload",
        most=256,
    ),
    "3.3 url: suffix 2000": Limit(
        of="template_button_url",
        field="template.filling.buttons[0].url_suffix",
        meta=f"{_PRESSED}.text",
        most=2000,
        made=plain,
    ),
    # The template's own six characters are part of it.
    "3.3 body: 1024 when filled": Limit(
        of="template_long",
        field="template.filling.body[0].text",
        meta=f"{_PRESSED}.text",
        most=1024,
        made=lambda number: words(number - 6),
        code=132005,
        named="template.filling.body",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is no matter of length. field, value: of the request; meta, meta_value: of Meta's body, "" where only one side has it.

    named: the field that our refusal names; reason: ours; code: Meta's.
    """

    of: str
    field: str = ""
    value: Any = ABSENT
    meta: str = ""
    meta_value: Any = ABSENT
    named: str = ""
    reason: str = ""
    code: int = 131009


_TEXT = [{"text": "Mia"}]
_FILLED = {"of": "template_positional", "meta": "template.components[0].parameters"}
_PLACE = {"of": "template_positional", "field": "template.filling.body[0].text", "meta": f"{_PRESSED}.text"}


def _meta_texts(*texts: str, **more: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, **more} for text in texts]


def _unfit(text: str) -> Fault:
    return Fault(**_PLACE, value=text, meta_value=text, named="template.filling.body[0].text", code=132018)


def _status(word: str, code: int) -> Fault:
    return Fault(
        of="template_positional",
        field="template.key.name",
        value=f"limit_{word}",
        meta="template.name",
        meta_value=f"limit_{word}",
        reason="TEMPLATE_NOT_SENDABLE",
        code=code,
    )


FAULTS: dict[str, Fault] = {
    "3.2 text: body needed": Fault(
        of="text", field="text.body", value="", meta="text.body", named="text.body", code=100
    ),
    "3.2 audio: no caption": Fault(
        of="audio",
        field="media.items[0].caption",
        value="Hear",
        meta="audio.caption",
        meta_value="Hear",
        named="media.items[0].caption",
        code=100,
    ),
    "3.2 sticker: no caption": Fault(
        of="sticker",
        field="media.items[0].caption",
        value="See",
        meta="sticker.caption",
        meta_value="See",
        named="media.items[0].caption",
        code=100,
    ),
    "3.2 document: an id or a link": Fault(of="document", meta="document.id"),
    "3.2 document: a link by https": Fault(
        of="document",
        field="media.items[0]",
        value={"link": "http://example.org/a.pdf", "kind": "ATTACHMENT_KIND_DOCUMENT"},
        meta="document",
        meta_value={"link": "http://example.org/a.pdf"},
        named="media.items[0].link",
    ),
    "3.2 location: name needed beside address": Fault(
        of="location", field="location.name", meta="location.name", named="location.name"
    ),
    "3.2 contacts: one more part of the name": Fault(
        of="contacts",
        field="contacts.contacts[0].name",
        value={"formatted_name": "Mia"},
        meta="contacts[0].name",
        meta_value={"formatted_name": "Mia"},
        named="contacts.contacts[0].name",
    ),
    "3.2 button: titles unique": Fault(
        of="buttons",
        field="buttons.buttons[1].title",
        value="Title 0",
        meta=f"{_REPLY}.title",
        meta_value="Title 0",
        named="buttons.buttons[1].title",
    ),
    "3.2 button: ids unique": Fault(
        of="buttons",
        field="buttons.buttons[1].id",
        value="id-0",
        meta=f"{_REPLY}.id",
        meta_value="id-0",
        named="buttons.buttons[1].id",
    ),
    "3.2 button: at least 1": Fault(
        of="buttons",
        field="buttons.buttons",
        value=[],
        meta="interactive.action.buttons",
        meta_value=[],
        named="buttons.buttons",
    ),
    "3.2 button: body needed": Fault(
        of="buttons",
        field="buttons.body",
        meta="interactive.body",
        named="buttons.body",
        code=131008,
    ),
    "3.2 button: no video of another kind above": Fault(
        of="buttons_image",
        field="buttons.header_media",
        value={"media_id": "<audio>", "kind": "ATTACHMENT_KIND_AUDIO"},
        meta="interactive.header",
        meta_value={"type": "audio", "audio": {"id": "1"}},
        named="buttons.header_media.kind",
    ),
    "3.2 list: row ids unique": Fault(
        of="list",
        field="list.sections[0].rows[1].id",
        value="early",
        meta="interactive.action.sections[0].rows[1].id",
        meta_value="early",
        named="list.sections[0].rows[1].id",
    ),
    "3.2 list: titles where there are two sections": Fault(
        of="list",
        field="list.sections",
        value=[{"rows": [ROWS[0]]}, {"title": "Later", "rows": [ROWS[1]]}],
        meta="interactive.action.sections",
        meta_value=[{"rows": [ROWS[0]]}, {"title": "Later", "rows": [ROWS[1]]}],
        named="list.sections[0].title",
    ),
    "3.2 list: header of text only": Fault(
        of="list", meta="interactive.header", meta_value={"type": "image", "image": {"id": "1"}}
    ),
    "3.2 cta_url: http or https": Fault(
        of="cta_url",
        field="link.url",
        value="ftp://example.org/a",
        meta="interactive.action.parameters.url",
        meta_value="ftp://example.org/a",
        named="link.url",
    ),
    "3.2 location request: no header": Fault(
        of="location_request", meta="interactive.header", meta_value={"type": "text", "text": "Hi"}, code=100
    ),
    "3.2 product: no header": Fault(
        of="product", meta="interactive.header", meta_value={"type": "text", "text": "Hi"}, code=100
    ),
    "3.2 product_list: header needed": Fault(
        of="product_list",
        field="product_list.header",
        meta="interactive.header",
        named="product_list.header",
        code=131008,
    ),
    "3.2 product_list: titles where there are two sections": Fault(
        of="product_list",
        field="product_list.product_sections",
        value=[{"product_retailer_ids": ["a"]}, {"title": "Later", "product_retailer_ids": ["b"]}],
        meta="interactive.action.sections[0].title",
        meta_value="x" * 25,
        named="product_list.product_sections[0].title",
    ),
    "3.2 flow: label without emoji": Fault(
        of="flow",
        field="flow.label",
        value=f"Go {FACE}",
        meta="interactive.action.parameters.flow_cta",
        meta_value=f"Go {FACE}",
        named="flow.label",
    ),
    "3.3 no such template": Fault(
        of="template_positional",
        field="template.key.name",
        value="limit_nowhere",
        meta="template.name",
        meta_value="limit_nowhere",
        reason="RESOURCE_NOT_FOUND",
        code=132001,
    ),
    "3.3 no such language": Fault(
        of="template_positional",
        field="template.key.language",
        value="en",
        meta="template.language.code",
        meta_value="en",
        reason="RESOURCE_NOT_FOUND",
        code=132001,
    ),
    "3.3 not approved": _status("rejected", 132001),
    "3.3 paused": _status("paused", 132015),
    "3.3 disabled": _status("disabled", 132016),
    "3.3 body: too few": Fault(
        **_FILLED,
        field="template.filling.body",
        value=_TEXT,
        meta_value=_meta_texts("Mia"),
        named="template.filling.body",
        code=132000,
    ),
    "3.3 body: too many": Fault(
        **_FILLED,
        field="template.filling.body",
        value=_TEXT * 3,
        meta_value=_meta_texts("a", "b", "c"),
        named="template.filling.body",
        code=132000,
    ),
    "3.3 positional: no names": Fault(
        of="template_positional",
        field="template.filling.body[0].name",
        value="name",
        meta=f"{_PRESSED}.parameter_name",
        meta_value="name",
        named="template.filling.body[0].name",
        code=132012,
    ),
    "3.3 named: a name of each": Fault(
        of="template_named",
        field="template.filling.body[0].name",
        meta=f"{_PRESSED}.parameter_name",
        named="template.filling.body[0].name",
        code=132012,
    ),
    "3.3 named: a name of the template": Fault(
        of="template_named",
        field="template.filling.body[0].name",
        value="who",
        meta=f"{_PRESSED}.parameter_name",
        meta_value="who",
        named="template.filling.body[0].name",
        code=132012,
    ),
    "3.3 named: each once": Fault(
        of="template_named",
        field="template.filling.body[1].name",
        value="order_id",
        meta="template.components[0].parameters[1].parameter_name",
        meta_value="order_id",
        named="template.filling.body[1].name",
        code=132012,
    ),
    "3.3 body: no line break": _unfit("a\nb"),
    "3.3 body: no carriage return": _unfit("a\rb"),
    "3.3 body: no tab": _unfit("a\tb"),
    "3.3 body: no five spaces": _unfit("a     b"),
    "3.3 body: text needed": Fault(
        of="template_header_image",
        field="template.filling.header[0]",
        value={"text": "Mia"},
        meta=f"{_PRESSED}",
        meta_value={"type": "text", "text": "Mia"},
        named="template.filling.header",
        code=132012,
    ),
    "3.3 header: its own kind of file": Fault(
        of="template_header_image",
        field="template.filling.header[0]",
        value={"video": {"media_id": "<video>"}},
        meta=f"{_PRESSED}",
        meta_value={"type": "video", "video": {"link": "https://example.org/a.mp4"}},
        named="template.filling.header",
        code=132012,
    ),
    "3.3 header: needed": Fault(
        of="template_header_location",
        field="template.filling",
        meta="template.components",
        named="template.filling.header",
        code=132012,
    ),
    "3.3 currency: three letters": Fault(
        of="template_currency_and_date_time",
        field="template.filling.body[0].currency.code",
        value="Euro",
        meta=f"{_PRESSED}.currency.code",
        meta_value="Euro",
        named="template.filling.body[0].currency.code",
        code=132008,
    ),
    "3.3 date_time: something to show": Fault(
        of="template_currency_and_date_time",
        field="template.filling.body[1].date_time.fallback",
        value="",
        meta="template.components[0].parameters[1].date_time.fallback_value",
        named="template.filling.body[1].date_time.fallback",
        code=131008,
    ),
    "3.3 button: of the template": Fault(
        of="template_button_quick_reply",
        field="template.filling.buttons[0].index",
        value=7,
        meta="template.components[0].index",
        meta_value="7",
        named="template.filling.buttons[0].index",
        code=132012,
    ),
    "3.3 button: of its type": Fault(
        of="template_button_quick_reply",
        field="template.filling.buttons[0]",
        value={"index": 0, "coupon_code": "A"},
        meta="template.components[0].sub_type",
        meta_value="copy_code",
        named="template.filling.buttons[0].coupon_code",
        code=132012,
    ),
    "3.3 url: suffix needed": Fault(
        of="template_button_url",
        field="template.filling.buttons",
        meta="template.components",
        named="template.filling.buttons",
        code=131008,
    ),
    "3.3 copy_code: code needed": Fault(
        of="template_button_copy_code",
        field="template.filling.buttons",
        meta="template.components",
        named="template.filling.buttons",
        code=131008,
    ),
    "3.3 authentication: the code twice": Fault(
        of="template_authentication",
        field="template.filling.buttons",
        meta="template.components[1]",
        named="template.filling.buttons",
        code=131008,
    ),
    "3.3 authentication: the same code twice": Fault(
        of="template_authentication",
        field="template.filling.buttons[0].url_suffix",
        value="654321",
        meta="template.components[1].parameters[0].text",
        meta_value="654321",
        named="template.filling.buttons[0].url_suffix",
        code=132012,
    ),
}
