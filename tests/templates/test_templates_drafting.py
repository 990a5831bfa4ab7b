"""Every limit of a template that is written: refused here by its path, and by the simulator if it came there."""

from __future__ import annotations

from typing import Any

import pytest

from server.kit.errors import InvalidFields
from server.providers.template import TemplateDraft
from server.providers.whatsapp import drafts
from server.simulator import template_checks
from server.templates import drafting

HANDLES = {"4::picture": "image/jpeg"}
BODY: dict[str, Any] = {"type": "BODY", "text": "Hello {{1}}, welcome.", "examples": ["Mia"]}
QUICK, LINK = {"type": "QUICK_REPLY", "text": "Yes"}, {"type": "URL", "text": "See", "url": "https://shop.example/a"}


def text(kind: str, words: str, *examples: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "text": words, "examples": list(examples), **more}


def buttons(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return [BODY, {"type": "BUTTONS", "buttons": list(given)}]


def card(**more: Any) -> dict[str, Any]:
    header = {"type": "HEADER", "format": "IMAGE", "sample": "4::picture"}
    return {"components": [header | more, {"type": "BUTTONS", "buttons": [QUICK]}]}


GOOD: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "plain": ("UTILITY", [BODY]),
    "all parts": (
        "MARKETING",
        [
            text("HEADER", "News {{1}}", "17", format="TEXT"),
            BODY,
            text("FOOTER", "Bye"),
            *buttons(QUICK, QUICK, LINK)[1:],
        ],
    ),
    "file": ("MARKETING", [{"type": "HEADER", "format": "IMAGE", "sample": "4::picture"}, BODY]),
    "place on earth": ("UTILITY", [{"type": "HEADER", "format": "LOCATION"}, BODY]),
    "every button": (
        "MARKETING",
        buttons(
            LINK | {"url": "https://shop.example/{{1}}", "example": "https://shop.example/17"},
            {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+4930123456"},
            {"type": "COPY_CODE", "example": "SUMMER20"},
            {"type": "FLOW", "text": "Begin", "flow_id": "17"},
        ),
    ),
    "codes": (
        "AUTHENTICATION",
        [
            {"type": "BODY", "security_recommendation": True},
            {"type": "FOOTER", "code_expiration_minutes": 5},
            {"type": "BUTTONS", "buttons": [{"type": "OTP"}]},
        ],
    ),
    "carousel": ("MARKETING", [BODY, {"type": "CAROUSEL", "cards": [card(), card()]}]),
    "offer": ("MARKETING", [text("LIMITED_TIME_OFFER", "Ends soon", expires=True), BODY]),
}
BAD: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "no body": ("UTILITY", [text("FOOTER", "Bye")], "components"),
    "unknown part": ("UTILITY", [BODY, {"type": "SIDE"}], "components[1].type"),
    "a part twice": ("UTILITY", [BODY, BODY], "components[1].type"),
    "header of 61": ("UTILITY", [text("HEADER", "x" * 61, format="TEXT"), BODY], "components[0].text"),
    "header of two places": (
        "UTILITY",
        [text("HEADER", "{{1}} and {{2}}", "a", "b", format="TEXT"), BODY],
        "components[0].text",
    ),
    "header without example": ("UTILITY", [text("HEADER", "To {{1}}", format="TEXT"), BODY], "components[0].examples"),
    "header without sample": ("UTILITY", [{"type": "HEADER", "format": "IMAGE"}, BODY], "components[0].sample"),
    "header of no format": ("UTILITY", [{"type": "HEADER", "format": "SMELL"}, BODY], "components[0].format"),
    "body of 1025": ("UTILITY", [text("BODY", "x" * 1025)], "components[0].text"),
    "place at the start": ("UTILITY", [text("BODY", "{{1}}, hello.", "Mia")], "components[0].text"),
    "place at the end": ("UTILITY", [text("BODY", "Hello {{1}}", "Mia")], "components[0].text"),
    "adjacent places": ("UTILITY", [text("BODY", "Hello {{1}} {{2}}.", "a", "b")], "components[0].text"),
    "a gap in the numbers": ("UTILITY", [text("BODY", "Hello {{2}}.", "a")], "components[0].text"),
    "example missing": ("UTILITY", [text("BODY", "Hello {{1}}.")], "components[0].examples"),
    "footer of 61": ("UTILITY", [BODY, text("FOOTER", "x" * 61)], "components[1].text"),
    "footer with a place": ("UTILITY", [BODY, text("FOOTER", "For {{1}} only")], "components[1].text"),
    "11 buttons": ("UTILITY", buttons(*[QUICK] * 11), "components[1].buttons"),
    "three addresses": ("UTILITY", buttons(LINK, LINK, LINK), "components[1].buttons"),
    "two numbers": (
        "UTILITY",
        buttons(*[{"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+4930123456"}] * 2),
        "components[1].buttons",
    ),
    "quick replies apart": ("UTILITY", buttons(QUICK, LINK, QUICK), "components[1].buttons"),
    "label of 26": ("UTILITY", buttons(QUICK | {"text": "x" * 26}), "components[1].buttons[0].text"),
    "address of 2001": (
        "UTILITY",
        buttons(LINK | {"url": "https://shop.example/" + "x" * 1980}),
        "components[1].buttons[0].url",
    ),
    "place in the middle of an address": (
        "UTILITY",
        buttons(LINK | {"url": "https://shop.example/{{1}}/a", "example": "https://shop.example/1/a"}),
        "components[1].buttons[0].url",
    ),
    "address without example": (
        "UTILITY",
        buttons(LINK | {"url": "https://shop.example/{{1}}"}),
        "components[1].buttons[0].example",
    ),
    "number of 21": (
        "UTILITY",
        buttons({"type": "PHONE_NUMBER", "text": "Call", "phone_number": "1" * 21}),
        "components[1].buttons[0].phone_number",
    ),
    "code of 21": (
        "MARKETING",
        buttons({"type": "COPY_CODE", "example": "x" * 21}),
        "components[1].buttons[0].example",
    ),
    "no flow": ("UTILITY", buttons({"type": "FLOW", "text": "Begin"}), "components[1].buttons[0].flow_id"),
    "codes of one's own words": (
        "AUTHENTICATION",
        [text("BODY", "Your code"), {"type": "BUTTONS", "buttons": [{"type": "OTP"}]}],
        "components[0].text",
    ),
    "codes by the wrong category": ("UTILITY", buttons({"type": "OTP"}), "components[1].buttons[0].type"),
    "one card": ("MARKETING", [BODY, {"type": "CAROUSEL", "cards": [card()]}], "components[1].cards"),
    "card of a text": (
        "MARKETING",
        [BODY, {"type": "CAROUSEL", "cards": [card(), card(format="LOCATION", sample="")]}],
        "components[1].cards[1].components[0].format",
    ),
    "offer of 17": ("MARKETING", [text("LIMITED_TIME_OFFER", "x" * 17), BODY], "components[0].text"),
}


def problem(category: str, components: list[dict[str, Any]]) -> template_checks.Problem | None:
    """What the simulator finds of the body that Meta would get."""
    draft = TemplateDraft(
        name="order", language="en", category=category, parameter_format="positional", components=tuple(components)
    )
    body = drafts.draft_body(draft)
    return template_checks.components(body["components"], category=category, named=False, handles=HANDLES)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_order_is_written(name: str) -> None:
    category, components = GOOD[name]
    drafting.check(components, category=category, parameter_format="positional", name="order_1")
    assert problem(category, components) is None


@pytest.mark.parametrize("name", BAD)
def test_what_meta_would_refuse_is_refused_by_its_path(name: str) -> None:
    category, components, path = BAD[name]
    with pytest.raises(InvalidFields) as refused:
        drafting.check(components, category=category, parameter_format="positional")
    assert path in [violation.field for violation in refused.value.violations]
    assert problem(category, components) is not None, "the simulator takes it"


def test_places_have_names_or_numbers() -> None:
    named = [text("BODY", "Hello {{name}}, welcome.", "Mia")]
    drafting.check(named, category="UTILITY", parameter_format="named")
    with pytest.raises(InvalidFields):
        drafting.check([BODY], category="UTILITY", parameter_format="named")
    with pytest.raises(InvalidFields):
        drafting.check(named, category="UTILITY", parameter_format="positional")
