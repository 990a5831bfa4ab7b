"""How conversations end by themselves: resolved when nobody touches them, purged when they were deleted long enough ago."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.channels import service as channels
from server.channels.service import AUTO_RESOLVE, Changes, ChannelRow
from server.conversations import notes, participants, service, tags
from server.conversations.statistics import follow
from server.conversations.text import follow as text
from server.conversations.timers import HANDLERS, SNOOZE
from server.kit.clock import utc_now
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.log.event import NewEvent
from server.messages.items import Duplicate, Stored
from server.tenant_settings import service as tenant_settings
from server.tenant_settings.service import PURGE
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone

HOUR = timedelta(hours=1)
DUE = "SELECT due_time FROM timers WHERE kind = $1 AND key = $2"
# Every table that has something of a conversation, and the column that says so.
DEPENDANTS = """
SELECT table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE column_name = 'conversation_id' AND table_schema = 'public' AND table_type = 'BASE TABLE'
    AND table_name NOT LIKE 'stream_event%'
"""
COUNTS = "SELECT * FROM conversation_counts ORDER BY channel_id, dimension, value, status"


class Done:
    """What a unit of work returns so that its events are appended."""

    def __init__(self, result: tuple[Any, list[NewEvent]]) -> None:
        self.row, self.events = result


async def change(desk: Desk, channel: ChannelRow, **changes: Any) -> None:
    await desk.do(
        lambda write: _done(
            channels.update(
                write, ALL, channel.id, origin=nobody(), changes=Changes(**changes), providers=desk.providers
            ),
        )
    )


async def settings(desk: Desk, *, retention: timedelta | None = None, fence: str | None = None) -> None:
    await desk.do(lambda write: _done(tenant_settings.update(write, origin=nobody(), retention=retention, fence=fence)))


async def _done(work: Any) -> Done:
    return Done(await work)


async def pass_time(desk: Desk, some: uuid.UUID, by: timedelta) -> None:
    """For one conversation and its timers."""
    await desk.execute("UPDATE timers SET due_time = due_time - $2::interval WHERE key = $1", some, by)
    await desk.execute(
        "UPDATE conversations SET update_time = update_time - $2::interval, delete_time = delete_time - $2::interval WHERE id = $1",
        some,
        by,
    )


async def fire(desk: Desk) -> None:
    await timers.run_due(desk.database, HANDLERS)


async def test_what_nobody_touches_is_resolved_at_its_time(desk: Desk) -> None:
    channel = await desk.new_channel(auto_resolve_after=HOUR)
    row = await desk.started(channel)
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) == row.create_time + HOUR
    await pass_time(desk, row.id, HOUR - timedelta(minutes=1))
    await fire(desk)
    assert (await desk.conversation(row.id)).status == "new"
    await pass_time(desk, row.id, timedelta(minutes=2))
    intended, head = await desk.value(DUE, AUTO_RESOLVE, row.id), (await desk.head())[1]
    await fire(desk)
    found = await desk.conversation(row.id)
    assert (found.status, found.waiting_since) == ("resolved", None)
    ((_, event),) = await desk.events(after=head)
    changed = event.conversation_status_changed
    assert (changed.reason, changed.intended_time.ToDatetime(UTC)) == ("no activity", intended)


@pytest.mark.parametrize("by", ["message", "tag", "reopening"])
async def test_activity_puts_it_off(desk: Desk, by: str) -> None:
    channel, sender = await desk.new_channel(auto_resolve_after=HOUR), phone()
    row = await desk.started(channel, sender)
    if by == "reopening":
        await desk.move(row.id, "resolved")
    await pass_time(desk, row.id, 2 * HOUR)
    if by == "tag":
        await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=["vip"]))
    else:
        await desk.writer().submit(desk.receive(channel, sender, "again"))
    await fire(desk)
    found = await desk.conversation(row.id)
    assert found.status in ("new", "open")
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) == found.update_time + HOUR


async def test_a_snooze_is_not_inactivity_and_what_comes_after_it_is(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel(auto_resolve_after=HOUR))
    await desk.move(row.id, "snoozed", snooze_until=utc_now() + 9 * HOUR)
    await desk.execute("UPDATE timers SET due_time = now() WHERE kind = $1 AND key = $2", AUTO_RESOLVE, row.id)
    await fire(desk)
    assert (await desk.conversation(row.id)).status == "snoozed"
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) is None
    await desk.move(row.id, "open")
    found = await desk.conversation(row.id)
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) == found.update_time + HOUR


async def test_a_channels_change_holds_for_what_is_active_already(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    head = (await desk.head())[1]
    await change(desk, channel, auto_resolve_after=2 * HOUR)
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) == row.update_time + 2 * HOUR
    await change(desk, channel, auto_resolve_after=HOUR)
    assert await desk.value(DUE, AUTO_RESOLVE, row.id) == row.update_time + HOUR
    await change(desk, channel, auto_resolve_after=HOUR)
    assert await desk.kinds(after=head) == ["channel_updated"] * 2, "what changes nothing writes no event"
    await change(desk, channel, auto_resolve_after=timedelta(0))
    await pass_time(desk, row.id, 2 * HOUR)
    await fire(desk)
    assert (await desk.conversation(row.id)).status == "new"


async def full(desk: Desk) -> uuid.UUID:
    """A deleted conversation that has a row in every table."""
    channel, ana = await desk.new_channel(), await desk.new_agent()
    row = await desk.started(channel)
    by = agent(ana)
    await desk.writer().submit(desk.send(row.id, by=by))
    await desk.do(lambda write: tags.add(write, ALL, row.id, origin=by, names=["vip"]))
    await desk.do(lambda write: notes.add(write, ALL, row.id, origin=by, note_id=new_id(), text="x", pinned=False))
    await desk.do(lambda write: participants.add(write, ALL, row.id, origin=by, agent_id=ana))
    await desk.do(
        lambda write: service.update(
            write,
            ALL,
            row.id,
            origin=by,
            priority=None,
            subject=None,
            attributes={"order": 17},
            expected_version=None,
        )
    )
    await desk.execute(
        "INSERT INTO conversation_assignments (id, conversation_id, agent_id, type, assigned_by_kind, start_time)"
        " VALUES ($1, $2, $3, 'manual', 1, now())",
        *(new_id(), row.id, ana),
    )
    await desk.do(lambda write: service.delete(write, ALL, row.id, origin=by))
    return row.id


async def count_all(desk: Desk) -> None:
    for follower in (follow, text):
        while await desk.database.write(follower.follow):
            pass


async def left(desk: Desk, some: uuid.UUID) -> set[str]:
    tables = [record["table_name"] for record in await desk.rows(DEPENDANTS)]
    return {
        name for name in tables if await desk.value(f"SELECT count(*) FROM {name} WHERE conversation_id = $1", some)
    }


async def test_a_deleted_conversation_goes_with_everything_at_the_end_of_its_retention(own_desk: Desk) -> None:
    desk = own_desk
    some = await full(desk)
    row = await desk.conversation(some)
    assert row.delete_time is not None
    assert await desk.value(DUE, PURGE, some) == row.delete_time + timedelta(days=30)
    assert await left(desk, some) >= {"messages", "message_parts", "deliveries", "conversation_notes", "read_positions"}
    await pass_time(desk, some, timedelta(days=31))
    intended, head = await desk.value(DUE, PURGE, some), (await desk.head())[1]
    await count_all(desk)
    counts = await desk.rows(COUNTS)
    assert "conversation_words" in await left(desk, some)
    await fire(desk)
    # The follower of the log forgets it when the log says so; what was said is gone at once.
    assert await left(desk, some) == {"counted_conversations"}
    await count_all(desk)
    assert await left(desk, some) == set()
    assert await desk.rows(COUNTS) == counts
    assert await desk.value("SELECT count(*) FROM timers WHERE key = $1", some) == 0
    with pytest.raises(NotFound):
        await desk.conversation(some)
    ((_, event),) = await desk.events(after=head)
    purged = event.conversation_purged
    assert (purged.conversation_id, purged.intended_time.ToDatetime(UTC)) == (str(some), intended)
    await desk.check()


async def test_a_webhook_that_is_repeated_after_a_purge_brings_nothing_back(own_desk: Desk) -> None:
    desk, channel = own_desk, await own_desk.new_channel()
    wrote = desk.receive(channel, phone())
    stored = await desk.writer().submit(wrote)
    assert isinstance(stored, Stored)
    await end(desk, stored.message.conversation_id)
    await fire(desk)
    head = await desk.head()
    assert isinstance(await desk.writer().submit(desk.receive_of(channel, wrote.inbound)), Duplicate)
    assert await desk.head() == head
    assert await desk.value("SELECT count(*) FROM conversations") == 0


async def test_what_is_restored_stays(desk: Desk) -> None:
    some = await full(desk)
    await desk.do(lambda write: service.restore(write, ALL, some, origin=nobody()))
    assert await desk.value(DUE, PURGE, some) is None
    await desk.execute("INSERT INTO timers (kind, key, due_time, generation) VALUES ($1, $2, now(), 0)", PURGE, some)
    await fire(desk)
    assert (await desk.conversation(some)).delete_time is None


async def test_another_retention_moves_what_is_deleted_already(own_desk: Desk) -> None:
    desk = own_desk
    some = await full(desk)
    deleted = (await desk.conversation(some)).delete_time
    assert deleted is not None
    for retention in (HOUR, timedelta(days=90)):
        await settings(desk, retention=retention)
        assert await desk.value(DUE, PURGE, some) == deleted + retention
    head = await desk.head()
    await settings(desk, retention=timedelta(days=90), fence="refuse")
    assert await desk.head() == head


async def test_a_purge_waits_for_a_request_that_has_begun(desk: Desk) -> None:
    some = await full(desk)
    await desk.execute(
        "UPDATE deliveries SET state = 'in_flight', worker = 'w', lease_until = now() WHERE conversation_id = $1", some
    )
    await pass_time(desk, some, timedelta(days=31))
    await fire(desk)
    assert (await desk.conversation(some)).delete_time is not None
    due: datetime = await desk.value(DUE, PURGE, some)
    assert timedelta(0) < due - utc_now() <= timedelta(minutes=1)
    await desk.execute("UPDATE deliveries SET state = 'unknown' WHERE conversation_id = $1", some)
    await desk.execute("UPDATE timers SET due_time = now() WHERE kind = $1 AND key = $2", PURGE, some)
    await fire(desk)
    with pytest.raises(NotFound):
        await desk.conversation(some)


async def thread(desk: Desk, count: int) -> list[uuid.UUID]:
    """So many conversations of one customer, each a continuation of the one before."""
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    ids = []
    for _ in range(count):
        ids.append((await desk.started(channel, sender)).id)
        await desk.move(ids[-1], "resolved")
    return ids


async def end(desk: Desk, *some: uuid.UUID) -> None:
    """Deletes conversations, and lets their retention be over."""
    for each in some:
        conversation_id = each
        await desk.do(lambda write: service.delete(write, ALL, conversation_id, origin=nobody()))  # noqa: B023
        await pass_time(desk, each, timedelta(days=31))


@pytest.mark.parametrize("ended", [(0,), (1,), (0, 1), (1, 0), (2, 0)])
async def test_what_continued_a_purged_conversation_continues_nothing(own_desk: Desk, ended: tuple[int, ...]) -> None:
    ids = await thread(own_desk, 4)
    left = [index for index in range(4) if index not in ended]
    before = {index: await own_desk.conversation(ids[index]) for index in left}
    await end(own_desk, *(ids[index] for index in ended))
    head = (await own_desk.head())[1]
    await fire(own_desk)
    for index in left:
        row, was = await own_desk.conversation(ids[index]), before[index]
        if index - 1 in ended:
            assert (row.previous_conversation_id, row.version) == (None, was.version + 1)
            assert row.update_time == was.update_time, "it is no activity"
        else:
            assert row == was
    updated = [event.conversation_updated for _, event in await own_desk.events(after=head)]
    told = [each.conversation.id for each in updated if list(each.changed_fields) == ["previous_conversation_id"]]
    assert set(told) >= {str(ids[index]) for index in left if index - 1 in ended}
    await own_desk.check()


async def test_a_snooze_without_a_time_ends_only_when_the_customer_writes(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    await desk.move(row.id, "snoozed", snooze_until=utc_now() + HOUR)
    await desk.move(row.id, "snoozed")
    assert await desk.value(DUE, SNOOZE, row.id) is None, "the time that was set before does not hold any longer"
    # The timer of that snooze, late.
    await desk.execute("INSERT INTO timers (kind, key, due_time, generation) VALUES ($1, $2, now(), 1)", SNOOZE, row.id)
    await fire(desk)
    await desk.writer().submit(desk.send(row.id))
    found = await desk.conversation(row.id)
    assert (found.status, found.snooze_until) == ("snoozed", None)
    head = (await desk.head())[1]
    await desk.writer().submit(desk.receive(channel, sender, "again"))
    assert (await desk.conversation(row.id)).status == "open"
    assert (await desk.kinds(after=head)).count("conversation_status_changed") == 1
