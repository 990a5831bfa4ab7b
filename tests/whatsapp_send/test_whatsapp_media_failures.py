"""What goes wrong with files that are sent: at Meta, on the way there, at the other end of a link. The rows that are left of each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from switchboard.v1 import message_pb2

from server.kit.egress import Egress
from server.kit.errors import NotFound
from server.media import linked
from server.media.spool import Spool
from server.messages import attached, convert, repository
from server.messages.attached import Asked
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.media import MediaFailed
from server.redelivery import service as redelivery
from tests.desk import ALL, Desk, nobody
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet
from tests.whatsapp_send.sending import line
from tests.whatsapp_send.sending_files import JPEG, PDF, Files, files

DELIVERY = """
SELECT d.state, d.attempt - d.uncounted AS tries, d.error_code, p.status FROM deliveries d JOIN message_parts p ON p.id = d.part_id
WHERE p.message_id = $1 ORDER BY p.position
"""
HERE = ("127.0.0.0/8", "::1/128")


def named(media: Any) -> Asked:
    """A file that was brought."""
    return Asked(path="media.items[0]", media_id=str(media["id"]))


async def delivery(side: Files, message_id: Any) -> tuple[Any, ...]:
    (row,) = await side.line.desk.rows(DELIVERY, message_id)
    return tuple(row)


@asynccontextmanager
async def page(content: bytes, *, status: int = 200, to: str | None = None) -> AsyncIterator[str]:
    """A page of the internet; its address."""

    async def answer(_request: web.Request) -> web.Response:
        headers = {} if to is None else {"Location": to}
        return web.Response(status=status, body=content, headers=headers, content_type="image/jpeg")

    app = web.Application()
    app.add_routes([web.get("/a", answer)])
    async with TestServer(app) as server:
        yield str(server.make_url("/a"))


async def test_131053_has_a_file_brought_once_more_and_then_fails(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        await made.arm(kind="error", code=131053, count=2, filter={"path": "*/messages"})
        message_id = await side.sent(named(await side.bring(JPEG)))
        assert await delivery(side, message_id) == ("queued", 0, "131053", "pending")
        await side.work()
        await made.deliver()
        assert await delivery(side, message_id) == ("failed", 1, "131053", "failed")
        assert (len(await side.at_meta()), len(await made.requests())) == (2, 2)


async def test_131053_once_is_mended_by_bringing_it_again(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        await made.arm(kind="error", code=131053, count=1, filter={"path": "*/messages"})
        message_id = await side.sent(named(await side.bring(JPEG)))
        await side.work()
        await made.deliver()
        assert (await delivery(side, message_id))[0] == "accepted"


async def test_an_id_that_meta_has_no_more_is_brought_again(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        media = await side.bring(JPEG)
        await side.sent(named(media))
        async with made.http.post(f"{made.url}/_control/clock", json={"advance": 31 * 86_400}) as moved:
            assert moved.status == 200
        message_id = await side.sent(named(media))
        assert (await delivery(side, message_id))[2] == "100"
        await side.work()
        await made.deliver()
        assert (await delivery(side, message_id))[0] == "accepted"
        first, second = [each["id"] for each in await side.at_meta()]
        assert [each["image"]["id"] for each in await side.asked()] == [first, first, second]


async def test_a_crash_between_upload_and_send_sends_once(desk: Desk, tmp_path: Path) -> None:
    """What was brought and not noted is brought again; the send, which alone counts, is one."""
    async with line(desk) as made:
        side = files(made, tmp_path)
        message_id = await side.queue(named(await side.bring(JPEG)))
        await side.work()
        await desk.execute(
            "UPDATE provider_media SET provider_media_id = NULL, expire_time = NULL, due_time = clock_now()"
        )
        await side.work()
        await made.deliver()
        assert (len(await side.at_meta()), len(await made.requests())) == (2, 1)
        assert (await delivery(side, message_id))[0] == "accepted"


async def test_a_file_that_is_gone_meanwhile_is_not_found_and_harms_no_neighbour(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side, writer = files(made, tmp_path), desk.writer()
        media = await side.bring(JPEG)
        rows = await side.rows(named(media))
        await desk.execute("DELETE FROM media WHERE id = $1", media["id"])
        sends = [
            writer.enqueue(desk.send(made.conversation_id, "", content=attached.media_of(rows), files=rows)),
            writer.enqueue(desk.send(made.conversation_id, "a neighbour")),
        ]
        lost, neighbour = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(lost, NotFound)
        assert isinstance(neighbour, Stored)


async def test_one_part_that_fails_fails_the_message_and_says_why_and_the_others_arrive(
    desk: Desk, tmp_path: Path
) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        wanted = [named(await side.bring(each)) for each in (JPEG, PDF, JPEG)]
        message_id = await side.queue(*wanted)
        await side.work()
        await made.deliver()
        await made.arm(kind="error", code=131026, count=1)
        await made.deliver()
        await made.deliver()
        assert [row["part"] for row in await side.left(message_id)] == ["sent", "failed", "sent"]
        async with desk.database.connection() as connection:
            message = convert.message(await repository.get_visible(connection, ALL, message_id))
        assert (message.status, message.error.code) == (message_pb2.MESSAGE_STATUS_FAILED, "131026")


async def test_a_message_keeps_its_place_behind_one_that_waits_for_its_file(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        await side.queue(named(await side.bring(JPEG)))
        await made.queue("afterwards")
        assert await made.claimed() == [], "nothing goes while the file is on its way"
        await side.work()
        await made.deliver()
        await made.deliver()
        assert [each["type"] for each in await side.asked()] == ["image", "text"]


async def test_a_revoked_token_pauses_the_channel_and_burns_no_attempt(desk: Desk, tmp_path: Path) -> None:
    async with line(desk, access_token="EAAJnew") as made:
        side = files(made, tmp_path)
        message_id = await side.sent(named(await side.bring(JPEG)))
        assert await delivery(side, message_id) == ("queued", 0, "190", "pending")
        assert await desk.value("SELECT state FROM channels WHERE id = $1", made.channel.id) == "paused"


async def test_meta_that_does_not_take_it_now_takes_it_later(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        await made.arm(kind="error", code=2, status=503, count=1, filter={"path": "*/media"})
        message_id = await side.sent(named(await side.bring(JPEG)))
        assert (await delivery(side, message_id))[::3] == ("queued", "pending")
        await desk.execute("UPDATE deliveries SET due_time = clock_now() WHERE channel_id = $1", made.channel.id)
        await made.deliver()
        await side.work()
        await made.deliver()
        assert (await delivery(side, message_id))[0] == "accepted"


async def test_an_operator_who_asks_again_has_it_brought_anew(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        await made.arm(kind="error", code=131026, count=1)
        message_id = await side.sent(named(await side.bring(JPEG)))
        assert (await delivery(side, message_id))[0] == "failed"
        delivery_id = await desk.value("SELECT id FROM deliveries WHERE channel_id = $1", made.channel.id)

        await desk.do(lambda write: _retried(write, delivery_id, Told))
        await made.deliver()
        await side.work()
        await made.deliver()
        assert len(await side.at_meta()) == 2
        assert (await delivery(side, message_id))[0] == "accepted"


async def test_131053_by_a_receipt_fails_it_and_a_second_send_brings_the_file_anew(
    desks: Installed, desk: Desk, tmp_path: Path
) -> None:
    """Meta took the message and could do nothing with its file: the same bytes would fail again, so nothing is sent by itself."""
    async with line(desk) as made:
        side = files(made, tmp_path)
        message_id = await side.sent(named(await side.bring(JPEG)))
        inlet = Inlet(desks, desk, made.channel, Inlet.applier_of(desks, desk.providers))
        wamid = await desk.value("SELECT provider_message_id FROM message_parts WHERE message_id = $1", message_id)
        error = {"code": 131053, "title": "Media upload error", "error_data": {"details": "Unsupported codec"}}
        await inlet.taken(inlet.receipts((wamid, "failed"), errors=[error]))
        assert await delivery(side, message_id) == ("failed", 1, "131053", "failed")
        async with desk.database.connection() as connection:
            shown = convert.message(await repository.get_visible(connection, ALL, message_id))
        assert (shown.error.code, "Media upload error" in shown.error.message) == ("131053", True)
        assert (len(await side.at_meta()), len(await made.requests())) == (1, 1)
        delivery_id = await desk.value("SELECT id FROM deliveries WHERE channel_id = $1", made.channel.id)
        await desk.do(lambda write: _retried(write, delivery_id, Told))
        await made.deliver()
        await side.work()
        await made.deliver()
        first, second = [each["id"] for each in await side.at_meta()]
        assert [each["image"]["id"] for each in await side.asked()] == [first, second]
        assert (await delivery(side, message_id))[0] == "accepted"


class Told:
    """What `Desk.do` takes."""

    def __init__(self, events: Any) -> None:
        self.events = events


async def _retried(write: Any, delivery_id: Any, told: Any) -> Any:
    return told(await redelivery.retry(write, ALL, delivery_id, origin=nobody()))


async def test_a_link_is_fetched_kept_and_sent_by_an_id(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made, page(JPEG) as link:
        side = files(made, tmp_path)
        side.networks = HERE
        message_id = await side.sent(Asked(path="media.items[0]", link=link, kind="image", caption="Look"))
        (row,) = await side.left(message_id)
        assert (row["state"], row["mime_type"], row["size_bytes"], row["part"]) == (
            *("stored", "image/jpeg", len(JPEG)),
            "sent",
        )
        (at_meta,) = await side.at_meta()
        assert await side.asked() == [{"type": "image", "image": {"id": at_meta["id"], "caption": "Look"}}]
        kinds = await desk.rows("SELECT type FROM messages WHERE id = $1", message_id)
        assert kinds[0]["type"] == "image"


async def test_a_link_to_ourselves_is_never_asked_and_the_message_says_so(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made, page(JPEG) as link:
        side = files(made, tmp_path)
        message_id = await side.sent(Asked(path="media.items[0]", link=link, kind="image"))
        (row,) = await side.left(message_id)
        assert (row["state"], row["part"], row["delivery"]) == ("failed", "failed", "failed")
        assert (await delivery(side, message_id))[2] == "address_not_public"
        assert await made.requests() == []
        error = await desk.value("SELECT error FROM message_attachments WHERE message_id = $1", message_id)
        assert error == "address_not_public"


async def test_a_link_to_what_the_kind_does_not_take_fails(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made, page(PDF) as link:
        side = files(made, tmp_path)
        side.networks = HERE
        message_id = await side.sent(Asked(path="media.items[0]", link=link, kind="image"))
        assert (await delivery(side, message_id))[::2] == ("failed", "type_or_size")
        assert await side.at_meta() == []


async def fetched(tmp_path: Path, link: str, *networks: str, most: int = 10_000) -> Any:
    with (tmp_path / "spool").open("w+b") as file:
        return await linked.fetch(link, Spool(file), most_bytes=most, egress=Egress(networks))


async def test_what_a_link_may_not_do(tmp_path: Path) -> None:
    async with (
        page(JPEG) as good,
        page(b"", status=404) as gone,
        page(b"", status=302, to="http://10.0.0.1/x") as inward,
    ):
        assert await fetched(tmp_path, good, *HERE) == "image/jpeg"
        assert await fetched(tmp_path, good, *HERE, most=10) == MediaFailed("too_large", "too_large")
        assert await fetched(tmp_path, gone, *HERE) == MediaFailed("refused", "http_404")
        assert await fetched(tmp_path, inward, *HERE) == MediaFailed("forbidden", "address_not_public")
        assert await fetched(tmp_path, good.replace("//", "//user:pass@"), *HERE) == MediaFailed(
            "forbidden", "malformed_link"
        )
    assert await fetched(tmp_path, "http://1.1.1.1/a") == MediaFailed("forbidden", "not_https")
    assert await fetched(tmp_path, "https://169.254.169.254/a") == MediaFailed("forbidden", "address_not_public")


async def test_a_name_that_means_another_address_a_moment_later_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is good, each later one leads to ourselves. The resolver is the outside world here."""
    answers: list[str] = []
    real = socket.getaddrinfo

    def lying(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *rest, **more)
        address = "127.0.0.1" if answers else "127.0.0.2"
        answers.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    async with page(JPEG) as link:
        port = link.rsplit(":", 1)[1]
        # Only the first address is allowed, and nobody listens there.
        found = await fetched(tmp_path, f"http://rebinding.example:{port}", "127.0.0.2/32")
        assert found == MediaFailed("later", "unreachable")
        assert answers == ["127.0.0.2"]
        again = await fetched(tmp_path, f"http://rebinding.example:{port}", "127.0.0.2/32")
        assert again == MediaFailed("forbidden", "address_not_public")


async def test_the_worker_that_sends_finds_what_nobody_has_begun_to_bring(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        side = files(made, tmp_path)
        message_id = await side.queue(named(await side.bring(JPEG)))
        await desk.execute("DELETE FROM provider_media")
        await desk.execute("UPDATE deliveries SET due_time = clock_now() WHERE channel_id = $1", made.channel.id)
        (claimed,) = await made.claimed()
        await Sender(desk.database, desk.tenant.secrets, made.providers).deliver(claimed)
        assert await delivery(side, message_id) == ("queued", 0, None, "pending")
        await side.work()
        await made.deliver()
        assert (await delivery(side, message_id))[0] == "accepted"
