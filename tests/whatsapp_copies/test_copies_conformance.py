"""What is told of messages written elsewhere, from the webhook to the rows: golden JSON of messages, conversation, items and events.

`GOLDEN=write pytest tests/whatsapp_copies` writes the files anew; they are read by eye before they are committed.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from copy_rows import BEGAN, CUSTOMER, ROWS, SINCE, USER_ID, Step, echo, item, status

from server.contacts import blocking
from server.conversations import service as conversations
from server.kit.db import Write
from server.log.append import append
from server.messages import receipts, repository
from server.messages.items import Stored
from server.messages.receipts import Update
from tests.desk import ALL, Desk, nobody, phone
from tests.golden import golden, normal
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

GOLDEN = Path(__file__).parent / "golden"
MESSAGES = """
SELECT m.id, p.provider_message_id AS wamid, m.direction, m.type, m.status, p.status AS part, m.text, m.details, m.author_kind,
    m.arrival, m.author_id = c.contact_id AS by_contact, c.live
FROM messages m JOIN message_parts p ON p.message_id = m.id
JOIN (SELECT id, contact_id, status NOT IN ('resolved', 'archived') AS live FROM conversations) c ON c.id = m.conversation_id
WHERE m.channel_id = $1 ORDER BY m.sequence
"""
FILES = "SELECT kind, mime_type, state FROM message_attachments WHERE message_id = $1"
TRAIL = """
SELECT u.status, u.applied FROM message_status_updates u JOIN messages m ON m.id = u.message_id
WHERE m.channel_id = $1 ORDER BY u.create_time, u.id
"""
THREADS = """
SELECT c.status, c.contact_name AS name, c.message_count, c.inbound_count, c.inbound_count - c.team_read_count AS unread,
    c.last_outbound_arrival, c.last_message_preview AS preview, c.waiting_since IS NOT NULL AS waits,
    c.reply_window_expire_time > clock_now() AS may_reply, c.delete_time IS NOT NULL AS deleted
FROM conversations c WHERE c.channel_id = $1 ORDER BY c.create_time, c.id
"""
NOTES = """
SELECT n.text, n.author_id FROM conversation_notes n JOIN conversations c ON c.id = n.conversation_id
WHERE c.channel_id = $1 ORDER BY n.create_time
"""
ITEMS = """
SELECT kind, state, CASE state WHEN 'applied' THEN NULL ELSE result END AS result FROM journal_items
WHERE journal_id = ANY($1::uuid[]) ORDER BY create_time, kind, provider_id, discriminator
"""


class Told:
    """A number of a tenant, and what happens at it."""

    def __init__(self, inlet: Inlet) -> None:
        self.inlet, self.desk, self.channel = inlet, inlet.desk, inlet.channel
        self.payloads: list[uuid.UUID] = []
        self.part_id: uuid.UUID | None = None
        # Who is known on one channel is known on the others: each test has a customer of its own.
        self.names = {CUSTOMER: phone(), USER_ID: f"DE.{uuid.uuid4().int % 10**20:020}"}
        self.since = str(int(time.time()) + 30)

    async def do(self, step: Step) -> None:
        if isinstance(step, str):
            await getattr(self, step)()
            return
        field, value = step
        number = self.desk.numbers[self.channel.id]
        about = {"display_phone_number": number.display_phone_number, "phone_number_id": number.phone_number_id}
        change = {"field": field, "value": {"messaging_product": "whatsapp", "metadata": about, **value}}
        entry = {"id": number.waba_id, "time": 1_790_000_000, "changes": [change]}
        body = {"object": "whatsapp_business_account", "entry": [entry]}
        text = json.dumps(body)
        for name, value in (*self.names.items(), (str(BEGAN + SINCE), self.since)):
            text = text.replace(name, value)
        self.payloads.append((await self.inlet.taken(text.encode())).id)

    async def conversation_id(self) -> Any:
        return await self.desk.value("SELECT id FROM conversations WHERE channel_id = $1", self.channel.id)

    async def queue(self) -> None:
        """An answer is on its way."""
        row = await self.desk.started(self.channel, self.names[CUSTOMER])
        stored = await self.desk.writer().submit(self.desk.send(row.id))
        assert isinstance(stored, Stored)
        self.part_id = await self.desk.value("SELECT id FROM message_parts WHERE message_id = $1", stored.message.id)

    async def answer(self) -> None:
        """Meta's answer to it is stored."""

        async def unit(write: Write) -> None:
            update = Update(
                channel_id=self.channel.id,
                provider_message_id="wamid.ours",
                part_id=self.part_id,
                status="sent",
                source="response",
                origin=nobody(),
            )
            await append(write, (await receipts.apply(write, [update])).events)

        await self.desk.database.write(unit)

    async def receipt_of_ours(self) -> None:
        """A receipt that has our own id: what the answer would have said is known from it."""
        field, value = status("ours", "read", 9)
        value["statuses"][0]["biz_opaque_callback_data"] = str(self.part_id)
        await self.do((field, value))

    async def echo_of_ours(self) -> None:
        """An echo that has our own id."""
        await self.do(echo(item("ours", 5, biz_opaque_callback_data=str(self.part_id))))

    async def send(self) -> None:
        await self.queue()
        await self.answer()

    async def resolve(self) -> None:
        await self.desk.move(await self.conversation_id(), "resolved")

    async def delete(self) -> None:
        conversation_id = await self.conversation_id()

        async def unit(write: Write) -> None:
            changed = await conversations.delete(write, ALL, conversation_id, origin=nobody())
            await append(write, changed.events)

        await self.desk.database.write(unit)

    async def block(self) -> None:
        contact_id = await self.desk.value(
            "SELECT contact_id FROM conversations WHERE channel_id = $1", self.channel.id
        )

        async def unit(write: Write) -> None:
            events = await blocking.set_blocked(
                write.connection, ALL, contact_id, blocked=True, reason=None, origin=nobody()
            )
            await append(write, events)

        await self.desk.database.write(unit)

    async def found(self, before: int) -> dict[str, Any]:
        messages = []
        for row in await self.desk.rows(MESSAGES, self.channel.id):
            message = dict(row) | {"details": json.loads(row["details"] or "{}")}
            message["files"] = [dict(each) for each in await self.desk.rows(FILES, message.pop("id"))]
            messages.append({name: value for name, value in message.items() if value not in (None, [], {})})
        notes = {"notes": [dict(row) for row in await self.desk.rows(NOTES, self.channel.id)]}
        return {
            **(notes if notes["notes"] else {}),
            "messages": messages,
            "trail": [dict(row) for row in await self.desk.rows(TRAIL, self.channel.id)],
            "threads": [dict(row) for row in await self.desk.rows(THREADS, self.channel.id)],
            "items": [dict(row) for row in await self.desk.rows(ITEMS, self.payloads)],
            "events": await self.desk.kinds(after=before),
        }


@pytest.fixture
async def told(desks: Installed, desk: Desk) -> Told:
    return Told(await Inlet.open(desks, desk))


@pytest.mark.parametrize("name", ROWS)
async def test_what_was_written_elsewhere_is_as_written_down(told: Told, name: str) -> None:
    before = await told.desk.value("SELECT head FROM stream_head")
    for step in ROWS[name]:
        await told.do(step)
    await told.desk.check()
    text = json.dumps(normal(await told.found(before)), default=str)
    for name_, value in told.names.items():
        text = text.replace(value, name_)
    seen = json.loads(text)
    assert seen == golden(GOLDEN / f"{name}.json", seen)


TOLD: Mapping[str, Step] = {
    "echo": echo(item("ours", 5)),
    "delivered": status("ours", "delivered", 8),
    "answer": "answer",
    "receipt": "receipt_of_ours",
    "named": "echo_of_ours",
}
ORDERS = [
    *(order for known in ("answer", "receipt") for order in permutations(("echo", "delivered", known))),
    *(("named", *order) for order in permutations(("delivered", "answer"))),
    ("delivered", "named"),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_in_whatever_order_our_own_send_is_told_of_it_is_one_message(told: Told, order: tuple[str, ...]) -> None:
    await told.queue()
    for name in order:
        await told.do(TOLD[name])
    await told.do(TOLD["echo"])
    await told.desk.check()
    conversation_id = await told.conversation_id()
    async with told.desk.database.connection() as connection:
        shown, _ = await repository.page(connection, conversation_id, before=None, limit=10)
    (ours,) = [message for message in shown if message.direction == "outbound"]
    assert (ours.provider_message_id, ours.author_kind) == ("wamid.ours", nobody().actor.kind)
    assert ours.status == ("read" if "receipt" in order else "delivered")
    last = await told.desk.value("SELECT last_message_id FROM conversations WHERE id = $1", conversation_id)
    assert last == ours.id


def test_every_file_is_of_a_row() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(ROWS)
