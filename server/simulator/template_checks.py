"""What Meta refuses of a template that is written, with its subcodes.

Source: Meta's Business Management API, "Message templates" and "Template components", and its error codes of templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from server.simulator import errors
from server.simulator.contents import Problem
from server.simulator.errors import ErrorKind

Part = Mapping[str, object]

NAME = re.compile(r"[a-z0-9_]{1,512}", re.ASCII)
LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z]{2,4})?", re.ASCII)
CATEGORIES = ("AUTHENTICATION", "MARKETING", "UTILITY")
COMPONENTS = ("HEADER", "BODY", "FOOTER", "BUTTONS", "CAROUSEL", "LIMITED_TIME_OFFER")
FORMATS = ("TEXT", "IMAGE", "VIDEO", "GIF", "DOCUMENT", "LOCATION")
MOST_OF_TYPE = {
    **{"QUICK_REPLY": 10, "URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1, "FLOW": 1, "CATALOG": 1, "MPM": 1, "SPM": 1},
    **{"OTP": 1, "VOICE_CALL": 1, "REQUEST_CONTACT_INFO": 1},
}
UNLABELLED = ("COPY_CODE", "OTP", "REQUEST_CONTACT_INFO")
_PLACE = re.compile(r"\{\{([^{}]*)\}\}")

PARAMETER = errors.INVALID_PARAMETER
LIMIT_REACHED = replace(PARAMETER, subcode=2388019)
NAME_BLOCKED = replace(PARAMETER, subcode=2388023)
NAME_EXISTS = replace(PARAMETER, subcode=2388024)
NOT_EDITABLE = replace(PARAMETER, subcode=2388039)
TOO_LONG = replace(PARAMETER, subcode=2388040)
HEADER_FORMAT = replace(PARAMETER, subcode=2388047)
BODY_FORMAT = replace(PARAMETER, subcode=2388072)
FOOTER_FORMAT = replace(PARAMETER, subcode=2388073)
TOO_MANY_PLACES = replace(PARAMETER, subcode=2388293)
PLACE_AT_EDGE = replace(PARAMETER, subcode=2388299)


def identity(body: Part) -> Problem | None:
    """What is wrong with what a template is called and what it is for."""
    if not NAME.fullmatch(_text(body.get("name"))):
        return Problem(PARAMETER, "Param name must only have lowercase letters, digits and underscores.")
    if not LANGUAGE.fullmatch(_text(body.get("language"))):
        return Problem(PARAMETER, "Param language must be a supported language code.")
    if _word(body, "category") not in CATEGORIES:
        return Problem(PARAMETER, "Param category must be one of {AUTHENTICATION, MARKETING, UTILITY}.")
    return None


def components(listed: object, *, category: str, named: bool, handles: Mapping[str, str]) -> Problem | None:
    """The first thing that is wrong with what a template is made of. handles: of samples, with their MIME types."""
    parts = _objects(listed)
    if not parts:
        return Problem(PARAMETER, "Param components must be a non-empty array.")
    return next(_problems(parts, category=category, named=named, handles=handles), None)


def _problems(parts: Sequence[Part], *, category: str, named: bool, handles: Mapping[str, str]) -> Iterator[Problem]:
    types = [_word(part, "type") for part in parts]
    if any(word not in COMPONENTS for word in types) or len(set(types)) < len(types):
        yield Problem(PARAMETER, "A component is unknown, or is there twice.")
    if "BODY" not in types:
        yield Problem(BODY_FORMAT, "A template needs a component of type BODY.")
    codes = category == "AUTHENTICATION"
    for part, word in zip(parts, types, strict=True):
        match word:
            case "HEADER":
                yield from _header(part, named=named, handles=handles)
            case "BODY" if not codes:
                yield from _body(part, named=named, most=1024)
            case "BODY" if part.get("text"):
                yield Problem(BODY_FORMAT, "The body of an authentication template is fixed.")
            case "FOOTER":
                yield from _footer(part, codes=codes)
            case "BUTTONS":
                yield from _buttons(_objects(part.get("buttons")), codes=codes, most=10)
            case "CAROUSEL":
                yield from _cards(_objects(part.get("cards")), named=named, handles=handles)
            case "LIMITED_TIME_OFFER":
                offer = part.get("limited_time_offer")
                if not 1 <= len(_text(offer.get("text")) if isinstance(offer, Mapping) else "") <= 16:
                    yield Problem(TOO_LONG, "The offer's text must have 1 to 16 characters.")


def _header(part: Part, *, named: bool, handles: Mapping[str, str]) -> Iterator[Problem]:
    form, example = _word(part, "format"), part.get("example")
    if form not in FORMATS:
        yield Problem(HEADER_FORMAT, "The header's format is missing or unknown.")
    elif form == "TEXT":
        text = _text(part.get("text"))
        if not 1 <= len(text) <= 60:
            yield Problem(TOO_LONG, "The header must have 1 to 60 characters.")
        if len(_PLACE.findall(text)) > 1:
            yield Problem(HEADER_FORMAT, "The header may have one variable.")
        yield from _sampled(part, "header_text", HEADER_FORMAT, named=named)
    elif form != "LOCATION":
        given = example.get("header_handle") if isinstance(example, Mapping) else None
        handle = given[0] if isinstance(given, list) and given else None
        kind = {"IMAGE": "image/", "VIDEO": "video/", "GIF": "video/", "DOCUMENT": "application/"}[form]
        if not isinstance(handle, str) or not handles.get(handle, "").startswith(kind):
            yield Problem(HEADER_FORMAT, "The header's sample is missing, unknown or of another format.")


def _body(part: Part, *, named: bool, most: int) -> Iterator[Problem]:
    text = _text(part.get("text"))
    if not 1 <= len(text) <= most:
        yield Problem(TOO_LONG, f"The body must have 1 to {most} characters.")
    if text.strip().startswith("{{") or text.strip().endswith("}}"):
        yield Problem(PLACE_AT_EDGE, "Variables can't be at the start or end of the template.")
    if re.search(r"\}\}\s*\{\{", text):
        yield Problem(TOO_MANY_PLACES, "This template has too many variables for its length.")
    yield from _sampled(part, "body_text", BODY_FORMAT, named=named)


def _sampled(part: Part, field: str, kind: ErrorKind, *, named: bool) -> Iterator[Problem]:
    """Variables have names, or the numbers from 1 on; each has an example."""
    places = list(dict.fromkeys(place.strip() for place in _PLACE.findall(_text(part.get("text")))))
    numbers = [str(number + 1) for number in range(len(places))]
    shapes = all(re.fullmatch(r"[a-z_][a-z0-9_]*", place) for place in places)
    if not (shapes if named else sorted(places, key=lambda place: (len(place), place)) == numbers):
        yield Problem(kind, "The variables' names or numbers are not valid.")
        return
    example = part.get("example")
    given = example if isinstance(example, Mapping) else {}
    if named:
        listed = _objects(given.get(f"{field}_named_params"))
        told = {_text(each.get("param_name")) for each in listed if _text(each.get("example"))}
        good = told == set(places)
    else:
        values = given.get(field)
        if field == "body_text" and isinstance(values, list):
            values = values[0] if values else None
        good = len([each for each in values if _text(each)] if isinstance(values, list) else []) == len(places)
    if not good:
        yield Problem(kind, f"component of type {_word(part, 'type')} is missing expected field(s) (example)")


def _footer(part: Part, *, codes: bool) -> Iterator[Problem]:
    text = _text(part.get("text"))
    if codes:
        minutes = part.get("code_expiration_minutes")
        if text or not isinstance(minutes, int) or not 1 <= minutes <= 90:
            yield Problem(
                FOOTER_FORMAT, "The footer of an authentication template needs code_expiration_minutes alone."
            )
    elif not 1 <= len(text) <= 60:
        yield Problem(TOO_LONG, "The footer must have 1 to 60 characters.")
    elif _PLACE.search(text):
        yield Problem(FOOTER_FORMAT, "The footer can't have variables.")


def _buttons(buttons: Sequence[Part], *, codes: bool, most: int) -> Iterator[Problem]:
    types = [_word(button, "type") for button in buttons]
    if not 1 <= len(types) <= most or any(types.count(word) > MOST_OF_TYPE.get(word, 0) for word in types):
        yield Problem(PARAMETER, "Too many buttons, or of an unknown type.")
    joined = "".join("q" if word == "QUICK_REPLY" else "o" for word in types)
    if not re.fullmatch(r"q*o*|o*q*", joined):
        yield Problem(PARAMETER, "Quick replies must be grouped together.")
    if codes != (types == ["OTP"]):
        yield Problem(PARAMETER, "A one-time password button belongs to an authentication template, alone.")
    for button, word in zip(buttons, types, strict=True):
        yield from _button(button, word)


def _button(button: Part, word: str) -> Iterator[Problem]:
    label = _text(button.get("text"))
    if len(label) > 25 or (not label and word not in UNLABELLED):
        yield Problem(TOO_LONG, "A button's text must have 1 to 25 characters.")
    if word == "URL":
        url, example = _text(button.get("url")), button.get("example")
        places = _PLACE.findall(url)
        if not 1 <= len(url) <= 2000 or len(places) > 1 or (places and not url.endswith("}}")):
            yield Problem(PARAMETER, "A button's url must have 1 to 2000 characters, and a variable at its end only.")
        if places and not (isinstance(example, list) and len(example) == 1 and _text(example[0])):
            yield Problem(PARAMETER, "A button's url with a variable needs an example.")
    if word == "PHONE_NUMBER" and not re.fullmatch(r"\+?[0-9]{5,20}", _text(button.get("phone_number"))):
        yield Problem(PARAMETER, "A button's phone_number must have at most 20 digits.")
    if word == "COPY_CODE" and not 1 <= len(_text(button.get("example"))) <= 20:
        yield Problem(PARAMETER, "A copy code button needs an example of at most 20 characters.")
    if word == "FLOW" and not button.get("flow_id"):
        yield Problem(PARAMETER, "A flow button needs flow_id.")
    if word == "OTP" and _word(button, "otp_type") not in ("COPY_CODE", "ONE_TAP", "ZERO_TAP"):
        yield Problem(PARAMETER, "A one-time password button needs otp_type.")


def _cards(cards: Sequence[Part], *, named: bool, handles: Mapping[str, str]) -> Iterator[Problem]:
    if not 2 <= len(cards) <= 10:
        yield Problem(PARAMETER, "A carousel has 2 to 10 cards.")
    shapes = []
    for card in cards:
        parts = {_word(part, "type"): part for part in _objects(card.get("components"))}
        buttons = _objects(parts.get("BUTTONS", {}).get("buttons"))
        form = _word(parts.get("HEADER", {}), "format")
        if form not in ("IMAGE", "VIDEO"):
            yield Problem(HEADER_FORMAT, "A card needs a header with an image or a video.")
        yield from _header(parts.get("HEADER", {}), named=named, handles=handles)
        if "BODY" in parts:
            yield from _body(parts["BODY"], named=named, most=160)
        yield from _buttons(buttons, codes=False, most=2)
        shapes.append((form, *(_word(button, "type") for button in buttons)))
    if len(set(shapes)) > 1:
        yield Problem(PARAMETER, "All cards need the same components.")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _word(part: Part, name: str) -> str:
    return _text(part.get(name)).upper()


def _objects(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
