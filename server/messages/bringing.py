"""Files are brought to the provider, those of one tenant by the worker that has leased it; a link's is fetched before.

A claim holds for a while and is renewed while bytes go: when a worker dies, another begins anew. Doing it twice leaves a file at the
provider that no message names, which ends there by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter
from switchboard.v1 import actor_pb2

from server.channels import service as channels
from server.conversations import repository as conversations
from server.kit.db import Connection, Write
from server.kit.edge import attempt
from server.kit.egress import Egress
from server.kit.errors import DatabaseUnavailable, Refusal
from server.log.append import append
from server.log.event import SYSTEM, Cause, Origin
from server.media import brought, linked
from server.media.spool import Spool
from server.media.store import Missing, Store, StoreAway, key_of
from server.messages import attached, files, refetching
from server.providers.contract import Ambiguous, ErrorClass, NotSent, Provider, Refused
from server.providers.media import MediaBrought, MediaFailed, MediaToBring
from server.tenancy.tenants import Tenant

log = structlog.get_logger(__name__)
TENANT_MOST = 4
LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0
# A link that does not answer is tried again after these; then it has failed.
LINK_AGAIN = (2.0, 10.0, 60.0)
BROUGHT = Counter(
    "switchboard_media_brought_total", "Files for the provider: what became of bringing them.", ["outcome"]
)

CLAIM = """
UPDATE provider_media p SET attempt = attempt + 1, due_time = clock_now() + $2
FROM (
    SELECT media_id, channel_id FROM provider_media WHERE due_time <= clock_now()
    ORDER BY due_time LIMIT $1 FOR UPDATE SKIP LOCKED
) due
WHERE (p.media_id, p.channel_id) = (due.media_id, due.channel_id) RETURNING p.media_id, p.channel_id, p.attempt
"""
DUE_IN = (
    "UPDATE provider_media SET due_time = clock_now() + $4 WHERE media_id = $1 AND channel_id = $2 AND attempt = $3"
)
NEXT_DUE = """
SELECT min(due_time) AS time, min(due_time) - clock_now() AS wait
FROM (SELECT due_time FROM provider_media UNION ALL SELECT due_time FROM media) due
"""
LOAD = """
SELECT f.state, f.link, f.mime_type, f.size_bytes, ch.provider, ch.account_id, ch.details, ch.access_token
FROM media f, channels ch WHERE f.id = $1 AND ch.id = $2
"""
SAVE = """
UPDATE provider_media SET provider_media_id = $4, expire_time = clock_now() + $5, error_class = $6, error_code = $7,
    error_message = $8, due_time = NULL
WHERE media_id = $1 AND channel_id = $2 AND attempt = $3 RETURNING media_id
"""
LOCK = "SELECT FROM provider_media WHERE media_id = $1 AND channel_id = $2 AND attempt = $3 FOR UPDATE"
OF_MEDIA = """
SELECT a.id, a.message_id, a.kind, m.conversation_id FROM message_attachments a JOIN messages m ON m.id = a.message_id
WHERE a.media_id = $1 AND m.channel_id = $2 ORDER BY a.id
"""
SHOW = """
UPDATE message_attachments a SET state = CASE f.state WHEN 'stored' THEN 'stored' ELSE 'failed' END, error = f.error,
    mime_type = coalesce(f.mime_type, ''), size_bytes = f.size_bytes, stored_type = f.mime_type, stored_sha256 = f.sha256,
    animated = f.animated
FROM media f WHERE f.id = $1 AND a.media_id = f.id
"""
FAILED = "UPDATE media SET state = 'failed', error = $2 WHERE id = $1 RETURNING *"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A file that is this worker's to bring for a while."""

    media_id: uuid.UUID
    channel_id: uuid.UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Next:
    """When there is something to do, and how long that is from now by the database's clock."""

    time: datetime
    wait: timedelta


async def next_due(connection: Connection) -> Next | None:
    """The next time that a file is to be brought or dropped."""
    record: Any = await connection.fetchrow(NEXT_DUE)
    return None if record["time"] is None else Next(record["time"], record["wait"])


class Bringer:
    """The files of one tenant. slots: as of Fetcher. wake: has its sends looked at."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        store: Store,
        most_bytes: int,
        egress: Egress,
        slots: asyncio.Semaphore,
        wake: Callable[[], None],
    ) -> None:
        self._providers = providers
        self._store = store
        self._most_bytes = most_bytes
        self._egress = egress
        self._slots = slots
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether files are on their way."""
        return bool(self._tasks)

    async def look(self, tenant: Tenant) -> None:
        """Begins what is due, without waiting for it, and drops what nobody sent."""
        free = 0 if self._slots.locked() else TENANT_MOST - len(self._tasks)
        async with tenant.database.connection() as connection:
            due = await next_due(connection)
            if due is None or due.wait > timedelta(0):
                return
            records = await connection.fetch(CLAIM, free, LEASE) if free > 0 else []
            await brought.drop_due(connection)
        for record in records:
            task = asyncio.create_task(self._run(tenant, Claimed(**record)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ends what is under way; somebody begins it anew when its claim ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, tenant: Tenant, claimed: Claimed) -> None:
        renewing = asyncio.create_task(_renew(tenant, claimed))
        try:
            async with self._slots:
                error = await attempt(self.bring(tenant, claimed))
        except asyncio.CancelledError:
            await attempt(_due_in(tenant, claimed, timedelta(0)))
            raise
        finally:
            renewing.cancel()
        if error is not None:
            unexpected = None if isinstance(error, Refusal) else error
            log.warning("media.bring_failed", media=str(claimed.media_id), exc_info=unexpected)
            await attempt(_due_in(tenant, claimed, timedelta(seconds=LINK_AGAIN[0])))
        self._wake()

    async def bring(self, tenant: Tenant, claimed: Claimed) -> None:
        """Brings one file to the provider, and has what waits for it go on."""
        row = await self._loaded(tenant, claimed)
        if row is not None and row["state"] == "linked":
            if not await self._fetch(tenant, claimed, row):
                return
            row = await self._loaded(tenant, claimed)
        if row is None:
            return
        outcome = await self._brought(tenant, claimed, row)
        await _save(tenant, claimed, outcome)
        BROUGHT.labels(_word(outcome)).inc()
        log.info("media.brought", media=str(claimed.media_id), outcome=_word(outcome))

    async def _loaded(self, tenant: Tenant, claimed: Claimed) -> Any:
        async with tenant.database.connection() as connection:
            return await connection.fetchrow(LOAD, claimed.media_id, claimed.channel_id)

    async def _brought(
        self, tenant: Tenant, claimed: Claimed, row: Any
    ) -> MediaBrought | Refused | NotSent | Ambiguous:
        if row["state"] != "stored":
            return _unfit("not_here", "The content of the file is not here.")
        key, size = key_of(tenant.id, claimed.media_id), row["size_bytes"]

        def chunks() -> AsyncIterator[bytes]:
            return self._store.read(key, start=0, end=size)

        to_bring = MediaToBring(
            account_id=row["account_id"],
            token=channels.token_of(tenant.secrets, claimed.channel_id, row["access_token"]),
            settings=json.loads(row["details"]),
            mime_type=row["mime_type"],
            size=size,
            chunks=chunks,
        )
        try:
            return await self._providers[row["provider"]].bring_media(to_bring)
        except Missing:
            return _unfit("not_here", "The content of the file is not in the store.")
        except StoreAway as away:
            return NotSent(f"store_{away.word}")

    async def _fetch(self, tenant: Tenant, claimed: Claimed, row: Any) -> bool:
        """Fetches what a link leads to into the store; whether it is there now."""
        with tempfile.NamedTemporaryFile(prefix="switchboard-") as file:
            spool = Spool(file)
            fetched = await linked.fetch(row["link"], spool, most_bytes=self._most_bytes, egress=self._egress)
            if isinstance(fetched, MediaFailed) and fetched.kind == "later" and claimed.attempt <= len(LINK_AGAIN):
                await _due_in(tenant, claimed, timedelta(seconds=LINK_AGAIN[claimed.attempt - 1]))
                return False
            await spool.flush()
            capabilities = self._providers[row["provider"]].capabilities

            async def unit(write: Write) -> bool:
                connection = write.connection
                found = await connection.fetch(OF_MEDIA, claimed.media_id, claimed.channel_id)
                rows = await conversations.lock_many(connection, sorted({item["conversation_id"] for item in found}))
                if await connection.fetchrow(LOCK, claimed.media_id, claimed.channel_id, claimed.attempt) is None:
                    return False
                error = fetched.code if isinstance(fetched, MediaFailed) else None
                if error is None:
                    told = fetched if isinstance(fetched, str) else ""
                    content = brought.content_of(spool, Path(file.name), told=told)
                    kept = await brought.keep(
                        connection, self._store, tenant_id=tenant.id, media_id=claimed.media_id, content=content
                    )
                    excesses = [
                        excess
                        for item in found
                        for excess in attached.fits(capabilities.files[item["kind"]], item["kind"], kept, path="")
                    ]
                    if excesses:
                        refused = _unfit("type_or_size", excesses[0].description)
                        await _store(connection, claimed, refused)
                else:
                    await connection.fetchrow(FAILED, claimed.media_id, error)
                    refused = _unfit(error, "What the link leads to could not be fetched.")
                    await _store(connection, claimed, refused)
                await connection.execute(SHOW, claimed.media_id)
                await append(
                    write,
                    await refetching.updated(
                        connection, _origin(claimed), [item["message_id"] for item in found], rows
                    ),
                )
                return error is None and not excesses

            return await tenant.database.write(unit)


def _origin(claimed: Claimed) -> Origin:
    return Origin(actor=SYSTEM, cause=Cause(kind=actor_pb2.CAUSE_KIND_DELIVERY, id=str(claimed.media_id)))


async def _renew(tenant: Tenant, claimed: Claimed) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(DatabaseUnavailable):
            await _due_in(tenant, claimed, LEASE)


async def _due_in(tenant: Tenant, claimed: Claimed, wait: timedelta) -> None:
    async with tenant.database.connection() as connection:
        await connection.execute(DUE_IN, claimed.media_id, claimed.channel_id, claimed.attempt, wait)


async def _save(tenant: Tenant, claimed: Claimed, outcome: MediaBrought | Refused | NotSent | Ambiguous) -> None:
    async def unit(write: Write) -> None:
        await _store(write.connection, claimed, outcome)

    await tenant.database.write(unit)


async def _store(
    connection: Connection, claimed: Claimed, outcome: MediaBrought | Refused | NotSent | Ambiguous
) -> None:
    """What came of it, if it is still this claim's, and the deliveries that waited for it."""
    values: tuple[Any, ...]
    if isinstance(outcome, MediaBrought):
        values = (outcome.provider_id, outcome.lasts, None, None, None)
    elif isinstance(outcome, Refused):
        values = (None, None, outcome.error_class.value, outcome.code, outcome.message)
    else:
        values = (None, None, ErrorClass.RETRY.value, outcome.reason, None)
    if await connection.fetchval(SAVE, claimed.media_id, claimed.channel_id, claimed.attempt, *values) is not None:
        await files.brought(connection, claimed.media_id, claimed.channel_id)


def _unfit(code: str, message: str) -> Refused:
    return Refused(error_class=ErrorClass.PERMANENT, code=code, message=message)


def _word(outcome: MediaBrought | Refused | NotSent | Ambiguous) -> str:
    if isinstance(outcome, Refused):
        return outcome.error_class.value
    return {MediaBrought: "brought", NotSent: "not_sent", Ambiguous: "ambiguous"}[type(outcome)]
