"""Blocking a contact, on a real tenant database: what it writes goes no further than the journal, and nothing goes to it."""

import asyncio
import uuid
from typing import Any

import pytest

from server.contacts import blocking
from server.contacts.blocking import ContactBlocked
from server.kit.db import Database, Write
from server.kit.errors import NotFound
from server.log.append import append
from server.messages.items import Duplicate, Receive, Stored, Withheld
from server.rpc.call import Scope
from tests.desk import ALL, Desk, nobody, phone


async def set_blocked(
    desk: Desk,
    contact_id: uuid.UUID,
    blocked: bool,
    *,
    reason: str | None = None,
    scope: Scope = ALL,
    database: Database | None = None,
) -> int:
    """How many events it took."""

    async def unit(write: Write) -> int:
        events = await blocking.set_blocked(
            write.connection, scope, contact_id, blocked=blocked, reason=reason, origin=nobody()
        )
        await append(write, events)
        return len(events)

    return await (database or desk.database).write(unit)


async def block_of(desk: Desk, contact_id: uuid.UUID) -> Any:
    (row,) = await desk.rows("SELECT block_time, block_reason FROM contacts WHERE id = $1", contact_id)
    return row


async def item_of(desk: Desk, receive: Receive) -> tuple[str, str | None]:
    (row,) = await desk.rows("SELECT state, result FROM journal_items WHERE id = $1", receive.journal_item_id)
    return row["state"], row["result"]


@pytest.mark.parametrize("status", ["new", "open", "pending", "snoozed", "resolved", "archived"])
async def test_what_a_blocked_contact_writes_changes_no_conversation(desk: Desk, status: str) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    for step in {"new": [], "archived": ["resolved", "archived"]}.get(status, [status]):
        await desk.move(row.id, step)
    assert await set_blocked(desk, row.contact_id, True) == 1
    before, head = await desk.conversation(row.id), await desk.head()
    receive = desk.receive(channel, sender, name="Another Name")
    assert await desk.writer().submit(receive) == Withheld()
    assert await desk.conversation(row.id) == before
    assert await desk.head() == head
    assert await item_of(desk, receive) == ("ignored", "contact blocked")


async def test_a_blocked_contact_starts_no_conversation_on_another_channel(desk: Desk) -> None:
    sender = phone()
    row = await desk.started(await desk.new_channel(), sender)
    await set_blocked(desk, row.contact_id, True)
    other = await desk.new_channel()
    assert await desk.writer().submit(desk.receive(other, sender)) == Withheld()
    assert await desk.value("SELECT count(*) FROM conversations WHERE contact_id = $1", row.contact_id) == 1


async def test_a_message_from_before_the_block_is_a_duplicate_still(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    receive = desk.receive(channel, sender)
    stored = await desk.writer().submit(receive)
    assert isinstance(stored, Stored)
    row = await desk.conversation(stored.message.conversation_id)
    await set_blocked(desk, row.contact_id, True)
    assert await desk.writer().submit(receive) == Duplicate()


async def test_nothing_is_sent_to_a_blocked_contact(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    await set_blocked(desk, row.contact_id, True)
    head = await desk.head()
    with pytest.raises(ContactBlocked) as refusal:
        await desk.writer().submit(desk.send(row.id))
    assert refusal.value.metadata == {"contact_id": str(row.contact_id)}
    with pytest.raises(ContactBlocked):
        await desk.writer(desk.beside).submit(desk.send(row.id, last_seen_message_id=row.last_message_id))
    assert await desk.head() == head


async def test_unblocked_it_is_as_anybody(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    await set_blocked(desk, row.contact_id, True, reason="Spam")
    await desk.writer().submit(desk.receive(channel, sender))
    assert await set_blocked(desk, row.contact_id, False) == 1
    assert tuple(await block_of(desk, row.contact_id)) == (None, None)
    assert isinstance(await desk.writer().submit(desk.receive(channel, sender)), Stored)
    assert isinstance(await desk.writer().submit(desk.send(row.id)), Stored)
    assert (await desk.conversation(row.id)).inbound_count == 2


async def test_blocking_it_anew_replaces_the_reason_and_keeps_the_time(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    assert await set_blocked(desk, row.contact_id, False) == 0
    await set_blocked(desk, row.contact_id, True, reason="Spam")
    first = await block_of(desk, row.contact_id)
    assert await set_blocked(desk, row.contact_id, True, reason="Spam") == 0
    assert await set_blocked(desk, row.contact_id, True, reason="Threats") == 1
    assert tuple(await block_of(desk, row.contact_id)) == (first["block_time"], "Threats")


async def test_the_event_shows_the_contact_on_each_of_its_channels(desk: Desk) -> None:
    sender, channels = phone(), [await desk.new_channel(), await desk.new_channel()]
    rows = [await desk.started(channel, sender) for channel in channels]
    head = (await desk.head())[1]
    assert await set_blocked(desk, rows[0].contact_id, True, reason="Spam") == 2
    events = [event for _, event in await desk.events(after=head)]
    assert [event.WhichOneof("body") for event in events] == ["contact_block_changed"] * 2
    shown = events[0].contact_block_changed.contact
    assert (shown.id, shown.block_reason, shown.HasField("block_time")) == (str(rows[0].contact_id), "Spam", True)
    assert {identity.channel_id for identity in shown.identities} == {str(channel.id) for channel in channels}


async def test_who_cannot_see_a_contact_cannot_block_it(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    with pytest.raises(NotFound):
        await set_blocked(desk, row.contact_id, True, scope=Scope(all=False))


async def test_no_conversation_starts_with_a_blocked_contact(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    await desk.move(row.id, "resolved")
    await set_blocked(desk, row.contact_id, True)

    async def check(write: Write) -> None:
        await blocking.check_not_blocked(write.connection, row.identity_id, row.contact_id)

    with pytest.raises(ContactBlocked):
        await desk.database.write(check)


async def test_a_block_and_messages_at_the_same_time_agree_on_who_came_first(desk: Desk) -> None:
    """After the event of the block no message of the contact is in the log, whoever won."""
    for known in (True, False) * 4:
        channel, sender = await desk.new_channel(), phone()
        contact_id = (await desk.started(await desk.new_channel(), sender)).contact_id
        if known:
            await desk.started(channel, sender)
        head = (await desk.head())[1]
        writer = desk.writer(desk.beside)
        await asyncio.gather(
            *(writer.submit(desk.receive(channel, sender)) for _ in range(3)),
            set_blocked(desk, contact_id, True),
            desk.writer().submit(desk.receive(channel, sender)),
        )
        kinds = await desk.kinds(after=head)
        last = max(index for index, kind in enumerate(kinds) if kind == "contact_block_changed")
        assert not {"message_received", "conversation_created"} & set(kinds[last:]), kinds
        assert await desk.value("SELECT bool_and(contact_blocked) FROM conversations WHERE contact_id = $1", contact_id)
    await desk.check()


async def test_a_reply_that_waits_for_a_block_is_refused(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    held, locked = asyncio.Event(), asyncio.Event()

    async def unit(write: Write) -> None:
        events = await blocking.set_blocked(
            write.connection, ALL, row.contact_id, blocked=True, reason=None, origin=nobody()
        )
        locked.set()
        await held.wait()
        await append(write, events)

    blocked = asyncio.create_task(desk.beside.write(unit))
    await locked.wait()
    sent = desk.writer().enqueue(desk.send(row.id))
    await asyncio.sleep(0.05)
    held.set()
    await blocked
    with pytest.raises(ContactBlocked):
        await sent
