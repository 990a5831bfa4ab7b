"""What stands in an example for that which differs from run to run: ids, times, numbers, tokens.

An example is the same whenever it is recorded, so that recording all of them anew changes those alone that did change.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

# Of a list so much is shown, and of a text.
ITEMS, CHARACTERS = 2, 200
# Every call is made at this time; what happened shortly before happened then too.
NOON = datetime.fromisoformat("2026-11-23T12:00:00+00:00")
QUARTER = timedelta(minutes=15)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d(?::|%3A)\d\d(?::|%3A)\d\d(?:\.\d+)?Z")
_NONCE = re.compile(r"n[0-9a-f]{10}n")
_PLAIN = (
    (re.compile(r"inv_[0-9a-f]{32}_[0-9a-f]{32}_[0-9a-f]{64}"), "inv_…"),
    (re.compile(r"wamid\.[\w=+/-]+"), "wamid.HBgN…"),
    (re.compile(r"(?!0{64})[0-9a-f]{64}"), "…"),
)
# How long something took.
_TOOK = re.compile(r"\d+\.\d+s")
# Zeros alone are no number of anything.
_DIGITS = re.compile(r"\b(?!0+\b)\d{7,}\b")
# Of an answer: tokens and secrets.
_OPAQUE = frozenset({"cursor", "asOf", "nextCursor", "nextPageToken", "token", "secret", "keyId", "requestId"})
# Numbers that count what went before: only their order is shown.
_ORDERED = frozenset({"seq", "head", "sequence", "number"})
# Their members have no order of their own, so that each answer has another.
_MAPS = frozenset({"attributes", "metadata"})
# A message that was read before its receipt of delivery came is not counted as delivered.
_OVERTAKEN = frozenset({"deliveredCount"})
# What is a matter of the clock is there or is not.
_LEFT_OUT = frozenset({"lastUseTime"})


class Placeholders:
    """Stands in within one call: the same for the same.

    `exchange` is all that was sent and answered, `end` when the answer was there, `secrets` text that is shown as other text.
    """

    def __init__(self, exchange: Any, *, end: datetime, secrets: Mapping[str, str]) -> None:
        self._end = end
        self._secrets = secrets
        self._ids: dict[str, str] = {}
        self._nonces: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        counted = {value for value in _values_of(exchange, _ORDERED) if isinstance(value, str) and value.isdigit()}
        ordered = sorted(map(int, counted))
        self._ordered = {str(value): str(1001 + i) for i, value in enumerate(ordered)}

    def text(self, value: str) -> str:
        """A path, or any text of a request or an answer."""
        for secret, word in self._secrets.items():
            value = value.replace(secret, word)
        value = _TIME.sub(lambda found: self._time(found[0]), value)
        if _TOOK.fullmatch(value):
            return "2.500s"
        value = _NONCE.sub(lambda found: self._nonce(found[0]), value)
        for pattern, word in _PLAIN:
            value = pattern.sub(word, value)
        return self._ids_and_numbers(value)

    def request(self, value: Any) -> Any:
        """The body of a request, or headers."""
        if isinstance(value, dict):
            return {name: self.request(_in_order(inner, name)) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.request(inner) for inner in value]
        return _cut(self.text(value)) if isinstance(value, str) else value

    def answer(self, value: Any, key: str = "") -> Any:
        """An answer as JSON, or as text."""
        if isinstance(value, dict):
            shown = {name: inner for name, inner in value.items() if name not in _LEFT_OUT}
            return {name: self.answer(_in_order(inner, name), name) for name, inner in shown.items()}
        if isinstance(value, list):
            return [self.answer(inner, key) for inner in (value if key == "details" else value[:ITEMS])]
        if not isinstance(value, str):
            return 1 if key in _OVERTAKEN else value
        if key in _ORDERED and value.isdigit():
            return self._ordered[value]
        return "…" if key in _OPAQUE and value and not _NONCE.search(value) else _cut(self.text(value))

    def _ids_and_numbers(self, value: str) -> str:
        # An id has digits of its own, so that numbers are looked for between ids.
        parts, ids = _UUID.split(value), [self._id(found) for found in _UUID.findall(value)]
        numbered = [_DIGITS.sub(lambda found: self._number(found[0]), part) for part in parts]
        return "".join(part + each for part, each in zip(numbered, [*ids, ""], strict=True))

    def _id(self, value: str) -> str:
        return self._ids.setdefault(value, f"01a20000-0000-7000-8000-{len(self._ids) + 1:012d}")

    def _nonce(self, value: str) -> str:
        return self._nonces.setdefault(value, f"example{len(self._nonces) + 1 if self._nonces else ''}")

    def _number(self, value: str) -> str:
        """As many digits; the last two say the how manieth number it is."""
        same = f"{('4915123456' * len(value))[: len(value) - 2]}{len(self._numbers) + 1:02d}"
        return self._numbers.setdefault(value, same)

    def _time(self, value: str) -> str:
        moment = datetime.fromisoformat(value.replace("%3A", ":"))
        text = f"{NOON + _rounded(moment - self._end):%Y-%m-%dT%H:%M:%SZ}"
        return text.replace(":", "%3A") if "%3A" in value else text


def _rounded(distance: timedelta) -> timedelta:
    """From a time to the call, up to whole quarters; within the next quarter up to whole minutes."""
    unit = timedelta(minutes=1) if timedelta() < distance < QUARTER else QUARTER
    return unit * math.ceil(distance / unit)


def _in_order(value: Any, key: str) -> Any:
    """A map with its members by name; anything else as it is."""
    return json.loads(json.dumps(value, sort_keys=True)) if key in _MAPS else value


def _values_of(value: Any, keys: frozenset[str]) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from [inner] if name in keys else _values_of(inner, keys)
    elif isinstance(value, list):
        for inner in value:
            yield from _values_of(inner, keys)


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:20]}…"
