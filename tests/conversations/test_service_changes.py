"""What is done to a conversation, on a real tenant database."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from server.conversations import notes, reads, repository, service, tags
from server.conversations.rules import ConversationArchived, IllegalStatusMove, VersionMismatch
from server.conversations.service import Changed, ConversationSuperseded
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import InvalidFields, NotFound, Refusal
from server.kit.ids import new_id
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.desk import ALL, Desk, agent, nobody, phone


async def update(desk: Desk, some: uuid.UUID, **changes: Any) -> Changed:
    whole = {"priority": None, "subject": None, "attributes": None, "expected_version": None, **changes}
    return await desk.do(lambda write: service.update(write, ALL, some, origin=nobody(), **whole))


async def delete(desk: Desk, some: uuid.UUID) -> Changed:
    return await desk.do(lambda write: service.delete(write, ALL, some, origin=nobody()))


async def restore(desk: Desk, some: uuid.UUID) -> Changed:
    return await desk.do(lambda write: service.restore(write, ALL, some, origin=nobody()))


async def test_what_changes_nothing_writes_no_event(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await update(desk, row.id, subject="broken pump", priority=3, attributes={"order": 17, "urgent": True})
    await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=["vip"]))
    await desk.move(row.id, "open")
    head, before = await desk.head(), await desk.conversation(row.id)
    assert not (
        await update(desk, row.id, subject="broken pump", priority=3, attributes={"urgent": True, "order": 17})
    ).events
    assert not (await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=["vip", "vip"]))).events
    assert not (await desk.do(lambda write: tags.remove(write, ALL, row.id, origin=nobody(), names=["none"]))).events
    assert not (await desk.move(row.id, "open")).events
    assert not (await restore(desk, row.id)).events
    assert await desk.head() == head
    assert await desk.conversation(row.id) == before


async def test_each_change_counts_once_and_its_event_carries_the_whole_row(own_desk: Desk) -> None:
    desk = own_desk
    row = await desk.started(await desk.new_channel())
    steps: list[Callable[[], Awaitable[Any]]] = [
        lambda: update(desk, row.id, subject="broken pump"),
        lambda: update(desk, row.id, attributes={"order": 17}),
        lambda: desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=["vip", "new"])),
        lambda: desk.do(lambda write: tags.remove(write, ALL, row.id, origin=nobody(), names=["new"])),
        lambda: desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(hours=1)),
        lambda: desk.move(row.id, "resolved", reason="fixed"),
        lambda: delete(desk, row.id),
        lambda: restore(desk, row.id),
        lambda: desk.move(row.id, "archived"),
        lambda: desk.move(row.id, "open"),
        lambda: update(desk, row.id, subject=""),
    ]
    for step in steps:
        before = await desk.conversation(row.id)
        await step()
        assert (await desk.conversation(row.id)).version == before.version + 1
        await desk.check()
    assert (await desk.conversation(row.id)).attributes is not None


async def test_an_archived_conversation_is_read_only(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    by = agent(await desk.new_agent())
    noted = await desk.do(
        lambda write: notes.add(write, ALL, row.id, origin=by, note_id=new_id(), text="x", pinned=False)
    )
    await desk.move(row.id, "resolved")
    await desk.move(row.id, "archived")
    head, note_id = await desk.head(), noted.note["id"]
    changes: list[Callable[[Write], Awaitable[Any]]] = [
        lambda write: notes.add(write, ALL, row.id, origin=by, note_id=new_id(), text="x", pinned=False),
        lambda write: notes.update(write, ALL, row.id, note_id, origin=by, text="y", pinned=None),
        lambda write: notes.delete(write, ALL, row.id, note_id, origin=by),
        lambda write: tags.add(write, ALL, row.id, origin=by, names=["vip"]),
        lambda write: tags.remove(write, ALL, row.id, origin=by, names=["vip"]),
        lambda write: service.update(
            write, ALL, row.id, origin=by, priority=2, subject=None, attributes=None, expected_version=None
        ),
    ]
    for change in changes:
        with pytest.raises(ConversationArchived):
            await desk.do(change)
    assert await desk.head() == head


async def test_a_second_live_conversation_cannot_come_back(desk: Desk) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    old = await desk.started(channel, sender)
    await desk.move(old.id, "resolved")
    new = await desk.started(channel, sender)
    with pytest.raises(ConversationSuperseded) as refused:
        await desk.move(old.id, "open")
    assert refused.value.metadata == {"conversation_id": str(new.id)}
    await desk.move(old.id, "archived")
    with pytest.raises(ConversationSuperseded):
        await desk.move(old.id, "open")
    await delete(desk, new.id)
    await desk.move(old.id, "open")
    with pytest.raises(ConversationSuperseded):
        await restore(desk, new.id)
    await desk.move(old.id, "resolved")
    await restore(desk, new.id)


async def test_reopening_races_the_customers_next_message(desk: Desk) -> None:
    for _ in range(10):
        channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
        old = await desk.started(channel, sender)
        await desk.move(old.id, "resolved")
        results = await asyncio.gather(
            desk.move(old.id, "open"),
            desk.writer(desk.beside).submit(desk.receive(channel, sender)),
            desk.writer().submit(desk.send(old.id)),
            return_exceptions=True,
        )
        assert all(isinstance(item, Changed | Stored | ConversationSuperseded) for item in results), results
        live = "SELECT count(*) FROM conversations WHERE identity_id = $1 AND status <> 'resolved'"
        assert await desk.value(live, old.identity_id) == 1


async def test_a_stated_version_is_compared_with_the_present_one(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await desk.move(row.id, "open", expected_version=row.version)
    with pytest.raises(VersionMismatch) as refused:
        await desk.move(row.id, "pending", expected_version=row.version)
    assert refused.value.metadata == {"version": str(row.version + 1)}
    with pytest.raises(VersionMismatch):
        await update(desk, row.id, priority=2, expected_version=row.version)


@pytest.mark.parametrize("way", ["unknown", "invisible", "deleted"])
async def test_what_cannot_be_seen_is_not_there(desk: Desk, way: str) -> None:
    row = await desk.started(await desk.new_channel())
    scope = Scope(all=False, agent_id=new_id(), channel_ids=frozenset({new_id()})) if way == "invisible" else ALL
    some = new_id() if way == "unknown" else row.id
    if way == "deleted":
        await delete(desk, row.id)
    by, status = nobody(), {"snooze_until": None, "reason": None, "expected_version": None}
    changes: list[Callable[[Write], Awaitable[Any]]] = [
        lambda write: service.update_status(write, scope, some, origin=by, to="open", **status),
        lambda write: tags.add(write, scope, some, origin=by, names=["vip"]),
        lambda write: notes.add(write, scope, some, origin=by, note_id=new_id(), text="x", pinned=False),
        lambda write: reads.mark_read(write, scope, some, origin=by, message_id=None, providers=desk.providers),
    ]
    for change in changes:
        with pytest.raises(NotFound) as refused:
            await desk.do(change)
        assert (refused.value.message, refused.value.metadata) == ("no such conversation", {"resource": "conversation"})


async def test_an_illegal_move_says_what_is_legal(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    with pytest.raises(IllegalStatusMove) as refused:
        await desk.move(row.id, "archived")
    assert refused.value.metadata == {"from": "new", "to": "archived", "allowed": "open, pending, snoozed, resolved"}


async def test_read_positions_are_the_teams_and_each_agents_own(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    ana, ben = await desk.new_agent(), await desk.new_agent()
    writer = desk.writer()
    messages = [await writer.submit(desk.receive(channel, sender, str(index))) for index in range(4)]
    third = messages[1]
    assert isinstance(third, Stored)

    async def read(who: uuid.UUID | None, message_id: uuid.UUID | None = None) -> Changed:
        origin = nobody() if who is None else agent(who)
        scope = ALL if who is None else Scope(all=True, agent_id=who)
        return await desk.do(
            lambda write: reads.mark_read(
                write, scope, row.id, origin=origin, message_id=message_id, providers=desk.providers
            )
        )

    async def unread(who: uuid.UUID) -> tuple[int, int]:
        async with desk.database.connection() as connection:
            seen, _ = await repository.get_visible(connection, Scope(all=True, agent_id=who), row.id)
        return seen.unread_count, seen.my_unread_count

    assert await unread(ana) == (5, 5)
    answer = await read(ana, third.message.id)
    assert (answer.row.unread_count, answer.row.my_unread_count) == (2, 2)
    assert await unread(ana) == (2, 2)
    assert await unread(ben) == (2, 2), "whoever has no position has the team's"
    await read(ben)
    assert (await unread(ana), await unread(ben)) == ((0, 2), (0, 0))
    head = await desk.head()
    back = await read(ben, third.message.id)
    assert not back.events, "positions only move forward"
    assert await desk.head() == head
    await writer.submit(desk.receive(channel, sender, "one more"))
    assert (await unread(ana), await unread(ben)) == ((1, 3), (1, 1))
    await read(None)
    assert (await unread(ana), await unread(ben)) == ((0, 3), (0, 1))
    with pytest.raises(NotFound):
        await read(ana, new_id())


async def test_answers_show_an_agents_own_unread_count(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana = await desk.new_agent()
    await desk.do(
        lambda write: reads.mark_read(write, ALL, row.id, origin=nobody(), message_id=None, providers=desk.providers)
    )
    scope = Scope(all=True, agent_id=ana)
    whole: dict[str, Any] = {"snooze_until": None, "reason": None, "expected_version": None}
    await desk.execute("INSERT INTO read_positions VALUES ($1, $2, 0, 0, now())", row.id, ana)
    changed = await desk.do(
        lambda write: service.update_status(write, scope, row.id, origin=agent(ana), to="open", **whole)
    )
    assert (changed.row.unread_count, changed.row.my_unread_count) == (0, 1)


async def test_a_hundred_tags_and_no_more(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())

    async def add(*names: str) -> Changed:
        return await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=names))

    await add(*(f"tag {index:03}" for index in range(100)))
    await add("tag 007")
    with pytest.raises(InvalidFields):
        await add("one more")
    assert len((await desk.conversation(row.id)).tags) == 100
    assert await desk.value("SELECT count(*) FROM conversation_tags WHERE conversation_id = $1", row.id) == 100


async def test_the_same_new_tag_on_many_conversations_at_once(desk: Desk) -> None:
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(12)]
    names = [f"race {new_id()}", f"rally {new_id()}"]
    results: list[Changed | Refusal] = await asyncio.gather(
        *(
            desk.do(
                lambda write, row=row, order=order: tags.add(write, ALL, row.id, origin=nobody(), names=order),
                database=(desk.database, desk.beside)[index % 2],
            )
            for index, row in enumerate(rows)
            for order in [names if index % 3 else names[::-1]]
        )
    )
    assert len(results) == 12
    assert await desk.value("SELECT count(*) FROM tags WHERE name = ANY($1::text[])", names) == 2


async def test_too_many_attributes_are_refused(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    with pytest.raises(InvalidFields):
        await update(desk, row.id, attributes={"long": "x" * (16 << 10)})
    assert (await desk.conversation(row.id)).attributes is None
