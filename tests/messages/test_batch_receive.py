"""Messages of customers through the batch writer, on a real tenant database."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from server.kit.errors import DatabaseUnavailable
from server.messages.batch import BatchWriter
from server.messages.items import Duplicate, Stored
from server.messages.unit import Unit
from tests.desk import Desk, kill_backends, phone
from tests.installation import Installed

DAY = 86_400


async def all_of(*waiting: Any) -> list[Any]:
    return list(await asyncio.gather(*waiting, return_exceptions=True))


async def people(desk: Desk, sender: str) -> list[Any]:
    """Contact, identity and conversation of everybody who has this number."""
    return await desk.rows(
        "SELECT a.identity_id, i.contact_id, c.id, c.status, c.message_count, c.previous_conversation_id FROM identity_aliases a"
        " JOIN identities i ON i.id = a.identity_id LEFT JOIN conversations c ON c.identity_id = i.id WHERE a.value = $1"
        " ORDER BY c.create_time, c.id",
        sender,
    )


async def test_a_first_message_makes_a_contact_an_identity_and_a_new_conversation(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    before = (await desk.head())[1]
    stored = await desk.writer().submit(desk.receive(channel, sender, "hello there", name="Maria"))
    row = await desk.conversation(stored.message.conversation_id)  # type: ignore[union-attr]
    assert (row.status, row.contact_name, row.last_message_preview) == ("new", "Maria", "hello there")
    assert (row.message_count, row.inbound_count, row.unread_count) == (1, 1, 1)
    assert row.waiting_since is not None
    assert await desk.kinds(after=before) == ["contact_created", "conversation_created", "message_received"]
    await desk.check_log()
    await desk.check_counters()


async def test_the_same_message_twice_in_one_batch_is_one(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    writer, item = desk.writer(), desk.receive(channel, sender)
    again = desk.receive_of(channel, item.inbound)
    results = await asyncio.gather(writer.submit(item), writer.submit(again))
    assert sorted(type(result).__name__ for result in results) == ["Duplicate", "Stored"]
    assert [row["message_count"] for row in await people(desk, sender)] == [1]


async def test_the_same_message_through_two_writers_at_once_is_one(desk: Desk) -> None:
    channel = await desk.new_channel()
    for _ in range(10):
        sender = phone()
        item = desk.receive(channel, sender)
        results = await asyncio.gather(
            desk.writer().submit(item), desk.writer(desk.beside).submit(desk.receive_of(channel, item.inbound))
        )
        assert sorted(type(result).__name__ for result in results) == ["Duplicate", "Stored"]
        assert [row["message_count"] for row in await people(desk, sender)] == [1]
    await desk.check_log()
    await desk.check_counters()


async def test_a_duplicate_after_resolve_neither_reopens_nor_renames_nor_touches_the_head(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    item = desk.receive(channel, sender, name="Maria")
    stored = await desk.writer().submit(item)
    assert isinstance(stored, Stored)
    await desk.move(stored.message.conversation_id, "resolved")
    head = await desk.head()
    renamed = desk.receive(channel, sender, name="Mallory", wamid=item.inbound.provider_id)
    assert isinstance(await desk.writer().submit(renamed), Duplicate)
    row = await desk.conversation(stored.message.conversation_id)
    assert (row.status, row.contact_name) == ("resolved", "Maria")
    assert await desk.head() == head, "not even a new version of the head's row"


async def strangers(desk: Desk, times: int) -> None:
    channel = await desk.new_channel()
    for _ in range(times):
        sender = phone()
        items = [desk.receive(channel, sender, f"message {index}", name="Maria") for index in range(50)]
        writers = (desk.writer(), desk.writer(desk.beside))
        results = await all_of(*(writers[index % 2].submit(item) for index, item in enumerate(items)))
        assert all(isinstance(result, Stored) for result in results), results
        (found,) = await people(desk, sender)
        assert (found["message_count"], found["status"]) == (50, "new")
    assert (
        await desk.value(
            "SELECT count(*) FROM contacts c WHERE NOT EXISTS (SELECT FROM identities WHERE contact_id = c.id)"
        )
        == 0
    )
    await desk.check()


async def test_fifty_first_messages_of_a_stranger_over_two_writers_make_one_conversation(own_desk: Desk) -> None:
    await strangers(own_desk, 10)


@pytest.mark.faults
async def test_fifty_first_messages_of_a_stranger_over_two_writers_a_hundred_times(own_desk: Desk) -> None:
    await strangers(own_desk, 100)


async def test_an_identity_conflict_is_recorded_once_and_nothing_is_merged(desk: Desk) -> None:
    channel, sender, other = await desk.new_channel(), phone(), f"DE.{uuid.uuid4().int % 10**15}"
    writer = desk.writer()
    first = await writer.submit(desk.receive(channel, sender))
    second = await writer.submit(desk.receive(channel, None, bsuid=other))
    before = (await desk.head())[1]
    for _ in range(2):
        await writer.submit(desk.receive(channel, sender, bsuid=other))
    assert (await desk.kinds(after=before)).count("identity_conflict") == 1
    assert await desk.value("SELECT count(*) FROM identity_conflicts WHERE channel_id = $1", channel.id) == 1
    counts = [
        (await desk.conversation(item.message.conversation_id)).message_count  # type: ignore[union-attr]
        for item in (first, second)
    ]
    assert sorted(counts) == [1, 3]
    assert (
        await desk.value("SELECT count(DISTINCT identity_id) FROM identity_aliases WHERE channel_id = $1", channel.id)
        == 2
    )


async def test_a_user_id_alone_and_then_with_a_number_is_one_contact(desk: Desk) -> None:
    channel, sender, user = await desk.new_channel(), phone(), f"DE.{uuid.uuid4().int % 10**15}"
    for addresses in ({"bsuid": user}, {"sender": sender, "bsuid": user}, {"sender": sender}, {"bsuid": user}):
        await desk.writer().submit(desk.receive(channel, **addresses))
    assert await desk.value("SELECT count(*) FROM identities WHERE channel_id = $1", channel.id) == 1
    assert [row["message_count"] for row in await people(desk, sender)] == [4]
    assert await desk.value("SELECT count(*) FROM identity_conflicts WHERE channel_id = $1", channel.id) == 0


@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "in one batch"])
async def test_the_same_number_on_a_second_channel_joins_the_contact(desk: Desk, together: bool) -> None:
    one, two, sender = await desk.new_channel(), await desk.new_channel(), phone()
    writer = desk.writer()
    items = [desk.receive(one, sender), desk.receive(two, sender)]
    if together:
        await asyncio.gather(*(writer.submit(item) for item in items))
    else:
        for item in items:
            await writer.submit(item)
    found = await people(desk, sender)
    assert len({row["identity_id"] for row in found}) == len({row["id"] for row in found}) == 2
    assert len({row["contact_id"] for row in found}) == 1


async def test_a_profile_name_follows_the_customer_but_never_over_an_agents(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()

    async def write(name: str) -> str:
        stored = await desk.writer().submit(desk.receive(channel, sender, name=name))
        return (await desk.conversation(stored.message.conversation_id)).contact_name  # type: ignore[union-attr]

    assert await write("...") == f"+{sender}"
    assert await write("Maria") == "Maria"
    assert await write("Maria Rossi") == "Maria Rossi"
    contact = (await people(desk, sender))[0]["contact_id"]
    await desk.execute("UPDATE contacts SET name = 'Ms Rossi', name_source = 'agent' WHERE id = $1", contact)
    await write("Mary")
    assert await desk.value("SELECT name FROM contacts WHERE id = $1", contact) == "Ms Rossi"
    assert await desk.value("SELECT profile_name FROM identities WHERE contact_id = $1", contact) == "Mary"


async def test_a_late_older_message_does_not_become_the_preview(desk: Desk) -> None:
    channel, sender, now = await desk.new_channel(), phone(), 1_790_000_000
    writer = desk.writer()
    for text, at in (
        ("newest", now),
        ("older", now - 60),
        ("oldest", now - 90),
        ("older too", now - 60),
        ("newer", now + 1),
    ):
        stored = await writer.submit(desk.receive(channel, sender, text, at=at))
    row = await desk.conversation(stored.message.conversation_id)  # type: ignore[union-attr]
    found = await desk.rows(
        "SELECT text, sequence, arrival FROM messages WHERE conversation_id = $1 ORDER BY sequence", row.id
    )
    assert [item["text"] for item in found] == ["oldest", "older", "older too", "newest", "newer"]
    assert [item["arrival"] for item in found] == [3, 2, 4, 1, 5]
    assert row.last_message_preview == "newer"
    late = await writer.submit(desk.receive(channel, sender, "late", at=now - 10))
    assert isinstance(late, Stored)
    assert (await desk.conversation(row.id)).last_message_preview == "newer"
    await desk.check_log()
    await desk.check_counters()


async def test_messages_of_one_second_keep_their_order_in_one_batch_and_over_many(desk: Desk) -> None:
    channel, sender, at = await desk.new_channel(), phone(), 1_790_000_000
    writer = desk.writer()
    await asyncio.gather(*(writer.submit(desk.receive(channel, sender, f"{index:02}", at=at)) for index in range(5)))
    await writer.submit(desk.receive(channel, sender, "later", at=at + 5))
    await asyncio.gather(
        *(writer.submit(desk.receive(channel, sender, f"{index:02}", at=at)) for index in range(5, 10))
    )
    await writer.submit(desk.receive(channel, sender, "10", at=at))
    (found,) = await people(desk, sender)
    rows = await desk.rows("SELECT text FROM messages WHERE conversation_id = $1 ORDER BY sequence", found["id"])
    assert [row["text"] for row in rows] == [*(f"{index:02}" for index in range(11)), "later"]
    await desk.check_log()
    await desk.check_counters()


async def test_a_message_of_the_newest_ones_second_finds_its_place_after_an_answer_of_the_same_run(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    first = desk.receive(channel, sender, "first")
    stored = await desk.writer().submit(first)
    assert isinstance(stored, Stored)
    at = first.inbound.provider_time.timestamp()
    items = [
        desk.send(stored.message.conversation_id, "answer"),
        *(desk.receive(channel, sender, word, at=at) for word in "ab"),
    ]
    # One run and no second chance: the batch writer would hide a collision by halving.
    await desk.database.write(lambda write: Unit(write, items, desk.providers).run())
    rows = await desk.rows(
        "SELECT text FROM messages WHERE conversation_id = $1 ORDER BY sequence", stored.message.conversation_id
    )
    assert [row["text"] for row in rows] == ["first", "a", "b", "answer"]


async def test_a_test_message_of_2017_is_the_preview_of_its_conversation(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    for text in ("this is a text message", "this is another"):
        stored = await desk.writer().submit(desk.receive(channel, sender, text, at=1_504_902_988))
    row = await desk.conversation(stored.message.conversation_id)  # type: ignore[union-attr]
    assert row.last_message_preview == "this is another"
    assert row.reply_window_expire_time is not None
    await desk.check_log()
    await desk.check_counters()


async def test_a_provider_clock_that_is_ahead_opens_no_window_of_years(desk: Desk) -> None:
    channel = await desk.new_channel()
    stored = await desk.writer().submit(desk.receive(channel, phone(), at=4_000_000_000))
    row = await desk.conversation(stored.message.conversation_id)  # type: ignore[union-attr]
    assert row.reply_window_expire_time is not None
    assert row.reply_window_expire_time - row.create_time < timedelta(days=1, minutes=2)
    assert row.last_message_time - row.create_time < timedelta(minutes=2)


async def test_a_message_within_the_reopen_window_reopens(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    agent_id = await desk.new_agent()
    await desk.execute(
        "UPDATE conversations SET assignee_id = $2, tags = '{vip}', priority = 4 WHERE id = $1", row.id, agent_id
    )
    await desk.execute("SELECT recount_agent_loads()")
    await desk.move(row.id, "resolved")
    before = (await desk.head())[1]
    await desk.writer().submit(desk.receive(channel, sender))
    again = await desk.conversation(row.id)
    assert (again.status, again.assignee_id, again.tags, again.priority) == ("open", agent_id, ["vip"], 4)
    assert again.waiting_since is not None
    assert again.resolve_time is None or again.resolve_time <= again.waiting_since
    assert await desk.kinds(after=before) == ["message_received", "conversation_status_changed"]


@pytest.mark.parametrize(
    ("columns", "change"),
    [
        ({"reopen_window": timedelta(hours=1)}, "resolve_time = now() - interval '61 minutes'"),
        ({"new_thread_each_time": True}, "version = version"),
        ({}, "delete_time = now()"),
        ({}, "status = 'archived'"),
    ],
    ids=["after the reopen window", "with a new thread each time", "after it was deleted", "after it was archived"],
)
async def test_a_message_starts_a_linked_conversation(desk: Desk, columns: dict[str, Any], change: str) -> None:
    channel, sender = await desk.new_channel(**columns), phone()
    row = await desk.started(channel, sender)
    await desk.move(row.id, "resolved")
    await desk.execute(f"UPDATE conversations SET {change} WHERE id = $1", row.id)
    writer = desk.writer()
    await asyncio.gather(*(writer.submit(desk.receive(channel, sender, str(index))) for index in range(3)))
    old, new = await people(desk, sender)
    assert (old["id"], old["message_count"]) == (row.id, 1)
    assert (new["previous_conversation_id"], new["status"], new["message_count"]) == (row.id, "new", 3)


async def test_a_live_conversation_that_is_deleted_gives_way_to_a_new_one(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    await desk.execute("UPDATE conversations SET delete_time = now() WHERE id = $1", row.id)
    await desk.writer().submit(desk.receive(channel, sender))
    assert [(item["message_count"], item["previous_conversation_id"]) for item in await people(desk, sender)] == [
        (1, None),
        (1, row.id),
    ]


@pytest.mark.parametrize("text", ["\x00", "\ud800"], ids=["Postgres refuses it", "the client cannot encode it"])
async def test_a_poisoned_item_fails_alone_and_its_neighbours_are_written(own_desk: Desk, text: str) -> None:
    desk = own_desk
    channel = await desk.new_channel()
    writer = desk.writer()
    good = [desk.receive(channel, phone(), f"good {index}") for index in range(20)]
    template = desk.receive(channel, phone())
    bad = replace(template, inbound=replace(template.inbound, text=f"bad {text}"))
    results = await all_of(*(writer.submit(item) for item in (*good[:7], bad, *good[7:])))
    assert [isinstance(result, Stored) for result in results] == [True] * 7 + [False] + [True] * 13
    assert not isinstance(results[7], DatabaseUnavailable), "waiting would not help"
    assert isinstance(await writer.submit(desk.receive(channel, phone())), Stored)
    await desk.check()


async def test_a_fault_of_ours_leaves_nobody_waiting(desk: Desk) -> None:
    channel = await desk.new_channel()
    writer = BatchWriter(desk.database, {})
    for _ in range(2):
        items = [desk.receive(channel, phone()) for _ in range(20)]
        results = await asyncio.wait_for(all_of(*(writer.submit(item) for item in items)), 20)
        assert {type(result) for result in results} == {KeyError}, "told as what it is, not as a database that is away"


async def test_callers_who_give_up_hold_up_nobody(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    writer = desk.writer()
    waiting = [asyncio.ensure_future(writer.submit(desk.receive(channel, sender, str(index)))) for index in range(10)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    results = await all_of(*waiting)
    assert [isinstance(result, Stored) for result in results] == [False, True] * 5
    assert [row["message_count"] for row in await people(desk, sender)] == [10], "what was begun is written"


async def test_a_lost_connection_in_the_midst_of_batches_writes_nothing_twice(own_desk: Desk, desks: Installed) -> None:
    desk = own_desk
    channel, senders = await desk.new_channel(), [phone() for _ in range(10)]
    items = [desk.receive(channel, senders[index % 10], str(index)) for index in range(600)]
    writer = desk.writer()
    waiting = [writer.enqueue(item) for item in items]
    killed = 0
    for _ in range(4):
        await asyncio.sleep(0.03)
        killed += await kill_backends(desk.dsn, desks.server_dsn)
    results = await all_of(*waiting)
    assert killed
    failed = [item for item, result in zip(items, results, strict=True) if isinstance(result, DatabaseUnavailable)]
    assert all(isinstance(result, Stored | Duplicate | DatabaseUnavailable) for result in results), results
    await all_of(*(writer.submit(item) for item in failed))
    assert await desk.value("SELECT count(*) FROM messages") == 600
    assert await desk.value("SELECT count(DISTINCT text) FROM messages") == 600
    assert await desk.value("SELECT count(*) FROM conversations") == 10
    await desk.check()
