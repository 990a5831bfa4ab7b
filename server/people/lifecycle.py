"""Changing, disabling and enabling agents. A tenant keeps an enabled owner, and nobody changes who may more than himself.

Conversations are locked first, then the agent's counter, then agents by id: the one concerned and every enabled owner, so that two
who would each be the last but one come after each other. Not with the strongest lock: foreign keys share it under the head.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from server.agents import events, loads, own_roles, service
from server.agents.roles import CUSTOM, Role, permissions_of
from server.agents.service import Member
from server.assignments import ledger
from server.conversations import repository
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced, Write
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.log.event import NewEvent, Origin
from server.rpc.auth import check_held
from server.rpc.call import Caller

LOCK = """
SELECT a.id, a.name, a.email, a.role, a.role_id, a.state, r.permissions FROM agents a LEFT JOIN roles r ON r.id = a.role_id
WHERE a.id = $1 OR (a.role = 'owner' AND a.state = 'active') ORDER BY a.id FOR NO KEY UPDATE OF a
"""
UPDATE = "UPDATE agents SET name = $2, email = $3, role = $4, role_id = $5 WHERE id = $1"
SET_STATE = "UPDATE agents SET state = $2 WHERE id = $1"
# What is live, and what the customer can still bring back to the agent who had it.
HELD = """
SELECT c.id FROM conversations c JOIN channels h ON h.id = c.channel_id
WHERE c.assignee_id = $1 AND c.delete_time IS NULL AND (
    c.status IN ('new', 'open', 'pending', 'snoozed') OR c.status = 'resolved' AND c.resolve_time + h.reopen_window > clock_now()
) ORDER BY c.id
"""
DISABLED = "the agent was disabled"


class LastOwner(Refusal):
    """The tenant would have no enabled owner."""

    status = "FAILED_PRECONDITION"
    reason = "LAST_OWNER"

    def __init__(self) -> None:
        super().__init__("the tenant has no other enabled owner")


@dataclass(frozen=True, slots=True)
class Changed:
    """An agent after a change, and the events to append."""

    member: Member
    events: list[NewEvent] = field(default_factory=list)


async def update(
    write: Write,
    agent_id: uuid.UUID,
    *,
    caller: Caller,
    origin: Origin,
    name: str | None,
    email: str | None,
    role_id: uuid.UUID | None,
) -> Changed:
    """Changes an agent; None leaves a field alone, an empty address clears it.

    NotFound, also of the role, PermissionMissing, LastOwner, AlreadyExists.
    """
    before, others = await _locked(write.connection, agent_id, caller)
    had = (before["role"], before["role_id"])
    role = had if role_id is None else columns(await own_roles.given(write.connection, role_id, caller))
    wanted = (name or before["name"], before["email"] if email is None else email or None, *role)
    if wanted == (before["name"], before["email"], *had):
        return Changed(await service.get(write.session, agent_id))
    if role[0] != "owner":
        _check_last(before, others)
    try:
        await write.connection.execute(UPDATE, agent_id, *wanted)
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("agent", "an agent with this address exists") from None
    return await _changed(write, agent_id, origin, "updated", rights=role != had)


async def disable(write: Write, agent_id: uuid.UUID, *, caller: Caller, origin: Origin) -> Changed:
    """Ends an agent's rights and gives what it holds back to the queue. NotFound, PermissionMissing, LastOwner."""
    held = await _held(write.connection, agent_id)
    rows = await repository.lock_many(write.connection, held)
    await loads.lock(write.connection, [agent_id])
    before, others = await _locked(write.connection, agent_id, caller)
    if before["state"] == "disabled":
        return Changed(await service.get(write.session, agent_id))
    _check_last(before, others)
    if not set(await _held(write.connection, agent_id)) <= set(held):
        # Given while we waited for the agent; now nobody can.
        raise Raced
    await write.connection.execute(SET_STATE, agent_id, "disabled")
    mine = [row for row in rows.values() if row.assignee_id == agent_id]
    taken = await ledger.take(write, mine, origin=origin, now=utc_now(), why="agent_disabled", reason=DISABLED)
    changed = await _changed(write, agent_id, origin, "disabled", rights=True)
    return Changed(changed.member, [*taken, *changed.events])


async def enable(write: Write, agent_id: uuid.UUID, *, caller: Caller, origin: Origin) -> Changed:
    """Gives an agent its rights back. NotFound, PermissionMissing."""
    before, _ = await _locked(write.connection, agent_id, caller)
    if before["state"] == "active":
        return Changed(await service.get(write.session, agent_id))
    await write.connection.execute(SET_STATE, agent_id, "active")
    return await _changed(write, agent_id, origin, "enabled", rights=True)


async def _locked(connection: Connection, agent_id: uuid.UUID, caller: Caller) -> tuple[Any, int]:
    """The agent, and how many enabled owners there are besides."""
    found = {record["id"]: record for record in await connection.fetch(LOCK, agent_id)}
    if agent_id not in found:
        raise NotFound("agent")
    agent = found[agent_id]
    check_held(permissions_of(agent["role"], agent["permissions"]), caller)
    return agent, len(found) - 1


def columns(role: Role) -> tuple[str, uuid.UUID | None]:
    """A role as an agent's row has it."""
    return role.word, role.id if role.word == CUSTOM else None


def _check_last(agent: Any, others: int) -> None:
    if agent["role"] == "owner" and agent["state"] == "active" and not others:
        raise LastOwner()


async def _held(connection: Connection, agent_id: uuid.UUID) -> list[uuid.UUID]:
    return [record["id"] for record in await connection.fetch(HELD, agent_id)]


async def _changed(
    write: Write, agent_id: uuid.UUID, origin: Origin, happened: events.Happened, *, rights: bool
) -> Changed:
    member = await service.get(write.session, agent_id)
    found = [events.agent_event(origin, happened, member.shown())]
    return Changed(member, [*found, events.scope_changed(origin, agent_id)] if rights else found)
