"""Gives conversations to agents and teams, and takes them back, as somebody asks. Works inside the caller's unit of work."""

from __future__ import annotations

import uuid

from server.agents import service as agents
from server.assignments import facts, ledger, policies
from server.assignments.decision import Decision, Policy
from server.assignments.ledger import Given
from server.conversations import repository, rules
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import Refusal
from server.log.cursor import HeadRow
from server.log.event import Origin
from server.rpc.call import Scope


class NoAssignmentPolicy(Refusal):
    """Nobody chooses for the conversation."""

    status = "FAILED_PRECONDITION"
    reason = "NO_ASSIGNMENT_POLICY"

    def __init__(self) -> None:
        super().__init__("neither the conversation's team nor its channel has a policy that chooses an agent")


class NobodyEligible(Refusal):
    """The policy finds nobody."""

    status = "FAILED_PRECONDITION"
    reason = "NOBODY_ELIGIBLE"

    def __init__(self, decision: Decision) -> None:
        removed = {name: str(count) for name, count in sorted(decision.removed().items())}
        super().__init__(
            "nobody can take the conversation now; the preview says why",
            metadata={"candidates": str(len(decision.verdicts)), **removed},
        )


async def assign(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    agent_id: uuid.UUID | None,
    team_id: uuid.UUID | None,
    reason: str | None,
    expected_version: int | None,
) -> Changed:
    """Gives a conversation to an agent, a team, or both; None leaves one alone. NotAssignable, ConversationArchived, NotFound.

    Whom somebody chose is given it whatever it holds: capacities bind policies only.
    """
    row = await _locked(write, scope, conversation_id, expected_version)
    await agents.check_assignable(write.connection, agent_id=agent_id, team_id=team_id, holder_id=row.assignee_id)
    given = Given(
        row=row,
        agent_id=agent_id or row.assignee_id,
        team_id=team_id or row.team_id,
        time=utc_now(),
        reason=reason,
    )
    return await _give(write, given, origin=origin)


async def assign_by_policy(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    team_id: uuid.UUID | None,
    reason: str | None,
    expected_version: int | None,
    present: frozenset[uuid.UUID] | None,
) -> Changed:
    """Has the policy of the team, or else of the channel, choose among those who can take it now, also in place of who has it.

    NoAssignmentPolicy, NobodyEligible, and what `assign` refuses.
    """
    row = await _locked(write, scope, conversation_id, expected_version)
    await agents.check_assignable(write.connection, agent_id=None, team_id=team_id)
    policy, found = await _facts(write.connection, row, team_id=team_id, present=present, lock=True)
    decision = found.decide(policy, row, pool=facts.pool_of(row, team_id=team_id))
    if decision.agent_id is None:
        raise NobodyEligible(decision)
    if (decision.agent_id, team_id or row.team_id) == (row.assignee_id, row.team_id):
        return Changed(row)
    given = Given(
        row=row,
        agent_id=decision.agent_id,
        team_id=team_id or row.team_id,
        time=found.took(decision, row),
        type=policy.strategy,
        reason=reason,
        policy_id=policy.id,
        decision=decision.record(),
    )
    changed = await _give(write, given, origin=origin)
    turn = policy.id, decision.agent_id
    await facts.store_turns(write.connection, {turn: found.turns[turn]})
    return changed


async def unassign(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    reason: str | None,
    expected_version: int | None,
) -> Changed:
    """Takes a conversation from its agent and team; nothing happens when nobody has it."""
    row = await _locked(write, scope, conversation_id, expected_version)
    if row.assignee_id is None and row.team_id is None:
        return Changed(row)
    now = utc_now()
    return Changed(row, await ledger.take(write, [row], origin=origin, now=now, why="unassigned", reason=reason))


async def preview(
    connection: Connection,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    present: frozenset[uuid.UUID] | None,
) -> tuple[Decision, HeadRow]:
    """Who would get a conversation now, and why. NoAssignmentPolicy, NotFound."""
    row, head = await repository.get_visible(connection, scope, conversation_id)
    policy, found = await _facts(connection, row, team_id=None, present=present, lock=False)
    return found.decide(policy, row, pool=facts.pool_of(row)), head


async def _facts(
    connection: Connection,
    row: ConversationRow,
    *,
    team_id: uuid.UUID | None,
    present: frozenset[uuid.UUID] | None,
    lock: bool,
) -> tuple[Policy, facts.Facts]:
    policy = await policies.of_conversation(connection, team_id=team_id or row.team_id, channel_id=row.channel_id)
    if policy is None:
        raise NoAssignmentPolicy()
    pools = [facts.pool_of(row, team_id=team_id)]
    return policy, await facts.read(connection, [row], [policy], pools=pools, present=present, lock=lock)


async def _give(write: Write, given: Given, *, origin: Origin) -> Changed:
    row = given.row
    if (given.agent_id, given.team_id) == (row.assignee_id, row.team_id):
        return Changed(row)
    return Changed(row, await ledger.give(write, [given], origin=origin))


async def _locked(
    write: Write, scope: Scope, conversation_id: uuid.UUID, expected_version: int | None
) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_version(row, expected_version)
    rules.check_writable(row)
    return row
