"""Strings and JSON of Meta's, made fit to be stored: no U+0000, no lone surrogates, no endless depth."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable

from server.providers.contract import Json

# Meta's own webhooks are some ten levels deep.
DEPTH_MOST = 64

# Postgres stores neither of them, though JSON can carry both.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text with U+FFFD for each U+0000 and each lone surrogate."""
    return _UNSTORABLE.sub("\ufffd", text)


def clean_json(value: Json, *, depth: int = DEPTH_MOST) -> Json:
    """A copy with every string cleaned, keys too. Null stands for what is deeper than `depth` and for infinite numbers."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [clean_json(item, depth=depth - 1) for item in value]
    return {clean_text(str(key)): clean_json(item, depth=depth - 1) for key, item in value.items()}


def fingerprint(value: Json) -> str:
    """ "sha256:" and 32 hexadecimal digits, the same for the same JSON whatever its spaces and the order of its keys."""
    canonical = json.dumps(clean_json(value), sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()[:32]


def deeper_than(value: Json, most: int) -> bool:
    """Whether objects and arrays are nested more than `most` deep. Goes level by level, so depth costs no stack."""
    level = _containers([value])
    for _ in range(most):
        level = [inner for node in level for inner in _containers(node.values() if isinstance(node, dict) else node)]
    return bool(level)


def _containers(values: Iterable[Json]) -> list[dict[str, Json] | list[Json]]:
    return [value for value in values if isinstance(value, (dict, list))]
