"""Fetching files of Meta's: its id is looked up, which gives an address good for five minutes, and the address is fetched.

The token goes to Meta's hosts alone: each hop is compared with the list, and connects to an address that was looked at.
Source: Meta's Cloud API media reference, as of November 2026.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from server.kit.egress import Egress, Forbidden, NameUnknown
from server.providers.contract import Json
from server.providers.media import MediaFailed, MediaFetched, MediaSink, WantedMedia
from server.providers.meta.graph import GraphAnswer, GraphClient

HOSTS = re.compile(r"lookaside\.fbsbx\.com|([a-z0-9-]+\.)+fbcdn\.net|([a-z0-9-]+\.)+whatsapp\.net", re.ASCII)
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HOPS_MOST = 3
# Looked up anew when the address has ended meanwhile, and gone on with when the transfer broke off.
TRIES = 4
CHUNK_BYTES = 64 * 1024
WHOLE_SECONDS, SILENT_SECONDS = 600.0, 20.0
# Codes of the look-up: no such object (an id lives 7 days), and what a token may not see.
GONE_CODES = frozenset({"100"})
REFUSED_CODES = frozenset({"131052", "131051"})
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/(?:[0-9]{1,15}|\*)", re.ASCII)


class _Failed(Exception):
    def __init__(self, failure: MediaFailed) -> None:
        super().__init__(failure.code)
        self.failure = failure


class _Ended(Exception):
    """The address is not good any more."""


class _Broken(Exception):
    """The transfer broke off; what came is good."""


@dataclass(frozen=True, slots=True)
class _Found:
    url: URL
    mime_type: str | None
    sha256: str | None
    size: int | None


class MediaClient:
    """Fetches files by their ids. own: scheme and host of the Graph API, which the token is for anyway."""

    def __init__(self, graph: GraphClient, *, own: str) -> None:
        self._graph = graph
        self._own = URL(own).origin()
        self._egress = Egress(())
        # The operator named it, wherever it is.
        self._own_egress = Egress(("0.0.0.0/0", "::/0"))

    async def fetch(self, wanted: WantedMedia, sink: MediaSink) -> MediaFetched | MediaFailed:
        """All of the file into the sink. Never raises but for cancellation, and for errors of the sink."""
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                return await self._fetch(wanted, sink)
        except _Failed as failed:
            return failed.failure
        except TimeoutError:
            return MediaFailed("later", "timeout")

    async def _fetch(self, wanted: WantedMedia, sink: MediaSink) -> MediaFetched:
        code = "connection_lost"
        for _ in range(TRIES):
            found = await self._look_up(wanted)
            if found.size is not None and found.size > wanted.most_bytes:
                raise _Failed(MediaFailed("too_large", "too_large"))
            try:
                await self._download(found.url, wanted, sink)
            except _Ended:
                code = "address_ended"
            except _Broken:
                code = "connection_lost"
            else:
                return MediaFetched(found.mime_type, found.sha256)
        raise _Failed(MediaFailed("later", code))

    async def _look_up(self, wanted: WantedMedia) -> _Found:
        answer = await self._graph.get(
            version=str(wanted.settings.get("graph_version", "")),
            object_id=wanted.media_id,
            edge=None,
            token=wanted.token,
            query={"phone_number_id": wanted.account_id},
        )
        if not isinstance(answer, GraphAnswer):
            raise _Failed(MediaFailed("later", answer.reason))
        body: Json = answer.body
        if not isinstance(body, dict) or answer.status != 200 or not isinstance(body.get("url"), str):
            raise _Failed(_unavailable(answer))
        url = _url(body["url"])
        if url is None:
            raise _Failed(MediaFailed("forbidden", "malformed_address"))
        return _Found(url, _text(body, "mime_type"), _text(body, "sha256"), _number(body.get("file_size")))

    async def _download(self, url: URL, wanted: WantedMedia, sink: MediaSink) -> None:
        for _ in range(HOPS_MOST + 1):
            moved = await self._hop(url, wanted, sink)
            if moved is None:
                return
            url = moved
        raise _Failed(MediaFailed("forbidden", "too_many_redirects"))

    async def _hop(self, url: URL, wanted: WantedMedia, sink: MediaSink) -> URL | None:
        """One request; where it leads, or None when the sink has all."""
        egress = self._egress_for(url)
        try:
            pinned = await egress.pin(url.scheme, url.host or "", url.port or 443)
        except Forbidden as forbidden:
            raise _Failed(MediaFailed("forbidden", forbidden.word)) from None
        except NameUnknown:
            raise _Failed(MediaFailed("later", "name_unknown")) from None
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=SILENT_SECONDS, ceil_threshold=60)
        try:
            async with aiohttp.ClientSession(
                connector=pinned.connector(), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as session:
                async with session.get(url, headers=_headers(wanted, sink), allow_redirects=False) as response:
                    return await _taken(url, response, wanted, sink)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise _Broken from None

    def _egress_for(self, url: URL) -> Egress:
        if url.user is not None or url.password is not None:
            raise _Failed(MediaFailed("forbidden", "host_not_allowed"))
        if url.origin() == self._own:
            return self._own_egress
        if not HOSTS.fullmatch((url.host or "").lower()) or url.port != 443 or url.scheme != "https":
            raise _Failed(MediaFailed("forbidden", "host_not_allowed"))
        return self._egress


async def _taken(url: URL, response: aiohttp.ClientResponse, wanted: WantedMedia, sink: MediaSink) -> URL | None:
    if response.status in REDIRECTS:
        location = response.headers.get("Location", "")
        joined = _url(str(url.join(URL(location)))) if location else None
        if joined is None or (url.scheme == "https" and joined.scheme != "https"):
            raise _Failed(MediaFailed("forbidden", "malformed_redirect"))
        return joined
    if response.status in (404, 410):
        raise _Ended
    if response.status in (401, 403):
        raise _Failed(MediaFailed("later", f"http_{response.status}"))
    if response.status == 416:
        await sink.clear()
        raise _Broken
    if response.status not in (200, 206):
        raise _Failed(MediaFailed("later", f"http_{response.status}"))
    if response.status == 200 or not _goes_on(response, sink):
        await sink.clear()
        if response.status == 206:
            raise _Broken
    if response.content_length is not None and sink.size + response.content_length > wanted.most_bytes:
        raise _Failed(MediaFailed("too_large", "too_large"))
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        if sink.size + len(chunk) > wanted.most_bytes:
            raise _Failed(MediaFailed("too_large", "too_large"))
        await sink.write(chunk)
    return None


def _goes_on(response: aiohttp.ClientResponse, sink: MediaSink) -> bool:
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == sink.size


def _headers(wanted: WantedMedia, sink: MediaSink) -> Mapping[str, str]:
    # Some of Meta's stacks refuse what does not look like a program that people use.
    headers = {
        "Authorization": f"Bearer {wanted.token}",
        "Accept-Encoding": "identity",
        "User-Agent": "Mozilla/5.0 (compatible; Switchboard)",
    }
    return {**headers, **({"Range": f"bytes={sink.size}-"} if sink.size else {})}


def _unavailable(answer: GraphAnswer) -> MediaFailed:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    code = str(error.get("code")) if isinstance(error, dict) and isinstance(error.get("code"), int) else None
    if answer.status in (404, 410) or code in GONE_CODES:
        return MediaFailed("gone", code or f"http_{answer.status}")
    if code in REFUSED_CODES:
        return MediaFailed("refused", code or "")
    return MediaFailed("later", code or f"http_{answer.status}")


def _url(text: str) -> URL | None:
    try:
        url = URL(text)
    except ValueError:
        return None
    return url if url.scheme in ("https", "http") and url.host else None


def _text(body: Mapping[str, Json], name: str) -> str | None:
    found = body.get(name)
    return found if isinstance(found, str) and 0 < len(found) <= 256 else None


def _number(value: Json) -> int | None:
    """A size, which Meta writes as a number or as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
