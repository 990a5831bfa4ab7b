"""A webhook without what it has of somebody: the elements of its lists that are about him are taken out, those of others stay."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from server.providers.contract import Erased, Json

# Objects inside an element that say whom it is about; what else is inside is what somebody said.
_INNER = ("system", "user_id")


def without(raw: bytes, erased: Erased, *, prefixes: Iterable[str]) -> bytes | None:
    """The body without him; None when there is nothing of him in it. prefixes: how ids begin that tell of him.

    A change that names him outside of any list goes as a whole. What is no JSON object has nothing.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    person, changed = _Person(erased, tuple(prefixes)), False
    entries = body.get("entry") if isinstance(body, dict) else None
    for place, entry in enumerate(entries if isinstance(entries, list) else []):
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if isinstance(changes, list):
            kept = [
                change
                for position, change in enumerate(changes)
                if (place, position) not in erased.changes and not person.clear(change)
            ]
            changed |= len(kept) < len(changes)
            entry["changes"] = kept
    return json.dumps(body, separators=(",", ":")).encode("ascii") if changed or person.found else None


class _Person:
    """Who is erased, as elements of lists are compared with him. found: whether anything was taken out."""

    def __init__(self, erased: Erased, prefixes: tuple[str, ...]) -> None:
        self._erased = erased
        self._prefixes = prefixes
        self.found = False

    def clear(self, change: Json) -> bool:
        """Takes him out of the lists of a change; whether the change itself names him, and has to go."""
        value = change.get("value") if isinstance(change, dict) else None
        if not isinstance(value, dict):
            return False
        spared = {word for element in _elements(value) if self._stays(element) for word in _words(element)}
        addresses = set(self._erased.addresses) - spared
        for chunk in _objects(value.get("history")):
            self._take_out(chunk, addresses)
        before, self.found = self.found, False
        self._take_out(value, addresses)
        if self.found:
            # What was said before the first of its messages, in somebody's words.
            value.pop("conversation_context", None)
        self.found |= before
        sender = value.get("sender")
        words = [*value.values(), *(sender.values() if isinstance(sender, dict) else ())]
        return any(_bare(word) in addresses for word in words if isinstance(word, str))

    def _take_out(self, holder: dict[str, Any], addresses: Collection[str]) -> None:
        for name, listed in holder.items():
            if isinstance(listed, list):
                kept = [element for element in listed if not self._is_about(element, addresses)]
                self.found |= len(kept) < len(listed)
                holder[name] = kept

    def _stays(self, element: Mapping[str, Any]) -> bool:
        return element.get("id") in self._erased.kept

    def _is_about(self, element: Json, addresses: Collection[str]) -> bool:
        if not isinstance(element, dict) or self._stays(element):
            return False
        given = element.get("id")
        if isinstance(given, str) and (given in self._erased.ids or given.startswith(self._prefixes)):
            return True
        return any(word in addresses for word in _words(element))


def _objects(listed: Json) -> list[dict[str, Any]]:
    return [element for element in listed if isinstance(element, dict)] if isinstance(listed, list) else []


def _elements(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for listed in value.values():
        yield from _objects(listed)


def _words(element: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an element by which it can be about somebody."""
    inner = [element[name] for name in _INNER if isinstance(element.get(name), dict)]
    for part in (element, *inner):
        yield from (_bare(word) for name, word in part.items() if isinstance(word, str) and name != "body")


def _bare(word: str) -> str:
    """A number is told with a plus here and there."""
    return word.removeprefix("+")
