"""Files of ours: brought by both ways through everything that is real, sent, received at Meta, and deleted when nobody has them."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from media_side import Side, fetch

from server.embedded.stack import Stack
from tests.intake.intake_post import Post, until

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01" + bytes(range(256)) * 20
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 16_000


@pytest.fixture(scope="module")
async def side(stack: Stack) -> AsyncIterator[Side]:
    async with aiohttp.ClientSession() as session, Post.open(session, stack.dev()) as post:
        yield Side(post)


@pytest.fixture(scope="module")
async def conversation_id(side: Side) -> str:
    """Of a customer who wrote just now."""
    sent = await side.send(await side.put(JPEG))
    message = await sent.message()
    return str(message["conversationId"])


async def uploaded(side: Side, content: bytes, **more: str) -> dict[str, Any]:
    body = {"content": base64.b64encode(content).decode(), **more}
    found: dict[str, Any] = (await side.post.call("POST", "/v1/media", body=body))["media"]
    return found


async def at_meta(side: Side, content: bytes) -> list[Any]:
    """The files at the simulator with this content."""
    async with side.post.session.get(f"{side.post.dev['simulator']['url']}/_control/media") as answer:
        found = (await answer.json())["media"]
    return [each for each in found if each["sha256"] == hashlib.sha256(content).hexdigest()]


async def post(side: Side, url: str, content: bytes, mime_type: str) -> tuple[int, str]:
    whole = url if url.startswith("http") else side.post.dev["url"] + url
    async with side.post.session.post(whole, data=io.BytesIO(content), headers={"Content-Type": mime_type}) as answer:
        return answer.status, await answer.text()


async def test_a_small_file_is_brought_sent_and_told_of_by_receipts(side: Side, conversation_id: str) -> None:
    media = await uploaded(side, JPEG, fileName="photo.jpg")
    assert (media["state"], media["mimeType"]) == ("MEDIA_STATE_STORED", "image/jpeg")
    assert (media["sizeBytes"], media["sha256"]) == (str(len(JPEG)), hashlib.sha256(JPEG).hexdigest())
    assert (await fetch(side.post.session, media["downloadUrl"]))[::2] == (200, JPEG)
    body = {"requestId": "photo", "media": {"items": [{"mediaId": media["id"], "caption": "Look"}]}}
    path = f"/v1/conversations/{conversation_id}/messages"
    sent = (await side.post.call("POST", path, body=body))["message"]
    assert (sent["type"], sent["text"]) == ("MESSAGE_TYPE_IMAGE", {"body": "Look"})
    again = (await side.post.call("POST", path, body=body))["message"]
    assert (again["id"], len(again["attachments"])) == (sent["id"], 1)

    async def delivered() -> bool:
        found = (await side.post.call("GET", f"/v1/messages/{sent['id']}"))["message"]
        return found["status"] in ("MESSAGE_STATUS_DELIVERED", "MESSAGE_STATUS_READ")

    await until(delivered)
    (there,) = await at_meta(side, JPEG)
    assert there["mimeType"] == "image/jpeg"
    (attachment,) = (await side.post.call("GET", f"/v1/messages/{sent['id']}"))["message"]["attachments"]
    assert (attachment["state"], attachment["mediaId"]) == ("ATTACHMENT_STATE_STORED", media["id"])
    assert (await fetch(side.post.session, attachment["downloadUrl"]))[::2] == (200, JPEG)
    shown = (await side.post.call("GET", f"/v1/media/{media['id']}"))["media"]
    assert "expireTime" not in shown, "a message has it"


async def test_a_large_file_is_brought_by_a_signed_link_once(side: Side, stack: Stack) -> None:
    made = await side.post.call("POST", "/v1/media/uploads", body={"fileName": "book.pdf"})
    media_id, url = made["media"]["id"], made["uploadUrl"]
    assert made["media"]["state"] == "MEDIA_STATE_EXPECTED"
    assert (await post(side, url[:-1] + ("0" if url[-1] != "0" else "1"), PDF, "application/pdf"))[0] == 403
    assert len(PDF) > 4_000_000, "more than a call carries"
    assert (await post(side, url, PDF, "application/pdf"))[0] == 201
    assert (await post(side, url, PDF, "application/pdf"))[0] == 201, "the same again"
    assert (await post(side, url, PDF + b"more", "application/pdf"))[0] == 409
    whole = url if url.startswith("http") else side.post.dev["url"] + url
    assert (await fetch(side.post.session, whole))[0] == 403, "what takes a file gives none"
    shown = (await side.post.call("GET", f"/v1/media/{media_id}"))["media"]
    assert (shown["state"], shown["sizeBytes"]) == ("MEDIA_STATE_STORED", str(len(PDF)))
    stored = stack.home.path / "media" / side.post.acme.tenant_id / media_id
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(PDF).digest()
    assert (await post(side, shown["downloadUrl"], PDF, "application/pdf"))[0] == 403, "what gives a file takes none"


async def test_a_tenants_links_open_and_take_nothing_of_another(side: Side) -> None:
    """A link's signature covers the tenant and the file, and what it is for: none is made into another's."""
    mine, theirs = side.post.sides
    body = {"content": base64.b64encode(b"theirs").decode(), "mimeType": "text/plain"}
    made = (await side.post.call("POST", "/v1/media", key=theirs.key, body=body))["media"]
    ours = await uploaded(side, b"ours", mimeType="text/plain")
    brought = await side.post.call("POST", "/v1/media/uploads", body={})
    session, base = side.post.session, side.post.dev["url"]
    link, upload = (
        found if found.startswith("http") else base + found for found in (ours["downloadUrl"], brought["uploadUrl"])
    )
    assert (await fetch(session, link))[2] == b"ours"
    for swaps in (
        {mine.tenant_id: theirs.tenant_id},
        {ours["id"]: made["id"]},
        {mine.tenant_id: theirs.tenant_id, ours["id"]: made["id"]},
    ):
        altered = link
        for old, new in swaps.items():
            altered = altered.replace(old, new)
        assert (await fetch(session, altered))[0] == 403
    expected = (await side.post.call("POST", "/v1/media/uploads", key=theirs.key, body={}))["media"]["id"]
    media_id = brought["media"]["id"]
    for altered in (
        upload.replace(mine.tenant_id, theirs.tenant_id),
        upload.replace(media_id, expected),
        upload.replace(mine.tenant_id, theirs.tenant_id).replace(media_id, expected),
        upload.replace(mine.tenant_id, theirs.tenant_id).replace(media_id, made["id"]),
    ):
        assert (await post(side, altered, b"not theirs", "text/plain"))[0] == 403
    left = (await side.post.call("GET", f"/v1/media/{expected}", key=theirs.key))["media"]
    assert left["state"] == "MEDIA_STATE_EXPECTED"
    # Nor by its id through the API: see tests/contract/test_contract_matrix.py.


async def test_what_nobody_sends_is_deleted_from_the_store(side: Side, stack: Stack) -> None:
    media = await uploaded(side, b"nobody wants this", mimeType="text/plain")
    stored: Path = stack.home.path / "media" / side.post.acme.tenant_id / media["id"]
    assert stored.exists()
    await side.post.acme.database.execute("UPDATE media SET due_time = now() WHERE id = $1", media["id"])

    async def gone() -> bool:
        return not stored.exists()

    await until(gone)
    assert await side.post.acme.database.fetchval("SELECT count(*) FROM media WHERE id = $1", media["id"]) == 0


async def test_an_empty_file_is_refused(side: Side) -> None:
    made = await side.post.call("POST", "/v1/media/uploads", body={})
    assert (await post(side, made["uploadUrl"], b"", "text/plain"))[0] == 400
