"""Merging contacts and taking it back: the state machine, the bugs it finds, and what several do at the same time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from merging_machine import PLANTED, MergingMachine, World

from server.contacts import listing, service
from server.contacts.blocking import ContactBlocked
from server.contacts.filter import Wanted
from server.contacts.merging import NotMerged
from server.contacts.service import ContactMerged
from server.conversations import merging
from server.kit.db import Database, Write
from server.kit.errors import NotFound, Refusal
from server.log.append import append
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.contacts.test_contacts_block import set_blocked
from tests.desk import ALL, Desk, agent, nobody, phone
from tests.machines import find, run

EARLIER = datetime(2020, 1, 1, tzinfo=UTC)
STRAY = """
SELECT c.id FROM conversations c JOIN identities i ON i.id = c.identity_id JOIN contacts o ON o.id = i.contact_id
WHERE c.contact_id <> o.id OR c.contact_blocked <> (o.block_time IS NOT NULL) OR o.merged_into_id IS NOT NULL
"""


@pytest.fixture
async def world(own_desk: Desk) -> World:
    """Its pools are opened anew on the machine's own loop."""
    channels = [await own_desk.new_channel() for _ in range(2)]
    await own_desk.database.close()
    await own_desk.beside.close()
    return World(own_desk, channels)


@pytest.fixture
def machine(world: World) -> Iterator[type[MergingMachine]]:
    own = Database(world.desk.dsn, pool_size=2), Database(world.desk.dsn, pool_size=2)
    kept = world.desk.database, world.desk.beside
    world.desk.database, world.desk.beside = own
    MergingMachine.world = world
    yield MergingMachine
    for database in own:
        world.run(database.close())
    world.runner.close()
    world.desk.database, world.desk.beside = kept


def test_merges_agree_with_the_model(machine: type[MergingMachine]) -> None:
    run(machine, examples=4, steps=20)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_merges_agree_with_the_model_for_long(machine: type[MergingMachine]) -> None:
    run(machine, examples=150, steps=50, same=False)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(machine: type[MergingMachine], bug: str) -> None:
    with PLANTED[bug]():
        find(machine, examples=150, steps=40)


async def merge(
    desk: Desk, into: uuid.UUID, merged: uuid.UUID, *, scope: Scope = ALL, database: Database | None = None
) -> None:
    async def unit(write: Write) -> None:
        await append(
            write, await merging.merge(write.connection, scope, into, merged, reason="Same mother", origin=nobody())
        )

    await (database or desk.database).write(unit)


async def unmerge(desk: Desk, merged: uuid.UUID, *, scope: Scope = ALL, database: Database | None = None) -> None:
    async def unit(write: Write) -> None:
        await append(write, await merging.unmerge(write.connection, scope, merged, origin=nobody()))

    await (database or desk.database).write(unit)


async def whole(desk: Desk, *contact_ids: uuid.UUID) -> list[list[dict[str, object]]]:
    """What contacts are made of: all their rows, without when these changed."""
    tables = (("contacts", "id"), ("identities", "contact_id"), ("conversations", "contact_id"))
    return [
        [
            {name: value for name, value in row.items() if name not in ("update_time", "version")}
            for row in await desk.rows(f"SELECT * FROM {table} WHERE {key} = ANY($1::uuid[]) ORDER BY id", contact_ids)
        ]
        for table, key in tables
    ]


async def test_what_was_merged_and_taken_back_is_as_before(desk: Desk) -> None:
    rows = [await desk.started(await desk.new_channel()) for _ in range(3)]
    a, b, c = (row.contact_id for row in rows)
    await set_blocked(desk, b, True)
    await desk.move(rows[1].id, "resolved")
    before = await whole(desk, a, b, c)
    await merge(desk, a, b)
    await merge(desk, c, a)
    assert len(await desk.rows("SELECT id FROM conversations WHERE contact_id = $1", c)) == 3
    for refused in (lambda: unmerge(desk, b), lambda: merge(desk, a, c)):
        with pytest.raises(ContactMerged) as refusal:
            await refused()
        assert refusal.value.metadata == {"contact_id": str(c)}
    await unmerge(desk, a)
    await unmerge(desk, b)
    assert await whole(desk, a, b, c) == before
    with pytest.raises(NotMerged):
        await unmerge(desk, b)


async def test_who_asks_for_a_merged_contact_gets_the_one_it_is_part_of_and_changes_nothing(desk: Desk) -> None:
    channel = await desk.new_channel()
    into, merged = (await desk.started(channel), await desk.started(channel))
    await merge(desk, into.contact_id, merged.contact_id)
    async with desk.database.connection() as connection:
        record, identities = await service.get_visible(connection, ALL, merged.contact_id)
        wanted = [Wanted(channel_id=channel.id), Wanted(channel_id=channel.id, update_from=EARLIER)]
        pages = [await listing.page(connection, ALL, listing.Query(limit=200, wanted=each)) for each in wanted]
    assert (record["id"], len({row["id"] for row in identities})) == (into.contact_id, 2)
    for page in pages:
        assert [row["id"] for row in page.rows] == [into.contact_id]
    assert await desk.rows("SELECT key FROM contact_keys WHERE contact_id = $1", merged.contact_id) == []
    with pytest.raises(ContactMerged):
        await set_blocked(desk, merged.contact_id, True)
    blind = Scope(all=False, channel_ids=frozenset({(await desk.new_channel()).id}))
    with pytest.raises(NotFound):
        await merge(desk, into.contact_id, merged.contact_id, scope=blind)
    with pytest.raises(NotFound):
        await unmerge(desk, merged.contact_id, scope=blind)


async def test_a_list_row_is_kept_by_the_events_of_a_merge(desk: Desk) -> None:
    into, merged = await desk.started(await desk.new_channel()), await desk.started(await desk.new_channel())
    head = (await desk.head())[1]
    await merge(desk, into.contact_id, merged.contact_id)
    events = [event for _, event in await desk.events(after=head)]
    assert [event.WhichOneof("body") for event in events] == ["contact_merged"] * 2 + ["conversation_updated"]
    assert events[0].contact_merged.merged_contact_id == str(merged.contact_id)
    assert list(events[0].contact_merged.contact.merged_contact_ids) == [str(merged.contact_id)]
    assert events[2].conversation_updated.conversation.contact.id == str(into.contact_id)
    await desk.check()


async def test_merges_messages_sends_and_blocks_at_the_same_time_leave_nobody_behind(
    desk: Desk, postgres_errors: Callable[[], list[str]]
) -> None:
    """Each message lands with whom its sender belongs to, whichever came first, and what is sent stays in its thread."""
    first, second = await desk.new_channel(), await desk.new_channel()
    by = agent(await desk.new_agent())
    for turn in range(3):
        numbers = phone(), phone()
        threads = [await desk.started(first, number) for number in numbers]
        a, b = [thread.contact_id for thread in threads]
        ended = await asyncio.gather(
            merge(desk, a, b),
            merge(desk, *((b, a) if turn % 2 else (a, b)), database=desk.beside),
            set_blocked(desk, a if turn % 3 else b, True, database=desk.beside),
            *(desk.writer(desk.beside).submit(desk.receive(second, number)) for number in numbers),
            *(desk.writer().submit(desk.receive(first, number, name="Other")) for number in numbers),
            *(desk.writer(desk.beside).submit(desk.send(thread.id, f"{turn}", by=by)) for thread in threads * 2),
            return_exceptions=True,
        )
        *others, _, _, _, _ = ended
        assert [each for each in others if isinstance(each, Exception) and not isinstance(each, ContactMerged)] == []
        # Whoever is blocked is sent nothing.
        assert all(isinstance(each, Stored | ContactBlocked) for each in ended[-4:])
        assert sum(isinstance(each, Refusal) for each in ended[:2]) == 1
        assert await desk.rows(STRAY) == []
        for thread, each in zip(threads * 2, ended[-4:], strict=True):
            assert isinstance(each, ContactBlocked) or each.message.conversation_id == thread.id
        merged = b if ended[0] is None or turn % 2 == 0 else a
        await asyncio.gather(
            unmerge(desk, merged),
            *(desk.writer(desk.beside).submit(desk.receive(second, number)) for number in numbers),
        )
        assert await desk.rows(STRAY) == []
    await desk.check()
    assert [error for error in postgres_errors() if "deadlock" in error] == []
