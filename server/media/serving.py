"""Files over HTTP, for browsers and for what caches in front of them.

The only HTTP we speak ourselves: gRPC has neither ranges nor conditional requests. Envoy stands in front of it, under /media/. Nothing but
the link's signature lets anybody in; the row is looked for on each request, so that what was erased is gone at once.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter

from server.kit.errors import Refusal
from server.media import brought, sniff
from server.media.links import PREFIX, Links
from server.media.store import CHUNK_BYTES, Missing, Store, StoreAway, key_of
from server.tenancy.tenants import Tenants

log = structlog.get_logger(__name__)
FIND = """
SELECT coalesce(a.media_id, a.id) AS id, a.file_name, a.size_bytes, a.stored_type, a.stored_sha256 FROM message_attachments a
JOIN messages m ON m.id = a.message_id JOIN conversations c ON c.id = m.conversation_id
WHERE a.id = $1 AND a.state = 'stored' AND c.delete_time IS NULL
UNION ALL
SELECT id, file_name, size_bytes, mime_type, sha256 FROM media WHERE id = $1 AND state = 'stored'
"""
SERVED = Counter("switchboard_media_requests_total", "Requests for files.", ["status"])
# What a CDN keeps of a file that was erased meanwhile, it keeps for so long at most.
CACHE = "public, max-age=300, s-maxage=3600"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
}
ORIGINAL = "X-Original-URI"


class Serving:
    """The handlers."""

    def __init__(self, *, tenants: Tenants, store: Store, links: Links, most_bytes: int) -> None:
        self._tenants = tenants
        self._most_bytes = most_bytes
        self._store = store
        self._links = links

    def app(self) -> web.Application:
        """The application; aiohttp answers HEAD by the same handler."""
        app = web.Application(middlewares=[_headed], client_max_size=1024)
        app.add_routes(
            [
                web.get(f"{PREFIX}check", self.check),
                web.get(PREFIX + "{tenant_id}/{attachment_id}", self.file),
                web.post(PREFIX + "{tenant_id}/{media_id}", self.take),
            ]
        )
        return app

    async def check(self, request: web.Request) -> web.Response:
        """For a proxy's sub-request: 204 when the link in X-Original-URI may be fetched now, else 403. Reads no database."""
        original = urlsplit(request.headers.get(ORIGINAL, ""))
        query = parse_qs(original.query)
        exp, sig = ((query.get(name) or [""])[0] for name in ("exp", "sig"))
        holds = self._links.holds(original.path, exp=exp, sig=sig)
        return web.Response(status=204 if holds else 403, headers={"Cache-Control": "no-store"})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """A file, or a range of it."""
        if not self._links.holds(request.path, exp=request.query.get("exp", ""), sig=request.query.get("sig", "")):
            raise web.HTTPForbidden(text="The link is not good, or no longer.")
        tenant_id, attachment_id = (_id(request.match_info[name]) for name in ("tenant_id", "attachment_id"))
        try:
            tenant = await self._tenants.get(tenant_id)
            async with tenant.database.connection() as connection:
                found = await connection.fetchrow(FIND, attachment_id)
        except Refusal as refusal:
            raise _refused(refusal) from None
        if found is None:
            raise web.HTTPNotFound(text="No such file.")
        mime_type, size = found["stored_type"], found["size_bytes"]
        headers = {
            "ETag": f'"{found["stored_sha256"]}"',
            "Cache-Control": CACHE,
            "Accept-Ranges": "bytes",
            "Content-Type": mime_type if mime_type in sniff.INLINE else sniff.UNKNOWN,
            "Content-Disposition": sniff.disposition(found["file_name"], mime_type, fallback=str(attachment_id)),
        }
        if _matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        start, end, partial = _range(request, size, headers["ETag"])
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_length = end - start
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        return await self._stream(request, response, key_of(tenant_id, found["id"]), (start, end))

    async def take(self, request: web.Request) -> web.Response:
        """Takes a file that a caller brings by a signed link."""
        if not self._links.takes(request.path, exp=request.query.get("exp", ""), sig=request.query.get("sig", "")):
            raise web.HTTPForbidden(text="The link is not good, or no longer.")
        too_large = web.HTTPRequestEntityTooLarge(self._most_bytes, request.content_length or self._most_bytes + 1)
        if (request.content_length or 0) > self._most_bytes:
            raise too_large
        tenant_id, media_id = (_id(request.match_info[name]) for name in ("tenant_id", "media_id"))
        try:
            record = await brought.take(
                (await self._tenants.get(tenant_id)).database,
                self._store,
                tenant_id=tenant_id,
                media_id=media_id,
                chunks=request.content.iter_chunked(CHUNK_BYTES),
                told=request.content_type if "Content-Type" in request.headers else "",
                most_bytes=self._most_bytes,
            )
        except brought.TooLarge:
            raise too_large from None
        except brought.Empty:
            raise web.HTTPBadRequest(text="The file is empty.") from None
        except brought.MediaTaken:
            raise web.HTTPConflict(text="The file was brought already.") from None
        except Refusal as refusal:
            raise _refused(refusal) from None
        shown = {"id": str(media_id), "mimeType": record["mime_type"], "sizeBytes": str(record["size_bytes"])}
        return web.json_response(
            {**shown, "sha256": record["sha256"]}, status=201, headers={"Cache-Control": "no-store"}
        )

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, key: str, span: tuple[int, int]
    ) -> web.StreamResponse:
        chunks = self._store.read(key, start=span[0], end=span[1])
        try:
            first = await anext(chunks, b"")
        except Missing:
            log.warning("media.missing", key=key)
            raise web.HTTPNotFound(text="No such file.") from None
        except StoreAway as away:
            log.warning("media.store_away", error=away.word)
            raise web.HTTPServiceUnavailable(text="The store is away.", headers={"Retry-After": "2"}) from None
        await response.prepare(request)
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response


@web.middleware
async def _headed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What every answer has; a refusal is kept by nobody."""
    try:
        response = await handler(request)
    except web.HTTPException as refused:
        refused.headers.update({**HEADERS, "Cache-Control": "no-store"})
        SERVED.labels(str(refused.status)).inc()
        raise
    SERVED.labels(str(response.status)).inc()
    return response


async def _prepared(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise web.HTTPNotFound(text="No such file.") from None


def _refused(refusal: Refusal) -> web.HTTPException:
    if refusal.status == "UNAVAILABLE":
        return web.HTTPServiceUnavailable(text="Try again.", headers={"Retry-After": "2"})
    return web.HTTPNotFound(text="No such file.")


def _matches(given: str | None, etag: str) -> bool:
    return given is not None and (
        given.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in given.split(",")]
    )


def _range(request: web.Request, size: int, etag: str) -> tuple[int, int, bool]:
    """From where, up to where, and whether that is a part. A header that is no range is as none; HTTPRequestRangeNotSatisfiable."""
    whole = (0, size, False)
    given = request.headers.get("Range")
    if given is None or request.headers.get("If-Range", etag) != etag or "," in given:
        return whole
    try:
        wanted = request.http_range
    except ValueError:
        return whole
    start, stop = wanted.start, wanted.stop
    if start is None and stop is None:
        return whole
    if start is not None and start < 0:
        start, stop = max(size + start, 0), size
    start, stop = start or 0, min(size if stop is None else stop, size)
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, stop, True


@contextlib.asynccontextmanager
async def served(serving: Serving, listen: str) -> AsyncIterator[None]:
    """Serves files on an address, `host:port`."""
    app = serving.app()
    app.on_response_prepare.append(_prepared)
    # The access log would hold the signatures.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        await web.TCPSite(runner, host, int(port), reuse_port=True).start()
        yield
    finally:
        await runner.cleanup()
