"""The two sides of a provider in a test: payloads as Meta sends them, and servers that misbehave to the byte."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from server.providers.contract import Address, Item, Outgoing, Provider
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.meta.graph import GraphLimits
from server.providers.whatsapp.parse import parse

PAYLOADS = Path(__file__).parent / "payloads"
OBJECTS = frozenset({"whatsapp_business_account"})

PHONE_NUMBER_ID = "106540352242922"
CUSTOMER = "16505551234"
BSUID = "US.13491208655302741918"
TOKEN = "EAAJtoken"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPAQUE = "0198c2f0-9a63-7d6e-8a40-5f1f5a3f1c11"

T = TypeVar("T")

SHORT = GraphLimits(
    connect=timedelta(milliseconds=300), answer=timedelta(milliseconds=300), whole=timedelta(milliseconds=600)
)

# Fixtures: `connect(url, name="whatsapp", limits=...)` and `await simulate(window="sync", ...)`.
Connect = Callable[..., Provider]
Simulate = Callable[..., Awaitable["Simulated"]]


@dataclass
class Simulated:
    """A simulator with one number, and its control API."""

    url: str
    session: aiohttp.ClientSession

    async def control(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, f"{self.url}/_control/{path}", json=body) as response:
            assert response.status in (200, 201), await response.text()
            return await response.json()

    async def bodies(self) -> list[Any]:
        return [request["body"] for request in (await self.control("GET", "requests"))["requests"]]


def names() -> list[str]:
    return sorted(path.stem for path in PAYLOADS.glob("*.json"))


def raw(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


def envelope(name: str) -> Envelope:
    found = read_envelope(raw(name), objects=OBJECTS)
    assert isinstance(found, Envelope), found
    return found


def items(name: str) -> list[Item]:
    return [item for change in envelope(name).changes for item in parse(change)]


def only(name: str, kind: type[T]) -> T:
    found = items(name)
    assert len(found) == 1, found
    assert isinstance(found[0], kind), found[0]
    return found[0]


def outgoing(**fields: Any) -> Outgoing:
    """A text that nothing is wrong with; `fields` replace its own."""
    whole: dict[str, Any] = {
        "account_id": PHONE_NUMBER_ID,
        "token": TOKEN,
        "settings": {"graph_version": "v26.0"},
        "to": Address("wa_id", CUSTOMER),
        "text": "good morning",
        "opaque": OPAQUE,
    }
    return Outgoing(**(whole | fields))


def outgoing_by(name: str, url: str, **fields: Any) -> Outgoing:
    """The same by a provider of the registry, which is asked at `url`."""
    if name != "api":
        return outgoing(**fields)
    own = {"token": SECRET, "settings": {"callback_url": f"{url}/hook"}, "to": Address("user_ref", "user-1")}
    return outgoing(**(own | fields))


def error_body(code: int | None = None, **fields: Any) -> bytes:
    error = {"message": "(#1) An error", "type": "OAuthException", "fbtrace_id": "Atrace", **fields}
    return json.dumps({"error": error if code is None else error | {"code": code}}).encode()


def answer(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer byte by byte; `length` is what Content-Length says when it lies."""
    lines = (f"HTTP/1.1 {status} Words", "Content-Type: application/json", *headers)
    return "\r\n".join([*lines, f"Content-Length: {len(body) if length is None else length}", "", ""]).encode() + body


class Wire:
    """A TCP server that does what a test says with each connection, and keeps the bytes it was sent."""

    def __init__(self, script: Callable[["Wire", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.received: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """One whole request, kept in `received`."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        whole = head + await reader.readexactly(length)
        self.received.append(whole)
        return whole

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._script(self, reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def wire(script: Callable[[Wire, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> Any:
    server = Wire(script)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def saying(*answers: bytes) -> Callable[[Wire, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Reads a request, writes the next answer, and so on; then closes."""
    queue: Iterable[bytes] = iter(answers)

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in queue:
            await server.request(reader)
            writer.write(each)
            await writer.drain()

    return script
