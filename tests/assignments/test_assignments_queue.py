"""How conversations that wait find an agent: the policy's rules, the queue's order, and what wakes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from unittest import mock

import pytest
from assignments_office import Office, open_office

from server.agents import service as agents
from server.agents.roles import PERMISSIONS, id_of
from server.assignments import queue, service
from server.assignments.service import NoAssignmentPolicy, NobodyEligible
from server.channels import service as channels
from server.kit.db import Write
from server.log.append import append
from server.log.event import ActorKind
from server.people import lifecycle
from server.rpc.call import Caller, CallerKind
from tests.desk import ALL, Desk, nobody, phone

KEY = Caller(kind=CallerKind.API_KEY, permissions=PERMISSIONS["owner"])


@pytest.fixture
async def office(desk: Desk) -> AsyncIterator[Office]:
    made = await open_office(desk)
    yield made
    await desk.check()
    # The tests of a file share a tenant: nobody of this one is left for the next.
    await desk.execute("UPDATE agent_loads SET availability = 'offline', lost_time = NULL")
    await desk.execute("DELETE FROM assignment_policies")


async def test_round_robin_takes_turns_and_stops_at_the_capacity(office: Office) -> None:
    await office.policy()
    for name in ("ana", "ben"):
        await office.new_agent(name, capacity=2)
    some = await office.waiting(5)
    assert await office.drain() == 4
    assert await office.holders(some) == ["ana", "ben", "ana", "ben", None]
    assert await office.drain() == 0


async def join(office: Office, agent_id: uuid.UUID) -> None:
    """Makes an agent a member of the channel, as the API does."""

    async def unit(write: Write) -> None:
        _, events = await agents.set_memberships(
            write, agent_id, caller=KEY, origin=nobody(), team_ids=[], channel_ids=[office.channel.id]
        )
        await append(write, events)

    await office.desk.database.write(unit)


async def test_nobody_gets_anything_without_a_policy_or_by_a_manual_one(office: Office) -> None:
    await office.new_agent("ana")
    some = await office.waiting(1)
    await office.drain()
    assert await office.holders(some) == [None]
    policy_id = await office.policy(strategy="manual")
    await office.drain()
    assert await office.holders(some) == [None]
    await office.change_policy(policy_id, strategy="availability")
    assert await office.drain() == 1


@pytest.mark.parametrize("frees", ["resolve", "unassign", "capacity", "online", "member"])
async def test_whatever_frees_an_agent_drains_the_queue(office: Office, frees: str) -> None:
    await office.policy()
    ana = await office.new_agent("ana", capacity=1)
    first, second = await office.waiting(2)
    await office.drain()
    assert await office.holders([first, second]) == ["ana", None]
    if frees == "resolve":
        await office.desk.move(first, "resolved")
    elif frees == "unassign":
        await office.unassign(first)
        assert await office.drain() == 1
        assert sorted(map(str, await office.holders([first, second]))) == ["None", "ana"]
        return
    elif frees == "capacity":
        await office.capacity(ana, 2)
    elif frees == "online":
        await office.new_agent("ben")
    else:
        ben = await office.new_agent("ben", member=False)
        assert await office.drain() == 0
        await join(office, ben)
    assert await office.drain() == 1
    assert (await office.holders([second]))[0] is not None


@pytest.mark.parametrize("why", ["disabled", "read_only"])
async def test_nothing_is_looked_at_for_who_may_not_reply_until_he_may(office: Office, why: str) -> None:
    await office.policy()
    ana, origin = await office.new_agent("ana"), nobody()
    role = partial(lifecycle.update, agent_id=ana, caller=KEY, origin=origin, name=None, email=None)
    state = {"agent_id": ana, "caller": KEY, "origin": origin}
    if why == "disabled":
        await office.desk.do(lambda write: lifecycle.disable(write, **state))
    else:
        await office.desk.do(lambda write: role(write, role_id=id_of("read_only", None)))
    some = await office.waiting(1)
    assert await office.drain() == 0
    async with office.desk.database.connection() as connection:
        assert await connection.fetch(queue.NEXT, *queue.FIRST, queue.PAGE) == []
    if why == "disabled":
        await office.desk.do(lambda write: lifecycle.enable(write, **state))
    else:
        await office.desk.do(lambda write: role(write, role_id=id_of("agent", None)))
    assert await office.drain() == 1
    assert await office.holders(some) == ["ana"]


async def test_one_that_waits_for_its_customer_leaves_room_for_another(office: Office) -> None:
    await office.policy(waiting_weight=0)
    await office.new_agent("ana", capacity=1)
    some = await office.waiting(2)
    await office.drain()
    await office.desk.move(some[0], "pending")
    assert await office.drain() == 1
    assert await office.holders(some) == ["ana", "ana"]
    await office.desk.move(some[0], "open")
    await office.waiting(1)
    assert await office.drain() == 0, "above her capacity nothing is added"


async def test_who_waited_longest_comes_first_and_a_row_that_nobody_can_take_holds_up_nobody(office: Office) -> None:
    await office.policy()
    ana = await office.new_agent("ana", capacity=1)
    heavy, old, new = await office.waiting(3)
    await office.desk.execute("UPDATE conversations SET weight = 500 WHERE id = $1", heavy)
    await office.desk.execute(
        "UPDATE conversations SET waiting_since = waiting_since - interval '1 h' WHERE id = $1", new
    )
    assert await office.drain() == 1
    assert await office.holders([heavy, old, new]) == [None, None, "ana"]
    await office.capacity(ana, 5)
    assert await office.drain() == 1, "four units are free, and five are asked for"
    assert await office.holders([heavy, old, new]) == [None, "ana", "ana"]


async def test_many_that_nobody_can_take_hold_up_nobody(office: Office) -> None:
    await office.policy()
    await office.new_agent("ana", capacity=1)
    heavy = await office.waiting(7)
    await office.desk.execute("UPDATE conversations SET weight = 500 WHERE id = ANY($1)", heavy)
    some = await office.waiting(1)
    with mock.patch.object(queue, "PAGE", 3):
        assert await office.drain() == 1
    assert await office.holders(some) == ["ana"]


async def test_priority_goes_first_where_the_policy_says_so(office: Office) -> None:
    await office.policy(queue_order="priority")
    await office.new_agent("ana", capacity=1)
    some = await office.waiting(2)
    await office.desk.execute("UPDATE conversations SET priority = 5 WHERE id = $1", some[1])
    await office.drain()
    assert await office.holders(some) == [None, "ana"]


async def test_a_teams_policy_goes_before_its_channels(office: Office) -> None:
    await office.policy()
    await office.new_agent("ana")
    ben = await office.new_agent("ben", member=False)
    team = await office.new_team(ben)
    await office.policy(team_id=team, strategy="load_based")
    some = await office.waiting(2)
    whole = {"reason": None, "expected_version": None, "agent_id": None, "team_id": team}
    await office.desk.do(lambda write: service.assign(write, ALL, some[0], origin=nobody(), **whole))
    await office.drain()
    assert await office.holders(some) == ["ben", "ana"]
    assert (await office.desk.conversation(some[0])).team_id == team


async def test_fairness_counts_from_the_ledger_and_the_queue_is_looked_at_when_it_ends(office: Office) -> None:
    await office.policy(fairness_most=1, fairness_window=timedelta(seconds=30))
    ana = await office.new_agent("ana")
    some = await office.waiting(2)
    assert await office.drain() == 1
    look = await office.desk.value("SELECT look_time FROM assignment_queue")
    start = await office.desk.value("SELECT start_time FROM conversation_assignments WHERE agent_id = $1", ana)
    assert look == start + timedelta(seconds=30)
    earlier = "UPDATE conversation_assignments SET start_time = $2 WHERE agent_id = $1 AND conversation_id = $3"
    await office.desk.execute(earlier, ana, start - timedelta(seconds=31), some[0])
    assert await office.drain() == 0, "nothing happened yet"
    await office.desk.execute("UPDATE assignment_queue SET look_time = now()")
    assert await office.drain() == 1
    assert await office.holders(some) == ["ana", "ana"]
    await office.desk.execute(earlier, ana, start, some[0])


async def test_skills_and_presence_decide_who_can(office: Office) -> None:
    await office.policy(required_skills=("spanish",))
    await office.new_agent("ana")
    ben = await office.new_agent("ben", skills=["spanish"])
    some = await office.waiting(1)
    assert await office.drain(frozenset()) == 0
    assert await office.desk.value("SELECT look_time > now() FROM assignment_queue"), "he may be back without a word"
    await office.desk.execute("UPDATE assignment_queue SET look_time = now()")
    assert await office.drain(frozenset({ben})) == 1
    assert await office.holders(some) == ["ben"]


async def test_the_one_who_knows_the_customer_comes_first(office: Office) -> None:
    await office.policy(sticky=True, strategy="load_based")
    ana = await office.new_agent("ana")
    await office.new_agent("ben")
    sender = phone()
    row = await office.desk.started(office.channel, sender)
    await office.assign(row.id, ana)
    await office.desk.move(row.id, "resolved")
    for other in await office.waiting(2):
        await office.assign(other, ana)
    await office.desk.execute("UPDATE channels SET new_thread_each_time = true WHERE id = $1", office.channel.id)
    async with office.desk.database.connection() as connection:
        office.channel = (await channels.by_ids(connection, [office.channel.id]))[office.channel.id]
    again = await office.desk.started(office.channel, sender)
    assert again.id != row.id
    some = await office.waiting(1)
    await office.drain()
    assert await office.holders([again.id, *some]) == ["ana", "ben"]
    decision = json.loads(
        await office.desk.value("SELECT decision FROM conversation_assignments WHERE conversation_id = $1", again.id)
    )
    assert decision["sticky"] is True


async def test_a_manual_choice_is_never_overridden(office: Office) -> None:
    await office.policy()
    ana = await office.new_agent("ana", online=False, capacity=0)
    await office.new_agent("ben")
    some = await office.waiting(1)
    await office.assign(some[0], ana)
    await office.drain()
    assert await office.holders(some) == ["ana"], "past her capacity, and away: somebody chose"


async def test_the_ledger_says_who_why_and_from_whom(office: Office) -> None:
    policy_id = await office.policy(strategy="load_based")
    ana, ben = await office.new_agent("ana"), await office.new_agent("ben", online=False)
    some = await office.waiting(1)
    await office.drain()
    await office.assign(some[0], ben)
    await office.unassign(some[0])
    first, second = await office.desk.rows(
        "SELECT * FROM conversation_assignments WHERE conversation_id = $1 ORDER BY start_time", some[0]
    )
    assert (first["type"], first["policy_id"], first["assigned_by_kind"]) == (
        "load_based",
        policy_id,
        ActorKind.ACTOR_KIND_SYSTEM,
    )
    assert (first["end_reason"], second["end_reason"]) == ("reassigned", "unassigned")
    assert (first["from_agent_id"], second["from_agent_id"], second["type"]) == (None, ana, "manual")
    assert first["waiting_since"] is not None
    removed = {item["agent_id"]: item["removed_by"] for item in json.loads(first["decision"])["candidates"]}
    assert removed == {str(ana): None, str(ben): "not_available"}


async def test_by_policy_chooses_at_once_or_says_why_not(office: Office) -> None:
    some = (await office.waiting(1))[0]
    with pytest.raises(NoAssignmentPolicy):
        await office.by_policy(some)
    await office.policy(strategy="availability")
    ana = await office.new_agent("ana", online=False)
    with pytest.raises(NobodyEligible) as refused:
        await office.by_policy(some)
    assert refused.value.metadata == {"candidates": "1", "not_available": "1"}
    await office.says(ana, "online")
    assert (await office.by_policy(some)).row.assignee_id == ana
    assert not (await office.by_policy(some)).events, "she has it, and would get it"


async def test_the_preview_is_what_happens(office: Office) -> None:
    await office.policy()
    await office.new_agent("ana")
    await office.new_agent("ben")
    for _ in range(4):
        (some,) = await office.waiting(1)
        async with office.desk.database.snapshot() as connection:
            told, _ = await service.preview(connection, ALL, some, present=None)
        await office.drain()
        assert await office.holder(some) == told.agent_id


async def test_a_wake_up_during_a_drain_is_not_lost(office: Office) -> None:
    await office.policy()
    await office.new_agent("ana", capacity=1)
    first, second = await office.waiting(2)
    await office.drain()
    await office.says(ben := await office.new_agent("ben", online=False), "busy")
    settle = queue.settle

    async def resolved_meanwhile(write: Write, **more: object) -> None:
        if (await office.desk.conversation(first)).status != "resolved":
            await office.desk.move(first, "resolved")
        await settle(write, **more)  # type: ignore[arg-type]

    with mock.patch.object(queue, "settle", resolved_meanwhile):
        assert await office.drain() == 0
    assert await office.drain() == 1
    assert await office.holders([second]) == ["ana"]
    assert await office.holder(second) != ben


async def test_weights_of_a_policy_count_at_once(office: Office) -> None:
    policy_id = await office.policy(weight=300, waiting_weight=100)
    ana = await office.new_agent("ana", capacity=7)
    some = await office.waiting(3)
    assert await office.drain() == 2
    load = "SELECT load FROM agent_loads WHERE agent_id = $1"
    assert await office.desk.value(load, ana) == 600
    await office.desk.move(some[0], "pending")
    assert await office.desk.value(load, ana) == 400
    assert await office.drain() == 1
    await office.change_policy(policy_id, weight=100)
    assert await office.desk.value(load, ana) == 250
