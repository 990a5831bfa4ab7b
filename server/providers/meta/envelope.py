"""The outside of a webhook: one JSON object, entries in it, changes in each entry.

Only what routing needs is read here, and the body is read once. A piece that does not fit stays in the result as a
change without an account, so that nothing that Meta signed is lost.

Source: Meta's webhooks documentation for `whatsapp_business_account`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import NoReturn

from server.providers.contract import Change, Json
from server.providers.meta.text import DEPTH_MOST, clean_text, deeper_than

_ACCOUNT_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_FIELD_MOST = 64


class Unreadable(Enum):
    """Why a signed body has nothing to apply. It is answered 200 all the same: Meta would send it for days."""

    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_OBJECT = "unknown_object"
    EMPTY_ENTRY = "empty_entry"
    NO_CHANGES = "no_changes"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A body with at least one change; `changes` are in its order. `body` is kept for `subset`."""

    object: str
    changes: tuple[Change, ...]
    body: dict[str, Json] = field(repr=False)

    def subset(self, changes: Iterable[Change]) -> bytes:
        """A body with only these of its changes, each as it was, in the entries they stood in; compact ASCII JSON."""
        chosen: dict[int, list[int | None]] = {}
        for change in changes:
            chosen.setdefault(change.entry_index, []).append(change.change_index)
        entries = [_part(self._entries()[index], parts) for index, parts in sorted(chosen.items())]
        return json.dumps(self.body | {"entry": entries}, separators=(",", ":")).encode("ascii")

    def _entries(self) -> list[Json]:
        entries = self.body["entry"]
        return entries if isinstance(entries, list) else []


def read_envelope(raw: bytes, *, objects: Collection[str]) -> Envelope | Unreadable:
    """Reads a body whose signature was right. `objects`: the object words that some provider reads. Never raises."""
    try:
        body: Json = json.loads(raw, parse_constant=_refuse_constant)
    except RecursionError:
        return Unreadable.TOO_DEEP
    except ValueError:
        return Unreadable.NOT_JSON
    if deeper_than(body, DEPTH_MOST):
        return Unreadable.TOO_DEEP
    if not isinstance(body, dict):
        return Unreadable.NOT_AN_OBJECT
    return _read_body(body, objects)


def _refuse_constant(_name: str) -> NoReturn:
    """NaN and the infinities are Python's idea of JSON, and jsonb does not store them."""
    raise ValueError("not JSON")


def _read_body(body: dict[str, Json], objects: Collection[str]) -> Envelope | Unreadable:
    name = body.get("object")
    if not isinstance(name, str) or name not in objects:
        return Unreadable.UNKNOWN_OBJECT
    entries = body.get("entry")
    if not isinstance(entries, list) or not entries:
        return Unreadable.EMPTY_ENTRY
    changes = tuple(change for index, entry in enumerate(entries) for change in _changes(name, index, entry))
    return Envelope(name, changes, body) if changes else Unreadable.NO_CHANGES


def _changes(name: str, index: int, entry: Json) -> Iterator[Change]:
    entry_id = _account_id(entry.get("id")) if isinstance(entry, dict) else None
    time = _time(entry.get("time")) if isinstance(entry, dict) else None
    listed = entry.get("changes", []) if isinstance(entry, dict) else None
    if not isinstance(listed, list):
        yield Change(name, index, None, entry_id, "", entry, None)
        return
    for position, change in enumerate(listed):
        if isinstance(change, dict):
            value = change.get("value")
            yield Change(name, index, position, entry_id, _field(change), value, _phone_number_id(value), time)
        else:
            yield Change(name, index, position, entry_id, "", change, None)


def _time(given: Json) -> datetime | None:
    """Seconds for WhatsApp, which are of this century; examples of Meta's have other things too, and those tell nothing."""
    seconds = (
        int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 12 else given
    )
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 10**9 <= seconds < 4 * 10**9:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _field(change: dict[str, Json]) -> str:
    named = change.get("field")
    return clean_text(named)[:_FIELD_MOST] if isinstance(named, str) else ""


def _phone_number_id(value: Json) -> str | None:
    """Never the display_phone_number: it changes, and can lack Brazil's ninth digit. The field messaging_handovers has a recipient."""
    if not isinstance(value, dict):
        return None
    about = value.get("metadata") or value.get("recipient")
    return _account_id(about.get("phone_number_id")) if isinstance(about, dict) else None


def _account_id(given: Json) -> str | None:
    """Ids are digits in a string; a number is taken too, since examples of Meta's have both."""
    text = str(given) if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 10**32 else given
    return text if isinstance(text, str) and _ACCOUNT_ID.fullmatch(text) else None


def _part(entry: Json, positions: list[int | None]) -> Json:
    """The entry with the changes at these positions; whole when one of them is the entry itself."""
    if not isinstance(entry, dict) or None in positions:
        return entry
    listed = entry.get("changes")
    changes = listed if isinstance(listed, list) else []
    kept = sorted({position for position in positions if position is not None})
    return entry | {"changes": [changes[position] for position in kept if position < len(changes)]}
