"""What a provider would refuse of a template that is to be written, field by field: pure functions.

Source: Meta's Business Management API, "Message templates" and "Template components", as of November 2026.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.kit.errors import FieldViolation, InvalidFields

HEADER_MOST, BODY_MOST, FOOTER_MOST, OFFER_MOST, CARD_BODY_MOST = 60, 1024, 60, 16, 160
LABEL_MOST, URL_MOST, PHONE_MOST, CODE_MOST = 25, 2000, 20, 20
BUTTONS_MOST, CARDS_LEAST, CARDS_MOST, CARD_BUTTONS_MOST = 10, 2, 10, 2
# How many buttons there may be of each type; of all others one.
BUTTON_TYPES: Mapping[str, int] = {"QUICK_REPLY": 10, "URL": 2} | dict.fromkeys(
    ("PHONE_NUMBER", "COPY_CODE", "FLOW", "CATALOG", "MPM", "SPM", "OTP", "VOICE_CALL", "REQUEST_CONTACT_INFO"), 1
)
# What the provider writes itself where there is nothing.
LABEL_OPTIONAL = frozenset({"COPY_CODE", "OTP", "REQUEST_CONTACT_INFO"})
TYPES = frozenset({"HEADER", "BODY", "FOOTER", "BUTTONS", "CAROUSEL", "LIMITED_TIME_OFFER"})
FILES = frozenset({"IMAGE", "VIDEO", "GIF", "DOCUMENT"})
FORMATS = FILES | {"TEXT", "LOCATION"}
NAME = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
PLACE_NAME = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
PLACE = re.compile(r"\{\{([^{}]*)\}\}")
ADJACENT = re.compile(r"\}\}\s*\{\{")
PHONE = re.compile(r"\+?[0-9]{5,20}", re.ASCII)
URL = re.compile(r"https?://[!-~]+", re.ASCII)

Part = Mapping[str, Any]
Violations = Iterator[FieldViolation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the rules of all components go by. category: in upper case. named: whether places have names."""

    category: str
    named: bool

    @property
    def of_codes(self) -> bool:
        """Whether it is one of codes to sign in with, whose texts are the provider's."""
        return self.category == "AUTHENTICATION"


def check(components: Sequence[Part], *, category: str, parameter_format: str, name: str | None = None) -> None:
    """Raises InvalidFields with all that is wrong, by path. components: of the contract's TemplateComponent."""
    kind = Kind(category=category, named=parameter_format == "named")
    wrong = [*_whole(components, kind), *_each(components, kind, "components")]
    if name is not None and not NAME.fullmatch(name):
        wrong.insert(0, FieldViolation("name", "must be lower-case letters, digits and underscores"))
    if wrong:
        raise InvalidFields(*wrong)


def _whole(components: Sequence[Part], kind: Kind) -> Violations:
    types = [part.get("type", "") for part in components]
    for index, word in enumerate(types):
        if word not in TYPES:
            yield FieldViolation(f"components[{index}].type", f"must be one of {', '.join(sorted(TYPES))}")
        elif word in types[:index]:
            yield FieldViolation(f"components[{index}].type", "is there twice")
        elif kind.of_codes and word not in ("BODY", "FOOTER", "BUTTONS"):
            yield FieldViolation(f"components[{index}].type", "is not possible in AUTHENTICATION")
        elif word == "LIMITED_TIME_OFFER" and kind.category != "MARKETING":
            yield FieldViolation(f"components[{index}].type", "is possible in MARKETING only")
    if "BODY" not in types:
        yield FieldViolation("components", "BODY is missing")
    if kind.of_codes and "BUTTONS" not in types:
        yield FieldViolation("components", "AUTHENTICATION needs a button of type OTP")
    if "CAROUSEL" in types and set(types) - {"BODY", "CAROUSEL"}:
        yield FieldViolation("components", "beside CAROUSEL only BODY is possible")


def _each(components: Sequence[Part], kind: Kind, path: str) -> Violations:
    for index, part in enumerate(components):
        place = f"{path}[{index}]"
        match part.get("type"):
            case "HEADER":
                yield from _header(part, kind, place)
            case "BODY":
                yield from _body(part, kind, place)
            case "FOOTER":
                yield from _footer(part, kind, place)
            case "BUTTONS":
                yield from _buttons(part.get("buttons", ()), kind, f"{place}.buttons", most=BUTTONS_MOST)
            case "CAROUSEL":
                yield from _cards(part.get("cards", ()), kind, f"{place}.cards")
            case "LIMITED_TIME_OFFER":
                yield from _length(part.get("text", ""), OFFER_MOST, f"{place}.text")


def _header(part: Part, kind: Kind, path: str) -> Violations:
    form = part.get("format", "")
    if form not in FORMATS:
        yield FieldViolation(f"{path}.format", f"must be one of {', '.join(sorted(FORMATS))}")
    elif form == "TEXT":
        yield from _text(part, kind, path, most=HEADER_MOST)
        if len(_places(part.get("text", ""))) > 1:
            yield FieldViolation(f"{path}.text", "may have one place")
    else:
        if part.get("text"):
            yield FieldViolation(f"{path}.text", f"is not possible with {form}")
        if form in FILES and not part.get("sample"):
            yield FieldViolation(f"{path}.sample", "is needed: what UploadTemplateSample answered")
    if part.get("sample") and form not in FILES:
        yield FieldViolation(f"{path}.sample", "is possible with a file only")


def _body(part: Part, kind: Kind, path: str, *, most: int = BODY_MOST) -> Violations:
    if kind.of_codes:
        if part.get("text"):
            yield FieldViolation(f"{path}.text", "is the provider's own in AUTHENTICATION")
        return
    yield from _text(part, kind, path, most=most)
    text = part.get("text", "").strip()
    if PLACE.match(text) or re.search(r"\}\}$", text):
        yield FieldViolation(f"{path}.text", "must neither begin nor end with a place")
    if ADJACENT.search(text):
        yield FieldViolation(f"{path}.text", "must have words between two places")


def _footer(part: Part, kind: Kind, path: str) -> Violations:
    text = part.get("text", "")
    if kind.of_codes:
        if text:
            yield FieldViolation(f"{path}.text", "is the provider's own in AUTHENTICATION")
        if not part.get("code_expiration_minutes"):
            yield FieldViolation(f"{path}.code_expiration_minutes", "is needed in AUTHENTICATION")
        return
    yield from _length(text, FOOTER_MOST, f"{path}.text")
    if _places(text):
        yield FieldViolation(f"{path}.text", "must have no places")


def _text(part: Part, kind: Kind, path: str, *, most: int) -> Violations:
    """A text with places: each has a name or the next number, and an example."""
    text = part.get("text", "")
    yield from _length(text, most, f"{path}.text")
    found = _places(text)
    if kind.named:
        if any(not PLACE_NAME.fullmatch(place) for place in found):
            yield FieldViolation(f"{path}.text", "places must have names of lower-case letters, digits and underscores")
    elif sorted(found, key=lambda place: (len(place), place)) != [str(number + 1) for number in range(len(found))]:
        yield FieldViolation(f"{path}.text", "places must have the numbers from 1 on, without a gap")
    examples = part.get("examples", ())
    if len(examples) != len(found):
        yield FieldViolation(f"{path}.examples", f"the text has {len(found)} places, not {len(examples)}")
    for index, example in enumerate(examples):
        if not example.strip():
            yield FieldViolation(f"{path}.examples[{index}]", "must not be empty")


def _buttons(buttons: Sequence[Part], kind: Kind, path: str, *, most: int) -> Violations:
    if not 1 <= len(buttons) <= most:
        yield FieldViolation(path, f"must be 1 to {most}")
    types = [button.get("type", "") for button in buttons]
    for word, count in Counter(types).items():
        if count > BUTTON_TYPES.get(word, count):
            yield FieldViolation(path, f"may have {BUTTON_TYPES[word]} of {word}, not {count}")
    # Quick replies stand together, before the others or after them.
    changes = sum((left == "QUICK_REPLY") != (right == "QUICK_REPLY") for left, right in itertools.pairwise(types))
    if changes > 1:
        yield FieldViolation(path, "quick replies must stand together, before the others or after them")
    if kind.of_codes and types != ["OTP"]:
        yield FieldViolation(path, "AUTHENTICATION has one button, of type OTP")
    for index, button in enumerate(buttons):
        yield from _button(button, kind, f"{path}[{index}]")


def _button(button: Part, kind: Kind, path: str) -> Violations:
    word, label = button.get("type", ""), button.get("text", "")
    if word not in BUTTON_TYPES:
        yield FieldViolation(f"{path}.type", f"must be one of {', '.join(sorted(BUTTON_TYPES))}")
        return
    if word == "OTP" and not kind.of_codes:
        yield FieldViolation(f"{path}.type", "is possible in AUTHENTICATION only")
    if label or word not in LABEL_OPTIONAL:
        yield from _length(label, LABEL_MOST, f"{path}.text")
    if _places(label):
        yield FieldViolation(f"{path}.text", "must have no places")
    if word == "URL":
        yield from _address(button, path)
    if word == "PHONE_NUMBER" and not (
        PHONE.fullmatch(button.get("phone_number", "")) and len(button["phone_number"]) <= PHONE_MOST
    ):
        yield FieldViolation(f"{path}.phone_number", f"must be a number of at most {PHONE_MOST} characters")
    if word == "COPY_CODE":
        yield from _length(button.get("example", ""), CODE_MOST, f"{path}.example")
    if word == "FLOW" and not button.get("flow_id"):
        yield FieldViolation(f"{path}.flow_id", "is needed")


def _address(button: Part, path: str) -> Violations:
    url, found = button.get("url", ""), _places(button.get("url", ""))
    if not URL.fullmatch(url) or len(url) > URL_MOST:
        yield FieldViolation(f"{path}.url", f"must be an address of at most {URL_MOST} characters")
    if found and (len(found) > 1 or not url.endswith("}}")):
        yield FieldViolation(f"{path}.url", "may have one place, at its end")
    if bool(found) != bool(button.get("example")):
        yield FieldViolation(f"{path}.example", "is needed for the place" if found else "is possible with a place only")


def _cards(cards: Sequence[Mapping[str, Any]], kind: Kind, path: str) -> Violations:
    if not CARDS_LEAST <= len(cards) <= CARDS_MOST:
        yield FieldViolation(path, f"must be {CARDS_LEAST} to {CARDS_MOST}")
    shapes = [_shape(card) for card in cards]
    for number, card in enumerate(cards):
        inside = f"{path}[{number}].components"
        parts = card.get("components", ())
        types = [part.get("type", "") for part in parts]
        if sorted(types) not in (["BODY", "BUTTONS", "HEADER"], ["BUTTONS", "HEADER"]):
            yield FieldViolation(inside, "must be HEADER, perhaps BODY, and BUTTONS")
        elif shapes[number] != shapes[0]:
            yield FieldViolation(inside, "must have the same header and the same buttons as the first card")
        for index, part in enumerate(parts):
            yield from _card_part(part, kind, f"{inside}[{index}]")


def _card_part(part: Part, kind: Kind, path: str) -> Violations:
    match part.get("type"):
        case "HEADER":
            if part.get("format") not in ("IMAGE", "VIDEO"):
                yield FieldViolation(f"{path}.format", "must be IMAGE or VIDEO")
            yield from _header(part, kind, path)
        case "BODY":
            yield from _body(part, kind, path, most=CARD_BODY_MOST)
        case "BUTTONS":
            yield from _buttons(part.get("buttons", ()), kind, f"{path}.buttons", most=CARD_BUTTONS_MOST)


def _shape(card: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (part.get("type"), part.get("format"), *(button.get("type") for button in part.get("buttons", ())))
        for part in card.get("components", ())
    ]


def _length(text: str, most: int, path: str) -> Violations:
    if not 1 <= len(text) <= most:
        yield FieldViolation(path, f"must be 1 to {most} characters")


def _places(text: str) -> list[str]:
    return list(dict.fromkeys(found.strip() for found in PLACE.findall(text)))
