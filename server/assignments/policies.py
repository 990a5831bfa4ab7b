"""The policies: of a channel or of a team each. Works inside the caller's unit of work."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from switchboard.v1 import event_pb2

from server.agents import service as agents
from server.assignments import convert, reclaim
from server.assignments.decision import Policy
from server.conversations import repository
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, FieldViolation, InvalidFields, NotFound
from server.log.event import NewEvent, Origin

WEIGHT = 100
COLUMNS = (
    *("id", "channel_id", "team_id", "strategy", "required_skills", "fairness_most", "fairness_window", "sticky"),
    *("reclaim_after", "queue_order", "weight", "waiting_weight", "create_time", "update_time"),
)
INSERT = f"""
INSERT INTO assignment_policies ({", ".join(COLUMNS)})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING *
"""
UPDATE = """
UPDATE assignment_policies SET strategy = $2, required_skills = $3, fairness_most = $4, fairness_window = $5, sticky = $6,
    reclaim_after = $7, queue_order = $8, weight = $9, waiting_weight = $10, update_time = $11
WHERE id = $1 RETURNING *
"""
PAGE = """
SELECT * FROM assignment_policies WHERE $1::timestamptz IS NULL OR (create_time, id) > ($1, $2::uuid)
ORDER BY create_time, id LIMIT $3
"""
# A conversation goes by its team's policy, if that has one, else by its channel's.
OF_CONVERSATION = """
SELECT * FROM assignment_policies WHERE team_id = $1 OR channel_id = $2 ORDER BY team_id IS NULL LIMIT 1
"""
HELD = """
SELECT id FROM conversations
WHERE channel_id = $1 AND status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL ORDER BY id
"""
WEIGH = "UPDATE conversations SET weight = $2, waiting_weight = $3 WHERE id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a policy says. Weights in percent of a unit, None for those of a team, or where nothing is stated."""

    strategy: str
    required_skills: Sequence[str]
    fairness_most: int | None
    fairness_window: timedelta | None
    sticky: bool
    reclaim_after: timedelta | None
    queue_order: str
    weight: int | None
    waiting_weight: int | None

    def columns(self, *, of_channel: bool) -> tuple[Any, ...]:
        """In the order of the table; a channel's weights are always stated."""
        weight = WEIGHT if self.weight is None else self.weight
        waiting = weight // 2 if self.waiting_weight is None else self.waiting_weight
        weights = (weight, waiting) if of_channel else (None, None)
        return (
            *(self.strategy, list(self.required_skills), self.fairness_most, self.fairness_window, self.sticky),
            *(self.reclaim_after, self.queue_order, *weights),
        )


def choice_of(record: Any) -> Policy:
    """What the decision needs of a policy."""
    return Policy(
        id=record["id"],
        strategy=record["strategy"],
        required_skills=frozenset(record["required_skills"]),
        fairness_most=record["fairness_most"],
        fairness_window=record["fairness_window"],
        sticky=record["sticky"],
    )


async def of_conversation(connection: Connection, *, team_id: uuid.UUID | None, channel_id: uuid.UUID) -> Policy | None:
    """The policy that a conversation of this team and channel goes by; None when nobody chooses for it."""
    record = await connection.fetchrow(OF_CONVERSATION, team_id, channel_id)
    return None if record is None or record["strategy"] == "manual" else choice_of(record)


@dataclass(frozen=True, slots=True)
class Choosing:
    """All policies, as they are now."""

    of_team: Mapping[uuid.UUID, Any]
    of_channel: Mapping[uuid.UUID, Any]

    def of(self, row: ConversationRow) -> Policy | None:
        """The policy that a conversation goes by; None when nobody chooses for it."""
        record = None if row.team_id is None else self.of_team.get(row.team_id)
        record = record or self.of_channel.get(row.channel_id)
        return None if record is None or record["strategy"] == "manual" else choice_of(record)


async def choosing(connection: Connection) -> Choosing:
    """Reads all policies: as many as there are teams and channels at most."""
    records = await connection.fetch("SELECT * FROM assignment_policies")
    return Choosing(
        of_team={record["team_id"]: record for record in records if record["team_id"] is not None},
        of_channel={record["channel_id"]: record for record in records if record["channel_id"] is not None},
    )


async def create(
    write: Write,
    *,
    origin: Origin,
    policy_id: uuid.UUID,
    channel_id: uuid.UUID | None,
    team_id: uuid.UUID | None,
    settings: Settings,
) -> tuple[Any, list[NewEvent]]:
    """Creates a policy. AlreadyExists, and NotFound for an unknown channel or team."""
    now = utc_now()
    columns = settings.columns(of_channel=channel_id is not None)
    rows = await _locked(write.connection, channel_id)
    record: Any
    if team_id is not None and not await write.connection.fetchval(agents.IS_TEAM, team_id):
        raise NotFound("team")
    try:
        record = await write.connection.fetchrow(INSERT, policy_id, channel_id, team_id, *columns, now, now)
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("assignment policy", "the channel or team has a policy") from None
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("channel" if team_id is None else "team") from None
    await _weigh(write.connection, rows, record["weight"], record["waiting_weight"])
    await reclaim.follow(write.connection)
    return record, [_changed(origin, record)]


async def update(
    write: Write, policy_id: uuid.UUID, *, origin: Origin, settings: Settings
) -> tuple[Any, list[NewEvent]]:
    """Replaces the settings. NotFound, InvalidFields for weights of a team."""
    before = await get(write.connection, policy_id)
    if before["channel_id"] is None and (settings.weight, settings.waiting_weight) != (None, None):
        raise InvalidFields(FieldViolation("settings.weight_percent", "weights are stated in the policy of a channel"))
    rows = await _locked(write.connection, before["channel_id"])
    columns = settings.columns(of_channel=before["channel_id"] is not None)
    record: Any = await write.connection.fetchrow(UPDATE, policy_id, *columns, utc_now())
    if record is None:
        raise NotFound("assignment policy")
    await _weigh(write.connection, rows, record["weight"], record["waiting_weight"])
    await reclaim.follow(write.connection)
    return record, [_changed(origin, record)]


async def delete(write: Write, policy_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """Deletes a policy; the conversations of its channel weigh as without one. NotFound."""
    before = await get(write.connection, policy_id)
    rows = await _locked(write.connection, before["channel_id"])
    record = await write.connection.fetchrow("DELETE FROM assignment_policies WHERE id = $1 RETURNING *", policy_id)
    if record is None:
        raise NotFound("assignment policy")
    await _weigh(write.connection, rows, WEIGHT, WEIGHT // 2)
    body = event_pb2.InboxEvent(
        assignment_policy_deleted=event_pb2.AssignmentPolicyDeleted(policy=convert.policy(record))
    )
    return [NewEvent(body=body, actor=origin.actor, cause=origin.cause)]


async def get(connection: Connection, policy_id: uuid.UUID) -> Any:
    """A policy. NotFound."""
    record = await connection.fetchrow("SELECT * FROM assignment_policies WHERE id = $1", policy_id)
    if record is None:
        raise NotFound("assignment policy")
    return record


async def page(connection: Connection, *, after: Sequence[Any] | None, limit: int) -> list[Any]:
    """Policies in the order they were created."""
    place = (None, None) if after is None else (datetime.fromisoformat(after[0]), uuid.UUID(after[1]))
    records: list[Any] = await connection.fetch(PAGE, *place, limit)
    return records


async def _locked(connection: Connection, channel_id: uuid.UUID | None) -> list[ConversationRow]:
    """The live conversations of a channel, locked: they come before everything else in the order of locks."""
    if channel_id is None:
        return []
    ids = [record["id"] for record in await connection.fetch(HELD, channel_id)]
    return list((await repository.lock_many(connection, ids)).values())


async def _weigh(
    connection: Connection, rows: Sequence[ConversationRow], weight: int | None, waiting: int | None
) -> None:
    """Weighs conversations anew, and moves the counters of those who have them. Rows do not show it: their versions stay."""
    if weight is None or waiting is None or not rows:
        return
    changed = [row for row in rows if (row.weight, row.waiting_weight) != (weight, waiting)]
    await connection.execute(WEIGH, [row.id for row in changed], weight, waiting)
    for row in changed:
        row.weight, row.waiting_weight = weight, waiting
    await repository.count_held(connection, changed)


def _changed(origin: Origin, record: Any) -> NewEvent:
    body = event_pb2.InboxEvent(
        assignment_policy_changed=event_pb2.AssignmentPolicyChanged(policy=convert.policy(record))
    )
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause)
