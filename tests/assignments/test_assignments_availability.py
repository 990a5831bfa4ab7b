"""Who is at work: what agents say, what their heartbeats say, and what becomes of those who fall silent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from assignments_office import Office, open_office

from server.agents.presence import Presence
from server.assignments import availability, reclaim
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.timers import service as timers
from tests.desk import Desk, nobody, phone


@pytest.fixture
async def office(desk: Desk) -> AsyncIterator[Office]:
    made = await open_office(desk)
    yield made
    await desk.check()
    await desk.execute("UPDATE agent_loads SET availability = 'offline', lost_time = NULL")
    await desk.execute("DELETE FROM assignment_policies")
    await desk.execute("DELETE FROM timers")


async def row(office: Office, agent_id: uuid.UUID) -> Any:
    (found,) = await office.desk.rows("SELECT * FROM agent_loads WHERE agent_id = $1", agent_id)
    return found


async def beat(office: Office, agent_id: uuid.UUID) -> Any:
    return await availability.heartbeat(office.desk.database, agent_id, origin=nobody())


async def fire(office: Office) -> None:
    await timers.run_due(office.desk.database, availability.HANDLERS)


async def silent_since(office: Office, agent_id: uuid.UUID, past: timedelta) -> None:
    """As if the database had heard of it last so long ago."""
    await office.desk.execute(
        "UPDATE agent_loads SET heartbeat_time = now() - $2::interval WHERE agent_id = $1", agent_id, past
    )
    await office.desk.execute(
        "UPDATE timers SET due_time = now() - $2::interval + $3::interval WHERE kind = 'agent_silent' AND key = $1",
        *(agent_id, past, availability.SILENT_AFTER),
    )


async def away_for(office: Office, agent_id: uuid.UUID, past: timedelta) -> None:
    """As if it had gone so long ago."""
    await office.desk.execute(
        "UPDATE agent_loads SET availability_time = availability_time - $2::interval WHERE agent_id = $1",
        agent_id,
        past,
    )
    await office.desk.execute(
        "UPDATE timers SET due_time = due_time - $1::interval WHERE kind = 'assignment_reclaim'", past
    )


async def test_each_change_is_an_event_and_saying_the_same_is_none(office: Office) -> None:
    ana = await office.new_agent("ana", online=False)
    before = (await office.desk.head())[1]
    for to in ("online", "online", "busy", "offline"):
        await office.says(ana, to)
    events = [event.agent_availability_changed for _, event in await office.desk.events(after=before)]
    assert [(getattr(event, "from"), event.availability.availability) for event in events] == [(4, 1), (1, 2), (2, 4)]
    assert await office.desk.value("SELECT count(*) FROM timers WHERE key = $1", ana) == 0


async def test_an_unknown_agent_is_not_found(office: Office) -> None:
    for attempt in (beat(office, new_id()), office.says(new_id(), "online"), office.capacity(new_id(), 3)):
        with pytest.raises(NotFound):
            await attempt


async def test_heartbeats_are_written_once_a_minute(office: Office) -> None:
    ana = await office.new_agent("ana")
    written = (await row(office, ana))["heartbeat_time"]
    await beat(office, ana)
    assert (await row(office, ana))["heartbeat_time"] == written
    await silent_since(office, ana, timedelta(seconds=61))
    await beat(office, ana)
    assert (await row(office, ana))["heartbeat_time"] > written


async def test_who_falls_silent_counts_as_offline_until_the_next_heartbeat(office: Office) -> None:
    ana = await office.new_agent("ana")
    before = (await office.desk.head())[1]
    await silent_since(office, ana, availability.SILENT_AFTER - timedelta(seconds=5))
    await office.desk.execute("UPDATE timers SET due_time = now() - interval '1 min' WHERE key = $1", ana)
    await fire(office)
    assert (await row(office, ana))["lost_time"] is None, "an early timer sets itself anew"
    await silent_since(office, ana, availability.SILENT_AFTER + timedelta(seconds=1))
    await fire(office)
    lost = await row(office, ana)
    assert (lost["availability"], lost["lost_time"] is None) == ("online", False)
    await office.policy()
    some = await office.waiting(1)
    assert await office.drain() == 0
    assert (await beat(office, ana))["lost_time"] is None
    assert await office.desk.value("SELECT count(*) FROM timers WHERE kind = 'agent_silent' AND key = $1", ana) == 1
    assert await office.drain() == 1
    assert await office.holders(some) == ["ana"]
    kinds = [kind for kind in await office.desk.kinds(after=before) if kind == "agent_availability_changed"]
    assert len(kinds) == 2


async def test_who_is_away_gives_back_what_policies_gave_after_the_delay(office: Office) -> None:
    await office.policy(reclaim_after=timedelta(minutes=5))
    ana = await office.new_agent("ana")
    given, chosen = await office.waiting(2)
    await office.assign(chosen, ana)
    await office.drain()
    waited = (await office.desk.conversation(given)).waiting_since
    await office.says(ana, "away")
    await fire(office)
    assert await office.holders([given, chosen]) == ["ana", "ana"]
    await away_for(office, ana, timedelta(minutes=4))
    await fire(office)
    assert await office.holders([given, chosen]) == ["ana", "ana"], "not yet"
    await away_for(office, ana, timedelta(minutes=1))
    before = (await office.desk.head())[1]
    await fire(office)
    assert await office.holders([given, chosen]) == [None, "ana"], "what somebody gave her on purpose she keeps"
    assert (await office.desk.conversation(given)).waiting_since == waited, "the customer's waiting is not over"
    ((_, event),) = await office.desk.events(after=before)
    assert event.conversation_unassigned.end_reason == 3
    ben = await office.new_agent("ben")
    assert await office.drain() == 1
    assert await office.holder(given) == ben


async def test_who_is_back_in_time_keeps_everything(office: Office) -> None:
    await office.policy(reclaim_after=timedelta(minutes=5))
    ana = await office.new_agent("ana")
    some = await office.waiting(1)
    await office.drain()
    await office.says(ana, "offline")
    await office.says(ana, "busy")
    await away_for(office, ana, timedelta(minutes=6))
    await fire(office)
    assert await office.holders(some) == ["ana"]


@pytest.mark.parametrize("first", ["away", "silent"])
async def test_who_is_away_in_another_way_is_away_for_as_long(office: Office, first: str) -> None:
    await office.policy(reclaim_after=timedelta(minutes=5))
    ana = await office.new_agent("ana")
    some = await office.waiting(1)
    await office.drain()
    if first == "away":
        await office.says(ana, "away")
        await away_for(office, ana, timedelta(minutes=4))
    else:
        await silent_since(office, ana, availability.SILENT_AFTER + timedelta(seconds=1))
        await fire(office)
        await office.desk.execute(
            "UPDATE agent_loads SET lost_time = lost_time - interval '4 min' WHERE agent_id = $1", ana
        )
    await office.says(ana, "offline")
    await away_for(office, ana, timedelta(minutes=1))
    await fire(office)
    assert await office.holders(some) == [None]


async def test_a_customer_who_comes_back_to_somebody_away_waits_for_another(office: Office) -> None:
    await office.policy(reclaim_after=timedelta(minutes=5))
    ana, sender = await office.new_agent("ana"), phone()
    row = await office.desk.started(office.channel, sender)
    await office.drain()
    await office.desk.move(row.id, "resolved")
    await office.says(ana, "offline")
    assert await office.desk.value("SELECT count(*) FROM timers WHERE kind = $1", reclaim.RECLAIM) == 0
    await office.desk.writer().submit(office.desk.receive(office.channel, sender))
    await office.drain()
    await away_for(office, ana, timedelta(minutes=6))
    await fire(office)
    assert await office.holders([row.id]) == [None]
    assert await office.desk.value("SELECT count(*) FROM timers WHERE kind = $1", reclaim.RECLAIM) == 0


async def test_the_lost_give_back_too_and_a_policy_that_comes_later_counts(office: Office) -> None:
    policy_id = await office.policy()
    ana = await office.new_agent("ana")
    some = await office.waiting(1)
    await office.drain()
    await silent_since(office, ana, availability.SILENT_AFTER + timedelta(seconds=1))
    await fire(office)
    assert await office.desk.value("SELECT count(*) FROM timers WHERE kind = $1", reclaim.RECLAIM) == 0
    await office.change_policy(policy_id, reclaim_after=timedelta(0))
    await fire(office)
    assert await office.holders(some) == [None]


async def test_nobody_is_known_before_valkey_has_been_up_for_long_enough(dev: dict[str, Any]) -> None:
    tenant, ana, ben = new_id(), new_id(), new_id()
    lost, known = timedelta(seconds=3), timedelta(seconds=1.5)
    presence = Presence(dev["valkey"]["url"], lost_after=lost, known_after=known)
    try:
        await presence.beat(tenant, ana)
        assert await presence.present(tenant) is None, "whoever is missing may only not have been asked yet"
        await asyncio.sleep(1.7)
        assert await presence.present(tenant) == {ana}
        await presence.beat(tenant, ben)
        await asyncio.sleep(1.7)
        assert await presence.present(tenant) == {ben}, "her heartbeat is too old"
        await presence.leave(tenant, ben)
        assert await presence.present(tenant) == frozenset()
    finally:
        await presence.close()


async def test_without_valkey_nobody_is_known() -> None:
    for url in (None, "redis://127.0.0.1:1/0"):
        presence = Presence(url)
        await presence.beat(new_id(), new_id())
        assert await presence.present(new_id()) is None
        await presence.close()
