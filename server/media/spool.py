"""A file on this machine that takes what comes, on its way to the store."""

from __future__ import annotations

import asyncio
import hashlib
from typing import IO

from server.media import sniff


class Spool:
    """Counts, hashes and looks at what it takes. A `MediaSink`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""

    @property
    def sha256(self) -> bytes:
        """Of all it has."""
        return self._hash.digest()

    async def write(self, chunk: bytes) -> None:
        """Takes more."""
        if len(self.head) < sniff.HEAD_BYTES:
            self.head += chunk[: sniff.HEAD_BYTES - len(self.head)]
        self._hash.update(chunk)
        self.size += len(chunk)
        await asyncio.to_thread(self._file.write, chunk)

    async def clear(self) -> None:
        """Forgets all it has."""
        self._file.seek(0)
        self._file.truncate()
        self._hash, self.size, self.head = hashlib.sha256(), 0, b""

    async def flush(self) -> None:
        """Has all of it in the file."""
        await asyncio.to_thread(self._file.flush)
