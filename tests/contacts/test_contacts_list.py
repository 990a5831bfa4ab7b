"""Looking contacts up, and what is kept of them, on a real tenant database."""

import asyncio
import uuid
from typing import Any

import pytest
from switchboard.v1 import contact_service_pb2 as rpc

from server.attributes import service as definitions
from server.contacts import listing, service
from server.contacts.filter import Wanted
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import InvalidFields
from server.kit.ids import new_id
from server.log.append import append
from server.messages.items import Stored
from server.rpc.call import Scope
from tests.contacts.test_contacts_create import create
from tests.desk import ALL, Desk, nobody, phone

BY_NAME, BY_CHANGE = listing.ORDERS[rpc.CONTACT_ORDER_NAME], listing.ORDERS[rpc.CONTACT_ORDER_UPDATED]


async def found(
    desk: Desk, *, scope: Scope = ALL, limit: int = 51, order: listing.Order = listing.CREATED, **wanted: Any
) -> list[uuid.UUID]:
    """All that is found, over all pages, in order."""
    met: list[Any] = []
    after = None
    while True:
        query = listing.Query(limit=limit, after=after, wanted=Wanted(**wanted), order=order)
        async with desk.database.connection() as connection:
            page = await listing.page(connection, scope, query)
        met += page.rows[: limit - 1]
        last = page.rows[limit - 2] if len(page.rows) == limit else page.edge
        if last is None:
            places = [(row[order.column], row["id"]) for row in met]
            assert len(set(places)) == len(places)
            assert places == sorted(places, reverse=order.descending)
            return [row["id"] for row in met]
        after = listing.keyset(last, order)


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
    assert await found(desk, name_prefix=word) == [bea, ana]
    assert await found(desk, name_prefix=f"{word} a".upper()) == [ana]
    assert await found(desk, name_prefix=f"{word}%") == []
    assert await found(desk, name_prefix=word[1:]) == []
    long = f"{word} {'x' * 60}"
    longer = [await create(desk, channel.id, "+" + phone(), name=f"{long}{name}") for name in "ab"]
    assert await found(desk, name_prefix=f"{long}a") == longer[:1]
    assert await found(desk, name_prefix=f"{long}a", order=BY_NAME) == longer[:1]
    assert await found(desk, name_prefix=long, order=BY_NAME) == longer


async def test_a_contact_is_found_by_how_its_number_begins(desk: Desk) -> None:
    channel = await desk.new_channel(display_phone_number="4930123456")
    tail = f"{uuid.uuid4().int % 10**8:08}"
    contact_id = await create(desk, channel.id, f"+49151{tail}")
    for written in (f"49151{tail[:6]}", f"+49 151 {tail[:4]}-{tail[4:]}", f"0049151{tail}"):
        assert contact_id in await found(desk, address_prefix=written), written
    assert contact_id in await found(desk, address_prefix=f"0151 {tail}", channel_id=channel.id)
    assert contact_id not in await found(desk, address_prefix=f"0151 {tail}")
    assert contact_id not in await found(desk, address_prefix=f"{tail}")


async def test_names_are_ordered_as_a_reader_expects(desk: Desk) -> None:
    channel, word = await desk.new_channel(), uuid.uuid4().hex[:8]
    names = ["Abel", "ada", "Ärger", "bea", "Émile", "Zoe", "Дарья", "李"]
    made = {name: await create(desk, channel.id, "+" + phone(), name=f"{word}{name}") for name in reversed(names)}
    expected = [made[name] for name in names]
    assert await found(desk, channel_id=channel.id, order=BY_NAME, limit=3) == expected
    assert await found(desk, name_prefix=word, order=BY_NAME, limit=3) == expected
    await update(desk, made["李"], name=f"{word}aa")
    assert await found(desk, channel_id=channel.id, order=BY_NAME, limit=3) == [made["李"], *expected[:-1]]


async def test_whoever_changed_last_comes_first_and_can_be_asked_for(desk: Desk) -> None:
    channel = await desk.new_channel()
    made = [await create(desk, channel.id, "+" + phone()) for _ in range(6)]
    began = utc_now()
    for contact_id in made[1::2]:
        await update(desk, contact_id, attributes={"seen": True})
    order = [made[5], made[3], made[1], made[4], made[2], made[0]]
    assert await found(desk, channel_id=channel.id, order=BY_CHANGE, limit=3) == order
    assert await found(desk, channel_id=channel.id, order=BY_CHANGE, update_from=began) == order[:3]
    assert await found(desk, channel_id=channel.id, order=BY_CHANGE, update_until=began, limit=2) == order[3:]
    assert await found(desk, channel_id=channel.id, update_until=began) == [made[4], made[2], made[0]]


async def test_a_contact_is_found_by_the_values_of_its_attributes(desk: Desk) -> None:
    channel, key = await desk.new_channel(), f"k{uuid.uuid4().hex[:8]}"
    held: list[dict[str, Any]] = [{key: "1"}, {key: 1}, {key: True}, {key: 1.0, "b": "x"}, {key: ["1"]}, {}]
    made = [await create(desk, channel.id, "+" + phone(), attributes=each) for each in held]
    for order in listing.ORDERS.values():
        assert await found(desk, attributes=[(key, "1")], order=order) == [made[0]]
        assert set(await found(desk, attributes=[(key, 1.0)], order=order)) == {made[1], made[3]}
        assert await found(desk, attributes=[(key, True)], channel_id=channel.id, order=order) == [made[2]]
        assert await found(desk, attributes=[(key, 1.0), ("b", "x")], order=order) == [made[3]]
    await update(desk, made[0], attributes={key: 1})
    assert await found(desk, attributes=[(key, "1")]) == []
    assert set(await found(desk, attributes=[(key, 1.0)])) == {made[0], made[1], made[3]}


async def test_the_blocked_are_listed_and_the_others(desk: Desk) -> None:
    channel = await desk.new_channel()
    made = [await create(desk, channel.id, "+" + phone()) for _ in range(4)]
    sql = "UPDATE contacts SET block_time = now(), update_time = now() WHERE id = ANY($1::uuid[])"
    await desk.execute(sql, made[:2])
    assert set(await found(desk, blocked=True)) >= set(made[:2])
    assert not set(await found(desk, blocked=True)) & set(made[2:])
    assert await found(desk, blocked=True, channel_id=channel.id) == [made[1], made[0]]
    assert await found(desk, blocked=False, channel_id=channel.id, limit=2) == [made[3], made[2]]
    await desk.execute("UPDATE contacts SET block_time = NULL WHERE id = $1", made[0])
    assert await found(desk, blocked=True, channel_id=channel.id) == [made[1]]


async def test_each_page_of_a_channel_or_of_a_provider_is_full_however_many_contacts_are_elsewhere(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    made = [await create(desk, (there, here)[n in (0, 30, 60)].id, "+" + phone(), name=f"{n}") for n in range(61)]
    for order in listing.ORDERS.values():
        for wanted in (Wanted(channel_id=here.id), Wanted(channel_id=there.id), Wanted(provider="whatsapp")):
            async with desk.database.connection() as connection:
                page = await listing.page(connection, ALL, listing.Query(limit=3, wanted=wanted, order=order))
            assert (len(page.rows), page.edge) == (3, None)
    assert set(await found(desk, channel_id=here.id, limit=2)) == {made[0], made[30], made[60]}
    assert len(await found(desk, channel_id=there.id, provider="whatsapp", limit=8)) == 58
    assert await found(desk, channel_id=here.id, provider="nowhere") == []


async def test_an_identity_that_joins_another_contact_takes_its_channel_along(desk: Desk) -> None:
    here, there = await desk.new_channel(), await desk.new_channel()
    one, other = await create(desk, here.id, "+" + phone()), await create(desk, there.id, "+" + phone())
    await desk.execute("UPDATE identities SET contact_id = $1 WHERE contact_id = $2", one, other)
    assert await found(desk, channel_id=there.id) == [one]
    assert await found(desk, channel_id=here.id) == [one]
    (left,) = await desk.rows("SELECT count(*) FROM contact_keys WHERE contact_id = $1", other)
    assert left["count"] == 0


async def test_many_that_begin_alike_are_walked_without_loss(desk: Desk) -> None:
    channel, other = await desk.new_channel(), await desk.new_channel()
    word = f"many{uuid.uuid4().hex[:8]}"
    made = {await create(desk, (channel, other)[n % 3 == 0].id, "+" + phone(), name=word) for n in range(24)}
    for order in listing.ORDERS.values():
        assert set(await found(desk, limit=3, name_prefix=word, order=order)) == made
        here = set(await found(desk, limit=3, name_prefix=word, channel_id=channel.id, order=order))
        there = set(await found(desk, limit=3, name_prefix=word, channel_id=other.id, order=order))
        assert (len(here), len(there), here | there) == (16, 8, made)
        scope = Scope(all=False, channel_ids=frozenset({other.id}))
        assert set(await found(desk, limit=3, scope=scope, name_prefix=word, order=order)) == there
        assert set(await found(desk, limit=3, scope=scope, order=order)) == there


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
