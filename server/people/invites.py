"""Invites: made, sent again, revoked, and accepted once.

A token is "inv_<tenant>_<invite>_<secret>": it says where to look, and the secret of 32 random bytes, of which only the SHA-256 is
stored, is what counts. A high-entropy secret needs no slow hash (OWASP ASVS 5, 11.4).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
from switchboard.v1 import event_pb2, options_pb2

from server.agents import own_roles, service
from server.agents.roles import CUSTOM, Role, id_of, permissions_of
from server.agents.service import Member
from server.kit.db import Connection, Write
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.log.event import ActorKind, NewEvent, Origin
from server.people import invite_convert
from server.people.invite_row import Invite
from server.rpc.call import Caller

LIFETIME = timedelta(days=7)
FORM = re.compile(r"inv_([0-9a-f]{32})_([0-9a-f]{32})_([0-9a-f]{64})")
# An invite that another one replaced had expired before.
STATE = """
CASE WHEN accept_time IS NOT NULL THEN 'accepted' WHEN expire_time <= coalesce(revoke_time, clock_now()) THEN 'expired'
    WHEN revoke_time IS NOT NULL THEN 'revoked' ELSE 'pending' END AS state
"""
# The columns of Invite, in its order.
COLUMNS = f"""
id, email, name, role, role_id, team_ids, channel_ids, secret_hash, inviter_kind, inviter_id, create_time, expire_time,
revoke_time, agent_id, {STATE}
"""
END_EXPIRED = """
UPDATE invites SET revoke_time = clock_now()
WHERE lower(email) = lower($1) AND accept_time IS NULL AND revoke_time IS NULL AND expire_time <= clock_now()
"""
INSERT = f"""
INSERT INTO invites (id, email, name, role, role_id, team_ids, channel_ids, secret_hash, inviter_kind, inviter_id, lifetime,
    create_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_now(), clock_now() + $11) RETURNING {COLUMNS}
"""
GET = f"SELECT {COLUMNS} FROM invites WHERE id = $1"
LOCK = f"{GET} FOR UPDATE"
PAGE = f"SELECT {COLUMNS} FROM invites WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"
RENEW = f"""
UPDATE invites SET secret_hash = $2, inviter_kind = $3, inviter_id = $4, expire_time = clock_now() + lifetime WHERE id = $1
RETURNING {COLUMNS}
"""
REVOKE = f"UPDATE invites SET revoke_time = clock_now() WHERE id = $1 RETURNING {COLUMNS}"
ACCEPT = f"UPDATE invites SET accept_time = clock_now(), agent_id = $2 WHERE id = $1 RETURNING {COLUMNS}"
TAKEN = "SELECT true FROM agents WHERE lower(email) = lower($1)"
# Shared until the commit: whoever disables the agent waits, and comes after.
INVITER = """
SELECT a.role, r.permissions FROM agents a LEFT JOIN roles r ON r.id = a.role_id
WHERE a.id = $1 AND a.state = 'active' FOR SHARE OF a
"""
TEAMS = "SELECT id FROM teams WHERE id = ANY($1) AND delete_time IS NULL ORDER BY id FOR SHARE"
CHANNELS = "SELECT id FROM channels WHERE id = ANY($1) ORDER BY id"


class InviteInvalid(Refusal):
    """The token is not good: one answer, whatever the reason."""

    status = "UNAUTHENTICATED"
    reason = "INVITE_INVALID"

    def __init__(self) -> None:
        super().__init__("the invite is not valid, or not any more; ask for another")


class InviteClosed(Refusal):
    """It was accepted or revoked."""

    status = "FAILED_PRECONDITION"
    reason = "INVITE_CLOSED"

    def __init__(self, state: str) -> None:
        super().__init__(f"the invite is {state}; make another one", metadata={"state": state.upper()})


@dataclass(frozen=True, slots=True)
class Token:
    """A token, taken apart."""

    tenant_id: uuid.UUID
    invite_id: uuid.UUID
    secret: str

    def __str__(self) -> str:
        return f"inv_{self.tenant_id.hex}_{self.invite_id.hex}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return hashlib.sha256(self.secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to invite, and as what."""

    email: str
    name: str
    role_id: uuid.UUID
    team_ids: Sequence[uuid.UUID] = ()
    channel_ids: Sequence[uuid.UUID] = ()
    lifetime: timedelta = LIFETIME


@dataclass(frozen=True, slots=True)
class Changed:
    """An invite after a change, and the events to append."""

    invite: Invite
    events: list[NewEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The agent that an invite made, and the events to append."""

    member: Member
    events: list[NewEvent]


def new_token(tenant_id: uuid.UUID, invite_id: uuid.UUID) -> Token:
    """A token that nobody can guess."""
    return Token(tenant_id, invite_id, secrets.token_hex(32))


def parse(text: str) -> Token:
    """A token, which need not be good. InviteInvalid where it has not the form of one."""
    match = FORM.fullmatch(text)
    if match is None:
        raise InviteInvalid()
    return Token(uuid.UUID(match[1]), uuid.UUID(match[2]), match[3])


async def create(write: Write, token: Token, wanted: Wanted, *, caller: Caller, origin: Origin) -> Changed:
    """Invites somebody. PermissionMissing, NotFound of the role, InvalidFields for unknown teams or channels, AlreadyExists."""
    role = await own_roles.given(write.connection, wanted.role_id, caller)
    await service.check_known(write.session, team_ids=wanted.team_ids, channel_ids=wanted.channel_ids)
    await _check_free(write.connection, wanted.email)
    await write.connection.execute(END_EXPIRED, wanted.email)
    try:
        record = await write.connection.fetchrow(
            INSERT,
            *(token.invite_id, wanted.email, wanted.name, role.word, role.id if role.word == CUSTOM else None),
            *(wanted.team_ids, wanted.channel_ids, token.digest, origin.actor.kind, origin.actor.id, wanted.lifetime),
        )
    except asyncpg.UniqueViolationError:
        raise AlreadyExists("invite", "a pending invite has this address; send it again, or revoke it") from None
    return _invited(_invite(record), origin)


async def resend(write: Write, token: Token, *, caller: Caller, origin: Origin) -> Changed:
    """Puts a token in the place of the one before. NotFound, PermissionMissing, InviteClosed."""
    before = await _locked(write.connection, token.invite_id, caller)
    if before.agent_id or before.revoke_time:
        raise InviteClosed(before.state)
    actor = origin.actor
    record = await write.connection.fetchrow(RENEW, token.invite_id, token.digest, actor.kind, actor.id)
    return _invited(_invite(record), origin)


async def revoke(write: Write, invite_id: uuid.UUID, *, caller: Caller, origin: Origin) -> Changed:
    """Ends an invite; again is no change. NotFound, PermissionMissing, InviteClosed when it was accepted."""
    before = await _locked(write.connection, invite_id, caller)
    if before.agent_id:
        raise InviteClosed(before.state)
    if before.revoke_time:
        return Changed(before)
    after = _invite(await write.connection.fetchrow(REVOKE, invite_id))
    return Changed(after, [_closed(after, origin)])


async def accept(write: Write, token: Token, *, agent_id: uuid.UUID, name: str | None, origin: Origin) -> Accepted:
    """Makes the agent. InviteInvalid; AlreadyExists when an agent has the address."""
    connection = write.connection
    record = await connection.fetchrow(LOCK, token.invite_id)
    # Compared also where there is nothing to compare with, so that an unknown invite takes as long.
    matches = hmac.compare_digest(record["secret_hash"] if record else b"", token.digest)
    if record is None or not matches or record["state"] != "pending":
        raise InviteInvalid()
    invite = _invite(record)
    role = await own_roles.get(connection, id_of(invite.role, invite.role_id), statement=own_roles.SHARE)
    await _check_inviter(connection, invite, role)
    await _check_free(connection, invite.email)
    member, found = await service.create(
        write,
        agent_id=agent_id,
        name=name or invite.name,
        email=invite.email,
        kind="human",
        role=role,
        team_ids=[item["id"] for item in await connection.fetch(TEAMS, invite.team_ids)],
        channel_ids=[item["id"] for item in await connection.fetch(CHANNELS, invite.channel_ids)],
        origin=origin,
    )
    after = _invite(await connection.fetchrow(ACCEPT, invite.id, agent_id))
    return Accepted(member, [*found, _closed(after, origin)])


async def get(connection: Connection, invite_id: uuid.UUID) -> Invite:
    """An invite. NotFound."""
    record = await connection.fetchrow(GET, invite_id)
    if record is None:
        raise NotFound("invite")
    return _invite(record)


async def page(connection: Connection, *, after: uuid.UUID | None, limit: int) -> list[Invite]:
    """Invites, newest first."""
    return [_invite(record) for record in await connection.fetch(PAGE, after, limit)]


async def _locked(connection: Connection, invite_id: uuid.UUID, caller: Caller) -> Invite:
    """The invite, of which the caller may give the role."""
    record = await connection.fetchrow(LOCK, invite_id)
    if record is None:
        raise NotFound("invite")
    invite = _invite(record)
    await own_roles.given(connection, id_of(invite.role, invite.role_id), caller)
    return invite


async def _check_free(connection: Connection, email: str) -> None:
    if await connection.fetchval(TAKEN, email):
        raise AlreadyExists("agent", "an agent with this address exists")


async def _check_inviter(connection: Connection, invite: Invite, role: Role) -> None:
    """An agent's invites hold while he may still invite to the role. A key's hold until somebody revokes them."""
    if invite.inviter_kind != ActorKind.ACTOR_KIND_AGENT:
        return
    record = await connection.fetchrow(INVITER, invite.inviter_id)
    held = permissions_of(record["role"], record["permissions"]) if record else frozenset()
    if not role.permissions | {options_pb2.PERMISSION_AGENTS_MANAGE} <= held:
        raise InviteInvalid()


def _invited(invite: Invite, origin: Origin) -> Changed:
    body = event_pb2.InboxEvent(agent_invited=event_pb2.AgentInvited(invite=invite_convert.invite(invite)))
    return Changed(invite, [NewEvent(body=body, actor=origin.actor, cause=origin.cause)])


def _closed(invite: Invite, origin: Origin) -> NewEvent:
    body = event_pb2.InboxEvent(invite_closed=event_pb2.InviteClosed(invite=invite_convert.invite(invite)))
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause)


def _invite(record: Any) -> Invite:
    return Invite(*record.values())
