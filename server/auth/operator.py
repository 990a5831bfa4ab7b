"""Tokens from the command line."""

from __future__ import annotations

import uuid
from datetime import timedelta

from server.auth.tokens import AgentTokens
from server.kit.errors import NotFound
from server.settings import Settings
from server.tenancy.control import open_control
from server.tenancy.tenants import Tenants
from server.tenancy.work import WorkDirectory


async def issue_token(settings: Settings, agent: str, *, tenant_name: str | None, lifetime: timedelta) -> str:
    """A token for an agent, given by name, e-mail or id, of the tenant or else of the first one. NOT_FOUND."""
    control = await open_control(settings)
    tenants = Tenants(control, WorkDirectory(control.database), pool_size=1)
    try:
        tenant_id = await _tenant_id(tenants, tenant_name)
        tenant = await tenants.get(tenant_id)
        async with tenant.database.connection() as connection:
            agent_id = await connection.fetchval(
                "SELECT id FROM agents WHERE state = 'active' AND (id::text = lower($1) OR lower(name) = lower($1)"
                " OR lower(email) = lower($1)) ORDER BY id LIMIT 1",
                agent,
            )
        if agent_id is None:
            raise NotFound("agent")
        token, _ = await AgentTokens(control).issue(tenant_id=tenant_id, agent_id=agent_id, lifetime=lifetime)
        return token
    finally:
        await tenants.close()
        await control.close()


async def _tenant_id(tenants: Tenants, name: str | None) -> uuid.UUID:
    if name is not None:
        row = await tenants.by_name(name)
        found = [] if row is None else [row.id]
    else:
        found = await tenants.all_ids()
    if not found:
        raise NotFound("tenant")
    return found[0]
