"""Answers of the Graph API that go wrong: errors in Meta's shape and in none, cut ones, late ones, none at all."""

import asyncio
import json
import socket
import struct

from aiohttp import web

from server.simulator.errors import ErrorKind, Json, any_kind, envelope, status_error
from server.simulator.faults import Failure, TimeoutAfterAccept, TimeoutBeforeAccept

LOOK_EVERY = 0.05
ANSWERS_AFTER_MS = 60_000
"""Longer than any client of the Graph API waits that we know of."""
HTML = (
    '<!DOCTYPE html><html lang="en" id="facebook"><head><title>Error</title><meta charset="utf-8"></head><body>'
    '<h1 id="sorry">Sorry, something went wrong.</h1><p id="promise">We\'re working on it and we\'ll get it fixed as '
    "soon as we can.</p></body></html>"
)

# Closing with this option sends a reset and not an end: the other side cannot take it for a complete answer.
_RESET = struct.pack("ii", 1, 0)


def error_kind(fault: Failure) -> ErrorKind:
    """The error of a fault, completed from Meta's table."""
    return any_kind(fault.code, title=fault.title, status=fault.status, subcode=fault.subcode)


def failed_status(fault: Failure) -> Json:
    """The entry of `errors` for a fault that comes by webhook."""
    kind = error_kind(fault)
    return status_error(kind, kind.title if fault.details is None else fault.details)


def headers(problem: str, *, version: str | None) -> dict[str, str]:
    """What the Graph API puts beside an error."""
    told = {"WWW-Authenticate": f'OAuth "Facebook Platform" "{problem}"'}
    return told if version is None else told | {"facebook-api-version": version}


def usage(waba_id: str, *, regain_minutes: int = 0) -> dict[str, str]:
    """The header that tells a sender how much of its allowance is left, and when it comes back."""
    used = {"type": "whatsapp", "call_count": 1, "total_cputime": 1, "total_time": 1}
    content = {waba_id: [used | {"estimated_time_to_regain_access": regain_minutes}]}
    return {"X-Business-Use-Case-Usage": json.dumps(content)}


async def failure(
    request: web.Request, fault: Failure, *, version: str, waba_id: str | None, answer: Json | None
) -> web.StreamResponse:
    """The answer of an error. `answer` is what an accepted message would have got: a success that is spoiled spoils that."""
    kind = error_kind(fault)
    success = answer is not None and kind.status < 300
    body = answer if answer is not None and success else _error(kind, fault)
    told = {} if success else headers("invalid_token" if kind.code == 190 else "invalid_request", version=version)
    if fault.regain_minutes is not None and waba_id is not None:
        told |= usage(waba_id, regain_minutes=fault.regain_minutes)
    raw = json.dumps(body).encode()
    if fault.body == "cut":
        return await _cut(request, raw, status=kind.status, headers=told)
    if fault.body == "html":
        return web.Response(text=HTML, status=kind.status, content_type="text/html", charset="utf-8")
    kept = {"json": len(raw), "truncated": len(raw) // 2, "empty": 0}[fault.body]
    return web.Response(body=raw[:kept], status=kind.status, headers=told, content_type="application/json")


def reset(request: web.Request) -> web.StreamResponse:
    """Ends the connection with a reset; what is returned goes nowhere."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response()


async def silence(
    request: web.Request, fault: TimeoutBeforeAccept | TimeoutAfterAccept, stopping: asyncio.Event
) -> web.StreamResponse:
    """Says nothing until the time of the fault is over, the other side is gone or the simulator stops; then closes.

    The time here is the machine's: so is that of the client who waits.
    """
    after = {"hang": None, "close": fault.after_ms or 0, "answer": fault.after_ms or ANSWERS_AFTER_MS}[fault.then]
    loop = asyncio.get_running_loop()
    until = None if after is None else loop.time() + after / 1000
    while not stopping.is_set() and request.transport is not None and not request.transport.is_closing():
        left = LOOK_EVERY if until is None else until - loop.time()
        if left <= 0:
            break
        await asyncio.sleep(min(left, LOOK_EVERY))
    if fault.then != "answer" and request.transport is not None:
        request.transport.close()
    return web.Response()


async def wait(milliseconds: float, stopping: asyncio.Event) -> None:
    """Waits by the machine's time, shorter when the simulator stops."""
    try:
        async with asyncio.timeout(milliseconds / 1000):
            await stopping.wait()
    except TimeoutError:
        return


def _error(kind: ErrorKind, fault: Failure) -> Json:
    body = envelope(kind, kind.title if fault.details is None else fault.details)
    error = body["error"]
    if fault.transient is not None and isinstance(error, dict):
        error["is_transient"] = fault.transient
    return body


async def _cut(request: web.Request, raw: bytes, *, status: int, headers: dict[str, str]) -> web.StreamResponse:
    """Promises all of `raw`, sends half of it, and closes."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = "application/json"
    response.content_length = len(raw)
    await response.prepare(request)
    await response.write(raw[: len(raw) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
