"""Roles of the tenant's own, beside the built-in ones. Whoever gives a role shares its row until the commit: a change waits for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from server.agents import events
from server.agents.roles import BUILT_IN, BUILT_IN_IDS, CUSTOM, PERMISSIONS, Role
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.log.event import NewEvent, Origin
from server.rpc.auth import check_held
from server.rpc.call import Caller

GET = "SELECT * FROM roles WHERE id = $1"
SHARE = f"{GET} FOR SHARE"
LOCK = f"{GET} FOR UPDATE"
INSERT = "INSERT INTO roles (id, name, permissions, create_time) VALUES ($1, $2, $3, $4) RETURNING *"
UPDATE = "UPDATE roles SET name = $2, permissions = $3 WHERE id = $1 RETURNING *"
DELETE = "DELETE FROM roles WHERE id = $1"
AGENTS = "SELECT id FROM agents WHERE role_id = $1 ORDER BY id"
PENDING = """
SELECT count(*) FROM invites
WHERE role_id = $1 AND accept_time IS NULL AND revoke_time IS NULL AND expire_time > clock_now()
"""
PAGE = "SELECT * FROM roles WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2"


class RoleInUse(Refusal):
    """Agents have the role, or pending invites give it."""

    status = "FAILED_PRECONDITION"
    reason = "ROLE_IN_USE"

    def __init__(self, *, agents: int, invites: int) -> None:
        super().__init__(
            f"{agents} agents have the role, {invites} invites give it; give them another one, or revoke them, first",
            metadata={"agents": str(agents), "invites": str(invites)},
        )


class RoleBuiltIn(Refusal):
    """Nobody changes it."""

    status = "FAILED_PRECONDITION"
    reason = "ROLE_BUILT_IN"

    def __init__(self) -> None:
        super().__init__("nobody changes a built-in role; make one of your own")


@dataclass(frozen=True, slots=True)
class Changed:
    """A role after a change, and the events to append."""

    role: Role
    events: list[NewEvent] = field(default_factory=list)


async def create(
    write: Write, *, role_id: uuid.UUID, name: str, permissions: Iterable[int], caller: Caller, origin: Origin
) -> Changed:
    """Creates a role. AlreadyExists, PermissionMissing."""
    check_held(permissions, caller)
    _check_name(name)
    try:
        record = await write.connection.fetchrow(INSERT, role_id, name, sorted(permissions), utc_now())
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("role", "a role of this name exists") from None
    role = _role(record)
    return Changed(role, [events.role_event(origin, "created", role)])


async def update(
    write: Write, role_id: uuid.UUID, *, name: str | None, permissions: Iterable[int], caller: Caller, origin: Origin
) -> Changed:
    """Changes a role; no name and no permissions leave them. NotFound, AlreadyExists, PermissionMissing, RoleBuiltIn."""
    before = await _locked(write.connection, role_id, caller)
    wanted = frozenset(permissions) or before.permissions
    check_held(wanted, caller)
    if (name or before.name, wanted) == (before.name, before.permissions):
        return Changed(before)
    _check_name(name or before.name)
    try:
        role = _role(await write.connection.fetchrow(UPDATE, role_id, name or before.name, sorted(wanted)))
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("role", "a role of this name exists") from None
    found = [events.role_event(origin, "updated", role)]
    if wanted != before.permissions:
        found += [events.scope_changed(origin, agent_id) for agent_id in await _agents(write.connection, role_id)]
    return Changed(role, found)


async def delete(write: Write, role_id: uuid.UUID, *, caller: Caller, origin: Origin) -> list[NewEvent]:
    """Deletes a role that no agent has; invites to it that are closed go with it. NotFound, PermissionMissing, RoleBuiltIn, RoleInUse."""
    role = await _locked(write.connection, role_id, caller)
    agents = await _agents(write.connection, role_id)
    invites = await write.connection.fetchval(PENDING, role_id)
    if agents or invites:
        raise RoleInUse(agents=len(agents), invites=invites)
    await write.connection.execute(DELETE, role_id)
    return [events.role_deleted(origin, role)]


async def get(connection: Connection, role_id: uuid.UUID, *, statement: str = GET) -> Role:
    """A role, built-in or not. NotFound."""
    if role_id in BUILT_IN_IDS:
        return next(role for role in BUILT_IN if role.id == role_id)
    record = await connection.fetchrow(statement, role_id)
    if record is None:
        raise NotFound("role")
    return _role(record)


async def given(connection: Connection, role_id: uuid.UUID, caller: Caller) -> Role:
    """A role that the caller gives somebody: it stays as it is until the commit. NotFound, PermissionMissing."""
    role = await get(connection, role_id, statement=SHARE)
    check_held(role.permissions, caller)
    return role


async def page(connection: Connection, *, after: uuid.UUID | None, limit: int) -> list[Role]:
    """The built-in roles, then the tenant's own in the order they were created: the order of their ids."""
    built_in = [role for role in BUILT_IN if after is None or role.id > after]
    return [*built_in, *map(_role, await connection.fetch(PAGE, after, limit))][:limit]


async def _locked(connection: Connection, role_id: uuid.UUID, caller: Caller) -> Role:
    if role_id in BUILT_IN_IDS:
        raise RoleBuiltIn()
    role = await get(connection, role_id, statement=LOCK)
    check_held(role.permissions, caller)
    return role


def _check_name(name: str) -> None:
    if name.lower() in PERMISSIONS:
        raise AlreadyExists("role", "a built-in role has this name")


async def _agents(connection: Connection, role_id: uuid.UUID) -> list[uuid.UUID]:
    return [record["id"] for record in await connection.fetch(AGENTS, role_id)]


def _role(record: Any) -> Role:
    return Role(record["id"], CUSTOM, record["name"], frozenset(record["permissions"]), record["create_time"])
