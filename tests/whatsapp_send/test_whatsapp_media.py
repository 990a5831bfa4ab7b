"""Files that are sent: what Meta is asked, and the rows that are left of each kind (channels' facts §3.2, §4, §10 M)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from server.messages.attached import Asked
from server.messages.refusals import ProviderLimit
from server.providers.content import Buttons, Flow, Form, Link, QuickReply
from tests.desk import Desk
from tests.whatsapp_send.sending import line
from tests.whatsapp_send.sending_files import JPEG, MOVING, MP4, OGG, PDF, PNG, WEBP, files

MB = 1024 * 1024
SENT = {"state": "stored", "part": "sent", "delivery": "accepted"}
# Its content, the type that the caller tells, how it is asked for; what Meta is asked beside the id; what the row has beside SENT.
KINDS: dict[str, tuple[bytes, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "jpeg": (JPEG, "", {}, {}, {"kind": "image", "mime_type": "image/jpeg"}),
    "png_with_caption": (
        PNG,
        "",
        {"caption": "Look"},
        {"caption": "Look"},
        {"kind": "image", "mime_type": "image/png", "caption": "Look"},
    ),
    "video": (MP4, "video/mp4", {"caption": "A film"}, {"caption": "A film"},
        {"kind": "video", "mime_type": "video/mp4", "caption": "A film"}),
    "audio": (OGG, "audio/ogg", {}, {}, {"kind": "audio", "mime_type": "audio/ogg"}),
    "voice": (OGG, "audio/ogg", {"kind": "audio", "voice": True}, {"voice": True},
        {"kind": "audio", "mime_type": "audio/ogg", "voice": True}),
    "document": (PDF, "", {"caption": "The bill", "file_name": "bill.pdf"}, {"caption": "The bill", "filename": "bill.pdf"},
        {"kind": "document", "mime_type": "application/pdf", "caption": "The bill", "file_name": "bill.pdf"}),
    "text_as_document": (b"a,b\n1,2\n", "text/csv", {}, {"filename": "brought"},
        {"kind": "document", "mime_type": "text/csv", "file_name": "brought"}),
    "picture_as_document": (JPEG, "", {"kind": "document"}, {"filename": "brought"},
        {"kind": "document", "mime_type": "image/jpeg", "file_name": "brought"}),
    "sticker": (WEBP, "", {"kind": "sticker"}, {}, {"kind": "sticker", "mime_type": "image/webp"}),
    "moving_sticker": (MOVING, "", {"kind": "sticker"}, {}, {"kind": "sticker", "mime_type": "image/webp", "animated": True}),
}  # fmt: skip


def named(media: Any, path: str = "media.items[0]", **more: Any) -> Asked:
    """A file that was brought."""
    return Asked(path=path, media_id=str(media["id"]), **more)


@pytest.mark.parametrize("name", KINDS)
async def test_each_kind_is_brought_to_meta_and_sent_by_its_id(desk: Desk, tmp_path: Path, name: str) -> None:
    content, told, more, asked, row = KINDS[name]
    async with line(desk) as made:
        side = files(made, tmp_path)
        message_id = await side.sent(named(await side.bring(content, told, name="brought"), **more))
        (at_meta,) = await side.at_meta()
        assert (at_meta["mimeType"], at_meta["sha256"]) == (row["mime_type"], hashlib.sha256(content).hexdigest())
        kind = row["kind"]
        assert await side.asked() == [{"type": kind, kind: {"id": at_meta["id"], **asked}}]
        assert await side.left(message_id) == [{**SENT, "size_bytes": len(content), **row}]
        assert await desk.value("SELECT type FROM messages WHERE id = $1", message_id) == kind


async def test_several_files_are_parts_of_one_message_in_their_order(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        wanted = [await side.bring(each) for each in (PNG, PDF, JPEG)]
        message_id = await side.sent(
            *(named(each, f"media.items[{n}]", caption=str(n)) for n, each in enumerate(wanted))
        )
        assert [(each["type"], each[each["type"]]["caption"]) for each in await side.asked()] == [
            ("image", "0"),
            ("document", "1"),
            ("image", "2"),
        ]
        assert [(row["kind"], row["part"]) for row in await side.left(message_id)] == [
            ("image", "sent"),
            ("document", "sent"),
            ("image", "sent"),
        ]
        assert await desk.value("SELECT text FROM messages WHERE id = $1", message_id) == "0"


async def test_a_file_is_brought_once_for_a_channel_and_again_near_its_end(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        media = await side.bring(JPEG)
        await side.sent(named(media))
        await side.sent(named(media))
        assert len(await side.at_meta()) == 1
        await desk.execute("UPDATE provider_media SET expire_time = clock_now() WHERE media_id = $1", media["id"])
        await side.sent(named(media))
        assert len(await side.at_meta()) == 2
        ids = [each["image"]["id"] for each in await side.asked()]
        assert ids == [each["id"] for each in (await side.at_meta())[:1] * 2 + (await side.at_meta())[1:]]
        left = await desk.value(
            "SELECT expire_time - clock_now() BETWEEN interval '28 days' AND interval '30 days' FROM provider_media"
            " WHERE media_id = $1",
            media["id"],
        )
        assert left is True


async def test_a_file_above_buttons_above_a_link_and_above_a_form(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        buttons = Buttons(body="Which?", buttons=(QuickReply(id="a", title="This"),))
        link = Link(body="See", label="Open", url="https://example.org/")
        picture, bill = await side.bring(PNG), await side.bring(PDF)
        await side.sent(named(picture, "buttons.header_media", above=True), content=buttons)
        message_id = await side.sent(named(bill, "link.header_media", above=True, file_name="bill.pdf"), content=link)
        form = Flow(body="When?", label="Choose", flow=Form(flow_id="77"))
        await side.sent(named(picture, "flow.header_media", above=True), content=form)
        first, second, third = [each["interactive"]["header"] for each in await side.asked()]
        ids = [each["id"] for each in await side.at_meta()]
        assert first == third == {"type": "image", "image": {"id": ids[0]}}
        assert second == {"type": "document", "document": {"id": ids[1], "filename": "bill.pdf"}}
        (row,) = await side.left(message_id)
        assert (row["kind"], row["part"]) == ("document", "sent")
        assert await desk.value("SELECT type FROM messages WHERE id = $1", message_id) == "interactive"


ABOVE, IN_ITS_OWN = "buttons.header_media", "media.items[0]"
LARGE = PNG + bytes(5 * MB)
REFUSED: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    "webp_as_image": (WEBP, {"kind": "image"}, "", "the channel takes no image/webp as image; it takes image/jpeg, image/png"),
    "image_too_large": (LARGE, {}, "", f"the channel takes at most {5 * MB} bytes of it, it has {len(LARGE)}"),
    "sticker_too_large": (WEBP + bytes(100 * 1024), {"kind": "sticker"}, "",
        f"the channel takes at most {100 * 1024} bytes of it, it has {len(WEBP) + 100 * 1024}"),
    "caption_of_audio": (OGG, {"kind": "audio", "caption": "no"}, ".caption", "the channel shows nothing below audio"),
    "caption_too_long": (PNG, {"caption": "x" * 1025}, ".caption", "the channel takes at most 1024 characters"),
    "name_of_a_picture": (PNG, {"file_name": "a.png"}, ".file_name", "is of documents alone"),
    "voice_of_a_picture": (PNG, {"voice": True}, ".voice", "is of audio alone"),
    "sound_above": (OGG, {"kind": "audio", "above": True, "path": ABOVE}, ".kind", "must be one of image, video, document"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_meta_would_refuse_is_refused_by_its_field(desk: Desk, tmp_path: Path, name: str) -> None:
    content, more, field, description = REFUSED[name]
    async with line(desk) as made:
        side = files(made, tmp_path)
        told = "audio/ogg" if content is OGG else ""
        with pytest.raises(ProviderLimit) as refused:
            await side.queue(named(await side.bring(content, told), **more))
        found = [(each.field, each.description) for each in refused.value.violations]
        assert found == [(more.get("path", IN_ITS_OWN) + field, description)]
        assert await side.at_meta() == []


async def test_a_link_needs_a_kind(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        with pytest.raises(ProviderLimit) as refused:
            await side.queue(Asked(path="media.items[0]", link="https://example.org/a"))
        assert [each.field for each in refused.value.violations] == ["media.items[0].kind"]
