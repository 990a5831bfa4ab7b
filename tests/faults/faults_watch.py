"""Watchers that follow the log over whatever breaks, and record every response in the order it came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from faults_recorder import Recorder, Running, position
from switchboard_client.switchboard.v1 import WatchStart
from switchboard_sdk import connect
from switchboard_sdk.watch import Watch

# A bookmark comes every 2 s; a stream that is silent for longer is dead, whatever its socket says.
SILENCE = aiohttp.ClientTimeout(total=None, connect=5, sock_read=8)
VERBATIM_EVERY = 100
TOGETHER = 0.1
# A line may hold a whole transaction.
LINE_MOST = 1 << 22


@dataclass
class Watcher:
    """One watcher. last: the newest seq it was given; verbatim: write down every event while true."""

    name: str
    dev: dict[str, Any]
    key: str
    out: Recorder
    last: int = 0
    stream: int = 0
    verbatim: bool = False
    heard: dict[str, float] = field(default_factory=dict)
    """While verbatim: when the first event with this cause came."""
    failures: list[str] = field(default_factory=list)
    _running: Running = field(default_factory=Running)

    def opened(self) -> None:
        """A new stream begins."""
        self.stream += 1
        self._running = Running()

    def took(self, events: list[tuple[int, str, str]]) -> None:
        """A response: (seq, event id, cause)."""
        now = time.monotonic()
        for seq, event_id, cause in events:
            self._running.add(seq, event_id)
            self.hear(cause)
        first, self.last = events[0][0], events[-1][0]
        counted = {"f": first, "l": self.last, "n": len(events), "h": self._running.word}
        whole = {"e": events} if self.verbatim or self.stream % VERBATIM_EVERY == 1 else {}
        self.out.write(s=self.stream, t=round(now, 4), **counted, **whole)

    def hear(self, cause: str) -> None:
        """An event with this cause came now."""
        if self.verbatim:
            self.heard.setdefault(cause, time.monotonic())

    def told(self, control: str, cursor: str, head: int | None = None) -> None:
        """A control, or the cursor that a client would store now."""
        where = {"p": position(cursor), "head": head}
        self.out.write(s=self.stream, t=round(time.monotonic(), 4), c=control, last=self.last, **where)


async def watch_sdk(watcher: Watcher) -> None:
    """Follows by gRPC; the SDK resumes, and to the caller all its streams are one. What came is written down every 0.1 s."""
    watcher.opened()
    events: list[tuple[int, str, str]] = []
    async with (
        connect(watcher.dev["url"], token=watcher.key) as client,
        client.watch(start=WatchStart.EARLIEST) as watch,
    ):
        writing = asyncio.create_task(_write_down(watcher, watch, events))
        try:
            async for event in watch:
                cause = event.cause.id if event.cause else ""
                events.append((event.seq, event.id, cause))
                watcher.hear(cause)
        finally:
            writing.cancel()


async def _write_down(watcher: Watcher, watch: Watch, events: list[tuple[int, str, str]]) -> None:
    stored = ""
    while True:
        await asyncio.sleep(TOGETHER)
        if events:
            watcher.took(events)
            events.clear()
        if watch.cursor and watch.cursor != stored:
            stored = watch.cursor
            watcher.told("cursor", stored)


async def watch_rest(watcher: Watcher) -> None:
    """Follows by REST; each line's cursor is where the next stream begins."""
    cursor = ""
    async with aiohttp.ClientSession(timeout=SILENCE, read_bufsize=LINE_MOST) as session:
        while True:
            try:
                async for line in _lines(session, watcher, cursor):
                    cursor = _take(line, watcher) or cursor
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)


async def _lines(session: aiohttp.ClientSession, watcher: Watcher, cursor: str) -> Any:
    query = {"cursor": cursor} if cursor else {"start": "WATCH_START_EARLIEST"}
    headers = {"Authorization": f"Bearer {watcher.key}"}
    url = watcher.dev["url"] + "/v1/inbox/watch"
    async with session.get(url, params={**query, "bookmarkInterval": "2s"}, headers=headers) as answer:
        if answer.status != 200:
            if answer.status < 500 and answer.status != 429:
                watcher.failures.append(f"{answer.status}: {(await answer.text())[:200]}")
            return
        watcher.opened()
        async for line in answer.content:
            # A line that was cut off by the end of its stream does not count.
            if line.endswith(b"\n") and line.strip():
                yield json.loads(line)


def _take(line: dict[str, Any], watcher: Watcher) -> str | None:
    cursor = None
    if events := line.get("events"):
        watcher.took([(int(event["seq"]), event["id"], event.get("cause", {}).get("id", "")) for event in events])
        cursor = events[-1]["cursor"]
    for control in ("hello", "bookmark", "caughtUp", "end", "goodbye"):
        if said := line.get(control):
            cursor = said.get("cursor") or cursor
            if cursor:
                watcher.told(control, cursor, int(said["head"]) if "head" in said else None)
    return cursor
