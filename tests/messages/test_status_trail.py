"""The audit trail of receipts: every one is kept, whether it moved a part or not, and it is read whole, or part by part."""

import uuid
from typing import Any

import pytest

from server.kit.clock import utc_now
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.messages import receipts, service
from server.messages.items import Stored
from server.messages.receipts import Update
from server.rpc.call import Scope
from tests.desk import ALL, Desk, nobody

TOLD = ["delivered", "sent", "delivered", "read", "failed", "played"]


async def trail(desk: Desk, message_id: uuid.UUID, *, size: int, part: int | None = None) -> list[Any]:
    """All pages of so many."""
    found: list[Any] = []
    after = None
    while True:
        page, _ = await service.status_updates(desk.database, ALL, message_id, part=part, after=after, limit=size)
        found += page
        if len(page) < size:
            return found
        after = [page[-1]["create_time"].isoformat(), str(page[-1]["id"])]


async def test_everything_that_was_told_is_in_it_once_in_its_order(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    stored = await desk.writer().submit(desk.send(row.id, "hello"))
    assert isinstance(stored, Stored)
    message_id = stored.message.id
    first = await desk.value("SELECT id FROM message_parts WHERE message_id = $1", message_id)
    second = new_id()
    await desk.execute(
        "INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status, provider_message_id)"
        " VALUES ($1, $2, $3, $4, 1, 'pending', 'wamid.second')",
        *(second, message_id, row.id, channel.id),
    )

    async def told(part_id: uuid.UUID, wamid: str, status: str) -> None:
        update = Update(
            channel_id=channel.id,
            provider_message_id=wamid,
            part_id=part_id,
            status=status,
            source="receipt",
            origin=nobody(),
            provider_time=utc_now(),
        )
        await desk.do(lambda write: receipts.apply(write, [update]))

    for status in TOLD:
        await told(first, "wamid.first", status)
    await told(second, "wamid.second", "sent")
    for size in (1, 3, 50):
        whole = await trail(desk, message_id, size=size)
        assert [(item["position"], item["status"]) for item in whole] == [
            *((0, status) for status in TOLD),
            (1, "sent"),
        ]
        assert [item["applied"] for item in whole] == [True, False, False, True, False, False, True]
    assert [item["status"] for item in await trail(desk, message_id, size=2, part=0)] == TOLD
    assert [item["status"] for item in await trail(desk, message_id, size=2, part=1)] == ["sent"]
    assert await trail(desk, message_id, size=2, part=7) == []
    blind = Scope(all=False, agent_id=new_id())
    with pytest.raises(NotFound):
        await service.status_updates(desk.database, blind, message_id, part=None, after=None, limit=5)
