"""Whether values are what their definitions say: a pure function for conversations and contacts alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from server.kit.errors import FieldViolation, InvalidFields

TEXT_CHARACTERS = 1000
OBJECT_BYTES = 16 << 10
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Definition:
    """What the values of a key must be. options: those of type option."""

    key: str
    type: str
    options: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The end of "the value must be"."""
        return f"one of: {', '.join(self.options)}" if self.type == "option" else _EXPECTED[self.type]

    def allows(self, value: Any) -> bool:
        """Whether a value of JSON is one of this key."""
        return value in self.options if self.type == "option" else _ALLOWED[self.type](value)


def check(definitions: Iterable[Definition], values: Mapping[str, Any], *, held: Mapping[str, Any]) -> None:
    """Refuses values that their definitions do not allow, all of them at once. InvalidFields, which names key and expected type.

    held: what is there now. A value that stays is not looked at, so that a new definition blocks nothing that was set before it.
    """
    by_key = {item.key: item for item in definitions}
    wrong = [
        FieldViolation("attributes", f"{key} must be {by_key[key].expected}")
        for key, value in values.items()
        if key in by_key and not _same(held, key, value) and not by_key[key].allows(value)
    ]
    if wrong:
        raise InvalidFields(*wrong)


def encoded(values: Mapping[str, Any]) -> str | None:
    """Attributes as their column holds them: JSON, NULL for none. InvalidFields above 16 KiB."""
    text = json.dumps(values) if values else None
    if len((text or "").encode()) > OBJECT_BYTES:
        raise InvalidFields(FieldViolation("attributes", f"has more than {OBJECT_BYTES} bytes as JSON"))
    return text


def _same(held: Mapping[str, Any], key: str, value: Any) -> bool:
    # To Python true is 1, to JSON it is not.
    return key in held and held[key] == value and isinstance(held[key], bool) == isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARACTERS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "number": _is_number,
    "boolean": _is_boolean,
    "date": _is_date,
}
_EXPECTED = {
    "text": f"text of at most {TEXT_CHARACTERS} characters",
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2026-11-23",
}
