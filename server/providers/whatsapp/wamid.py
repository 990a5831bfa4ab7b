"""Ids of messages at WhatsApp. They hold the other side's number in clear text: personal data.

One message may be named by two ids, each side's own; the token at the end of both is the same. Seen in ids of Meta's documentation.
"""

from __future__ import annotations

import base64
import binascii
import re

_PREFIX = "wamid."
_MOST = 512
# Upper-case hexadecimal digits, 18, 20 or 32 of them; a phone number has fewer.
_TOKEN = re.compile(rb"[0-9A-F]{18,40}")


def token(wamid: str) -> str | None:
    """What two ids of one message have in common; None of an id that is not made so."""
    if not wamid.startswith(_PREFIX) or len(wamid) > _MOST:
        return None
    try:
        decoded = base64.b64decode(wamid.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    found = _TOKEN.findall(decoded)
    return found[-1].decode() if found else None
