"""What happened, as files: one of JSON lines for each actor, written while it happens and read when all is over."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


class Recorder:
    """One actor's file. Times are monotonic seconds of this machine."""

    def __init__(self, folder: Path, actor: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{actor}.jsonl").open("w", buffering=1 << 16)

    def write(self, **line: Any) -> None:
        """Adds a line."""
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Writes what is still in memory."""
        self._file.close()


def read(folder: Path, actor: str) -> list[dict[str, Any]]:
    """An actor's lines."""
    with (folder / f"{actor}.jsonl").open() as file:
        return [json.loads(line) for line in file]


class Running:
    """A hash over (seq, event id) of a stream's events, in the order they came: a stream is compared by one word."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, seq: int, event_id: str) -> None:
        """The next event."""
        self._hash.update(f"{seq} {event_id}\n".encode())

    @property
    def word(self) -> str:
        """The hash of all events so far."""
        return self._hash.hexdigest()


def position(cursor: str) -> int:
    """The seq in a cursor. The format is that of `server/log/cursor.py`; the seal is not checked here."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    # version, tenant tag and epoch before the number; fingerprint, key id and MAC after it.
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(raw[17:-21]))
