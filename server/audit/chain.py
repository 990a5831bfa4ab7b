"""The chain of hashes: whether the trail is as it was written."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.audit.record import COLUMNS
from server.kit.db import Connection

# The newest entries: some seconds' work. Older ones are held by the hashes of these.
CHECKED, AT_ONCE = 100_000, 5000
HEAD = "SELECT number, hash FROM audit_head WHERE id = 1"
FROM = "SELECT number, hash FROM audit_entries WHERE number <= $1::bigint - $2::bigint ORDER BY number DESC LIMIT 1"
ENTRIES = f"SELECT number, hash, {', '.join(COLUMNS)} FROM audit_entries WHERE number > $1 ORDER BY number LIMIT $2"


def hash_of(before: bytes, number: int, entry: Mapping[str, Any]) -> bytes:
    """SHA-256 of the hash before and of everything that an entry says."""
    told = [number, *(_told(entry[name]) for name in COLUMNS)]
    return hashlib.sha256(before + json.dumps(told, separators=(",", ":")).encode()).digest()


def _told(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


async def broken(connection: Connection) -> str | None:
    """Where the chain breaks, in words; None: it does not. Best in one snapshot: the follower goes on meanwhile."""
    head: Any = await connection.fetchrow(HEAD)
    first: Any = await connection.fetchrow(FROM, head["number"], CHECKED)
    number, before = (0, b"") if first is None else (first["number"], bytes(first["hash"]))
    while number < head["number"]:
        rows: list[Any] = await connection.fetch(ENTRIES, number, min(AT_ONCE, head["number"] - number))
        if not rows:
            return f"the audit trail ends with entry {number}; {head['number']} were written"
        for row in rows:
            if row["number"] != number + 1:
                return f"entry {number + 1} of the audit trail is missing"
            if hash_of(before, row["number"], row) != bytes(row["hash"]):
                return f"entry {row['number']} of the audit trail is not what was written"
            number, before = row["number"], bytes(row["hash"])
    if before != bytes(head["hash"]):
        return f"entry {number} of the audit trail, its last, is not the one that was written last"
    return None
