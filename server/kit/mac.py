"""Message authentication for what we hand out and get back: cursors and page tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

MAC_BYTES = 12


class MacKeys:
    """HMAC-SHA256, truncated to 12 bytes, with a key id of one byte, so that keys can be rotated.

    keys: key id (0 to 255) to secret (at least 16 bytes). current: the id that signs.
    """

    def __init__(self, keys: Mapping[int, bytes], *, current: int) -> None:
        self._keys = dict(keys)
        self._current = current

    def learn(self, keys: Mapping[int, bytes], *, current: int) -> None:
        """Other keys from now on."""
        self._keys, self._current = dict(keys), current

    def seal(self, data: bytes) -> bytes:
        """Returns data followed by key id and MAC."""
        signed = data + bytes([self._current])
        return signed + self._tag(self._keys[self._current], signed)

    def open(self, sealed: bytes) -> bytes | None:
        """Returns the data, or None when the seal is not ours."""
        if len(sealed) < MAC_BYTES + 1:
            return None
        signed, tag = sealed[:-MAC_BYTES], sealed[-MAC_BYTES:]
        key = self._keys.get(signed[-1])
        if key is None or not hmac.compare_digest(tag, self._tag(key, signed)):
            return None
        return signed[:-1]

    def _tag(self, key: bytes, signed: bytes) -> bytes:
        return hmac.digest(key, signed, hashlib.sha256)[:MAC_BYTES]
