"""Contacts that agents make and name, on a real tenant database."""

import asyncio
import uuid
from typing import Any

import pytest

from server.contacts import service
from server.contacts.service import ContactExists
from server.kit.db import Database, Write
from server.kit.errors import InvalidFields, NotFound
from server.log.append import append
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.desk import ALL, Desk, nobody, phone


async def create(
    desk: Desk,
    channel_id: uuid.UUID,
    phone_number: str,
    *,
    scope: Scope = ALL,
    name: str = "Ana",
    attributes: dict[str, Any] | None = None,
    database: Database | None = None,
) -> uuid.UUID:
    async def unit(write: Write) -> uuid.UUID:
        contact_id, events = await service.create(
            write.connection,
            scope,
            channel_id,
            name=name,
            phone_number=phone_number,
            providers=desk.providers,
            origin=nobody(),
            attributes=attributes,
        )
        await append(write, events)
        return contact_id

    return await (database or desk.database).write(unit)


async def rename(desk: Desk, contact_id: uuid.UUID, name: str, *, scope: Scope = ALL) -> int:
    """How many events it took."""

    async def unit(write: Write) -> int:
        events = await service.update(write.connection, scope, contact_id, name=name, origin=nobody())
        await append(write, events)
        return len(events)

    return await desk.database.write(unit)


async def name_of(desk: Desk, contact_id: uuid.UUID) -> tuple[str, str]:
    (row,) = await desk.rows("SELECT name, name_source FROM contacts WHERE id = $1", contact_id)
    return row["name"], row["name_source"]


async def addresses(desk: Desk, contact_id: uuid.UUID) -> list[str]:
    rows = await desk.rows(
        "SELECT a.value FROM identity_aliases a JOIN identities i ON i.id = a.identity_id WHERE i.contact_id = $1",
        contact_id,
    )
    return [row["value"] for row in rows]


@pytest.mark.parametrize(
    ("own", "written", "stored"),
    [
        ("4930123456", "+49 151 2345 6701", "4915123456701"),
        ("4930123456", "0151 2345-6702", "4915123456702"),
        ("+44 20 7946 0000", "07400 123456", "447400123456"),
        (None, "+4915123456703", "4915123456703"),
    ],
)
async def test_a_number_is_stored_as_the_provider_writes_it(
    desk: Desk, own: str | None, written: str, stored: str
) -> None:
    channel = await desk.new_channel(display_phone_number=own)
    contact_id = await create(desk, channel.id, written)
    assert await addresses(desk, contact_id) == [stored]
    assert await name_of(desk, contact_id) == ("Ana", "agent")


async def test_what_is_no_number_or_says_no_country_is_refused(desk: Desk) -> None:
    channel = await desk.new_channel(display_phone_number=None)
    for written in ("0151 2345 6704", "12", "call me"):
        with pytest.raises(InvalidFields):
            await create(desk, channel.id, written)


async def test_who_is_known_is_named_to_those_who_may_see_it_and_gets_nothing_new(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    number = "+" + phone()
    known = await create(desk, here.id, number)
    for channel, scope, told in (
        (here, ALL, True),
        (there, ALL, True),
        (here, Scope(all=False, channel_ids=frozenset({here.id})), True),
        (there, Scope(all=False, channel_ids=frozenset({here.id, there.id})), True),
        (there, Scope(all=False, channel_ids=frozenset({there.id})), False),
    ):
        with pytest.raises(ContactExists) as refusal:
            await create(desk, channel.id, number, scope=scope)
        assert refusal.value.metadata.get("contact_id") == (str(known) if told else None)
    assert len(await addresses(desk, known)) == 1


async def test_a_channel_out_of_sight_is_no_channel(desk: Desk) -> None:
    channel = await desk.new_channel()
    with pytest.raises(NotFound):
        await create(desk, channel.id, "+" + phone(), scope=Scope(all=False))


async def test_of_two_who_create_the_same_number_at_once_one_does(desk: Desk) -> None:
    channel = await desk.new_channel()
    for _ in range(5):
        number = "+" + phone()
        ended = await asyncio.gather(
            *(create(desk, channel.id, number, database=each) for each in (desk.database, desk.beside) * 2),
            return_exceptions=True,
        )
        made = [each for each in ended if isinstance(each, uuid.UUID)]
        refused = [each for each in ended if isinstance(each, ContactExists)]
        assert (len(made), len(refused)) == (1, 3), ended
        assert {each.metadata["contact_id"] for each in refused} == {str(made[0])}


async def test_the_providers_name_does_not_replace_an_agents(desk: Desk) -> None:
    channel, number = await desk.new_channel(), phone()
    stored = await desk.writer().submit(desk.receive(channel, number, name="Cara"))
    assert isinstance(stored, Stored)
    row = await desk.conversation(stored.message.conversation_id)
    assert await name_of(desk, row.contact_id) == ("Cara", "provider")
    assert await rename(desk, row.contact_id, "Doctor Cara") == 1
    await desk.writer().submit(desk.receive(channel, number, name="Cara Smith"))
    assert await name_of(desk, row.contact_id) == ("Doctor Cara", "agent")
    assert (await desk.conversation(row.id)).contact_name == "Doctor Cara"


async def test_a_name_it_has_takes_no_event(desk: Desk) -> None:
    contact_id = await create(desk, (await desk.new_channel()).id, "+" + phone())
    before = await desk.value("SELECT update_time FROM contacts WHERE id = $1", contact_id)
    assert await rename(desk, contact_id, "Ana") == 0
    assert await desk.value("SELECT update_time FROM contacts WHERE id = $1", contact_id) == before
    with pytest.raises(NotFound):
        await rename(desk, contact_id, "Bea", scope=Scope(all=False))
