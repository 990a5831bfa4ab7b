"""Who gets a conversation: a pure function, for the assigner, for "by policy", and for the preview alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

MANUAL, ROUND_ROBIN, LOAD_BASED, AVAILABILITY = "manual", "round_robin", "load_based", "availability"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
UNIT = 100
# Of a pool of hundreds the ledger keeps so many.
KEPT = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy says of the choice. fairness_most in fairness_window, both or neither."""

    id: uuid.UUID
    strategy: str
    required_skills: frozenset[str] = frozenset()
    fairness_most: int | None = None
    fairness_window: timedelta | None = None
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent of the pool. load in percent of a unit, capacity in units.

    present: whether its heartbeats come; None while nobody can tell, then what the database says counts. turn: when it last got
    a conversation of the policy. recent: when it got its latest conversations, newest first, at most as many as fairness counts.
    """

    agent_id: uuid.UUID
    may_reply: bool
    availability: str
    present: bool | None
    skills: frozenset[str]
    capacity: int
    load: int
    idle_since: datetime
    turn: datetime | None = None
    recent: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """A conversation that needs an agent. weight in percent of a unit.

    holder_id: who has it now, with what it weighs there. known_id: who last had another conversation of the contact.
    """

    weight: int
    holder_id: uuid.UUID | None = None
    held_weight: int = 0
    known_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a candidate: removed by a filter, or scored; the smallest score wins."""

    candidate: Candidate
    removed_by: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Who gets it, None when nobody can. sticky: for having had the contact before."""

    policy: Policy
    agent_id: uuid.UUID | None
    sticky: bool
    verdicts: Sequence[Verdict]

    def removed(self) -> Mapping[str, int]:
        """How many candidates each filter removed."""
        found: dict[str, int] = {}
        for verdict in self.verdicts:
            if verdict.removed_by is not None:
                found[verdict.removed_by] = found.get(verdict.removed_by, 0) + 1
        return found

    def record(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {
            "policy_id": str(self.policy.id),
            "strategy": self.policy.strategy,
            "agent_id": None if self.agent_id is None else str(self.agent_id),
            "sticky": self.sticky,
            "candidates": [_recorded(verdict) for verdict in self.verdicts[:KEPT]],
            "more": max(len(self.verdicts) - KEPT, 0),
        }


def decide(policy: Policy, demand: Demand, candidates: Iterable[Candidate], *, now: datetime) -> Decision:
    """Chooses among the members of the pool. The same facts give the same choice, in whatever order they come."""
    judged = [_judge(policy, demand, candidate, now=now) for candidate in candidates]
    judged.sort(key=lambda verdict: (verdict.removed_by is not None, *_rank(policy, verdict.candidate)))
    able = [verdict.candidate.agent_id for verdict in judged if verdict.removed_by is None]
    if policy.sticky and demand.known_id in able:
        return Decision(policy, demand.known_id, sticky=True, verdicts=judged)
    return Decision(policy, able[0] if able else None, sticky=False, verdicts=judged)


def _judge(policy: Policy, demand: Demand, candidate: Candidate, *, now: datetime) -> Verdict:
    if candidate.agent_id == demand.holder_id:
        candidate = replace(candidate, load=candidate.load - demand.held_weight)
    removed_by = _removed_by(policy, demand, candidate, now=now)
    return Verdict(candidate, removed_by, None if removed_by is not None else _score(policy, candidate))


def _removed_by(policy: Policy, demand: Demand, candidate: Candidate, *, now: datetime) -> str | None:
    if not candidate.may_reply:
        return "may_not_reply"
    if candidate.availability != "online":
        return "not_available"
    if candidate.present is False:
        return "not_present"
    if not policy.required_skills <= candidate.skills:
        return "skill_missing"
    if candidate.capacity == 0 or candidate.load + demand.weight > candidate.capacity * UNIT:
        return "no_capacity"
    free = free_again(policy, candidate.recent)
    return "fairness" if free is not None and free > now else None


def free_again(policy: Policy, recent: Sequence[datetime]) -> datetime | None:
    """When fairness lets an agent have one more; None when it always does."""
    most, window = policy.fairness_most, policy.fairness_window
    if most is None or window is None or len(recent) < most:
        return None
    return recent[most - 1] + window


def _rank(policy: Policy, candidate: Candidate) -> tuple[Any, ...]:
    turn = candidate.turn or NEVER
    if policy.strategy == LOAD_BASED:
        return _used(candidate), turn, candidate.agent_id
    if policy.strategy == AVAILABILITY:
        return candidate.idle_since, turn, candidate.agent_id
    return turn, candidate.agent_id


def _score(policy: Policy, candidate: Candidate) -> float:
    first = _rank(policy, candidate)[0]
    return first if isinstance(first, float) else float(first.timestamp())


def _used(candidate: Candidate) -> float:
    return candidate.load / (max(candidate.capacity, 1) * UNIT)


def _recorded(verdict: Verdict) -> dict[str, Any]:
    candidate = verdict.candidate
    return {
        "agent_id": str(candidate.agent_id),
        "removed_by": verdict.removed_by,
        "availability": candidate.availability,
        "load": candidate.load,
        "capacity": candidate.capacity,
        "score": verdict.score,
    }


def next_look(policy: Policy, decision: Decision, *, now: datetime, presence_again: timedelta) -> datetime | None:
    """When a conversation that nobody could take may find somebody though nothing happens; None: when something does."""
    found = []
    for verdict in decision.verdicts:
        if verdict.removed_by == "fairness":
            found.append(free_again(policy, verdict.candidate.recent) or now)
        elif verdict.removed_by == "not_present":
            found.append(now + presence_again)
    return min(found, default=None)
