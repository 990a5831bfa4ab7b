"""A cache that keeps files by their path stands in front: a second request is a hit, and a bad signature is refused on a hit too."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from media_side import Sent, Side, fetch

from server.embedded.stack import Stack
from server.media.links import Links, derived
from server.tenancy.master_key import read_key_file
from tests.intake.intake_post import Post

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(5000)


@pytest.fixture(scope="module")
async def side(stack: Stack) -> AsyncIterator[Side]:
    async with aiohttp.ClientSession() as session, Post.open(session, stack.dev()) as post:
        yield Side(post)


@pytest.fixture(scope="module")
def cdn(stack: Stack) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, str(Path(__file__).parent / "caching_proxy.py"), str(port), stack.url]
    child = subprocess.Popen(program)
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    child.terminate()
    child.wait()


@pytest.fixture(scope="module")
async def sent(side: Side) -> Sent:
    made = await side.send(await side.put(PNG, mimeType="image/png"))
    assert (await made.ended())["state"] == "ATTACHMENT_STATE_STORED"
    return made


async def by(cdn: str, sent: Sent) -> str:
    """The link as it is with the CDN's address for SWITCHBOARD_MEDIA_BASE_URL."""
    parts = urlsplit((await sent.attachment())["downloadUrl"])
    return f"{cdn}{parts.path}?{parts.query}"


async def test_a_second_request_is_a_hit_and_a_bad_signature_is_none(
    cdn: str, side: Side, sent: Sent, stack: Stack
) -> None:
    session, url = side.post.session, await by(cdn, sent)
    status, headers, body = await fetch(session, url)
    assert (status, headers["X-Cache"], body) == (200, "MISS", PNG)
    status, headers, body = await fetch(session, url)
    assert (status, headers["X-Cache"], body) == (200, "HIT", PNG)

    changed = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert (await fetch(session, changed))[0] == 403
    assert (await fetch(session, url.partition("?")[0]))[0] == 403

    # Another link to the same file, as another agent has it later, is a hit too; one that has expired is refused.
    path, key = urlsplit(url).path, derived(read_key_file(stack.home.master_key))
    tenant_id, attachment_id = path.split("/")[2:]
    later, past = time.time() + 320, time.time() - 2000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        other = Links([key], base_url=cdn).url(tenant_id, attachment_id)
        patch.setattr(time, "time", lambda: past)
        expired = Links([key], base_url=cdn).url(tenant_id, attachment_id)
    assert other != url
    status, headers, _ = await fetch(session, other)
    assert (status, headers["X-Cache"]) == (200, "HIT")
    status, headers, _ = await fetch(session, expired)
    assert (status, headers["X-Cache"]) == (403, "DENIED")
