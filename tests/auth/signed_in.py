"""People and services of one tenant, for the tests of credentials."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from server.auth.tokens import AgentTokens
from server.auth.verifier import CredentialVerifier
from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.tenancy.api_keys import ApiKeys
from server.tenancy.tenants import Tenant, Tenants
from tests.installation import Installed


@dataclass
class Process:
    """Credentials as one process sees them."""

    installed: Installed
    keys: ApiKeys = field(init=False)
    tokens: AgentTokens = field(init=False)
    tenants: Tenants = field(init=False)
    verifier: CredentialVerifier = field(init=False)

    def __post_init__(self) -> None:
        self.keys = ApiKeys(self.installed.control.database)
        self.tokens = AgentTokens(self.installed.control)
        self.tenants = Tenants(self.installed.control, self.installed.directory, pool_size=2)
        self.verifier = CredentialVerifier(keys=self.keys, tokens=self.tokens, tenants=self.tenants)

    async def new_tenant(self) -> Tenant:
        row = await self.tenants.by_name(await self.installed.new_tenant())
        assert row is not None
        return await self.tenants.get(row.id)

    async def token(self, tenant: Tenant, agent_id: uuid.UUID) -> str:
        token, _ = await self.tokens.issue(tenant_id=tenant.id, agent_id=agent_id)
        return token


async def add_agent(tenant: Tenant, *, role: str = "agent") -> uuid.UUID:
    agent_id = new_id()
    async with tenant.database.connection() as connection:
        await connection.execute(
            "INSERT INTO agents (id, name, kind, role, state, create_time) VALUES ($1, 'Ana', 'human', $2, 'active', $3)",
            *(agent_id, role, utc_now()),
        )
    return agent_id


async def add_memberships(tenant: Tenant, agent_id: uuid.UUID) -> tuple[uuid.UUID, uuid.UUID]:
    """Makes the agent a member of a new channel and a new team."""
    channel_id, team_id = new_id(), new_id()
    async with tenant.database.connection() as connection:
        await connection.execute(
            "INSERT INTO channels (id, provider, name, state, access_token, create_time)"
            " VALUES ($1, 'whatsapp', 'Shop', 'active', '', now())",
            channel_id,
        )
        await connection.execute(
            "INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, str(team_id)
        )
        await connection.execute("INSERT INTO channel_members VALUES ($1, $2)", channel_id, agent_id)
        await connection.execute("INSERT INTO team_members VALUES ($1, $2)", team_id, agent_id)
    return channel_id, team_id
