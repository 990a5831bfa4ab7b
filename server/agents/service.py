"""Agents: creating, reading, and setting memberships."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from switchboard.v1 import agent_pb2

from server.agents import convert, events, own_roles
from server.agents.roles import CUSTOM, MAY_REPLY, Role, id_of
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, FieldViolation, InvalidFields, NotFound, Refusal
from server.log.event import NewEvent, Origin
from server.models.tenant import Agent, Channel, ChannelMember, Team, TeamMember
from server.rpc.call import Caller


class NotAssignable(Refusal):
    """The agent or team cannot take a conversation."""

    status = "FAILED_PRECONDITION"
    reason = "NOT_ASSIGNABLE"


@dataclass(slots=True)
class Member:
    """An agent with its memberships."""

    agent: Agent
    team_ids: list[uuid.UUID] = field(default_factory=list)
    channel_ids: list[uuid.UUID] = field(default_factory=list)

    def shown(self) -> agent_pb2.Agent:
        """As the contract shows it."""
        return convert.agent(self.agent, team_ids=self.team_ids, channel_ids=self.channel_ids)


async def create(
    write: Write,
    *,
    agent_id: uuid.UUID,
    name: str,
    email: str | None,
    kind: str,
    role: Role,
    team_ids: Sequence[uuid.UUID],
    channel_ids: Sequence[uuid.UUID],
    origin: Origin,
) -> tuple[Member, list[NewEvent]]:
    """Creates an agent. AlreadyExists for a taken address, INVALID_FIELDS for unknown teams or channels."""
    row = Agent(id=agent_id, name=name, email=email, kind=kind, role=role.word, state="active", create_time=utc_now())
    row.role_id = role.id if role.word == CUSTOM else None
    write.session.add(row)
    try:
        await write.session.flush()
    except IntegrityError:
        raise AlreadyExists("agent", "an agent with this address exists") from None
    member = await _set(write, row, team_ids=team_ids, channel_ids=channel_ids)
    return member, [events.agent_event(origin, "created", member.shown())]


async def set_memberships(
    write: Write,
    agent_id: uuid.UUID,
    *,
    caller: Caller,
    origin: Origin,
    team_ids: Sequence[uuid.UUID],
    channel_ids: Sequence[uuid.UUID],
) -> tuple[Member, list[NewEvent]]:
    """Sets all memberships; the event makes every stream of the agent follow at its place in the log. NotFound, PermissionMissing."""
    # Not the strongest lock: the batch writer's foreign keys share the key while it holds the head.
    row = await write.session.get(Agent, agent_id, with_for_update={"key_share": True})
    if row is None:
        raise NotFound("agent")
    await own_roles.given(write.connection, id_of(row.role, row.role_id), caller)
    await write.session.execute(delete(TeamMember).where(TeamMember.agent_id == agent_id))
    await write.session.execute(delete(ChannelMember).where(ChannelMember.agent_id == agent_id))
    member = await _set(write, row, team_ids=team_ids, channel_ids=channel_ids)
    return member, membership_events(member, origin)


def membership_events(member: Member, origin: Origin) -> list[NewEvent]:
    """What the log says when an agent's teams or channels changed."""
    return [events.agent_event(origin, "updated", member.shown()), events.scope_changed(origin, member.agent.id)]


async def _set(write: Write, row: Agent, *, team_ids: Sequence[uuid.UUID], channel_ids: Sequence[uuid.UUID]) -> Member:
    await check_known(write.session, team_ids=team_ids, channel_ids=channel_ids)
    write.session.add_all(TeamMember(team_id=team_id, agent_id=row.id) for team_id in team_ids)
    write.session.add_all(ChannelMember(channel_id=channel_id, agent_id=row.id) for channel_id in channel_ids)
    await write.session.flush()
    return Member(agent=row, team_ids=list(team_ids), channel_ids=list(channel_ids))


async def check_known(
    session: AsyncSession, *, team_ids: Sequence[uuid.UUID], channel_ids: Sequence[uuid.UUID]
) -> None:
    """Refuses teams and channels that are unknown; the teams stay until the commit. InvalidFields."""
    await _check_known(session, "team_ids", Team, team_ids)
    await _check_known(session, "channel_ids", Channel, channel_ids)


async def _check_known(
    session: AsyncSession, name: str, table: type[Team] | type[Channel], ids: Sequence[uuid.UUID]
) -> None:
    query = select(table.id).where(table.id.in_(ids)).order_by(table.id)
    if table is Team:
        # Whoever deletes one of them waits, and then sees its members.
        query = query.where(Team.delete_time.is_(None)).with_for_update(read=True)
    known = set((await session.scalars(query)).all())
    unknown = [
        FieldViolation(f"{name}[{index}]", "is not known") for index, wanted in enumerate(ids) if wanted not in known
    ]
    if unknown:
        raise InvalidFields(*unknown)


async def get(session: AsyncSession, agent_id: uuid.UUID) -> Member:
    """An agent. NotFound."""
    row = await session.get(Agent, agent_id, populate_existing=True)
    if row is None:
        raise NotFound("agent")
    return (await _members(session, [row]))[0]


async def page(session: AsyncSession, *, after: Sequence[Any] | None, limit: int) -> list[Member]:
    """Agents in the order they were created."""
    query = select(Agent).order_by(Agent.create_time, Agent.id).limit(limit)
    if after is not None:
        query = query.where(tuple_(Agent.create_time, Agent.id) > _last(after))
    return await _members(session, (await session.scalars(query)).all())


async def _members(session: AsyncSession, rows: Sequence[Agent]) -> list[Member]:
    """Memberships of many agents in two statements."""
    members = {row.id: Member(agent=row) for row in rows}
    for team in (await session.scalars(select(TeamMember).where(TeamMember.agent_id.in_(members)))).all():
        members[team.agent_id].team_ids.append(team.team_id)
    for channel in (await session.scalars(select(ChannelMember).where(ChannelMember.agent_id.in_(members)))).all():
        members[channel.agent_id].channel_ids.append(channel.channel_id)
    return list(members.values())


def _last(after: Sequence[Any]) -> tuple[datetime, uuid.UUID]:
    return datetime.fromisoformat(after[0]), uuid.UUID(after[1])


# Shared until the caller commits: whoever disables the one or deletes the other waits, and takes back what was given. The counters
# come before the agents, as where an agent is disabled; a change that was waited for is seen, as the agent's row is read again.
TAKES = f"""
WITH counters AS (SELECT agent_id FROM agent_loads WHERE agent_id = ANY($2::uuid[]) ORDER BY agent_id FOR UPDATE)
SELECT true FROM agents a LEFT JOIN roles r ON r.id = a.role_id
WHERE a.id = $1 AND a.state = 'active' AND {MAY_REPLY} AND (SELECT count(*) FROM counters) > 0 FOR SHARE OF a
"""
IS_TEAM = "SELECT true FROM teams WHERE id = $1 AND delete_time IS NULL FOR SHARE"


async def check_assignable(
    connection: Connection, *, agent_id: uuid.UUID | None, team_id: uuid.UUID | None, holder_id: uuid.UUID | None = None
) -> None:
    """Refuses an agent or team that is unknown, disabled, deleted or read-only; locks what counts for the agent and for who has it.

    NotAssignable.
    """
    counted = [each for each in (agent_id, holder_id) if each is not None]
    if agent_id is not None and not await connection.fetchval(TAKES, agent_id, counted):
        raise NotAssignable("no such agent takes conversations", metadata={"agent_id": str(agent_id)})
    if team_id is not None and not await connection.fetchval(IS_TEAM, team_id):
        raise NotAssignable("no such team", metadata={"team_id": str(team_id)})
