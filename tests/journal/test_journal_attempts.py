"""What becomes of payloads and items that cannot be applied: marked, tried again later, seen; siblings go on."""

import asyncio
import itertools
from typing import Any

import pytest
from journal_inlet import Inlet

from server.intake.apply import Run
from server.journal import service as journal
from server.providers.contract import Item


async def test_an_item_that_the_database_refuses_is_failed_and_its_siblings_are_applied(inlet: Inlet) -> None:
    async with inlet.poisoned():
        payload = await inlet.taken(inlet.texts("one", "poison", "three"))
    assert await inlet.said() == ["one", "three"]
    assert await inlet.items(payload.id) == [("message", "applied"), ("message", "applied"), ("message", "failed")]
    assert (await inlet.payload(payload.id))["state"] == "applied"


async def test_a_failed_item_is_applied_when_the_provider_sends_it_again(inlet: Inlet) -> None:
    body = inlet.texts("poison")
    async with inlet.poisoned():
        first = await inlet.taken(body)
        await inlet.taken(body)
        assert await inlet.items(first.id) == [("message", "failed")]
    head = (await inlet.desk.head())[1]
    again = await inlet.taken(body)
    assert await inlet.said() == ["poison"]
    assert await inlet.items(first.id) == []
    (row,) = await inlet.desk.rows("SELECT id, state FROM journal_items WHERE journal_id = $1", again.id)
    causes = await inlet.desk.rows("SELECT DISTINCT cause_id FROM stream_event WHERE seq > $1", head)
    assert (row["state"], [cause["cause_id"] for cause in causes]) == ("applied", [str(row["id"])])


async def test_an_item_twice_in_one_payload_is_one(inlet: Inlet) -> None:
    body = inlet.texts("once")
    messages = body["entry"][0]["changes"][0]["value"]["messages"]
    messages.append(dict(messages[0]))
    payload = await inlet.taken(body)
    assert await inlet.said() == ["once"]
    assert await inlet.items(payload.id) == [("message", "applied")]


class Broken(RuntimeError):
    """A fault of ours."""


async def broken(_run: Run, _items: list[Item]) -> None:
    raise Broken


async def due_now(inlet: Inlet) -> None:
    await inlet.desk.execute("UPDATE journal SET due_time = now() WHERE state = 'received'")


async def test_a_poisonous_payload_waits_longer_each_time_and_is_set_apart_at_last(
    inlet: Inlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = await inlet.store(inlet.texts("never"))
    waits = []
    monkeypatch.setattr(Run, "all", broken)
    for _ in range(journal.ATTEMPTS + 2):
        await due_now(inlet)
        await inlet.applier.apply_left(inlet.desk.tenant)
        await inlet.applier.apply_left(inlet.desk.tenant)
        row = await inlet.payload(poison.id)
        if row["state"] == "failed":
            break
        waits.append(await inlet.desk.value("SELECT due_time - now() FROM journal WHERE id = $1", poison.id))
    assert (row["state"], row["attempts"], row["error"]) == ("failed", journal.ATTEMPTS, "Broken")
    assert len(waits) == journal.ATTEMPTS - 2
    assert all(longer > 2 * shorter for shorter, longer in itertools.pairwise(waits[:5])), waits
    assert max(wait.total_seconds() for wait in waits) <= 3600
    async with inlet.desk.database.connection() as connection:
        assert await journal.next_due(connection) is None


async def test_a_poisonous_payload_does_not_hold_up_others(inlet: Inlet, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = await inlet.store(inlet.texts("never"))
    others = [await inlet.store(inlet.texts(f"{number}")) for number in range(3)]
    whole = Run.all

    async def selective(run: Run, items: Any) -> None:
        if items[0].text == "never":
            raise Broken
        await whole(run, items)

    monkeypatch.setattr(Run, "all", selective)
    await due_now(inlet)
    await inlet.applier.apply_left(inlet.desk.tenant)
    assert await inlet.said() == ["0", "1", "2"]
    assert [(await inlet.payload(each.id))["state"] for each in (poison, *others)] == ["received", *["applied"] * 3]


async def test_a_payload_that_ended_its_process_every_time_is_set_apart(inlet: Inlet) -> None:
    payload = await inlet.store(inlet.texts("deadly"))
    for _ in range(journal.ATTEMPTS):
        await due_now(inlet)
        async with inlet.desk.database.connection() as connection:
            taken = await journal.take(connection)
    assert taken is None
    assert (await inlet.payload(payload.id))["state"] == "failed"


async def test_two_who_look_at_once_take_different_payloads(inlet: Inlet) -> None:
    for number in range(4):
        await inlet.store(inlet.texts(f"{number}"))
    await due_now(inlet)

    async def take() -> Any:
        async with inlet.desk.database.connection() as connection:
            return await journal.take(connection)

    taken = await asyncio.gather(*(take() for _ in range(4)))
    assert None not in taken
    assert len(set(taken)) == 4
    assert await take() is None


async def test_a_payload_for_a_number_that_is_being_connected_waits_without_using_up_attempts(inlet: Inlet) -> None:
    body = inlet.texts("early")
    body["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "99999999999"
    payload = await inlet.store(body)
    for _ in range(journal.ATTEMPTS + 1):
        await due_now(inlet)
        await inlet.applier.apply_left(inlet.desk.tenant)
    row = await inlet.payload(payload.id)
    assert (row["state"], row["attempts"]) == ("received", 1)
    await inlet.desk.execute("UPDATE channels SET account_id = '99999999999' WHERE id = $1", inlet.channel.id)
    await due_now(inlet)
    await inlet.applier.apply_left(inlet.desk.tenant)
    assert await inlet.said() == ["early"]
