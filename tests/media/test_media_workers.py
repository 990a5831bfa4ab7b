"""A worker's part in fetching, at a tenant's database and a simulator: what another one left, and what Meta keeps no longer."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from server.kit.clock import CLOCK
from server.media.store import open_store
from server.messages.fetching import CLAIM, LEASE, Fetcher
from server.messages.items import Stored
from server.simulator import payloads
from server.simulator.payloads import Inbound
from tests.desk import Desk, phone
from tests.whatsapp_send.sending import Line, line

PUT_OFF = """
UPDATE media_fetches SET due_time = clock_now() + $2
WHERE attachment_id = (SELECT id FROM message_attachments WHERE message_id = $1)
"""
ATTACHMENT = "SELECT id, state, error FROM message_attachments WHERE message_id = $1"


async def came(made: Line, media_id: str) -> Any:
    """A message with a file, whose fetch nobody has begun; its id."""
    content = {"id": media_id, "mime_type": "image/jpeg", "sha256": "x"}
    body = payloads.inbound_body(
        made.desk.numbers[made.channel.id],
        [Inbound(type="image", content=content, timestamp=int(time.time()), phone=phone())],
    )
    (receive,) = made.desk.received(made.channel, body)
    stored = await made.desk.writer().submit(receive)
    assert isinstance(stored, Stored)
    return stored.message.id


async def work(made: Line, folder: Path) -> None:
    """A worker's look at what is due, to its end."""
    store = open_store("", folder=folder, endpoint="", region="", access_key="", secret_key="")
    fetcher = Fetcher(providers=made.providers, store=store, most_bytes=10_000, slots=asyncio.Semaphore(4))
    await fetcher.look(made.desk.tenant)
    while fetcher.busy:
        await asyncio.sleep(0.005)


async def put(made: Line, media_id: str) -> None:
    number = made.desk.numbers[made.channel.id].phone_number_id
    async with made.http.put(f"{made.url}/_control/media/{media_id}", json={"phoneNumberId": number}) as answer:
        assert answer.status == 200


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_m2_what_a_worker_that_died_had_claimed_another_fetches(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        await put(made, "9001")
        message_id = await came(made, "9001")
        async with desk.database.connection() as connection:
            assert len(await connection.fetch(CLAIM, 100, LEASE)) >= 1
        await work(made, tmp_path)
        assert files(tmp_path) == [], "it is the other's until its claim ends"
        await desk.execute("UPDATE media_fetches SET due_time = clock_now()")
        await work(made, tmp_path)
        (row,) = await desk.rows(ATTACHMENT, message_id)
        assert (row["state"], files(tmp_path)) == ("stored", [str(row["id"])])
        await work(made, tmp_path)
        assert await desk.value("SELECT count(*) FROM media_fetches") == 0


async def test_what_meta_deleted_before_it_came_has_expired(desk: Desk, tmp_path: Path) -> None:
    async with line(desk) as made:
        fresh, old = await came(made, "9002"), await came(made, "9003")
        await desk.execute(PUT_OFF, old, timedelta(days=1))
        await work(made, tmp_path)
        await desk.execute(PUT_OFF, old, timedelta(0))
        CLOCK.move(timedelta(days=8))
        try:
            await work(made, tmp_path)
        finally:
            CLOCK.move(timedelta(0))
        ended = [tuple((await desk.rows(ATTACHMENT, each))[0])[1:] for each in (fresh, old)]
        assert ended == [("failed", "100"), ("expired", "100")]
