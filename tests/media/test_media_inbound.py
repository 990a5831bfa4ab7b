"""What a customer sent is fetched into the store and given out by signed links, through everything that is real."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from media_side import Side, fetch

from server.embedded.stack import Stack
from tests.intake.intake_post import Post, until

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
async def side(stack: Stack) -> AsyncIterator[Side]:
    async with aiohttp.ClientSession() as session, Post.open(session, stack.dev()) as post:
        yield Side(post)


@pytest.fixture(scope="module")
async def stored(side: Side) -> dict[str, Any]:
    """A file that has come."""
    sent = await side.send(await side.put(PNG, mimeType="image/png"))
    return {"sent": sent, **await sent.ended()}


def in_store(stack: Stack, side: Side, attachment: dict[str, Any]) -> Path:
    return stack.home.path / "media" / side.post.acme.tenant_id / attachment["id"]


async def test_an_image_is_fetched_hashed_and_stored(side: Side, stored: dict[str, Any], stack: Stack) -> None:
    assert stored["state"] == "ATTACHMENT_STATE_STORED"
    assert stored["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert (stored["storedMimeType"], stored["sizeBytes"]) == ("image/png", str(len(PNG)))
    assert not stored["sha256Differs"]
    assert in_store(stack, side, stored).read_bytes() == PNG


async def test_it_is_an_event_that_it_came(side: Side, stored: dict[str, Any]) -> None:
    events = (
        await side.post.call(
            "GET",
            "/v1/inbox/events",
            start="WATCH_START_EARLIEST",
            pageSize="200",
            eventTypes="EVENT_TYPE_MESSAGE_UPDATED",
        )
    )["events"]
    changes = [each["messageUpdated"] for each in events if "messageUpdated" in each]
    (change,) = [each for each in changes if each["message"]["id"] == stored["sent"].message_id]
    assert change["changedFields"] == ["attachments"]
    (attachment,) = change["message"]["attachments"]
    assert attachment["state"] == "ATTACHMENT_STATE_STORED"
    assert "downloadUrl" not in attachment


async def test_a_link_gives_the_file_as_what_it_is_and_lets_nothing_run(side: Side, stored: dict[str, Any]) -> None:
    status, headers, body = await fetch(side.post.session, stored["downloadUrl"])
    assert (status, body) == (200, PNG)
    assert headers["Content-Type"] == "image/png"
    assert headers["ETag"] == f'"{stored["sha256"]}"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["Content-Disposition"].startswith("inline;")
    assert "public" in headers["Cache-Control"]


async def test_ranges_head_and_conditions(side: Side, stored: dict[str, Any]) -> None:
    session, url, etag = side.post.session, stored["downloadUrl"], f'"{stored["sha256"]}"'
    status, headers, body = await fetch(session, url, Range="bytes=100-199")
    assert (status, body, headers["Content-Range"]) == (206, PNG[100:200], f"bytes 100-199/{len(PNG)}")
    assert (await fetch(session, url, Range="bytes=-10"))[2] == PNG[-10:]
    assert (await fetch(session, url, Range=f"bytes={len(PNG) - 5}-"))[2] == PNG[-5:]
    status, headers, _ = await fetch(session, url, Range=f"bytes={len(PNG)}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(PNG)}")
    assert (await fetch(session, url, Range="bytes=0-1", If_Range='"other"'))[0] == 200
    assert (await fetch(session, url, Range="lines=1"))[0] == 200
    status, headers, body = await fetch(session, url, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(PNG)), b"")
    status, headers, body = await fetch(session, url, If_None_Match=etag)
    assert (status, headers["ETag"], body) == (304, etag, b"")


async def test_altered_links_are_refused(side: Side, stored: dict[str, Any]) -> None:
    session, url = side.post.session, stored["downloadUrl"]
    parts = urlsplit(url)
    exp, sig = (parse_qs(parts.query)[name][0] for name in ("exp", "sig"))
    bare = f"{parts.scheme}://{parts.netloc}{parts.path}"
    bad = [
        bare,
        f"{bare}?exp={exp}",
        f"{bare}?exp={int(exp) + 1}&sig={sig}",
        f"{bare}?exp={exp}&sig={sig[:-1]}{'0' if sig[-1] != '0' else '1'}",
        f"{bare}?exp=1&sig={sig}",
        f"{bare}?exp=&sig=",
        f"{bare}?exp=%C3%A9&sig=%C3%A9",
        url.replace(stored["id"], "0" * 8 + stored["id"][8:]),
    ]
    for each in bad:
        status, headers, _ = await fetch(session, each)
        assert (status, headers["Cache-Control"]) == (403, "no-store"), each


async def test_a_link_is_the_same_for_a_while(stored: dict[str, Any]) -> None:
    again = await stored["sent"].attachment()
    assert urlsplit(again["downloadUrl"]).path == urlsplit(stored["downloadUrl"]).path


async def test_what_is_no_picture_is_saved_and_not_shown(side: Side) -> None:
    page = b"<html><script>alert(1)</script></html>"
    media = await side.put(page, mimeType="image/svg+xml")
    sent = await side.send(media, kind="document", filename='../../a"b\r\nSet-Cookie: x.svg')
    found = await sent.ended()
    status, headers, body = await fetch(side.post.session, found["downloadUrl"])
    assert (status, body, headers["Content-Type"]) == (200, page, "application/octet-stream")
    assert headers["Content-Disposition"].startswith("attachment;")
    assert "/" not in headers["Content-Disposition"].partition("filename*=")[0]
    assert "Set-Cookie" not in headers


async def test_an_address_that_is_not_good_is_looked_up_again(side: Side) -> None:
    sent = await side.send(await side.put(PNG, mimeType="image/png", missing=1))
    assert (await sent.ended())["state"] == "ATTACHMENT_STATE_STORED"


async def test_a_transfer_that_is_cut_goes_on_where_it_stands(side: Side) -> None:
    media = await side.put(PNG, mimeType="image/png", cutAfter=4000)
    found = await (await side.send(media)).ended()
    assert (found["state"], found["sha256"]) == ("ATTACHMENT_STATE_STORED", hashlib.sha256(PNG).hexdigest())
    fetches = (await side.put(media_id=media["id"]))["fetches"]
    assert fetches == len(PNG) // 4000 + 1


async def test_a_wrong_hash_is_kept_and_flagged_and_a_size_may_be_text(side: Side) -> None:
    media = await side.put(PNG, mimeType="image/png", sha256="0" * 64, fileSize=str(len(PNG)))
    found = await (await side.send(media)).ended()
    assert (found["state"], found["sha256Differs"]) == ("ATTACHMENT_STATE_STORED", True)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("http://169.254.169.254/latest/meta-data/", "host_not_allowed"),
        ("https://lookaside.fbsbx.com.evil.example/", "host_not_allowed"),
        ("https://user@lookaside.fbsbx.com/", "host_not_allowed"),
        ("http://lookaside.fbsbx.com/", "host_not_allowed"),
        ("https://lookaside.fbsbx.com:8443/", "host_not_allowed"),
        ("file:///etc/passwd", "malformed_redirect"),
    ],
)
async def test_a_redirect_to_another_host_is_not_followed(side: Side, address: str, error: str) -> None:
    sent = await side.send(await side.put(PNG, mimeType="image/png", redirectTo=address))
    found = await sent.ended()
    assert (found["state"], found["error"]) == ("ATTACHMENT_STATE_FAILED", error)
    assert "downloadUrl" not in found


async def test_what_meta_has_no_more_has_failed(side: Side) -> None:
    found = await (await side.send(await side.put(PNG, mimeType="image/png", gone=True))).ended()
    assert (found["state"], found["error"]) == ("ATTACHMENT_STATE_FAILED", "100")


async def test_one_file_of_two_messages_is_two_files(side: Side, stack: Stack) -> None:
    media = await side.put(PNG, mimeType="image/png")
    first, second = [await (await side.send(media)).ended() for _ in range(2)]
    assert first["id"] != second["id"]
    assert first["sha256"] == second["sha256"]
    assert in_store(stack, side, first).exists()
    assert in_store(stack, side, second).exists()


async def test_what_is_deleted_leaves_the_store(side: Side, stack: Stack) -> None:
    sent = await side.send(await side.put(PNG, mimeType="image/png"))
    found = await sent.ended()
    file = in_store(stack, side, found)
    assert file.exists()
    await side.post.acme.database.execute("DELETE FROM message_attachments WHERE id = $1", found["id"])
    assert (await fetch(side.post.session, found["downloadUrl"]))[0] == 404

    async def gone() -> bool:
        return not file.exists()

    await until(gone)


async def test_what_is_too_large_is_not_fetched(side: Side) -> None:
    media = await side.put(PNG, mimeType="image/png", fileSize=str(200 * 1024 * 1024))
    found = await (await side.send(media)).ended()
    assert (found["state"], found["error"]) == ("ATTACHMENT_STATE_FAILED", "too_large")
    assert (await side.put(media_id=media["id"]))["fetches"] == 0


async def test_what_failed_is_fetched_once_more_when_somebody_asks(side: Side) -> None:
    media = await side.put(PNG, mimeType="image/png", gone=True)
    sent = await side.send(media)
    assert (await sent.ended())["state"] == "ATTACHMENT_STATE_FAILED"
    await side.put(media_id=media["id"])
    path = f"/v1/messages/{sent.message_id}/retry-attachment"
    asked = (await side.post.call("POST", path, body={"position": 0}))["message"]["attachments"][0]
    assert (asked["state"], asked.get("error")) == ("ATTACHMENT_STATE_FETCHING", None)
    assert (await sent.ended())["state"] == "ATTACHMENT_STATE_STORED"
