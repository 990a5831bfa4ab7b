"""What a link leads to, fetched from wherever callers say: never from what only the installation itself can reach.

Each hop is resolved once and looked at before it is connected to (`kit.egress`), so that a name which means something else a moment
later changes nothing.
"""

from __future__ import annotations

import asyncio

import aiohttp
from yarl import URL

from server.kit.egress import Egress, Forbidden, NameUnknown
from server.media.spool import Spool
from server.providers.media import MediaFailed

REDIRECTS = frozenset({301, 302, 303, 307, 308})
HOPS_MOST = 3
CHUNK_BYTES = 64 * 1024
WHOLE_SECONDS, SILENT_SECONDS = 300.0, 20.0
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Mozilla/5.0 (compatible; Switchboard)"}


async def fetch(link: str, spool: Spool, *, most_bytes: int, egress: Egress) -> str | MediaFailed:
    """All of it into the spool; the type that its host tells, "" for none."""
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            return await _fetch(link, spool, most_bytes=most_bytes, egress=egress)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return MediaFailed("later", "unreachable")


async def _fetch(link: str, spool: Spool, *, most_bytes: int, egress: Egress) -> str | MediaFailed:
    url = URL(link)
    for _ in range(HOPS_MOST + 1):
        if url.user is not None or url.password is not None or url.host is None:
            return MediaFailed("forbidden", "malformed_link")
        try:
            pinned = await egress.pin(url.scheme, url.host, url.port or 443)
        except Forbidden as forbidden:
            return MediaFailed("forbidden", forbidden.word)
        except NameUnknown:
            return MediaFailed("later", "name_unknown")
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=SILENT_SECONDS, ceil_threshold=60)
        async with (
            aiohttp.ClientSession(
                connector=pinned.connector(), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as session,
            session.get(url, headers=HEADERS, allow_redirects=False) as response,
        ):
            if response.status not in REDIRECTS:
                return await _taken(response, spool, most_bytes=most_bytes)
            moved = _joined(url, response.headers.get("Location", ""))
        if moved is None:
            return MediaFailed("forbidden", "malformed_redirect")
        url = moved
    return MediaFailed("forbidden", "too_many_redirects")


async def _taken(response: aiohttp.ClientResponse, spool: Spool, *, most_bytes: int) -> str | MediaFailed:
    if response.status != 200:
        later = response.status >= 500 or response.status == 429
        return MediaFailed("later" if later else "refused", f"http_{response.status}")
    await spool.clear()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        if spool.size + len(chunk) > most_bytes:
            return MediaFailed("too_large", "too_large")
        await spool.write(chunk)
    if spool.size == 0:
        return MediaFailed("refused", "empty")
    return response.content_type if "Content-Type" in response.headers else ""


def _joined(url: URL, location: str) -> URL | None:
    """Where a redirect leads; None for nowhere, and from https to anything else."""
    try:
        moved = url.join(URL(location)) if location else None
    except ValueError:
        return None
    if moved is None or moved.scheme not in ("https", "http") or not moved.host:
        return None
    return None if url.scheme == "https" and moved.scheme != "https" else moved
