"""Teams: creating, renaming, deleting, reading, and single members. A deleted team stays in what was written of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from server.agents import convert, events, own_roles, service
from server.agents.roles import id_of
from server.agents.service import Member
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.log.event import NewEvent, Origin
from server.models.tenant import Team
from server.rpc.call import Caller

RENAME = "UPDATE teams SET name = $2 WHERE id = $1 AND delete_time IS NULL RETURNING old.name"
# Against whoever gives it a conversation or a member at the same time: they share the row until they commit.
LOCK = "SELECT name FROM teams WHERE id = $1 AND delete_time IS NULL FOR NO KEY UPDATE"
DELETE = "UPDATE teams SET delete_time = $2 WHERE id = $1"
# What is live, and what its customer can still bring back.
USED_BY = """
SELECT CASE
    WHEN EXISTS (SELECT FROM assignment_policies WHERE team_id = $1) THEN 'policy'
    WHEN EXISTS (
        SELECT FROM conversations c JOIN channels h ON h.id = c.channel_id
        WHERE c.team_id = $1 AND c.delete_time IS NULL AND (
            c.status IN ('new', 'open', 'pending', 'snoozed')
            OR c.status = 'resolved' AND c.resolve_time + h.reopen_window > clock_now()
        )
    ) THEN 'conversations' END
"""
LEAVE_ALL = "DELETE FROM team_members WHERE team_id = $1 RETURNING agent_id"
LOCK_AGENT = "SELECT role, role_id FROM agents WHERE id = $1 FOR NO KEY UPDATE"
JOIN = """
INSERT INTO team_members (team_id, agent_id) SELECT id, $2::uuid FROM teams WHERE id = $1 AND delete_time IS NULL FOR SHARE
ON CONFLICT DO NOTHING RETURNING true
"""
LEAVE = "DELETE FROM team_members WHERE team_id = $1 AND agent_id = $2 RETURNING true"


class TeamInUse(Refusal):
    """Something is the team's that needs one."""

    status = "FAILED_PRECONDITION"
    reason = "TEAM_IN_USE"

    def __init__(self, by: str) -> None:
        super().__init__(f"the team has {by}; give them to another one first", metadata={"by": by})


async def create(write: Write, *, team_id: uuid.UUID, name: str, origin: Origin) -> tuple[Team, list[NewEvent]]:
    """Creates a team. AlreadyExists."""
    row = Team(id=team_id, name=name, create_time=utc_now())
    write.session.add(row)
    try:
        await write.session.flush()
    except IntegrityError:
        raise AlreadyExists("team", "a team of this name exists") from None
    return row, [events.team_event(origin, "created", convert.team(row))]


async def rename(write: Write, team_id: uuid.UUID, *, name: str, origin: Origin) -> tuple[Team, list[NewEvent]]:
    """Renames a team. NotFound, AlreadyExists."""
    try:
        before = await write.connection.fetchval(RENAME, team_id, name)
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("team", "a team of this name exists") from None
    row = await get(write.session, team_id)
    return row, [] if before == name else [events.team_event(origin, "updated", convert.team(row))]


async def remove(write: Write, team_id: uuid.UUID, *, origin: Origin) -> list[NewEvent]:
    """Deletes a team that nothing needs; its members leave it. NotFound, TeamInUse."""
    name = await write.connection.fetchval(LOCK, team_id)
    if name is None:
        raise NotFound("team")
    used_by = await write.connection.fetchval(USED_BY, team_id)
    if used_by is not None:
        raise TeamInUse(used_by)
    await write.connection.execute(DELETE, team_id, utc_now())
    left = [record["agent_id"] for record in await write.connection.fetch(LEAVE_ALL, team_id)]
    changed = [events.scope_changed(origin, agent_id) for agent_id in sorted(left)]
    return [events.team_deleted(origin, team_id, name), *changed]


async def set_member(
    write: Write, team_id: uuid.UUID, agent_id: uuid.UUID, *, belongs: bool, caller: Caller, origin: Origin
) -> tuple[Member, list[NewEvent]]:
    """Makes an agent a member of a team, or no longer. NotFound, PermissionMissing."""
    agent = await write.connection.fetchrow(LOCK_AGENT, agent_id)
    if agent is None:
        raise NotFound("agent")
    await own_roles.given(write.connection, id_of(agent["role"], agent["role_id"]), caller)
    await get(write.session, team_id)
    changed = await write.connection.fetchval(JOIN if belongs else LEAVE, team_id, agent_id)
    member = await service.get(write.session, agent_id)
    return member, service.membership_events(member, origin) if changed else []


async def get(session: AsyncSession, team_id: uuid.UUID) -> Team:
    """A team. NotFound when it is unknown or deleted."""
    row = await session.get(Team, team_id)
    if row is None or row.delete_time is not None:
        raise NotFound("team")
    return row


async def page(session: AsyncSession, *, after: Sequence[Any] | None, limit: int) -> Sequence[Team]:
    """Teams in the order they were created."""
    query = select(Team).where(Team.delete_time.is_(None)).order_by(Team.create_time, Team.id).limit(limit)
    if after is not None:
        last = datetime.fromisoformat(after[0]), uuid.UUID(after[1])
        query = query.where(tuple_(Team.create_time, Team.id) > last)
    return (await session.scalars(query)).all()
