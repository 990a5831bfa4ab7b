"""Addresses that agents give to contacts and take from them, and conflicts, on a real tenant database."""

import asyncio
import uuid
from typing import Any

import pytest

from server.contacts import identities
from server.contacts.identities import Given, IdentityInUse, IdentityTaken
from server.kit.db import Database, Write
from server.kit.errors import InvalidFields, NotFound
from server.log.append import append
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.desk import ALL, Desk, nobody, phone


async def add(desk: Desk, given: Given, *, scope: Scope = ALL, database: Database | None = None) -> int:
    """How many events it took. IdentityTaken, after what was met has been recorded."""

    async def unit(write: Write) -> int | IdentityTaken:
        met = await identities.meet(write.connection, scope, given, providers=desk.providers, origin=nobody())
        events = met.events if met else await identities.add(write.connection, scope, given, origin=nobody())
        await append(write, events)
        return met.refusal if met else len(events)

    result = await (database or desk.database).write(unit)
    if isinstance(result, IdentityTaken):
        raise result
    return result


async def remove(desk: Desk, contact_id: uuid.UUID, identity_id: uuid.UUID) -> int:
    async def unit(write: Write) -> int:
        events = await identities.remove(write.connection, ALL, contact_id, identity_id, origin=nobody())
        await append(write, events)
        return len(events)

    return await desk.database.write(unit)


async def conflicts(desk: Desk, contact_id: uuid.UUID | None = None, *, scope: Scope = ALL, limit: int = 50) -> Any:
    async with desk.database.connection() as connection:
        return await identities.conflicts(connection, scope, contact_id=contact_id, after=None, limit=limit)


async def aliases(desk: Desk, contact_id: uuid.UUID) -> list[tuple[uuid.UUID, str, str]]:
    return [
        tuple(row)
        for row in await desk.rows(
            "SELECT i.id, a.kind, a.value FROM identities i JOIN identity_aliases a ON a.identity_id = i.id"
            " WHERE i.contact_id = $1 ORDER BY i.id, a.kind, a.value",
            contact_id,
        )
    ]


async def test_a_further_address_of_an_identity_finds_its_conversation(desk: Desk) -> None:
    channel, bsuid = await desk.new_channel(), f"DE.{uuid.uuid4().hex}"
    row = await desk.started(channel)
    assert await add(desk, Given(row.contact_id, channel.id, "bsuid", f" {bsuid} ", row.identity_id)) == 1
    stored = await desk.writer().submit(desk.receive(channel, None, bsuid=bsuid))
    assert isinstance(stored, Stored)
    assert stored.message.conversation_id == row.id


async def test_a_new_identity_is_a_thread_of_its_own_of_the_same_contact(desk: Desk) -> None:
    channel, number = await desk.new_channel(display_phone_number="4930123456"), "49151" + phone()[4:]
    row = await desk.started(channel)
    assert await add(desk, Given(row.contact_id, channel.id, "wa_id", f"+{number[:2]} {number[2:]}")) == 1
    assert await add(desk, Given(row.contact_id, channel.id, "wa_id", "0" + number[2:])) == 0
    stored = await desk.writer().submit(desk.receive(channel, number))
    assert isinstance(stored, Stored)
    other = await desk.conversation(stored.message.conversation_id)
    assert (other.contact_id, other.id == row.id) == (row.contact_id, False)


async def test_an_address_of_another_contact_is_refused_by_name_and_recorded_once(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    number = phone()
    mine, theirs = await desk.started(here), await desk.started(there, number)
    head = (await desk.head())[1]
    for scope, told in ((ALL, True), (Scope(all=False, channel_ids=frozenset({here.id})), False)):
        with pytest.raises(IdentityTaken) as refusal:
            await add(desk, Given(mine.contact_id, here.id, "wa_id", "+" + number), scope=scope)
        assert refusal.value.metadata.get("contact_id") == (str(theirs.contact_id) if told else None)
    (row,) = await conflicts(desk, mine.contact_id)
    assert str(row["id"]) == refusal.value.metadata["conflict_id"]
    assert (row["identity_id"], row["other_identity_id"]) == (mine.identity_id, theirs.identity_id)
    assert (row["contact_id"], row["other_contact_id"]) == (mine.contact_id, theirs.contact_id)
    assert await desk.kinds(after=head) == ["identity_conflict"]
    assert len(await aliases(desk, mine.contact_id)) == 1


async def test_of_two_contacts_given_one_number_at_once_one_has_it(desk: Desk) -> None:
    channels = [await desk.new_channel(), await desk.new_channel()]
    for _ in range(4):
        rows = [await desk.started(channel) for channel in channels]
        number = "+" + phone()
        ended = await asyncio.gather(
            *(
                add(desk, Given(row.contact_id, channel.id, "wa_id", number), database=database)
                for row, channel, database in zip(rows, channels, (desk.database, desk.beside), strict=True)
            ),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in ended) == ["IdentityTaken", "int"], ended
        assert len(await conflicts(desk, rows[0].contact_id)) == 1


async def test_a_stranger_whose_addresses_are_two_contacts_on_other_channels_is_a_conflict(desk: Desk) -> None:
    number, bsuid = phone(), f"DE.{uuid.uuid4().hex}"
    one = await desk.started(await desk.new_channel(), number)
    other_channel = await desk.new_channel()
    other = await desk.started(other_channel)
    await add(desk, Given(other.contact_id, other_channel.id, "bsuid", bsuid, other.identity_id))
    await desk.writer().submit(desk.receive(await desk.new_channel(), number, bsuid=bsuid))
    (row,) = await conflicts(desk, one.contact_id)
    assert {row["contact_id"], row["other_contact_id"]} == {one.contact_id, other.contact_id}


@pytest.mark.parametrize(("kind", "value"), [("wa_id", "call me"), ("wa_id", "0151 2345 6704"), ("bsuid", "a b")])
async def test_what_is_no_address_of_its_kind_is_refused(desk: Desk, kind: str, value: str) -> None:
    channel = await desk.new_channel(display_phone_number=None)
    row = await desk.started(channel)
    with pytest.raises(InvalidFields) as refusal:
        await add(desk, Given(row.contact_id, channel.id, kind, value))
    assert [each.field for each in refusal.value.violations] == ["value"]


async def test_an_identity_of_somebody_else_is_none_of_the_contact(desk: Desk) -> None:
    channel = await desk.new_channel()
    mine, theirs = await desk.started(channel), await desk.started(channel)
    blind = Scope(all=False, channel_ids=frozenset({(await desk.new_channel()).id}))
    with pytest.raises(InvalidFields):
        await add(desk, Given(mine.contact_id, channel.id, "bsuid", "DE.1", theirs.identity_id))
    with pytest.raises(InvalidFields):
        await remove(desk, mine.contact_id, theirs.identity_id)
    with pytest.raises(NotFound):
        await remove(desk, mine.contact_id, uuid.uuid4())
    with pytest.raises(NotFound):
        await add(desk, Given(mine.contact_id, channel.id, "wa_id", "+4915123456701"), scope=blind)


async def test_an_identity_without_conversations_is_removed_and_its_address_is_free(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    mine, theirs, number = await desk.started(here), await desk.started(here), "+" + phone()
    await add(desk, Given(mine.contact_id, there.id, "wa_id", number))
    with pytest.raises(IdentityTaken):
        await add(desk, Given(theirs.contact_id, there.id, "wa_id", number))
    (identity_id,) = {row[0] for row in await aliases(desk, mine.contact_id)} - {mine.identity_id}
    head = (await desk.head())[1]
    assert await remove(desk, mine.contact_id, identity_id) == 2
    events = [event.contact_updated.contact for _, event in await desk.events(after=head)]
    assert [len(contact.identities) for contact in events] == [1, 1]
    assert await conflicts(desk, mine.contact_id) == []
    assert await add(desk, Given(theirs.contact_id, there.id, "wa_id", number)) == 2


async def test_an_identity_with_conversations_and_the_last_one_stay(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    with pytest.raises(IdentityInUse) as refusal:
        await remove(desk, row.contact_id, row.identity_id)
    assert refusal.value.metadata == {"by": "conversations"}
    spare = uuid.uuid4()
    await desk.execute(
        "INSERT INTO contacts (id, name, name_source, create_time, update_time) VALUES ($1, 'Ana', 'agent', now(), now())",
        spare,
    )
    await desk.execute(
        "INSERT INTO identities (id, contact_id, channel_id, create_time) VALUES ($1, $1, $2, now())", spare, channel.id
    )
    with pytest.raises(IdentityInUse) as refusal:
        await remove(desk, spare, spare)
    assert refusal.value.metadata == {"by": "contact"}


async def test_conflicts_are_listed_to_who_sees_their_channel(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    number = phone()
    mine = await desk.started(here)
    await desk.started(there, number)
    with pytest.raises(IdentityTaken):
        await add(desk, Given(mine.contact_id, here.id, "wa_id", "+" + number))
    for channel, count in ((here, 1), (there, 0)):
        scope = Scope(all=False, channel_ids=frozenset({channel.id}))
        assert len(await conflicts(desk, mine.contact_id, scope=scope)) == count
