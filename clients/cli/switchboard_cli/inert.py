"""What strangers wrote, on a terminal: shown, and nothing else. Names, texts and names of files may hold what a terminal obeys."""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters but tabs and ends of lines, and what turns the direction of text round.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def inert(text: str) -> str:
    r"""The text with what a terminal would obey written out, such as \x1b."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that says the same, and has none of it."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
