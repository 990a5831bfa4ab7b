"""Looking contacts up, and what is kept of them, on a real tenant database."""

import asyncio
import uuid
from typing import Any

import pytest

from server.attributes import service as definitions
from server.contacts import listing, service
from server.kit.db import Write
from server.kit.errors import InvalidFields
from server.kit.ids import new_id
from server.log.append import append
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.contacts.test_contacts_create import create
from tests.desk import ALL, Desk, nobody, phone


async def found(desk: Desk, *, scope: Scope = ALL, limit: int = 51, **wanted: Any) -> set[uuid.UUID]:
    """All that is found, over all pages."""
    met: list[Any] = []
    after = None
    while True:
        async with desk.database.connection() as connection:
            page = await listing.page(connection, scope, listing.Query(limit=limit, after=after, **wanted))
        met += page.rows[: limit - 1]
        last = page.rows[limit - 2] if len(page.rows) == limit else page.edge
        if last is None:
            assert len({row["id"] for row in met}) == len(met)
            assert met == sorted(met, key=lambda row: (row["create_time"], row["id"]), reverse=True)
            return {row["id"] for row in met}
        after = listing.keyset(last)


async def update(desk: Desk, contact_id: uuid.UUID, **changes: Any) -> int:
    """How many events it took."""

    async def unit(write: Write) -> int:
        events = await service.update(write.connection, ALL, contact_id, origin=nobody(), **changes)
        await append(write, events)
        return len(events)

    return await desk.database.write(unit)


async def test_a_contact_is_found_by_how_its_name_begins(desk: Desk) -> None:
    channel, word = await desk.new_channel(), f"Zoë{uuid.uuid4().hex[:8]}"
    ana, bea = [await create(desk, channel.id, "+" + phone(), name=f"{word} {name}") for name in ("Ana", "Bea")]
    assert await found(desk, name_prefix=word) == {ana, bea}
    assert await found(desk, name_prefix=f"{word} a".upper()) == {ana}
    assert await found(desk, name_prefix=f"{word}%") == set()
    assert await found(desk, name_prefix=word[1:]) == set()


async def test_a_contact_is_found_by_how_its_number_begins(desk: Desk) -> None:
    channel = await desk.new_channel(display_phone_number="4930123456")
    tail = f"{uuid.uuid4().int % 10**8:08}"
    contact_id = await create(desk, channel.id, f"+49151{tail}")
    for written in (f"49151{tail[:6]}", f"+49 151 {tail[:4]}-{tail[4:]}", f"0049151{tail}"):
        assert contact_id in await found(desk, address_prefix=written), written
    assert contact_id in await found(desk, address_prefix=f"0151 {tail}", channel_id=channel.id)
    assert contact_id not in await found(desk, address_prefix=f"0151 {tail}")
    assert contact_id not in await found(desk, address_prefix=f"{tail}")


async def test_many_that_begin_alike_are_walked_without_loss(desk: Desk) -> None:
    channel, other = await desk.new_channel(), await desk.new_channel()
    word = f"many{uuid.uuid4().hex[:8]}"
    made = {await create(desk, (channel, other)[n % 3 == 0].id, "+" + phone(), name=word) for n in range(24)}
    assert await found(desk, limit=3, name_prefix=word) == made
    here = await found(desk, limit=3, name_prefix=word, channel_id=channel.id)
    there = await found(desk, limit=3, name_prefix=word, channel_id=other.id)
    assert (len(here), len(there), here | there) == (16, 8, made)
    assert (
        await found(desk, limit=3, scope=Scope(all=False, channel_ids=frozenset({other.id})), name_prefix=word) == there
    )


async def test_a_page_reads_by_the_index(desk: Desk) -> None:
    values: tuple[Any, ...] = (True, [], [], None, "some", "49151", None, None, None, 51, 306)
    async with desk.database.snapshot() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        for sql, index in (
            (listing.FEW.format(found=listing.BY_NAME), "ix_contacts_name_prefix"),
            (listing.FEW.format(found=listing.BY_ADDRESS), "ix_identity_aliases_value_prefix"),
            (listing.WALK, "ix_contacts_create_time_id"),
        ):
            plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + sql, *values))
            assert index in plan, plan


async def test_attributes_are_as_defined_kept_replaced_and_removed(desk: Desk) -> None:
    channel, key = await desk.new_channel(), f"k{uuid.uuid4().hex[:8]}"

    async def define(write: Write) -> None:
        _, events = await definitions.create(
            write,
            origin=nobody(),
            definition_id=new_id(),
            target="contact",
            key=key,
            kind="number",
            options=[],
            label="",
        )
        await append(write, events)

    await desk.database.write(define)
    contact_id = await create(desk, channel.id, "+" + phone())
    with pytest.raises(InvalidFields):
        await update(desk, contact_id, attributes={key: "many"})
    assert await update(desk, contact_id, attributes={key: 3, "free": ["a"]}) == 1
    assert await update(desk, contact_id, attributes={key: 3, "free": ["a"]}) == 0
    assert await update(desk, contact_id, name="Bea") == 1
    async with desk.database.connection() as connection:
        shown = await service.shown(connection, contact_id)
    assert (shown.name, dict(shown.attributes.items())[key]) == ("Bea", 3)
    assert await update(desk, contact_id, attributes={}) == 1
    async with desk.database.connection() as connection:
        assert not (await service.shown(connection, contact_id)).HasField("attributes")
    with pytest.raises(InvalidFields):
        await update(desk, contact_id, attributes={"long": "x" * (16 << 10)})


async def test_who_writes_first_on_two_channels_at_once_is_in_the_books_with_each_identity_once(desk: Desk) -> None:
    for _ in range(10):
        here, there, number = await desk.new_channel(), await desk.new_channel(), phone()
        stored = await asyncio.gather(
            *(
                desk.writer(each).submit(desk.receive(channel, number))
                for each in (desk.database, desk.beside)
                for channel in (here, there)
            )
        )
        assert all(isinstance(each, Stored) for each in stored)
        rows = await desk.rows(
            "SELECT i.contact_id, i.id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id"
            " WHERE a.kind = 'wa_id' AND a.value = $1",
            number,
        )
        assert (len(rows), len({row["contact_id"] for row in rows})) == (2, 1)
