"""What Meta refuses of a message made from a template: it is looked up, and every place is filled as it wants it.

Source: Meta's Cloud API documentation, "Template messages", and its errors 131062, 132000, 132001, 132005, 132008, 132012,
132015, 132016, 132018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from server.simulator import errors
from server.simulator.contents import Problem
from server.simulator.errors import Json

BODY_MOST = 1024
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_CURRENCY = re.compile("[A-Z]{3}")
_UNFIT = re.compile(r"[\n\r\t]| {5}")
_STOPPED = {
    "PAUSED": (errors.TEMPLATE_PAUSED, "Template is paused due to low quality."),
    "DISABLED": (errors.TEMPLATE_DISABLED, "Template was paused too many times and is now permanently disabled."),
}
_SUB_TYPES = {
    **{"QUICK_REPLY": "quick_reply", "URL": "url", "OTP": "url", "COPY_CODE": "copy_code"},
    **{"FLOW": "flow", "CATALOG": "catalog", "MPM": "mpm"},
}
_FILES = {"IMAGE": "image", "VIDEO": "video", "GIF": "video", "DOCUMENT": "document", "LOCATION": "location"}


def problem(sent: Mapping[str, object], templates: Sequence[Json], *, to_user_id: bool) -> Problem | None:
    """The first thing Meta refuses. sent: of the shape that was checked before; templates: the business account's; to_user_id: and not
    to a phone number.
    """
    language = _mapping(sent.get("language")).get("code")
    found = next((each for each in templates if (each["name"], each["language"]) == (sent["name"], language)), None)
    if found is not None and found["status"] in _STOPPED:
        return Problem(*_STOPPED[str(found["status"])])
    if found is None or found["status"] != "APPROVED":
        detail = f"template name ({sent['name']}) does not exist in {language}"
        return Problem(errors.TEMPLATE_MISSING, detail)
    if to_user_id and found["category"] == "AUTHENTICATION":
        return Problem(errors.NO_USER_ID, "Authentication templates can only be sent to phone numbers.")
    return next(_problems(found, [_mapping(each) for each in _list(sent.get("components"))]), None)


def _problems(template: Json, given: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    parts = {str(part["type"]).upper(): part for part in _objects(template["components"])}
    named = template.get("parameter_format") == "NAMED"
    filled = {str(each["type"]): _objects(each.get("parameters")) for each in given if each["type"] != "button"}
    header, body = parts.get("HEADER", {}), parts.get("BODY", {})
    file = _FILES.get(str(header.get("format", "")).upper())
    if file is None:
        yield from _texts(header, filled.get("header", ()), "header", named=named)
    elif [each.get("type") for each in filled.get("header", ())] != [file]:
        yield Problem(errors.PARAMETER_FORMAT, f"header: Format mismatch, expected {file.upper()}")
    yield from _texts(body, filled.get("body", ()), "body", named=named)
    longest = len(_PLACE.sub("", str(body.get("text", "")))) + sum(map(len, map(_shown, filled.get("body", ()))))
    if longest > BODY_MOST:
        yield Problem(errors.TEXT_TOO_LONG, f"Translated text too long: {longest} of {BODY_MOST}")
    yield from _buttons(_objects(parts.get("BUTTONS", {}).get("buttons")), given)
    if template.get("category") == "AUTHENTICATION":
        codes = {_shown(each) for each in filled.get("body", ())}
        pressed = [
            _shown(text) for each in given if each.get("sub_type") == "url" for text in _objects(each["parameters"])
        ]
        if codes and not codes.issuperset(pressed):
            yield Problem(errors.PARAMETER_FORMAT, "Button at index 0 of type Otp requires the code of the body")


def _texts(
    part: Mapping[str, object], given: Sequence[Mapping[str, object]], where: str, *, named: bool
) -> Iterator[Problem]:
    places = list(dict.fromkeys(_PLACE.findall(str(part.get("text", "")))))
    if len(given) != len(places):
        detail = f"{where}: number of localizable_params ({len(given)}) does not match the expected number of params ({len(places)})"
        yield Problem(errors.PARAMETER_COUNT, detail)
    names = [each.get("parameter_name") for each in given]
    if named and len(set(names)) < len(names):
        yield Problem(errors.PARAMETER_FORMAT, f"{where}: Parameter name is there twice")
    for each in given:
        name = each.get("parameter_name")
        if named != (name is not None) or (named and name not in places):
            yield Problem(
                errors.PARAMETER_FORMAT, f"{where}: Parameter name is missing or empty, or is none of the template's"
            )
        if each.get("type") not in ("text", "currency", "date_time"):
            yield Problem(errors.PARAMETER_FORMAT, f"{where}: Format mismatch, expected TEXT")
        elif each.get("type") == "currency" and not _CURRENCY.fullmatch(
            str(_mapping(each.get("currency")).get("code"))
        ):
            yield Problem(errors.PARAMETER_VALUE, f"{where}: Currency code is not one of ISO 4217")
        elif _UNFIT.search(_shown(each)):
            detail = f"{where}: Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            yield Problem(errors.PARAMETER_TEXT, detail)


def _buttons(buttons: Sequence[Mapping[str, object]], given: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    filled = {str(each.get("index")): each for each in given if each["type"] == "button"}
    for index, each in filled.items():
        if not index.isdigit() or int(index) >= len(buttons):
            yield Problem(errors.PARAMETER_FORMAT, f"Button at index {index} does not exist")
        elif each.get("sub_type") != _SUB_TYPES.get(str(buttons[int(index)].get("type")).upper()):
            yield Problem(errors.PARAMETER_FORMAT, f"Button at index {index} is not of type {each.get('sub_type')}")
    for number, button in enumerate(buttons):
        word = str(button.get("type")).upper()
        needs = word in ("COPY_CODE", "OTP", "MPM") or (word == "URL" and _PLACE.search(str(button.get("url", ""))))
        if needs and str(number) not in filled:
            yield Problem(
                errors.MISSING_PARAMETER, f"Button at index {number} of type {word.capitalize()} requires a parameter"
            )


def _shown(parameter: Mapping[str, object]) -> str:
    word = parameter.get("type")
    if word == "text":
        return str(parameter.get("text", ""))
    return str(_mapping(parameter.get(str(word))).get("fallback_value", ""))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _objects(value: object) -> list[Mapping[str, object]]:
    return [_mapping(each) for each in _list(value)]
