"""The worker is killed again and again while it fetches and brings files: every one comes whole, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import io
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from media_side import Side

from server.embedded.stack import Options, Stack
from tests.intake.intake_post import Post, until

MB = 1024 * 1024
OURS, THEIRS, KILLS = 6, 4, 3
SIZE = 30 * MB
# A worker's chunks and buffers, whatever the files' sizes.
GROWTH_MOST = 64 * MB
GONE_OUT = {f"MESSAGE_STATUS_{word}" for word in ("SENT", "DELIVERED", "READ", "UNKNOWN")}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("media")
    with Stack(Options(home=folder / "home")) as running:
        yield running


@pytest.fixture
async def side(own: Stack) -> AsyncIterator[Side]:
    async with aiohttp.ClientSession() as session, Post.open(session, own.dev()) as post:
        yield Side(post)


def memory(pid: int, what: str) -> int:
    """Bytes of a process: VmRSS now, VmHWM at most so far."""
    (found,) = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found) * 1024


async def brought(side: Side) -> str:
    """A large file by a signed link; its id."""
    made = await side.post.call("POST", "/v1/media/uploads", body={"fileName": "book.pdf"})
    url = made["uploadUrl"] if made["uploadUrl"].startswith("http") else side.post.dev["url"] + made["uploadUrl"]
    content = b"%PDF-1.4\n" + os.urandom(SIZE)
    async with side.post.session.post(
        url, data=io.BytesIO(content), headers={"Content-Type": "application/pdf"}
    ) as answer:
        assert answer.status == 201, await answer.text()
    return str(made["media"]["id"])


@pytest.mark.faults
async def test_files_outlive_the_workers_that_carry_them(side: Side, own: Stack) -> None:
    first = await side.send(await side.put(b"\xff\xd8\xff first", mimeType="image/jpeg"))
    await first.ended()
    path = f"/v1/conversations/{(await first.message())['conversationId']}/messages"
    media = [await brought(side) for _ in range(OURS)]
    contents = [b"\xff\xd8\xff" + os.urandom(500_000) for _ in range(THEIRS)]
    theirs = [await side.send(await side.put(content, mimeType="image/jpeg", cutAfter=200_000)) for content in contents]
    ours: list[str] = []
    for media_id in media:
        body = {"media": {"items": [{"mediaId": media_id}]}}
        ours.append((await side.post.call("POST", path, body=body))["message"]["id"])
    for _ in range(KILLS):
        await asyncio.sleep(0.3)
        own.kill("work")
        own.restart("work")
    before, began = memory(own.pid("work"), "VmRSS"), time.monotonic()

    async def statuses() -> list[str]:
        return [(await side.post.call("GET", f"/v1/messages/{each}"))["message"]["status"] for each in ours]

    async def all_out() -> bool:
        return set(await statuses()) <= GONE_OUT

    await until(all_out, within=400)
    for sent, content in zip(theirs, contents, strict=True):
        found = await sent.ended()
        assert (found["state"], found["sha256"]) == ("ATTACHMENT_STATE_STORED", hashlib.sha256(content).hexdigest())
    took, grown = time.monotonic() - began, memory(own.pid("work"), "VmHWM") - before
    async with side.post.session.get(f"{side.post.dev['simulator']['url']}/_control/requests") as answer:
        requests: list[dict[str, Any]] = (await answer.json())["requests"]
    taken = collections.Counter(
        each["body"]["biz_opaque_callback_data"]
        for each in requests
        if each["wamid"] is not None and each["body"].get("type") == "document"
    )
    unknown = (await statuses()).count("MESSAGE_STATUS_UNKNOWN")
    print(f"{OURS} of {SIZE // MB} MB in {took:.1f} s, {unknown} unknown, memory grew {grown / MB:.1f} MB")
    assert set(taken.values()) == {1}, "no message has two accepted requests"
    assert len(taken) >= OURS - unknown
    assert grown < GROWTH_MOST
