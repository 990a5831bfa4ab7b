"""The id of a call: the caller's `x-request-id` where it is one, else made here.

It comes back in the trailing metadata, stands in each error's RequestInfo and in every line that is logged for the call, and is the
cause of the events that the call brings about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from server.kit.ids import new_id

HEADER = "x-request-id"
# Nothing that could break a line of a log or a header; UUIDs, ULIDs and the ids of tracing systems fit.
VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")
CURRENT: ContextVar[str] = ContextVar("request_id", default="")


def request_id_of(metadata: Iterable[Any] | None) -> str:
    """The id that a call shall have, by its metadata: pairs of name and value."""
    for name, value in metadata or ():
        if name == HEADER:
            return value if isinstance(value, str) and VALID.fullmatch(value) else str(new_id())
    return str(new_id())
