"""Customers who come by an advertisement: free for 72 hours from the first answer, if it comes within 24; the window is another matter."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import pytest

from server.kit.clock import utc_now
from tests.desk import Desk
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

HOUR = 3600
TIMES = "SELECT referral_time, free_entry_expire_time, reply_window_expire_time FROM conversations WHERE id = $1"


async def led(inlet: Inlet, *, hours: float, sender: str) -> uuid.UUID:
    """The conversation of somebody whom an advertisement led here so many hours ago, and who wrote again a moment ago."""
    body = inlet.texts("hello", sender=sender, at=time.time() - hours * HOUR)
    (message,) = body["entry"][0]["changes"][0]["value"]["messages"]
    message["referral"] = {"source_type": "ad", "source_id": "1"}
    await inlet.taken(body)
    await inlet.taken(inlet.texts("again", sender=sender))
    found: uuid.UUID = await inlet.desk.value(
        "SELECT c.id FROM conversations c JOIN identity_aliases a ON a.identity_id = c.identity_id"
        " WHERE a.value = $1 AND c.channel_id = $2",
        sender,
        inlet.channel.id,
    )
    return found


@pytest.mark.parametrize(("hours", "free"), [(0.1, True), (23.9, True), (24.1, False)])
async def test_the_first_answer_begins_the_free_time_if_it_is_soon_enough(
    desks: Installed, desk: Desk, hours: float, free: bool
) -> None:
    inlet = await Inlet.open(desks, desk)
    conversation_id = await led(inlet, hours=hours, sender="4915100000071")
    before = (await desk.rows(TIMES, conversation_id))[0]
    assert before["referral_time"] is not None
    assert before["free_entry_expire_time"] is None
    await desk.writer().submit(desk.send(conversation_id))
    first = (await desk.rows(TIMES, conversation_id))[0]
    assert first["referral_time"] is None
    assert first["reply_window_expire_time"] == before["reply_window_expire_time"]
    if not free:
        assert first["free_entry_expire_time"] is None
        return
    assert abs(first["free_entry_expire_time"] - utc_now() - timedelta(hours=72)) < timedelta(minutes=1)
    await desk.writer().submit(desk.send(conversation_id))
    assert (await desk.rows(TIMES, conversation_id))[0] == first


async def test_who_came_by_himself_has_no_free_time(desks: Installed, desk: Desk) -> None:
    inlet = await Inlet.open(desks, desk)
    await inlet.taken(inlet.texts("hello", sender="4915100000072"))
    conversation_id = await desk.value("SELECT id FROM conversations WHERE channel_id = $1", inlet.channel.id)
    await desk.writer().submit(desk.send(conversation_id))
    assert (await desk.rows(TIMES, conversation_id))[0]["free_entry_expire_time"] is None
