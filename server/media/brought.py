"""Files that callers bring: rows of `media`, and their content in the store under the same id.

The row is there before the content, so that nothing lies in the store that no row names; what no message has is deleted a day later.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from server.kit.db import Connection, Database, Write
from server.kit.errors import NotFound, Refusal
from server.media import sniff
from server.media.spool import Spool
from server.media.store import Store, StoreAway, key_of

KEPT = timedelta(days=1)
# So long a file that is about to be sent stays all the same.
HELD = timedelta(hours=1)

INSERT = """
INSERT INTO media (id, state, link, file_name, create_time, due_time)
VALUES ($1, $2, $3, $4, clock_now(), clock_now() + $5)
"""
GET = "SELECT * FROM media WHERE id = $1"
LOCK = "SELECT * FROM media WHERE id = $1 FOR UPDATE"
STORED = """
UPDATE media SET state = 'stored', mime_type = $2, size_bytes = $3, sha256 = $4, animated = $5 WHERE id = $1 RETURNING *
"""
HOLD = """
UPDATE media SET due_time = greatest(due_time, clock_now() + $2) WHERE id = ANY($1::uuid[]) AND due_time IS NOT NULL
"""
NEXT_DUE = "SELECT min(due_time) FROM media"
DROP = "DELETE FROM media WHERE id IN (SELECT id FROM media WHERE due_time <= clock_now() ORDER BY due_time LIMIT 100)"


class TooLarge(Exception):
    """More bytes than are taken."""


class Empty(Exception):
    """No bytes at all."""


class MediaTaken(Exception):
    """Another content was brought before."""


class StoreUnavailable(Refusal):
    """Nothing can be kept now."""

    status = "UNAVAILABLE"
    reason = "MEDIA_STORE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the store of files does not answer; repeat")


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds. path: where it lies on this machine."""

    path: Path
    mime_type: str
    size: int
    sha256: str
    animated: bool


async def expect(
    connection: Connection,
    media_id: uuid.UUID,
    *,
    file_name: str | None,
    link: str | None = None,
) -> None:
    """A file whose content is to come: over a signed link, or from where `link` leads."""
    state = "expected" if link is None else "linked"
    await connection.execute(INSERT, media_id, state, link, file_name, KEPT)


async def get(connection: Connection, media_id: uuid.UUID) -> Any:
    """A file. NotFound."""
    record = await connection.fetchrow(GET, media_id)
    if record is None:
        raise NotFound("media")
    return record


async def hold(connection: Connection, media_ids: list[uuid.UUID]) -> None:
    """Has files stay that are about to be sent."""
    await connection.execute(HOLD, media_ids, HELD)


async def drop_due(connection: Connection) -> None:
    """Deletes files that nobody sent."""
    await connection.execute(DROP)


async def take(
    database: Database,
    store: Store,
    *,
    tenant_id: uuid.UUID,
    media_id: uuid.UUID,
    chunks: AsyncIterator[bytes],
    told: str,
    most_bytes: int,
) -> Any:
    """Stores the content of a file that is expected; its row. told: its type as the caller says. MediaTaken, NotFound, Empty,
    TooLarge, StoreUnavailable.
    """
    with tempfile.NamedTemporaryFile(prefix="switchboard-") as file:
        spool = Spool(file)
        async for chunk in chunks:
            if spool.size + len(chunk) > most_bytes:
                raise TooLarge
            await spool.write(chunk)
        if spool.size == 0:
            raise Empty
        await spool.flush()
        content = content_of(spool, Path(file.name), told=told)

        async def unit(write: Write) -> Any:
            # The lock keeps a second file from being put under the first one's hash.
            record = await write.connection.fetchrow(LOCK, media_id)
            if record is None:
                raise NotFound("media")
            if record["state"] != "expected":
                if record["sha256"] == content.sha256:
                    return record
                raise MediaTaken
            return await keep(write.connection, store, tenant_id=tenant_id, media_id=media_id, content=content)

        return await database.write(unit)


def content_of(spool: Spool, path: Path, *, told: str) -> Content:
    """What a spool has taken."""
    mime_type = sniff.brought_type(spool.head, told=told)
    return Content(path, mime_type, spool.size, spool.sha256.hex(), sniff.is_animated(spool.head))


async def keep(
    connection: Connection, store: Store, *, tenant_id: uuid.UUID, media_id: uuid.UUID, content: Content
) -> Any:
    """Puts the content of a locked file into the store; its row. StoreUnavailable."""
    try:
        await store.put(key_of(tenant_id, media_id), content.path)
    except StoreAway:
        raise StoreUnavailable from None
    values = (content.mime_type, content.size, content.sha256, content.animated)
    return await connection.fetchrow(STORED, media_id, *values)
