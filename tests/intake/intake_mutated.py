"""Real webhooks with something wrong in them: every body is what some sender, proxy or new release of Meta's might send one day.

The same seed makes the same bodies.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "providers" / "payloads"
IN_PLACE = 0.85
"""So many of the bodies are still JSON: the parser has them to read."""
Place = tuple[Any, Any]

ODD: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None,
    lambda _: True,
    lambda chance: chance.choice([0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 10**40, 10**400]),
    lambda chance: chance.choice([0.5, -0.0, 1e308, 1e-320, 1.7e9]),
    lambda chance: chance.choice(["", " ", "\u0000", "a\u0000b", "\ud800", "x\udfffy", "\u202e\u2066", "😀" * 9, "-1"]),
    lambda chance: chance.choice(["1749416383", "99999999999999999999", "1e9", "٣", "NaN", "null", "messages", "text"]),
    lambda chance: chance.choice(["x", "é", "\\", "'", "\n"]) * chance.choice([65, 600, 5_000, 60_000]),
    lambda _: [],
    lambda _: {},
    lambda chance: [None, {}, [], 1, "x"][: chance.randrange(6)],
    lambda chance: nested(chance.choice([3, 20, 60, 120])),
    lambda _: {"id": {"id": {"id": 1}}, "": 0, "\u0000": 0, "\ud83d": 0},
)


def nested(depth: int) -> Any:
    """Lists and objects in each other."""
    found: Any = 1
    for level in range(depth):
        found = [found] if level % 2 else {"text": found}
    return found


class Mutations:
    """Bodies for one number of a business account."""

    def __init__(self, *, seed: int, waba_id: str, phone_number_id: str) -> None:
        self._chance = random.Random(seed)
        self._golden = [path.read_text() for path in sorted(GOLDEN.glob("*.json"))]
        self._waba_id, self._phone_number_id = waba_id, phone_number_id
        self._seed = seed

    def bodies(self, count: int) -> Iterator[bytes]:
        """So many bodies, one different from the other."""
        for number in range(count):
            yield self._body(number)

    def _body(self, number: int) -> bytes:
        chance = self._chance
        body = self._addressed(number)
        if chance.random() < 0.1:
            body["entry"] += self._addressed(number)["entry"]
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 6])):
            self._mutate(body)
        if chance.random() < IN_PLACE:
            return _text(body, chance).encode("utf-8", "surrogatepass" if chance.random() < 0.3 else "replace")
        return self._spoiled(_text(body, chance))

    def _addressed(self, number: int) -> Any:
        """A real webhook, as if it were for this number; most are of messages that nobody has seen."""
        chance = self._chance
        whole = chance.choice(self._golden)
        if chance.random() < 0.8:
            whole = whole.replace("wamid.", f"wamid.{self._seed}.{number}.")
        if chance.random() < 0.5:
            whole = whole.replace("16505551234", f"1650555{chance.randrange(50):04}")
        body = json.loads(whole.replace('"1749416383"', f'"{int(time.time()) - chance.randrange(600)}"'))
        for entry in body["entry"]:
            entry["id"] = self._waba_id
            for change in entry["changes"]:
                if "metadata" in change["value"]:
                    change["value"]["metadata"]["phone_number_id"] = self._phone_number_id
        return body

    def _mutate(self, body: Any) -> None:
        """One place gets something else, is lost, doubled, called otherwise, or changes with another one."""
        chance = self._chance
        places = list(_places(body))
        inside = [place for place in places if place[2] >= 6]
        if not places:
            return
        # Most of it behind the envelope: what is wrong there is the parser's to find.
        holder, key, _ = chance.choice(inside if inside and chance.random() < 0.9 else places)
        way = chance.randrange(8)
        if way <= 3:
            holder[key] = chance.choice(ODD)(chance)
        elif way == 4:
            del holder[key]
        elif way == 5 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif way == 5:
            holder[chance.choice(["id", "type", "text", "x", "ID", "\u0000"])] = holder.pop(key)
        elif way == 6:
            other, at, _ = chance.choice(places)
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = [holder[key]]

    def _spoiled(self, text: str) -> bytes:
        """What is no JSON, or no text."""
        chance = self._chance
        raw = bytearray(text.encode("utf-8", "replace"))
        place = chance.randrange(len(raw))
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: bytes(raw[:place]),
            lambda: bytes(raw[:place] + bytes(chance.randrange(256) for _ in range(4)) + raw[place:]),
            lambda: bytes(raw[:place] + b"\xff\xfe\xc0\x80" + raw[place:]),
            lambda: text.encode("utf-16", "replace"),
            lambda: b"\xef\xbb\xbf" + raw,
            lambda: bytes(raw) + b"{}",
            lambda: text.replace('"', "'").encode("utf-8", "replace"),
            lambda: text.replace(":", ": NaN, ", 1).encode("utf-8", "replace"),
            lambda: b"[" * chance.choice([10, 5_000, 200_000]),
            lambda: bytes(raw).replace(b'"id":', b'"id":[' + b"[" * 2_000, 1),
        )
        return chance.choice(ways)()


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    """Every place where something else could stand, and how deep it is."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key, depth
        if depth < 12:
            yield from _places(value[key], depth + 1)


def _text(body: Any, chance: random.Random) -> str:
    """JSON as Meta writes it or as others do; some with a member twice."""
    text = json.dumps(body, ensure_ascii=chance.random() < 0.7, separators=(",", ":"))
    if chance.random() < 0.02:
        deep = chance.choice([400, 900, 3_000, 50_000])
        return text.replace("{", '{"x":' + "[" * deep + "]" * deep + ",", 1)
    if chance.random() < 0.08 and '"id":' in text:
        return text.replace('"id":', f'"id":{json.dumps(chance.choice(ODD[:6])(chance))},"id":', 1)
    return text
