"""Links to files: a path that never changes, and behind it until when it may be fetched, and who says so.

The signature covers path and time, so that whoever stands in front of us (a CDN) can keep what it fetched by the path alone and must ask
of each request only whether its signature holds.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Sequence
from datetime import datetime

# A link is the same for so long, and good for at least as long again after that.
STEP_SECONDS = 300
VALID_SECONDS = 600
PREFIX = "/media/"
PURPOSE = b"switchboard media links"
# In front of the path in what is signed, so that no link to fetch by is one to bring by.
UPLOAD = "upload "


class Links:
    """Makes and checks links. keys: the first signs, all of them are good."""

    def __init__(self, keys: Sequence[bytes], *, base_url: str) -> None:
        self._keys = tuple(keys)
        self._base_url = base_url.rstrip("/")

    def url(self, tenant_id: uuid.UUID, attachment_id: uuid.UUID | str) -> str:
        """A link that is good from now for 10 to 15 minutes; without a base address its path alone."""
        path = f"{PREFIX}{tenant_id}/{attachment_id}"
        until = (int(time.time()) // STEP_SECONDS + 1) * STEP_SECONDS + VALID_SECONDS
        return f"{self._base_url}{path}?exp={until}&sig={_signature(self._keys[0], path, until)}"

    def upload_url(self, tenant_id: uuid.UUID, media_id: uuid.UUID, *, until: datetime) -> str:
        """A link to bring a file by."""
        path, exp = f"{PREFIX}{tenant_id}/{media_id}", int(until.timestamp())
        return f"{self._base_url}{path}?exp={exp}&sig={_signature(self._keys[0], UPLOAD + path, exp)}"

    def takes(self, path: str, *, exp: str, sig: str) -> bool:
        """Whether a file may be brought to the path now."""
        return self.holds(UPLOAD + path, exp=exp, sig=sig)

    def holds(self, path: str, *, exp: str, sig: str) -> bool:
        """Whether the path may be fetched now."""
        if not (exp.isascii() and exp.isdigit() and len(exp) < 12) or not sig.isascii() or int(exp) <= time.time():
            return False
        return any(hmac.compare_digest(sig, _signature(key, path, int(exp))) for key in self._keys)


def derived(master_key: bytes) -> bytes:
    """The key of links where none is set."""
    return hmac.digest(master_key, PURPOSE, hashlib.sha256)


def _signature(key: bytes, path: str, until: int) -> str:
    return hmac.digest(key, f"{path}\n{until}".encode(), hashlib.sha256).hex()
