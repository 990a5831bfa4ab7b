"""In a child: kills or stops the process when it passes a named point that a test has armed for it.

A test arms `<folder>/armed/<pid>.<point>` with an action; the process that passes the point says so in `<folder>/trace` and sends
itself the signal. Statements are recognised by their text, on the driver's connection, so that it does not matter which function
of ours sent them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
READS = ("Get", "List", "Count", "Verify")


class Points:
    """The points of this process."""

    def __init__(self, folder: str) -> None:
        self._armed = os.path.join(folder, "armed", f"{os.getpid()}.")
        self._trace = os.path.join(folder, "trace")

    def armed(self, point: str) -> bool:
        """Whether the process is to end at this point."""
        return self._action(point) is not None

    def passed(self, point: str) -> None:
        """Ends, or stops, here if the point is armed."""
        action = self._action(point)
        if action is None:
            return
        os.unlink(self._armed + point)
        line = f"{time.monotonic():.3f} {os.getpid()} {point} {action}\n"
        handle = os.open(self._trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(handle, line.encode())
        os.close(handle)
        os.kill(os.getpid(), SIGNALS[action])

    def _action(self, point: str) -> str | None:
        try:
            with open(self._armed + point) as file:
                return file.read()
        except FileNotFoundError:
            return None


def install(folder: str, *, role: str) -> None:
    """Puts the points into the process. role: the command that it runs."""
    points = Points(folder)
    if role in ("serve", "work"):
        _statements(points, role)
        _after_commit(points)
    if role == "serve":
        _answers(points)
        _webhooks(points)
    if role == "work":
        _requests(points)
        _retire(points)


def _statements(points: Points, role: str) -> None:
    from asyncpg.connection import Connection

    statement, plain = Connection._execute, Connection.execute
    settling: set[int] = set()

    async def _execute(self: Any, query: str, *rest: Any, **named: Any) -> Any:
        appends = "UPDATE stream_head" in query
        if appends:
            points.passed("before_append")
        result = await statement(self, query, *rest, **named)
        if appends and self.is_in_transaction():
            points.passed("appended")
        elif role == "work":
            if "UPDATE deliveries" in query and self.is_in_transaction():
                settling.add(id(self))
            elif "FROM timers" in query and "RETURNING" in query:
                points.passed("timer_fired")
        return result

    async def execute(self: Any, query: str, *rest: Any, **named: Any) -> Any:
        if query == "COMMIT;" and id(self) in settling:
            settling.discard(id(self))
            if points.armed("settling"):
                commit = asyncio.ensure_future(plain(self, query, *rest, **named))
                for _ in range(3):
                    await asyncio.sleep(0)
                points.passed("settling")
                return await commit
        return await plain(self, query, *rest, **named)

    Connection._execute, Connection.execute = _execute, execute


def _after_commit(points: Points) -> None:
    """Between COMMIT and hint: the commit is durable, and nobody has been told."""
    from server.kit.db import Database

    initialise = Database.__init__

    def initialised(self: Any, *arguments: Any, **named: Any) -> None:
        tell = named.get("after_commit")

        def told(write: Any) -> None:
            if write.notes:
                points.passed("committed")
            tell(write)

        if tell is not None:
            named["after_commit"] = told
        initialise(self, *arguments, **named)

    Database.__init__ = initialised  # type: ignore[method-assign]


def _answers(points: Points) -> None:
    """Between COMMIT and answer: what was asked for is done, the caller does not hear of it."""
    from server.rpc import wrap

    serialize = wrap.serialize

    def answer(message: Any) -> bytes:
        if not isinstance(message, bytes) and not type(message).__name__.startswith((*READS, "HttpBody")):
            points.passed("unanswered")
        return serialize(message)

    wrap.serialize = answer


def _webhooks(points: Points) -> None:
    from server.intake.apply import Applier
    from server.intake.service import Intake

    receive, soon = Intake.receive, Applier.soon

    async def received(self: Any, *arguments: Any, **named: Any) -> Any:
        stored = await receive(self, *arguments, **named)
        points.passed("journaled")
        return stored

    def later(self: Any, *arguments: Any, **named: Any) -> None:
        if points.armed("unapplied"):
            # The 200 leaves within this time; what it was given for is left to a worker.
            asyncio.get_running_loop().call_later(0.05, points.passed, "unapplied")
        else:
            soon(self, *arguments, **named)

    Intake.receive, Applier.soon = received, later  # type: ignore[method-assign]


def _requests(points: Points) -> None:
    import aiohttp

    from server.providers.meta.graph import GraphClient

    post, start = GraphClient.post, aiohttp.ClientResponse.start

    async def posted(self: Any, *arguments: Any, **named: Any) -> Any:
        points.passed("before_request")
        answer = await post(self, *arguments, **named)
        points.passed("responded")
        return answer

    async def started(self: Any, *arguments: Any, **named: Any) -> Any:
        found = await start(self, *arguments, **named)
        points.passed("accepted")
        return found

    GraphClient.post, aiohttp.ClientResponse.start = posted, started  # type: ignore[method-assign]


def _retire(points: Points) -> None:
    from server.tenancy.work import WorkDirectory

    retire = WorkDirectory.retire

    async def retired(self: Any, *arguments: Any, **named: Any) -> bool:
        points.passed("retire")
        return await retire(self, *arguments, **named)

    WorkDirectory.retire = retired  # type: ignore[method-assign]
