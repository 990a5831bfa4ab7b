"""A template for each kind of component, what its places are filled with, and the body that Meta must get.

Source: Meta's Cloud API documentation, "Template messages".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BODY: dict[str, Any] = {"type": "BODY", "text": "Hello {{1}}, order {{2}} is ready."}
SHOES: dict[str, Any] = {"title": "Shoes", "productRetailerIds": ["p1", "p2"]}
PLAIN: dict[str, Any] = {"type": "BODY", "text": "Thank you."}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """components: as Meta has them. filling: as the call gives it. body, wanted: what the customer reads, what Meta gets."""

    components: tuple[dict[str, Any], ...]
    filling: dict[str, Any]
    body: str
    wanted: list[dict[str, Any]] | None
    named: bool = False
    category: str = "UTILITY"


def _texts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def _buttons(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(buttons)}


def _button(sub_type: str, parameter: dict[str, Any], index: str = "0") -> dict[str, Any]:
    return {"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]}


# The files of headers by kind; <kind> stands for the id that each has here, and at Meta.
FILES = {
    "image": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR header",
    "video": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom header",
    "document": b"%PDF-1.4 header",
}


def _file(kind: str, **more: str) -> Sent:
    named = {"fileName": more["filename"]} if more else {}
    return Sent(
        components=({"type": "HEADER", "format": kind.upper()}, PLAIN),
        filling={"header": [{kind: {"mediaId": f"<{kind}>", **named}}]},
        body="Thank you.",
        wanted=[{"type": "header", "parameters": [{"type": kind, kind: {"id": f"<{kind}>", **more}}]}],
    )


SENT: dict[str, Sent] = {
    "plain": Sent(components=(PLAIN,), filling={}, body="Thank you.", wanted=None),
    "positional": Sent(
        components=(BODY,),
        filling={"body": [{"text": "Mia"}, {"text": "17"}]},
        body="Hello Mia, order 17 is ready.",
        wanted=[{"type": "body", "parameters": _texts("Mia", "17")}],
    ),
    "named": Sent(
        components=({"type": "BODY", "text": "Hello {{name}}, order {{order_id}} is ready."},),
        filling={"body": [{"name": "order_id", "text": "17"}, {"name": "name", "text": "Mia"}]},
        body="Hello Mia, order 17 is ready.",
        wanted=[
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "parameter_name": "order_id", "text": "17"},
                    {"type": "text", "parameter_name": "name", "text": "Mia"},
                ],
            }
        ],
        named=True,
    ),
    "header_text": Sent(
        components=(
            {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"},
            PLAIN,
            {"type": "FOOTER", "text": "Bye"},
        ),
        filling={"header": [{"text": "17"}]},
        body="Thank you.",
        wanted=[{"type": "header", "parameters": _texts("17")}],
    ),
    "header_image": _file("image"),
    "header_video": _file("video"),
    "header_document": _file("document", filename="Bill.pdf"),
    "header_location": Sent(
        components=({"type": "HEADER", "format": "LOCATION"}, PLAIN),
        filling={
            "header": [{"location": {"latitude": 52.5, "longitude": 13.4, "name": "Shop", "address": "Street 1"}}]
        },
        body="Thank you.",
        wanted=[
            {
                "type": "header",
                "parameters": [
                    {
                        "type": "location",
                        "location": {"latitude": 52.5, "longitude": 13.4, "name": "Shop", "address": "Street 1"},
                    }
                ],
            }
        ],
    ),
    "currency_and_date_time": Sent(
        components=({"type": "BODY", "text": "{{1}} are due on {{2}}."},),
        filling={
            "body": [
                {"currency": {"fallback": "€12.50", "code": "EUR", "amount1000": "12500"}},
                {"dateTime": {"fallback": "1 May"}},
            ]
        },
        body="€12.50 are due on 1 May.",
        wanted=[
            {
                "type": "body",
                "parameters": [
                    {
                        "type": "currency",
                        "currency": {"fallback_value": "€12.50", "code": "EUR", "amount_1000": 12500},
                    },
                    {"type": "date_time", "date_time": {"fallback_value": "1 May"}},
                ],
            }
        ],
    ),
    "button_quick_reply": Sent(
        components=(PLAIN, _buttons({"type": "QUICK_REPLY", "text": "Yes"}, {"type": "QUICK_REPLY", "text": "No"})),
        filling={"buttons": [{"index": 0, "payload": "yes-17"}, {"index": 1, "payload": "no-17"}]},
        body="Thank you.",
        wanted=[
            _button("quick_reply", {"type": "payload", "payload": "yes-17"}),
            _button("quick_reply", {"type": "payload", "payload": "no-17"}, "1"),
        ],
    ),
    "button_url": Sent(
        components=(PLAIN, _buttons({"type": "URL", "text": "Track", "url": "https://shop.example/t/{{1}}"})),
        filling={"buttons": [{"index": 0, "urlSuffix": "17?who=Mia Ö&x=%"}]},
        body="Thank you.",
        wanted=[_button("url", {"type": "text", "text": "17?who=Mia%20%C3%96&x=%"})],
    ),
    "button_copy_code": Sent(
        components=(PLAIN, _buttons({"type": "COPY_CODE", "text": "Copy"})),
        filling={"buttons": [{"index": 0, "couponCode": "SUMMER20"}]},
        body="Thank you.",
        wanted=[_button("copy_code", {"type": "coupon_code", "coupon_code": "SUMMER20"})],
        category="MARKETING",
    ),
    "button_flow": Sent(
        components=(PLAIN, _buttons({"type": "FLOW", "text": "Begin"})),
        filling={"buttons": [{"index": 0, "flow": {"token": "t-17", "data": {"seats": 2}}}]},
        body="Thank you.",
        wanted=[
            _button("flow", {"type": "action", "action": {"flow_token": "t-17", "flow_action_data": {"seats": 2}}})
        ],
    ),
    "button_catalog": Sent(
        components=(PLAIN, _buttons({"type": "CATALOG", "text": "See"})),
        filling={"buttons": [{"index": 0, "productRetailerId": "p1"}]},
        body="Thank you.",
        wanted=[_button("catalog", {"type": "action", "action": {"thumbnail_product_retailer_id": "p1"}})],
    ),
    "button_mpm": Sent(
        components=(PLAIN, _buttons({"type": "MPM", "text": "See"})),
        filling={"buttons": [{"index": 0, "products": {"productRetailerId": "p1", "productSections": [SHOES]}}]},
        body="Thank you.",
        wanted=[
            _button(
                "mpm",
                {
                    "type": "action",
                    "action": {
                        "thumbnail_product_retailer_id": "p1",
                        "sections": [
                            {
                                "title": "Shoes",
                                "product_items": [{"product_retailer_id": "p1"}, {"product_retailer_id": "p2"}],
                            }
                        ],
                    },
                },
            )
        ],
    ),
    "authentication": Sent(
        components=({"type": "BODY", "text": "{{1}} is your code."}, _buttons({"type": "OTP", "text": "Copy"})),
        filling={"body": [{"text": "123456"}], "buttons": [{"index": 0, "urlSuffix": "123456"}]},
        body="123456 is your code.",
        wanted=[{"type": "body", "parameters": _texts("123456")}, _button("url", {"type": "text", "text": "123456"})],
        category="AUTHENTICATION",
    ),
}
