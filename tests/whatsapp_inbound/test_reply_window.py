"""The 24 hours in which a customer can be answered freely, as they are stored: what opens them, from when, for whom; and what does not.

Source: Meta's Cloud API documentation, "Customer service windows": from the customer's last message, for this number and this customer.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.desk import Desk, phone
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

HOUR, DAY, MARGIN = 3600, 86_400, 60
UNTIL = """
SELECT extract(epoch FROM c.reply_window_expire_time)::float8 FROM conversations c
JOIN identity_aliases a ON a.identity_id = c.identity_id WHERE a.value = $1 AND c.channel_id = $2
"""
FIRST = """
SELECT p.provider_message_id FROM message_parts p JOIN messages m ON m.id = p.message_id
WHERE m.channel_id = $1 AND m.direction = $2 ORDER BY m.create_time LIMIT 1
"""
FILE = {"id": "1003383421387256", "mime_type": "image/jpeg", "sha256": "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI="}
REPLY = {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}}
ORDER = {"catalog_id": "1", "product_items": [{"product_retailer_id": "a", "quantity": 1, "item_price": 2}]}
OPENS: dict[str, tuple[str, Any]] = {
    "text": ("text", {"body": "again"}),
    "image": ("image", FILE),
    "location": ("location", {"latitude": 1, "longitude": 2}),
    "contacts": ("contacts", [{"name": {"formatted_name": "Ana", "first_name": "Ana"}}]),
    "button of a template": ("button", {"text": "Yes", "payload": "y"}),
    "answer to a question": ("interactive", REPLY),
    "order": ("order", ORDER),
    "a type that nobody knows": ("telepathy", {"thought": "hm"}),
}
# <first>: the customer's first message.
STAYS: dict[str, tuple[str, Any]] = {
    "reaction": ("reaction", {"message_id": "<first>", "emoji": "\U0001f44d"}),
    "reaction taken back": ("reaction", {"message_id": "<first>"}),
    "edit": ("edit", {"original_message_id": "<first>", "message": {"type": "text", "text": {"body": "hello!"}}}),
    "withdrawal": ("revoke", {"original_message_id": "<first>"}),
    "another number": ("system", {"type": "user_changed_number", "wa_id": "<phone>", "body": "changed"}),
    "the chat opened": ("request_welcome", {}),
    "an edit that is not shown": ("unsupported", {"type": "edit"}),
    "a reaction that is not shown": ("unsupported", {"type": "reaction"}),
}


async def wrote(inlet: Inlet, *, hours: float, sender: str, text: str = "hello") -> int:
    """A customer writes so many hours ago; when, in Unix seconds."""
    at = int(time.time() - hours * HOUR)
    await inlet.taken(inlet.texts(text, sender=sender, at=at))
    return at


async def until(inlet: Inlet, sender: str) -> float:
    return float(await inlet.desk.value(UNTIL, sender, inlet.channel.id))


async def came(inlet: Inlet, word: str, content: Any, *, hours: float, sender: str) -> int:
    """Something else of the customer; when."""
    at = int(time.time() - hours * HOUR)
    first = await inlet.desk.value(FIRST, inlet.channel.id, "inbound")
    marks = {"<first>": first, "<phone>": sender}
    if isinstance(content, dict):
        content = {
            name: marks.get(value, value) if isinstance(value, str) else value for name, value in content.items()
        }
    body = inlet.of_type(word, content, sender=sender, at=at)
    if word == "unsupported":
        (message,) = body["entry"][0]["changes"][0]["value"]["messages"]
        message["errors"] = [{"code": 131051, "title": "Message type unknown"}]
    await inlet.taken(body)
    return at


async def test_it_ends_a_day_after_the_providers_time_and_a_minute_before(desks: Installed, desk: Desk) -> None:
    inlet, sender = await Inlet.open(desks, desk), phone()
    at = await wrote(inlet, hours=20, sender=sender)
    assert await until(inlet, sender) == at + DAY - MARGIN, "not of when it arrived"


@pytest.mark.parametrize("name", OPENS)
async def test_a_message_opens_it_anew(desks: Installed, desk: Desk, name: str) -> None:
    inlet, sender = await Inlet.open(desks, desk), phone()
    await wrote(inlet, hours=30, sender=sender)
    at = await came(inlet, *OPENS[name], hours=1, sender=sender)
    assert await until(inlet, sender) == at + DAY - MARGIN


@pytest.mark.parametrize("name", STAYS)
async def test_what_is_no_message_leaves_it_as_it_was(desks: Installed, desk: Desk, name: str) -> None:
    inlet, sender = await Inlet.open(desks, desk), phone()
    at = await wrote(inlet, hours=20, sender=sender)
    await came(inlet, *STAYS[name], hours=1, sender=sender)
    assert await until(inlet, sender) == at + DAY - MARGIN


async def test_a_message_that_comes_late_does_not_shorten_it(desks: Installed, desk: Desk) -> None:
    inlet, sender = await Inlet.open(desks, desk), phone()
    at = await wrote(inlet, hours=1, sender=sender)
    await wrote(inlet, hours=5, sender=sender, text="late")
    assert await until(inlet, sender) == at + DAY - MARGIN


async def test_that_he_read_an_answer_and_the_answer_itself_leave_it_as_it_was(desks: Installed, desk: Desk) -> None:
    inlet, sender = await Inlet.open(desks, desk), phone()
    at = await wrote(inlet, hours=20, sender=sender)
    conversation_id = await desk.value("SELECT id FROM conversations WHERE channel_id = $1", inlet.channel.id)
    await desk.writer().submit(desk.send(conversation_id))
    part_id = await desk.value("SELECT part_id FROM deliveries WHERE channel_id = $1", inlet.channel.id)
    await desk.execute(
        "UPDATE message_parts SET provider_message_id = $2, status = 'sent' WHERE id = $1", part_id, f"wamid.{part_id}"
    )
    for word in ("delivered", "read"):
        await inlet.taken(inlet.receipts((f"wamid.{part_id}", word)))
    assert await desk.value("SELECT status FROM message_parts WHERE id = $1", part_id) == "read"
    assert await until(inlet, sender) == at + DAY - MARGIN


async def test_each_number_and_each_customer_have_their_own(desks: Installed, desk: Desk) -> None:
    inlet, other, sender, friend = await Inlet.open(desks, desk), await Inlet.open(desks, desk), phone(), phone()
    first = await wrote(inlet, hours=20, sender=sender)
    second = await wrote(other, hours=3, sender=sender)
    third = await wrote(inlet, hours=1, sender=friend)
    found = [await until(inlet, sender), await until(other, sender), await until(inlet, friend)]
    assert found == [at + DAY - MARGIN for at in (first, second, third)]
