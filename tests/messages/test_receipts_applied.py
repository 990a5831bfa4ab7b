"""Receipts on a real tenant database: any order, twice, early, late, and of others."""

import asyncio
import uuid
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from server.conversations.timers import WINDOW_CLOSED, WINDOW_CLOSING
from server.deliveries import claiming
from server.deliveries.claiming import Claimed
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.messages import receipts
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.messages.receipts import Applied, Update
from server.providers.contract import Accepted, Ambiguous
from tests.desk import Desk, nobody


class Sent:
    """A text on its way: its part, and what receipts do to it."""

    def __init__(self, desk: Desk, channel_id: uuid.UUID, message_id: uuid.UUID, part_id: uuid.UUID) -> None:
        self.desk, self.channel_id, self.message_id, self.part_id = desk, channel_id, message_id, part_id
        self.wamid = f"wamid.{part_id.hex}"

    def update(self, status: str, *, ours: bool = False, **more: Any) -> Update:
        """A receipt by the provider's id, and with ours also by the callback data that we gave."""
        return Update(
            channel_id=self.channel_id,
            provider_message_id=self.wamid,
            part_id=self.part_id if ours else None,
            status=status,
            source="receipt",
            origin=nobody(),
            **more,
        )

    async def apply(self, *updates: Update) -> Applied:
        async def work(write: Write) -> Applied:
            applied = await receipts.apply(write, updates)
            await receipts.park(write.connection, applied.unmatched)
            return applied

        return await self.desk.do(work)

    async def accepted(self) -> None:
        """The answer to the send is stored."""
        claimed = await self.claimed()
        await Sender(self.desk.database, self.desk.tenant.secrets, self.desk.providers).settle(
            claimed, Accepted(provider_id=self.wamid)
        )

    async def claimed(self) -> Claimed:
        async with self.desk.database.connection() as connection:
            found = await claiming.claim(connection, worker="w", limit=100, providers=self.desk.providers)
        return next(item for item in found.claimed if item.part_id == self.part_id)

    async def status(self) -> str:
        found = await self.desk.value("SELECT status FROM messages WHERE id = $1", self.message_id)
        part = await self.desk.value("SELECT status FROM message_parts WHERE id = $1", self.part_id)
        assert found == part
        return str(found)

    async def trail(self) -> list[tuple[str, bool]]:
        rows = await self.desk.rows(
            "SELECT status, applied FROM message_status_updates WHERE message_id = $1 ORDER BY create_time, id",
            self.message_id,
        )
        return [(row["status"], row["applied"]) for row in rows]

    async def delivery(self) -> str:
        return str(await self.desk.value("SELECT state FROM deliveries WHERE part_id = $1", self.part_id))


async def sent(desk: Desk) -> Sent:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    item = desk.send(row.id)
    stored = await desk.writer().submit(item)
    assert isinstance(stored, Stored)
    return Sent(desk, channel.id, stored.message.id, item.part_id)


@pytest.mark.parametrize("together", [True, False], ids=["in one unit", "one by one"])
@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (("sent", "delivered", "read"), "read"),
        (("sent", "failed", "sent"), "failed"),
        (("sent", "failed", "delivered"), "delivered"),
        (("delivered", "delivered", "played"), "read"),
    ],
)
async def test_every_order_ends_alike_and_the_trail_is_complete(
    desk: Desk, words: tuple[str, ...], ends: str, together: bool
) -> None:
    for order in sorted(set(permutations(words))):
        message = await sent(desk)
        await message.accepted()
        before = (await desk.head())[1]
        updates = [message.update(word) for word in order]
        if together:
            await message.apply(*updates)
        else:
            for update in updates:
                await message.apply(update)
        assert await message.status() == ends, order
        trail = await message.trail()
        assert [word for word, _ in trail] == ["sent", *order], "also what did not move it"
        assert await desk.kinds(after=before) == ["message_status_updated"] * len(order)


async def test_a_receipt_with_our_callback_data_comes_before_the_answer_is_stored(desk: Desk) -> None:
    message = await sent(desk)
    claimed = await message.claimed()
    await message.apply(message.update("delivered", ours=True))
    assert (await message.status(), await message.delivery()) == ("delivered", "accepted")
    sender = Sender(desk.database, desk.tenant.secrets, desk.providers)
    await sender.settle(claimed, Accepted(provider_id=message.wamid))
    assert await message.status() == "delivered"
    assert await message.trail() == [("delivered", True), ("sent", False)]
    assert (
        await desk.value("SELECT provider_message_id FROM message_parts WHERE id = $1", message.part_id)
        == message.wamid
    )


async def test_receipts_without_callback_data_wait_for_the_answer(desk: Desk) -> None:
    message = await sent(desk)
    applied = await message.apply(message.update("read"), message.update("sent"), message.update("read"))
    assert len(applied.unmatched) == 3
    assert not applied.events
    assert await message.status() == "pending"
    await message.accepted()
    assert await message.status() == "read"
    assert await message.trail() == [("sent", True), ("sent", False), ("read", True)]
    assert await desk.value("SELECT count(*) FROM parked_receipts WHERE provider_message_id = $1", message.wamid) == 0


@pytest.mark.parametrize("first", ["without", "with"])
async def test_a_receipt_without_callback_data_is_found_beside_one_with(desk: Desk, first: str) -> None:
    message = await sent(desk)
    updates = [message.update("sent"), message.update("delivered", ours=True)]
    await message.apply(*(updates if first == "without" else updates[::-1]))
    assert [word for word, _ in await message.trail()] == [
        update.status for update in (updates if first == "without" else updates[::-1])
    ]
    assert await message.status() == "delivered"


async def test_a_parked_receipt_and_the_answer_at_the_same_instant_never_miss_each_other(desk: Desk) -> None:
    for _ in range(15):
        message = await sent(desk)
        claimed = await message.claimed()
        sender = Sender(desk.beside, desk.tenant.secrets, desk.providers)
        await asyncio.gather(
            message.apply(message.update("delivered")), sender.settle(claimed, Accepted(provider_id=message.wamid))
        )
        assert await message.status() == "delivered"
        assert (
            await desk.value("SELECT count(*) FROM parked_receipts WHERE provider_message_id = $1", message.wamid) == 0
        )


@pytest.mark.parametrize(
    ("word", "status", "delivery"), [("delivered", "delivered", "accepted"), ("failed", "failed", "failed")]
)
async def test_an_unknown_send_is_resolved_by_a_receipt(desk: Desk, word: str, status: str, delivery: str) -> None:
    message = await sent(desk)
    sender = Sender(desk.database, desk.tenant.secrets, desk.providers)
    await sender.settle(await message.claimed(), Ambiguous("cut"))
    assert (await message.status(), await message.delivery()) == ("unknown", "unknown")
    assert await desk.value("SELECT hold_until FROM deliveries WHERE part_id = $1", message.part_id) is not None
    await message.apply(message.update(word, ours=True))
    assert (await message.status(), await message.delivery()) == (status, delivery)
    assert await desk.value("SELECT hold_until FROM deliveries WHERE part_id = $1", message.part_id) is None
    assert await message.trail() == [("unknown", True), (word, True)]


async def test_a_failed_message_shows_why_until_it_turns_out_delivered(desk: Desk) -> None:
    message = await sent(desk)
    await message.accepted()
    await message.apply(message.update("failed", error_code="131026", error_message="undeliverable"))
    why = "SELECT error_code, error_message FROM message_parts WHERE id = $1"
    assert tuple((await desk.rows(why, message.part_id))[0]) == ("131026", "undeliverable")
    await message.apply(message.update("delivered"))
    assert tuple((await desk.rows(why, message.part_id))[0]) == (None, None)


async def test_error_131047_closes_the_window_and_its_timers_follow(desk: Desk) -> None:
    message = await sent(desk)
    await message.accepted()
    conversation_id = await desk.value("SELECT conversation_id FROM messages WHERE id = $1", message.message_id)
    before = await desk.conversation(conversation_id)
    head = (await desk.head())[1]
    for _ in range(2):
        await message.apply(message.update("failed", error_code="131047", closes_reply_window=True))
    after = await desk.conversation(conversation_id)
    assert before.reply_window_expire_time is not None
    assert after.reply_window_expire_time is not None
    assert after.reply_window_expire_time < before.reply_window_expire_time
    assert after.version == before.version + 1, "closing what is closed changes nothing"
    kinds = await desk.kinds(after=head)
    assert sorted(kinds) == ["conversation_updated", "message_status_updated", "message_status_updated"]
    due = await desk.rows("SELECT kind, due_time <= now() AS due FROM timers WHERE key = $1", conversation_id)
    assert [tuple(row) for row in due] == [(WINDOW_CLOSED, True)], WINDOW_CLOSING


async def test_error_131047_that_came_before_the_answer_to_the_send_closes_the_window_all_the_same(desk: Desk) -> None:
    message = await sent(desk)
    await message.apply(message.update("failed", error_code="131047", closes_reply_window=True))
    before, head = await desk.conversation(await conversation_of(message)), (await desk.head())[1]
    await message.accepted()
    after = await desk.conversation(before.id)
    assert before.reply_window_expire_time is not None
    assert after.reply_window_expire_time is not None
    assert after.reply_window_expire_time < before.reply_window_expire_time
    assert sorted(await desk.kinds(after=head)) == ["conversation_updated", *["message_status_updated"] * 2]
    assert await message.status() == "failed"


async def test_error_131047_does_not_close_a_window_that_the_customer_opened_since(desk: Desk) -> None:
    message = await sent(desk)
    await message.accepted()
    conversation_id = await conversation_of(message)
    before = await desk.conversation(conversation_id)
    earlier = utc_now() - timedelta(hours=1)
    await message.apply(message.update("failed", error_code="131047", closes_reply_window=True, provider_time=earlier))
    assert (await desk.conversation(conversation_id)).reply_window_expire_time == before.reply_window_expire_time
    assert await message.status() == "failed"


async def test_a_receipt_that_moves_nothing_leaves_the_error_of_a_failed_message(desk: Desk) -> None:
    message = await sent(desk)
    await message.accepted()
    await message.apply(message.update("failed", error_code="131026", error_message="undeliverable"))
    await message.apply(message.update("sent"))
    why = "SELECT error_code, error_message FROM message_parts WHERE id = $1"
    assert tuple((await desk.rows(why, message.part_id))[0]) == ("131026", "undeliverable")


async def conversation_of(message: Sent) -> uuid.UUID:
    found: uuid.UUID = await message.desk.value(
        "SELECT conversation_id FROM messages WHERE id = $1", message.message_id
    )
    return found


async def test_a_receipt_of_an_unknown_message_or_of_a_customers_own_is_parked_and_makes_nothing(desk: Desk) -> None:
    channel = await desk.new_channel()
    item = desk.receive(channel, "4915100000001")
    await desk.writer().submit(item)
    counts = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM contacts) + (SELECT count(*) FROM conversations)"
    before, head = await desk.value(counts), await desk.head()
    stranger = Sent(desk, channel.id, new_id(), new_id())
    stranger.wamid = "wamid.of.somebody.else"
    own = Sent(desk, channel.id, new_id(), new_id())
    own.wamid = item.inbound.provider_id
    applied = await stranger.apply(stranger.update("read"), stranger.update("read", ours=True), own.update("read"))
    assert len(applied.unmatched) == 3
    assert await desk.value(counts) == before
    assert await desk.head() == head


async def test_callback_data_of_another_channel_is_nobodys(desk: Desk) -> None:
    message = await sent(desk)
    other = await desk.new_channel()
    foreign = Update(
        channel_id=other.id,
        provider_message_id="wamid.x",
        part_id=message.part_id,
        status="read",
        source="receipt",
        origin=nobody(),
    )
    applied = await message.apply(foreign)
    assert applied.unmatched == [foreign]
    assert await message.status() == "pending"


async def test_receipts_of_two_parts_at_the_same_instant_both_count_in_their_messages_status(desk: Desk) -> None:
    message = await sent(desk)
    await message.accepted()
    other = Sent(desk, message.channel_id, message.message_id, uuid.uuid4())
    await desk.execute(
        "INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status, provider_message_id)"
        " SELECT $2, message_id, conversation_id, channel_id, 1, 'sent', $3 FROM message_parts WHERE id = $1",
        *(message.part_id, other.part_id, other.wamid),
    )
    first_applied, both_began = asyncio.Event(), asyncio.Event()

    async def first(write: Write) -> None:
        await receipts.apply(write, [message.update("delivered")])
        first_applied.set()
        await both_began.wait()

    async def second(write: Write) -> None:
        asyncio.get_running_loop().call_later(0.1, both_began.set)
        await receipts.apply(write, [other.update("delivered")])

    async def after_the_first() -> None:
        await first_applied.wait()
        await desk.beside.write(second)

    await asyncio.gather(desk.database.write(first), after_the_first())
    assert await message.status() == "delivered"
