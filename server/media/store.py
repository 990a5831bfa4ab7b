"""The object store: a folder of this machine, or anything that speaks S3.

A key is `{tenant id}/{attachment id}`: nothing that a customer or provider chose is part of it. What is put is seen whole or not at
all: a folder takes it under another name first, S3 puts its parts together at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

CHUNK_BYTES = 256 * 1024


class StoreAway(Exception):
    """The store does not do it now. word: which error, fit for logs."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Missing(Exception):
    """Nothing is stored under the key."""


class Store:
    """Puts, reads and deletes whole files."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put(self, key: str, file: Path) -> None:
        """Stores a file, in place of what was there. StoreAway."""
        try:
            await obstore.put_async(self._objects, key, file)
        except (BaseError, OSError) as error:
            raise StoreAway(type(error).__name__) from None

    async def read(self, key: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """Streams the bytes from start up to end, the latter not included. Missing, StoreAway: before the first byte only."""
        if start >= end:
            return
        try:
            found = await obstore.get_async(self._objects, key, options={"range": (start, end)})
        except FileNotFoundError:
            raise Missing from None
        except (BaseError, OSError) as error:
            raise StoreAway(type(error).__name__) from None
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Deletes a file; one that is not there is fine. StoreAway."""
        try:
            await obstore.delete_async(self._objects, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreAway(type(error).__name__) from None


def open_store(url: str, *, folder: Path, endpoint: str, region: str, access_key: str, secret_key: str) -> Store:
    """The store of these settings. url: s3://bucket/prefix, file:///folder, or "" for `folder`. Connects to nothing. ValueError."""
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise ValueError("names no bucket")
        config: S3Config = {"region": region}
        if endpoint:
            config["endpoint"] = endpoint
        if access_key:
            config |= {"access_key_id": access_key, "secret_access_key": secret_key}
        client: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "timeout": timedelta(minutes=5),
            "connect_timeout": timedelta(seconds=5),
        }
        return Store(S3Store(bucket, prefix=prefix or None, config=config, client_options=client))
    if url and not url.startswith("file:///"):
        raise ValueError("must start with s3:// or file:///")
    place = Path(url.removeprefix("file://")) if url else folder
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Store(LocalStore(place.resolve()))


def key_of(tenant_id: uuid.UUID, attachment_id: uuid.UUID) -> str:
    """Where a file of a tenant lies."""
    return f"{tenant_id}/{attachment_id}"
