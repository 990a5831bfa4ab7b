"""What AuthService does."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from switchboard.v1 import event_pb2

from server.auth.repository import load_rights
from server.auth.tokens import AgentTokens
from server.kit.db import Database, Write
from server.kit.errors import NotFound
from server.log.append import append
from server.log.event import NewEvent, Origin
from server.rpc.auth import check_held
from server.rpc.call import Caller
from server.tenancy.api_keys import ApiKey, ApiKeys


async def issue_token(
    tokens: AgentTokens,
    database: Database,
    caller: Caller,
    *,
    tenant_id: uuid.UUID,
    agent_id: uuid.UUID,
    lifetime: timedelta,
) -> tuple[str, datetime]:
    """A token for an active agent of the tenant, and when it ends. NOT_FOUND for any other.

    PERMISSION_MISSING when the agent may what the caller may not: a token would give that away.
    """
    rights = await load_rights(database, agent_id)
    if rights is None or rights.state != "active":
        raise NotFound("agent")
    check_held(rights.permissions, caller)
    return await tokens.issue(tenant_id=tenant_id, agent_id=agent_id, lifetime=lifetime)


async def create_key(
    keys: ApiKeys,
    caller: Caller,
    *,
    tenant_id: uuid.UUID,
    name: str,
    permissions: Iterable[int],
    expire_time: datetime | None,
) -> tuple[ApiKey, str]:
    """A key of the tenant, and the key itself. PERMISSION_MISSING for what the caller may not do either."""
    wanted = frozenset(permissions)
    check_held(wanted, caller)
    return await keys.create(tenant_id=tenant_id, name=name, permissions=wanted, expire_time=expire_time)


async def revoke_key(
    keys: ApiKeys, database: Database, *, tenant_id: uuid.UUID, api_key_id: uuid.UUID, origin: Origin
) -> ApiKey:
    """Ends a key: first its row, then an event that ends its streams.

    NOT_FOUND. DATABASE_UNAVAILABLE when the event was not stored: the key is revoked all the same, and a repeat stores it.
    """
    key = await keys.revoke(tenant_id, api_key_id)
    body = event_pb2.InboxEvent(credential_revoked=event_pb2.CredentialRevoked(api_key_id=str(api_key_id)))

    async def unit(write: Write) -> None:
        await append(write, [NewEvent(body=body, actor=origin.actor, cause=origin.cause)])

    await database.write(unit)
    return key
