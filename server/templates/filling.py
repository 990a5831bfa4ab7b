"""Whether a filling fits a template, place by place, and what the customer reads then: pure functions.

What is refused here the provider would refuse too, one error for the whole message, or send as nobody meant it.
Source: Meta's Cloud API documentation, "Template messages", and its errors 132000, 132005, 132012, 132018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from server.kit.errors import FieldViolation, InvalidFields
from server.providers.template import ButtonParameter, Filling, Parameter
from server.templates.row import TemplateRow

BODY_MOST = 1024
TEXTS = frozenset({"text", "currency", "date_time"})
# What a header that is no text is filled with.
FILES = {"IMAGE": "image", "VIDEO": "video", "GIF": "video", "DOCUMENT": "document", "LOCATION": "location"}
# What a button takes; a button of another type takes nothing.
TAKES = {
    "QUICK_REPLY": "payload",
    "URL": "url_suffix",
    "OTP": "url_suffix",
    "COPY_CODE": "coupon_code",
    "FLOW": "flow",
    "CATALOG": "product_retailer_id",
    "MPM": "products",
}
# These do without.
OPTIONAL = frozenset({"payload", "flow", "product_retailer_id"})
SECTIONS_MOST, PRODUCTS_MOST, SECTION_TITLE_MOST = 10, 30, 24
_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_UNFIT = re.compile(r"[\n\r\t]| {5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What the customer gets to read. buttons: as the template has them, with their addresses whole."""

    header: str
    body: str
    footer: str
    buttons: tuple[dict[str, Any], ...]


def render(row: TemplateRow, filling: Filling, *, path: str) -> Rendered:
    """The texts of a template whose places are filled. InvalidFields names every place that is wrong; path: of the filling."""
    named = row.parameter_format == "named"
    header, body, footer = (_part(row, kind) for kind in ("HEADER", "BODY", "FOOTER"))
    buttons = _part(row, "BUTTONS").get("buttons", [])
    wrong = [
        *_header(header, filling.header, named, f"{path}.header"),
        *_texts(body, filling.body, named, f"{path}.body"),
        *_buttons(buttons, filling.buttons, f"{path}.buttons"),
        *(_codes(filling, path) if row.category == "AUTHENTICATION" else ()),
    ]
    made = "" if wrong else _filled(body, filling.body, named=named)
    if len(made) > BODY_MOST:
        wrong.append(FieldViolation(f"{path}.body", f"makes a text of more than {BODY_MOST} characters"))
    if wrong:
        raise InvalidFields(*wrong)
    given = {item.index: item.value for item in filling.buttons if item.kind == "url_suffix"}
    return Rendered(
        header=_filled(header, filling.header, named=named),
        body=made,
        footer=footer.get("text", ""),
        buttons=tuple(_whole(button, given.get(index)) for index, button in enumerate(buttons)),
    )


def _part(row: TemplateRow, kind: str) -> dict[str, Any]:
    return next((part for part in row.components if part.get("type") == kind), {})


def _places(part: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(_PLACE.findall(part.get("text", ""))))


def _header(part: dict[str, Any], given: Sequence[Parameter], named: bool, path: str) -> Iterator[FieldViolation]:
    kind = FILES.get(part.get("format", ""))
    if kind is None:
        yield from _texts(part, given, named, path)
    elif [item.kind for item in given] != [kind]:
        yield FieldViolation(path, f"the template's header needs one {kind}")


def _texts(part: dict[str, Any], given: Sequence[Parameter], named: bool, path: str) -> Iterator[FieldViolation]:
    """Of a text: as many as it has places, by name or by number and never both, and each of them text."""
    places = _places(part)
    names = [item.name for item in given]
    if named and places:
        yield from _names(places, names, path)
    else:
        for index, name in enumerate(names):
            if name is not None:
                yield FieldViolation(f"{path}[{index}].name", "the template's places have numbers")
        if len(given) != len(places):
            yield FieldViolation(path, f"the template has {len(places)} places here, not {len(given)}")
    for index, item in enumerate(given):
        if item.kind not in TEXTS:
            yield FieldViolation(f"{path}[{index}].{item.kind}", "text is needed here")
        elif _UNFIT.search(item.shown):
            field = "text" if item.kind == "text" else f"{item.kind}.fallback"
            yield FieldViolation(
                f"{path}[{index}].{field}", "must have no line breaks, no tabs and no more than four spaces in a row"
            )


def _names(places: Sequence[str], names: Sequence[str | None], path: str) -> Iterator[FieldViolation]:
    for index, name in enumerate(names):
        if name is None:
            yield FieldViolation(f"{path}[{index}].name", "is needed: the template's places have names")
        elif name not in places:
            yield FieldViolation(f"{path}[{index}].name", f"is none of the template's places: {', '.join(places)}")
        elif name in names[:index]:
            yield FieldViolation(f"{path}[{index}].name", "is there twice")
    for place in places:
        if place not in names:
            yield FieldViolation(path, f"{place} is missing")


def _buttons(
    buttons: Sequence[dict[str, Any]], given: Sequence[ButtonParameter], path: str
) -> Iterator[FieldViolation]:
    seen: set[int] = set()
    for position, item in enumerate(given):
        place = f"{path}[{position}]"
        if item.index >= len(buttons):
            yield FieldViolation(f"{place}.index", f"the template has {len(buttons)} buttons")
        elif item.index in seen:
            yield FieldViolation(f"{place}.index", "is there twice")
        elif item.kind != _takes(buttons[item.index]):
            fit = _takes(buttons[item.index]) or "nothing"
            yield FieldViolation(f"{place}.{item.kind}", f"button {item.index} takes {fit}")
        elif item.kind == "products":
            yield from _products(item.value["product_sections"], f"{place}.products.product_sections")
        seen.add(item.index)
    for index, button in enumerate(buttons):
        wanted = _takes(button)
        if wanted is not None and wanted not in OPTIONAL and index not in seen:
            yield FieldViolation(path, f"button {index} needs {wanted}")


def _products(sections: Sequence[dict[str, Any]], path: str) -> Iterator[FieldViolation]:
    if len(sections) > SECTIONS_MOST:
        yield FieldViolation(path, f"at most {SECTIONS_MOST} sections")
    if sum(len(section["product_retailer_ids"]) for section in sections) > PRODUCTS_MOST:
        yield FieldViolation(path, f"at most {PRODUCTS_MOST} products in all")
    for index, section in enumerate(sections):
        title = section.get("title")
        if title is None and len(sections) > 1:
            yield FieldViolation(f"{path}[{index}].title", "is needed where there are several")
        elif title is not None and len(title) > SECTION_TITLE_MOST:
            yield FieldViolation(f"{path}[{index}].title", f"at most {SECTION_TITLE_MOST} characters")


def _codes(filling: Filling, path: str) -> Iterator[FieldViolation]:
    """A code is copied by the button that is not the one in the text."""
    codes = {item.shown for item in filling.body}
    for position, item in enumerate(filling.buttons):
        if item.kind == "url_suffix" and codes and item.value not in codes:
            yield FieldViolation(f"{path}.buttons[{position}].url_suffix", "must be the code of the body")


def _takes(button: dict[str, Any]) -> str | None:
    """What a button is given; None where there is nothing to give, such as for an address without a place."""
    wanted = TAKES.get(button.get("type", ""))
    whole = button.get("type") == "URL" and not _PLACE.search(button.get("url", ""))
    return None if whole else wanted


def _filled(part: dict[str, Any], given: Sequence[Parameter], *, named: bool) -> str:
    places = _places(part)
    # By number, the first parameter is of the smallest number, wherever that stands.
    order = places if named else sorted(places, key=lambda place: (len(place), place))
    values = {item.name or place: item.shown for item, place in zip(given, order, strict=False)}
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), part.get("text", ""))


def _whole(button: dict[str, Any], suffix: str | None) -> dict[str, Any]:
    if suffix is None or "url" not in button:
        return button
    return button | {"url": _PLACE.sub(lambda _: suffix, button["url"])}
