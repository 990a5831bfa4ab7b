"""Webhooks as they will be: with members, fields and words in them that nobody knows yet, which change nothing."""

import random
from typing import Any

from server.simulator.errors import Json

_KINDS = 6


def littered(body: Json, chance: random.Random) -> Json:
    """The same webhook with unknown members in some of its objects, one change more, and a status more where there are some."""
    whole: Any = _littered(body, chance)
    for entry in whole["entry"]:
        for change in entry["changes"]:
            value = change["value"]
            if isinstance(value, dict) and isinstance(value.get("statuses"), list):
                word = f"status_of_{chance.randrange(10**6)}"
                value["statuses"].append({"id": f"wamid.{word}", "status": word, "timestamp": "1700000000"})
        entry["changes"].append({"field": f"field_of_{chance.randrange(10**6)}", "value": _anything(chance)})
    return dict(whole)


def _littered(given: Any, chance: random.Random) -> Any:
    if isinstance(given, list):
        return [_littered(item, chance) for item in given]
    if not isinstance(given, dict):
        return given
    kept = {name: _littered(value, chance) for name, value in given.items()}
    return kept | ({f"x_{chance.randrange(10**6)}": _anything(chance)} if chance.random() < 0.5 else {})


def _anything(chance: random.Random) -> object:
    plain: tuple[object, ...] = (None, chance.randrange(2**70), chance.random(), "\u0000 \ud800 <b>", True, {"id": []})
    return plain[chance.randrange(_KINDS)]
