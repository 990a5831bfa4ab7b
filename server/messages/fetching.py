"""Files of customers' messages are fetched into the store, those of one tenant by the worker that has leased it.

A fetch is claimed for a while, and the claim renewed while bytes come: when a worker dies, another begins anew, and as the store
shows whole files alone and each has one place, doing it twice is doing it once. What became of it and its event are one unit of work.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from switchboard.v1 import actor_pb2

from server.channels import service as channels
from server.conversations import repository as conversations
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.errors import DatabaseUnavailable, Refusal
from server.log.append import append
from server.log.event import SYSTEM, Cause, NewEvent, Origin
from server.media import sniff
from server.media.spool import Spool
from server.media.store import Store, StoreAway, key_of
from server.messages import refetching
from server.providers.contract import Provider
from server.providers.media import MediaFailed, MediaFetched, WantedMedia
from server.tenancy.tenants import Tenant

log = structlog.get_logger(__name__)
# Fetches under way: of one tenant, and of a process.
TENANT_MOST, PROCESS_MOST = 4, 16
LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0
# After how long it is tried again; the last holds for all that follow, for as long as the provider keeps files.
AGAIN = (2.0, 10.0, 60.0, 300.0, 1800.0)
KEPT = timedelta(days=7)
LEAVINGS_MOST = 100
FETCHED = Counter(
    "switchboard_media_fetched_total", "Files of customers: what became of fetching them.", ["state", "error"]
)
AGAIN_LATER = Counter(
    "switchboard_media_put_off_total", "Fetches that did not work and are tried again later.", ["error"]
)
DIFFERS = Counter("switchboard_media_hash_differs_total", "Files whose hash is not the one that the provider told.")
LEFT = Counter("switchboard_media_deleted_total", "Files that were deleted from the store.")
BYTES = Counter("switchboard_media_fetched_bytes_total", "Bytes of the files that were stored.")
UNDER_WAY = Gauge("switchboard_media_fetches_under_way", "Files that are being fetched.")
LATE = Histogram(
    "switchboard_media_stored_seconds",
    "From when a file's message was stored here to when the file was.",
    buckets=(0.1, 0.3, 1, 3, 10, 60, 600, 3600, 86400),
)

CLAIM = """
UPDATE media_fetches f SET attempt = attempt + 1, due_time = clock_now() + $2
FROM (
    SELECT attachment_id FROM media_fetches WHERE due_time <= clock_now()
    ORDER BY due_time LIMIT $1 FOR UPDATE SKIP LOCKED
) due
WHERE f.attachment_id = due.attachment_id RETURNING f.attachment_id, f.attempt
"""
RENEW = "UPDATE media_fetches SET due_time = clock_now() + $3 WHERE attachment_id = $1 AND attempt = $2"
NEXT_DUE = """
SELECT min(due_time) AS time, min(due_time) - clock_now() AS wait
FROM (SELECT due_time FROM media_fetches UNION ALL SELECT due_time FROM media_leavings) due
"""
LOAD = """
SELECT a.message_id, m.conversation_id, m.channel_id, a.mime_type, a.provider_media_id, a.sha256, m.create_time,
    ch.provider, ch.account_id, ch.details, ch.access_token
FROM message_attachments a JOIN messages m ON m.id = a.message_id JOIN channels ch ON ch.id = m.channel_id
WHERE a.id = $1 AND a.state = 'fetching'
"""
HOLD = "SELECT FROM media_fetches WHERE attachment_id = $1 AND attempt = $2 FOR UPDATE"
END = "DELETE FROM media_fetches WHERE attachment_id = $1"
SAVE = """
UPDATE message_attachments SET state = $2, error = $3, size_bytes = coalesce($4, size_bytes), stored_type = $5, stored_sha256 = $6,
    sha256_differs = $7
WHERE id = $1
"""
LEAVINGS = "SELECT attachment_id FROM media_leavings WHERE due_time <= clock_now() ORDER BY due_time LIMIT $1"
FORGET = "DELETE FROM media_leavings WHERE attachment_id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A fetch that is this worker's for a while."""

    attachment_id: uuid.UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a file. size, mime_type, sha256: of what is stored; differs: the provider told another hash."""

    state: str
    error: str | None = None
    size: int | None = None
    mime_type: str | None = None
    sha256: str | None = None
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """When there is something to do, and how long that is from now by the database's clock."""

    time: datetime
    wait: timedelta


async def next_due(connection: Connection) -> Next | None:
    """The next time that a file is to be fetched or deleted."""
    record: Any = await connection.fetchrow(NEXT_DUE)
    return None if record["time"] is None else Next(record["time"], record["wait"])


class Fetcher:
    """The files of one tenant. slots: fetches that this process may have under way beside these."""

    def __init__(
        self, *, providers: Mapping[str, Provider], store: Store, most_bytes: int, slots: asyncio.Semaphore
    ) -> None:
        self._providers = providers
        self._store = store
        self._most_bytes = most_bytes
        self._slots = slots
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether fetches are under way."""
        return bool(self._tasks)

    async def look(self, tenant: Tenant) -> None:
        """Begins what is due, without waiting for it, and deletes what was left."""
        free = 0 if self._slots.locked() else TENANT_MOST - len(self._tasks)
        if free > 0:
            async with tenant.database.connection() as connection:
                records = await connection.fetch(CLAIM, free, LEASE)
            for record in records:
                task = asyncio.create_task(self._run(tenant, Claimed(record["attachment_id"], record["attempt"])))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await self._delete_left(tenant)

    async def stop(self) -> None:
        """Ends what is under way; somebody begins it anew when its claim ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, tenant: Tenant, claimed: Claimed) -> None:
        renewing = asyncio.create_task(_renew(tenant, claimed))
        try:
            async with self._slots:
                with UNDER_WAY.track_inprogress():
                    error = await attempt(self.fetch(tenant, claimed))
        except asyncio.CancelledError:
            # This worker has the tenant no more: the next one need not wait for the claim to end.
            await attempt(_due_in(tenant, claimed, timedelta(0)))
            raise
        finally:
            renewing.cancel()
        if error is not None:
            unexpected = None if isinstance(error, Refusal) else error
            log.warning("media.fetch_failed", attachment=str(claimed.attachment_id), exc_info=unexpected)
            await attempt(_put_off(tenant, claimed, type(error).__name__))

    async def fetch(self, tenant: Tenant, claimed: Claimed) -> None:
        """Fetches one file and stores what became of it."""
        async with tenant.database.connection() as connection:
            row = await connection.fetchrow(LOAD, claimed.attachment_id)
            if row is None:
                await connection.execute(END, claimed.attachment_id)
                return
        with tempfile.NamedTemporaryFile(prefix="switchboard-") as file:
            ended = await self._fetched(tenant, claimed, row, file)
        if isinstance(ended, Ended):
            await self._end(tenant, claimed, row, ended)

    async def _fetched(self, tenant: Tenant, claimed: Claimed, row: Any, file: IO[bytes]) -> Ended | None:
        spool = Spool(file)
        wanted = WantedMedia(
            account_id=row["account_id"],
            token=channels.token_of(tenant.secrets, row["channel_id"], row["access_token"]),
            settings=json.loads(row["details"]),
            media_id=row["provider_media_id"],
            most_bytes=self._most_bytes,
        )
        outcome = await self._providers[row["provider"]].fetch_media(wanted, spool)
        if isinstance(outcome, MediaFailed):
            return await _failed(tenant, claimed, row, outcome)
        await spool.flush()
        try:
            await self._store.put(key_of(tenant.id, claimed.attachment_id), Path(file.name))
        except StoreAway as away:
            await _put_off(tenant, claimed, f"store_{away.word}")
            return None
        return _stored(spool, row, outcome)

    async def _end(self, tenant: Tenant, claimed: Claimed, row: Any, ended: Ended) -> None:
        async def unit(write: Write) -> bool:
            events = await _settle(write, claimed, row, ended)
            await append(write, events)
            return bool(events)

        settled = await tenant.database.write(unit)
        if settled:
            FETCHED.labels(ended.state, ended.error or "").inc()
            BYTES.inc(ended.size or 0)
            DIFFERS.inc(ended.differs)
            if ended.state == "stored":
                LATE.observe((utc_now() - row["create_time"]).total_seconds())
        log.info("media.fetched", attachment=str(claimed.attachment_id), state=ended.state, error=ended.error)

    async def _delete_left(self, tenant: Tenant) -> None:
        """Deletes files whose rows are gone; again next time where the store is away."""
        async with tenant.database.connection() as connection:
            left = [record["attachment_id"] for record in await connection.fetch(LEAVINGS, LEAVINGS_MOST)]
        if not left:
            return
        for attachment_id in left:
            try:
                await self._store.delete(key_of(tenant.id, attachment_id))
            except StoreAway as away:
                log.warning("media.delete_failed", error=away.word)
                return
        async with tenant.database.connection() as connection:
            await connection.execute(FORGET, left)
        LEFT.inc(len(left))


async def _renew(tenant: Tenant, claimed: Claimed) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(DatabaseUnavailable):
            await _due_in(tenant, claimed, LEASE)


async def _due_in(tenant: Tenant, claimed: Claimed, wait: timedelta) -> None:
    async with tenant.database.connection() as connection:
        await connection.execute(RENEW, claimed.attachment_id, claimed.attempt, wait)


async def _failed(tenant: Tenant, claimed: Claimed, row: Any, failed: MediaFailed) -> Ended | None:
    """What it ends as; None when it is tried again. Nothing is tried for longer than the provider keeps it."""
    old = utc_now() - row["create_time"] >= KEPT
    if old and failed.kind in ("gone", "later"):
        return Ended("expired", failed.code)
    if failed.kind != "later":
        return Ended("failed", failed.code)
    await _put_off(tenant, claimed, failed.code)
    return None


async def _put_off(tenant: Tenant, claimed: Claimed, code: str) -> None:
    await _due_in(tenant, claimed, timedelta(seconds=AGAIN[min(claimed.attempt, len(AGAIN)) - 1]))
    AGAIN_LATER.labels(code).inc()
    log.info("media.put_off", attachment=str(claimed.attachment_id), attempt=claimed.attempt, error=code)


def _stored(spool: Spool, row: Any, told: MediaFetched) -> Ended:
    hashes = {digest for digest in map(digest_of, (row["sha256"], told.sha256)) if digest is not None}
    return Ended(
        "stored",
        size=spool.size,
        mime_type=sniff.type_of(spool.head, told=row["mime_type"]),
        sha256=spool.sha256.hex(),
        differs=bool(hashes) and hashes != {spool.sha256},
    )


def digest_of(told: str | None) -> bytes | None:
    """A SHA-256 as providers write it: base64, with or without its end, also of the URL's alphabet, or hexadecimal. None for none."""
    if told is None:
        return None
    try:
        if len(told) == 64:
            return bytes.fromhex(told)
        plain = told.replace("-", "+").replace("_", "/").rstrip("=")
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 32 else None


async def _settle(write: Write, claimed: Claimed, row: Any, ended: Ended) -> list[NewEvent]:
    """Stores the end of a fetch; no event when it is somebody else's by now, or its message is gone."""
    connection = write.connection
    conversation = (await conversations.lock_many(connection, [row["conversation_id"]])).get(row["conversation_id"])
    if await connection.fetchrow(HOLD, claimed.attachment_id, claimed.attempt) is None or conversation is None:
        return []
    told = (ended.error, ended.size, ended.mime_type, ended.sha256, ended.differs)
    await connection.execute(SAVE, claimed.attachment_id, ended.state, *told)
    await connection.execute(END, claimed.attachment_id)
    cause = Cause(kind=actor_pb2.CAUSE_KIND_DELIVERY, id=str(claimed.attachment_id))
    rows = {conversation.id: conversation}
    return await refetching.updated(connection, Origin(actor=SYSTEM, cause=cause), [row["message_id"]], rows)
