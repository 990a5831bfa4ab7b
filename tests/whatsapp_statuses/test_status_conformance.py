"""Every documented status, from the webhook to the rows of the message, its part and its trail: golden JSON.

`GOLDEN=write pytest tests/whatsapp_statuses` writes the files anew; they are read by eye before they are committed.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from status_rows import ANSWER, ROWS, Step

from server.kit.db import Write
from server.messages import receipts
from server.messages.items import Stored
from server.messages.receipts import Update
from tests.desk import Desk, nobody
from tests.golden import golden, normal
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

GOLDEN = Path(__file__).parent / "golden"
PARTS = "SELECT status, provider_message_id, error_code, error_message FROM message_parts WHERE message_id = $1"
TRAIL = """
SELECT status, source, applied, error_code, error_message, provider_time IS NOT NULL AS timed, member
FROM message_status_updates WHERE message_id = $1 ORDER BY create_time, id
"""
PARKED = """
SELECT status, error_code, member FROM parked_receipts WHERE channel_id = $1 AND provider_message_id = $2 ORDER BY create_time, id
"""
ITEMS = """
SELECT kind, discriminator, state, result FROM journal_items WHERE journal_id = ANY($1::uuid[]) ORDER BY kind, discriminator, state
"""


class Sent:
    """An answer that was sent to a customer who had written a minute ago."""

    def __init__(self, inlet: Inlet, message_id: uuid.UUID, part_id: uuid.UUID, conversation_id: uuid.UUID) -> None:
        self.inlet, self.message_id, self.part_id, self.conversation_id = inlet, message_id, part_id, conversation_id
        self.wamid = f"wamid.{part_id.hex}"
        self.began = int(time.time()) - 50
        self.payloads: list[uuid.UUID] = []

    async def answered(self) -> None:
        """Meta's answer to the send is stored."""

        async def unit(write: Write) -> None:
            update = Update(
                channel_id=self.inlet.channel.id,
                provider_message_id=self.wamid,
                part_id=self.part_id,
                status="sent",
                source="response",
                origin=nobody(),
            )
            await receipts.apply(write, [update])

        await self.inlet.desk.do(unit)

    async def told(self, step: Step) -> None:
        if isinstance(step, str):
            await self.answered()
            return
        statuses = [self._status(dict(each)) for each in step]
        body = self.inlet.receipts()
        body["entry"][0]["changes"][0]["value"]["statuses"] = statuses
        self.payloads.append((await self.inlet.taken(body)).id)

    def _status(self, each: dict[str, Any]) -> dict[str, Any]:
        ours = {"biz_opaque_callback_data": str(self.part_id)} if each.pop("ours", False) else {}
        at = {"timestamp": str(self.began + each.pop("at")), "recipient_id": "4915100000001"}
        return {"id": each.pop("wamid", self.wamid), **at, **ours, **each}


@pytest.fixture
async def sent(desks: Installed, desk: Desk) -> Sent:
    inlet = await Inlet.open(desks, desk)
    await inlet.taken(inlet.texts("hello", at=time.time() - 60))
    conversation_id = await desk.value("SELECT id FROM conversations WHERE channel_id = $1", inlet.channel.id)
    stored = await desk.writer().submit(desk.send(conversation_id))
    assert isinstance(stored, Stored)
    part_id = await desk.value("SELECT id FROM message_parts WHERE message_id = $1", stored.message.id)
    return Sent(inlet, stored.message.id, part_id, conversation_id)


@pytest.mark.parametrize("name", ROWS)
async def test_a_message_is_as_written_down_after_its_statuses(sent: Sent, name: str) -> None:
    if ANSWER not in ROWS[name]:
        await sent.answered()
    for step in ROWS[name]:
        await sent.told(step)
    desk, wamids = sent.inlet.desk, [sent.wamid, "wamid.of-somebody-else"]
    closed = "SELECT reply_window_expire_time <= now() FROM conversations WHERE id = $1"
    parked = [dict(row) for wamid in wamids for row in await desk.rows(PARKED, sent.inlet.channel.id, wamid)]
    found = {
        "message": await desk.value("SELECT status FROM messages WHERE id = $1", sent.message_id),
        "parts": [dict(row) for row in await desk.rows(PARTS, sent.message_id)],
        "trail": [dict(row) for row in await desk.rows(TRAIL, sent.message_id)],
        "parked": parked,
        "items": [dict(row) for row in await desk.rows(ITEMS, sent.payloads)],
        "window_closed": await desk.value(closed, sent.conversation_id),
    }
    seen = json.loads(json.dumps(normal(found)))
    assert seen == golden(GOLDEN / f"{name}.json", seen)


def test_every_file_is_of_a_row() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(ROWS)
