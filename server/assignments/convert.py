"""Policies, availabilities and the ledger as the contract shows them; a leaf, for answers and event snapshots alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from switchboard.v1 import assignment_pb2, assignment_policy_pb2, availability_pb2

from server.conversations import convert as conversations
from server.kit import pb

AVAILABILITY = pb.Words(availability_pb2.Availability, "AVAILABILITY_")
FILTER = pb.Words(assignment_pb2.AssignmentFilter, "ASSIGNMENT_FILTER_")
QUEUE_ORDER = pb.Words(assignment_policy_pb2.QueueOrder, "QUEUE_ORDER_")
UNIT = 100


def policy(record: Any) -> assignment_policy_pb2.AssignmentPolicy:
    """A policy with all its settings."""
    fairness = None
    if record["fairness_most"] is not None:
        fairness = assignment_policy_pb2.FairnessWindow(
            most=record["fairness_most"], window=pb.duration(record["fairness_window"])
        )
    settings = assignment_policy_pb2.AssignmentSettings(
        strategy=conversations.ASSIGNMENT_TYPE.number(record["strategy"]),
        required_skills=record["required_skills"],
        fairness=fairness,
        sticky=record["sticky"],
        reclaim_after=pb.duration(record["reclaim_after"]),
        queue_order=QUEUE_ORDER.number(record["queue_order"]),
        weight_percent=record["weight"],
        waiting_weight_percent=record["waiting_weight"],
    )
    return assignment_policy_pb2.AssignmentPolicy(
        id=str(record["id"]),
        channel_id=_text(record["channel_id"]),
        team_id=_text(record["team_id"]),
        settings=settings,
        create_time=pb.timestamp(record["create_time"]),
        update_time=pb.timestamp(record["update_time"]),
    )


def counts_as(record: Any) -> str:
    """The availability that counts: what the agent set, unless its heartbeats are lost."""
    return "offline" if record["lost_time"] is not None else str(record["availability"])


def availability(record: Any) -> availability_pb2.AgentAvailability:
    """What an agent takes and holds."""
    return availability_pb2.AgentAvailability(
        agent_id=str(record["agent_id"]),
        availability=AVAILABILITY.number(counts_as(record)),
        lost=record["lost_time"] is not None,
        since=pb.timestamp(record["lost_time"] or record["availability_time"]),
        capacity=record["capacity"],
        held_units=record["load"] / UNIT,
        conversation_count=record["conversations"],
        skills=record["skills"],
        idle_since=pb.timestamp(record["idle_since"]),
    )


def decision(record: Mapping[str, Any]) -> assignment_pb2.AssignmentDecision:
    """A decision as the ledger keeps it, or as it would."""
    return assignment_pb2.AssignmentDecision(
        policy_id=record["policy_id"],
        strategy=conversations.ASSIGNMENT_TYPE.number(record["strategy"]),
        agent_id=record["agent_id"],
        sticky=record["sticky"],
        candidates=[_candidate(item) for item in record["candidates"]],
        more_candidates=record["more"],
    )


def ledger(record: Any) -> assignment_pb2.Assignment:
    """A row of the ledger with the decision that made it."""
    shown = conversations.assignment(record)
    if record["decision"] is not None:
        shown.decision.CopyFrom(decision(json.loads(record["decision"])))
    return shown


def _candidate(item: Mapping[str, Any]) -> assignment_pb2.AssignmentCandidate:
    removed_by = item["removed_by"]
    return assignment_pb2.AssignmentCandidate(
        agent_id=item["agent_id"],
        removed_by=None if removed_by is None else FILTER.number(removed_by),
        availability=AVAILABILITY.number(item["availability"]),
        held_units=item["load"] / UNIT,
        capacity=item["capacity"],
        score=item["score"],
    )


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
