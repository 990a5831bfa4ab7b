"""Watchers that follow the log over whatever breaks, and remember every seq in the order it came."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from switchboard_client.switchboard.v1 import WatchStart
from switchboard_sdk import connect

# A bookmark comes every 2 s; a stream that is silent for longer is dead, whatever its socket says.
SILENCE = aiohttp.ClientTimeout(total=None, connect=5, sock_read=8)


@dataclass
class Seen:
    """One watcher's events: (seq, event id), over all of its streams."""

    name: str
    events: list[tuple[int, str]] = field(default_factory=list)
    streams: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.events[-1][0] if self.events else 0


async def watch_sdk(dev: dict[str, Any], seen: Seen) -> None:
    """Follows by gRPC; the SDK resumes."""
    async with connect(dev["url"], token=dev["tenant_key"]) as client:
        async for event in client.watch(start=WatchStart.EARLIEST):
            seen.events.append((event.seq, event.id))


async def watch_rest(dev: dict[str, Any], seen: Seen) -> None:
    """Follows by REST; each line's cursor is where the next stream begins."""
    cursor = ""
    async with aiohttp.ClientSession(timeout=SILENCE) as session:
        while True:
            try:
                async for line in _lines(session, dev, seen, cursor):
                    cursor = _take(line, seen) or cursor
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)


async def _lines(session: aiohttp.ClientSession, dev: dict[str, Any], seen: Seen, cursor: str) -> Any:
    query = {"cursor": cursor} if cursor else {"start": "WATCH_START_EARLIEST"}
    headers = {"Authorization": f"Bearer {dev['tenant_key']}"}
    url = dev["url"] + "/v1/inbox/watch"
    async with session.get(url, params={**query, "bookmarkInterval": "2s"}, headers=headers) as answer:
        if answer.status != 200:
            if answer.status < 500:
                seen.failures.append(f"{answer.status}: {(await answer.text())[:200]}")
            return
        seen.streams += 1
        async for line in answer.content:
            # A line that was cut off by the end of its stream does not count.
            if line.endswith(b"\n") and line.strip():
                yield json.loads(line)


def _take(line: dict[str, Any], seen: Seen) -> str | None:
    cursor = None
    for event in line.get("events", []):
        seen.events.append((int(event["seq"]), event["id"]))
        cursor = event["cursor"]
    for control in ("hello", "bookmark", "caughtUp", "end", "goodbye"):
        cursor = (line.get(control) or {}).get("cursor") or cursor
    return cursor


def gaps(seen: Seen, expected: list[tuple[int, str]]) -> int:
    """How many events it did not see."""
    return len(set(expected) - set(seen.events))


def disorders(seen: Seen) -> int:
    """How many events came again or after a later one."""
    return sum(1 for (before, _), (after, _) in zip(seen.events, seen.events[1:], strict=False) if after <= before)
