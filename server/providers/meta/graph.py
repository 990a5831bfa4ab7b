"""The Graph API over HTTP, and the one question that matters after a failure: can Meta have the request?

The body is written by `_Body`, which notes the moment its first byte is handed to the transport. A failure before
that is NotSent and safe to repeat; a failure after it is Ambiguous, because Meta's API has no idempotency key.
Nothing here logs: addresses, texts and tokens are in every argument.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter

from server.providers.contract import Ambiguous, Json, NotSent

# Meta's answers are below 1 kB; what is longer does not come from Meta.
ANSWER_MOST = 256 * 1024
# Lists have up to a hundred objects, each of some kB.
LIST_MOST = 4 * 1024 * 1024
# A file of 100 MB on a slow line.
UPLOAD_SECONDS = 600.0

_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}", re.ASCII)
# Numbers, but for what an installation calls its app, and paths that are no objects.
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
_SESSION = re.compile(r"upload:[A-Za-z0-9+/=_:.-]{1,1024}(\?sig=[A-Za-z0-9_-]{1,256})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """How long to wait for what, and how much to keep.

    connect: for a place in the pool, the name, the connection and TLS together. answer: between two reads. whole: all of
    it. connections: at once, as many as a worker has sends under way. idle: an unused connection is closed by us; Meta closes
    them without notice, and a request written into a dying connection would be Ambiguous.
    """

    connect: timedelta = timedelta(seconds=5)
    answer: timedelta = timedelta(seconds=20)
    whole: timedelta = timedelta(seconds=30)
    idle: timedelta = timedelta(seconds=10)
    connections: int = 256


@dataclass(frozen=True, slots=True)
class GraphAnswer:
    """A complete answer. body: its JSON, None when it was none. usage: the header X-Business-Use-Case-Usage."""

    status: int
    body: Json = field(repr=False)
    usage: str | None = None


class _StaleConnection(aiohttp.ClientConnectionError):
    """The connection cannot carry this request; not a byte of it was written."""


class _Body(payload.BytesPayload):
    """A request body that knows whether it was written. aiohttp holds the headers back and writes them with it."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/json")
        self.written = False
        self._abandoned = False

    def abandon(self) -> None:
        """From now on nothing may be written: the outcome has been decided."""
        self._abandoned = True

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Writes headers and body, or raises before the first byte; nothing is awaited between the check and the write."""
        if self._abandoned or not _usable(writer):
            raise _StaleConnection
        self.written = True
        await super().write_with_length(writer, content_length)


def _usable(writer: AbstractStreamWriter) -> bool:
    """Whether the connection is open, and no bytes came on it before we asked anything."""
    if not isinstance(writer, StreamWriter) or writer.transport is None or writer.transport.is_closing():
        return False
    return isinstance(writer.protocol, ResponseHandler) and not writer.protocol.should_close


class _Form:
    """A form (RFC 7578) with a file, of known length, whose bytes are asked for as they are written."""

    def __init__(self, mime_type: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        mark = secrets.token_hex(16)
        fields = {"messaging_product": "whatsapp", "type": mime_type}
        before = "".join(
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        file = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: {mime_type}\r\n\r\n'
        self._before, self._after = (before + file).encode(), f"\r\n--{mark}--\r\n".encode()
        self._chunks = chunks
        self._error: BaseException | None = None
        self.content_type = f"multipart/form-data; boundary={mark}"
        self.length = len(self._before) + size + len(self._after)

    async def parts(self) -> AsyncIterator[bytes]:
        """All of it. An error of the chunks is kept: what writes a request tells of a broken connection alone."""
        yield self._before
        try:
            async for chunk in self._chunks:
                yield chunk
        except BaseException as error:
            self._error = error
            raise
        yield self._after

    def failed(self, reason: str) -> Ambiguous:
        """What came of it where no answer came. Raises an error of the chunks."""
        if self._error is not None:
            raise self._error
        return Ambiguous(reason)


class GraphClient:
    """POSTs JSON to the Graph API, reads, and deletes. Keeps connections; one event loop uses it, which opens them at first use."""

    def __init__(self, base_url: str, *, limits: GraphLimits | None = None) -> None:
        """base_url: scheme and host, such as https://graph.facebook.com; a path is kept in front of ours."""
        self._base_url = base_url.rstrip("/")
        self._limits = limits or GraphLimits()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes all connections; the client opens new ones when it is used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self, *, version: str, object_id: str, edge: str | None, token: str, body: Json
    ) -> GraphAnswer | NotSent | Ambiguous:
        """POST /{version}/{object_id}/{edge}, or to the object itself; after cancellation, all it raises, the outcome is unknown.

        Redirects are answers. Reasons are fixed words, fit for logs and metrics.
        """
        if not (_VERSION.fullmatch(version) and _OBJECT_ID.fullmatch(object_id)):
            return NotSent("malformed_address")
        if not _TOKEN.fullmatch(token):
            return NotSent("malformed_token")
        raw = _Body(json.dumps(body, separators=(",", ":")).encode("ascii"))
        try:
            url = f"{self._base_url}/{version}/{object_id}" + ("" if edge is None else f"/{edge}")
            return await self._exchange(url, token, raw)
        except TimeoutError:
            return _failed(raw, "timeout")
        except (aiohttp.ClientError, OSError) as error:
            return _failed(raw, _word(error))
        finally:
            raw.abandon()

    async def get(
        self, *, version: str, object_id: str, edge: str | None, token: str, query: Mapping[str, str]
    ) -> GraphAnswer | NotSent | Ambiguous:
        """GET /{version}/{object_id}/{edge}, or the object itself, which may be repeated. Never raises but for cancellation.

        Redirects are answers.
        """
        url = self._url(version, object_id, edge)
        return await self._repeatable("GET", url, token=token, query=query)

    async def delete(
        self, *, version: str, object_id: str, edge: str | None, token: str, query: Mapping[str, str]
    ) -> GraphAnswer | NotSent | Ambiguous:
        """DELETE of the same, which may be repeated too."""
        url = self._url(version, object_id, edge)
        return await self._repeatable("DELETE", url, token=token, query=query)

    async def upload_sample(
        self, *, version: str, session: str, token: str, content: bytes
    ) -> GraphAnswer | NotSent | Ambiguous:
        """POST /{version}/{session} of a whole file to a session of a resumable upload, which may be repeated too."""
        url = (
            f"{self._base_url}/{version}/{session}"
            if _VERSION.fullmatch(version) and _SESSION.fullmatch(session)
            else None
        )
        more = {"Authorization": f"OAuth {token}", "file_offset": "0"}
        return await self._repeatable("POST", url, token=token, query={}, headers=more, data=content)

    async def _repeatable(
        self,
        method: str,
        url: str | None,
        *,
        token: str,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> GraphAnswer | NotSent | Ambiguous:
        if url is None:
            return NotSent("malformed_address")
        if not _TOKEN.fullmatch(token):
            return NotSent("malformed_token")
        told = _headers(token) | dict(headers or {})
        asked = self._open().request(method, url, params=query, headers=told, data=data, allow_redirects=False)
        try:
            async with asked as response:
                text = await _read(response, most=LIST_MOST)
                usage = response.headers.get("X-Business-Use-Case-Usage")
                if text is None:
                    response.close()
                    return Ambiguous("answer_too_large")
                return GraphAnswer(response.status, _parsed(text), usage)
        except TimeoutError:
            return Ambiguous("timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Ambiguous(_word(error))

    async def upload(
        self, *, version: str, object_id: str, token: str, mime_type: str, size: int, chunks: AsyncIterator[bytes]
    ) -> GraphAnswer | NotSent | Ambiguous:
        """POST /{version}/{object_id}/media, a form with one file, which may be repeated. Nothing of it is kept in memory.

        Never raises but for cancellation and errors of the chunks.
        """
        if not (_VERSION.fullmatch(version) and _OBJECT_ID.fullmatch(object_id)):
            return NotSent("malformed_address")
        if not _TOKEN.fullmatch(token):
            return NotSent("malformed_token")
        form = _Form(mime_type, size, chunks)
        headers = {**_headers(token), "Content-Type": form.content_type, "Content-Length": str(form.length)}
        timeout = aiohttp.ClientTimeout(
            total=UPLOAD_SECONDS, connect=self._limits.connect.total_seconds(), ceil_threshold=60
        )
        url = f"{self._base_url}/{version}/{object_id}/media"
        try:
            async with self._open().post(
                url, data=form.parts(), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                text = await _read(response)
                if text is None:
                    response.close()
                    return Ambiguous("answer_too_large")
                return GraphAnswer(response.status, _parsed(text), response.headers.get("X-Business-Use-Case-Usage"))
        except TimeoutError:
            return form.failed("timeout")
        except (aiohttp.ClientError, OSError) as error:
            return form.failed(_word(error))

    def _url(self, version: str, object_id: str, edge: str | None) -> str | None:
        """Of an object or an edge of it; None where a part is malformed."""
        if not (_VERSION.fullmatch(version) and _OBJECT_ID.fullmatch(object_id)):
            return None
        return f"{self._base_url}/{version}/{object_id}" + ("" if edge is None else f"/{edge}")

    async def _exchange(self, url: str, token: str, raw: _Body) -> GraphAnswer | NotSent | Ambiguous:
        async with self._open().post(url, data=raw, headers=_headers(token), allow_redirects=False) as response:
            if not raw.written:
                # Bytes that lay on the connection before we asked: a proxy's farewell, not the answer to this.
                raw.abandon()
                response.close()
                return NotSent("stale_answer")
            text = await _read(response)
            if text is None:
                response.close()
                return Ambiguous("answer_too_large")
            return GraphAnswer(response.status, _parsed(text), response.headers.get("X-Business-Use-Case-Usage"))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._limits.connections, keepalive_timeout=self._limits.idle.total_seconds()
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self._limits.whole.total_seconds(),
                    connect=self._limits.connect.total_seconds(),
                    sock_read=self._limits.answer.total_seconds(),
                    # aiohttp rounds timeouts above this up to whole seconds.
                    ceil_threshold=60,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Proxies and credentials come from settings or not at all.
                trust_env=False,
            )
        return self._session


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", "User-Agent": "Switchboard"}


async def _read(response: aiohttp.ClientResponse, *, most: int = ANSWER_MOST) -> bytes | None:
    """The whole body, or None when it is longer than `most`."""
    text = b""
    async for chunk in response.content.iter_chunked(ANSWER_MOST):
        text += chunk
        if len(text) > most:
            return None
    return text


def _parsed(text: bytes) -> Json:
    try:
        body: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body


def _failed(raw: _Body, reason: str) -> NotSent | Ambiguous:
    return Ambiguous(reason) if raw.written else NotSent(reason)


def _word(error: Exception) -> str:
    """A fixed word for an error; its text may hold the address."""
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect"
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.ClientPayloadError)):
        return "malformed_answer"
    return "connection_lost" if isinstance(error, (aiohttp.ClientConnectionError, OSError)) else "client"
