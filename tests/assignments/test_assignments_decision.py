"""The choice is a pure function: what it may never do, and that each strategy does what it says."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.assignments.decision import UNIT, Candidate, Demand, Policy, decide, free_again, next_look

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
IDS = [uuid.UUID(int=number) for number in range(1, 9)]
TIMES = st.integers(0, 3600).map(lambda seconds: NOW - timedelta(seconds=seconds))
SKILLS = st.frozensets(st.sampled_from(["spanish", "billing"]))


def able(number: int, **changes: object) -> Candidate:
    made = Candidate(
        agent_id=IDS[number],
        may_reply=True,
        availability="online",
        present=True,
        skills=frozenset(),
        capacity=10,
        load=0,
        idle_since=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    return [
        Candidate(
            agent_id=agent_id,
            may_reply=draw(st.booleans()),
            availability=draw(st.sampled_from(["online", "online", "busy", "away", "offline"])),
            present=draw(st.sampled_from([True, True, None, False])),
            skills=draw(SKILLS),
            capacity=draw(st.integers(0, 5)),
            load=draw(st.integers(0, 600)),
            idle_since=draw(TIMES),
            turn=draw(st.none() | TIMES),
            recent=sorted(draw(st.lists(TIMES, max_size=3)), reverse=True),
        )
        for agent_id in draw(st.lists(st.sampled_from(IDS), unique=True))
    ]


policies = st.builds(
    Policy,
    id=st.just(uuid.UUID(int=99)),
    strategy=st.sampled_from(["round_robin", "load_based", "availability"]),
    required_skills=SKILLS,
    fairness_most=st.integers(1, 3),
    fairness_window=st.sampled_from([timedelta(minutes=5), timedelta(minutes=50)]),
    sticky=st.booleans(),
)
demands = st.builds(Demand, weight=st.integers(1, 300), known_id=st.none() | st.sampled_from(IDS))


@given(policies, demands, candidates(), st.randoms(use_true_random=False))
def test_whoever_gets_it_passes_every_filter(policy: Policy, demand: Demand, pool: list[Candidate], chance) -> None:  # type: ignore[no-untyped-def]
    decision = decide(policy, demand, pool, now=NOW)
    shuffled = list(pool)
    chance.shuffle(shuffled)
    assert decide(policy, demand, shuffled, now=NOW) == decision, "the order of the facts does not matter"
    assert {verdict.candidate.agent_id for verdict in decision.verdicts} == {each.agent_id for each in pool}
    fit = [
        each
        for each in pool
        if each.may_reply
        and each.availability == "online"
        and each.present is not False
        and policy.required_skills <= each.skills
        and each.capacity > 0
        and each.load + demand.weight <= each.capacity * UNIT
        and len([time for time in each.recent if time > NOW - policy.fairness_window]) < policy.fairness_most  # type: ignore[operator]
    ]
    assert {verdict.candidate.agent_id for verdict in decision.verdicts if verdict.removed_by is None} == {
        each.agent_id for each in fit
    }
    if not fit:
        assert decision.agent_id is None
        return
    if policy.sticky and demand.known_id in {each.agent_id for each in fit}:
        assert (decision.agent_id, decision.sticky) == (demand.known_id, True)
        return
    best = min(verdict.score for verdict in decision.verdicts if verdict.score is not None)
    (chosen,) = [verdict for verdict in decision.verdicts if verdict.candidate.agent_id == decision.agent_id]
    assert chosen.score == best
    assert decision.verdicts[0] == chosen


@given(policies, demands, candidates())
def test_nobody_loses_by_being_less_loaded(policy: Policy, demand: Demand, pool: list[Candidate]) -> None:
    decision = decide(policy, demand, pool, now=NOW)
    if decision.agent_id is None:
        return
    lighter = [replace(each, load=0) if each.agent_id == decision.agent_id else each for each in pool]
    assert decide(policy, demand, lighter, now=NOW).agent_id == decision.agent_id


@given(policies, demands, candidates())
def test_a_look_is_set_where_time_alone_may_help(policy: Policy, demand: Demand, pool: list[Candidate]) -> None:
    decision = decide(policy, demand, pool, now=NOW)
    again = next_look(policy, decision, now=NOW, presence_again=timedelta(seconds=15))
    fair = [verdict for verdict in decision.verdicts if verdict.removed_by == "fairness"]
    absent = [verdict for verdict in decision.verdicts if verdict.removed_by == "not_present"]
    assert (again is not None) == bool(fair or absent)
    if fair and not absent and decision.agent_id is None:
        assert again is not None
        assert decide(policy, demand, pool, now=again).agent_id is not None


@pytest.mark.parametrize(
    ("strategy", "pool", "chosen"),
    [
        ("round_robin", [able(0, turn=NOW), able(1, turn=NOW - timedelta(hours=1))], 1),
        ("round_robin", [able(0, turn=NOW), able(1)], 1),
        ("load_based", [able(0, load=200, capacity=10), able(1, load=100, capacity=2)], 0),
        ("load_based", [able(0, load=200, turn=NOW), able(1, load=200, turn=NOW - timedelta(hours=1))], 1),
        ("availability", [able(0, idle_since=NOW), able(1, idle_since=NOW - timedelta(minutes=1))], 1),
    ],
)
def test_strategies_choose_as_they_say(strategy: str, pool: list[Candidate], chosen: int) -> None:
    policy = Policy(id=uuid.UUID(int=99), strategy=strategy)
    assert decide(policy, Demand(100), pool, now=NOW).agent_id == IDS[chosen]


def test_the_record_says_what_removed_each() -> None:
    policy = Policy(uuid.UUID(int=99), "load_based", frozenset({"spanish"}), 1, timedelta(hours=1))
    spanish = frozenset({"spanish"})
    pool = [
        able(0, may_reply=False),
        able(1, availability="busy"),
        able(2, present=False),
        able(3),
        able(4, skills=spanish, load=950),
        able(5, skills=spanish, recent=[NOW]),
        able(6, skills=spanish, present=None, load=250),
    ]
    record = decide(policy, Demand(100), pool, now=NOW).record()
    assert record["agent_id"] == str(IDS[6])
    removed = {item["agent_id"]: item["removed_by"] for item in record["candidates"]}
    assert [removed[str(agent_id)] for agent_id in IDS[:7]] == [
        *("may_not_reply", "not_available", "not_present", "skill_missing", "no_capacity", "fairness", None),
    ]
    assert record["candidates"][0]["score"] == 0.25
    assert free_again(policy, [NOW]) == NOW + timedelta(hours=1)


def test_who_has_it_is_asked_without_it() -> None:
    policy, demand = Policy(uuid.UUID(int=99), "load_based"), Demand(100, holder_id=IDS[0], held_weight=100)
    assert decide(policy, demand, [able(0, load=100, capacity=1)], now=NOW).agent_id == IDS[0]
