"""Turns the credential of a call into its caller: an API key by its prefix, else a token of an agent."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta

import structlog
from switchboard.v1 import options_pb2

from server.auth.repository import Rights, load_all_rights, load_rights
from server.auth.tokens import AgentTokens
from server.kit.cache import Cache
from server.kit.clock import utc_now
from server.kit.errors import DatabaseUnavailable, NotFound
from server.rpc.auth import CredentialExpired, CredentialInvalid, CredentialRevoked
from server.rpc.call import Caller, CallerKind, Scope, Verified
from server.tenancy.api_keys import PREFIX, ApiKey, ApiKeys, split
from server.tenancy.tenants import Tenant, Tenants

FLUSH_EVERY = timedelta(seconds=60)

log = structlog.get_logger(__name__)


class CredentialVerifier:
    """The Verifier of rpc.auth. What it says is at most 30 s old; `invalidate` makes it new at once."""

    def __init__(self, *, keys: ApiKeys, tokens: AgentTokens, tenants: Tenants) -> None:
        self._keys = keys
        self._tokens = tokens
        self._tenants = tenants
        self._rights: Cache[uuid.UUID, dict[uuid.UUID, Rights]] = Cache(self._load_rights, name="rights")

    async def verify(self, credential: str) -> Verified:
        """CREDENTIAL_INVALID, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED, TENANT_DISABLED, SCHEMA_OUTDATED, DATABASE_UNAVAILABLE."""
        if credential.startswith(PREFIX):
            return await self._verify_key(credential)
        claims = await self._tokens.verify(credential)
        return await self._agent(claims.tenant_id, claims.agent_id, until=claims.expire_time)

    async def renew(self, verified: Verified) -> Verified:
        """The same caller with the rights it has now, for streams; refuses like verify."""
        caller = verified.caller
        if caller.kind is CallerKind.AGENT and verified.tenant_id is not None and caller.id is not None:
            if caller.expire_time is not None and caller.expire_time <= utc_now():
                raise CredentialExpired()
            return await self._agent(verified.tenant_id, caller.id, until=caller.expire_time)
        key = await self._keys.by_id(caller.id) if caller.id is not None else None
        if key is None:
            raise CredentialInvalid()
        return await self._service(key)

    def invalidate(self, tenant_id: uuid.UUID) -> None:
        """Forgets what is known of a tenant's agents and keys: an event of its log said that rights changed."""
        self._rights.forget(tenant_id)
        self._keys.forget(tenant_id)

    async def run(self) -> None:
        """Writes when keys were last used, once a minute. Runs until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY.total_seconds())
            try:
                await self._keys.flush()
            except DatabaseUnavailable:
                log.warning("auth.last_use_lost")

    async def _verify_key(self, credential: str) -> Verified:
        found = split(credential)
        if found is None:
            raise CredentialInvalid()
        key = await self._keys.get(found[0])
        if key is None or not key.matches(found[1]):
            raise CredentialInvalid()
        self._keys.used(key)
        return await self._service(key)

    async def _service(self, key: ApiKey) -> Verified:
        if key.revoke_time is not None:
            raise CredentialRevoked()
        if key.expire_time is not None and key.expire_time <= utc_now():
            raise CredentialExpired()
        kind = CallerKind.PLATFORM if key.tenant_id is None else CallerKind.API_KEY
        caller = Caller(kind=kind, id=key.id, permissions=key.permissions, expire_time=key.expire_time)
        if key.tenant_id is None:
            return Verified(caller=caller)
        tenant = await self._tenants.get(key.tenant_id)
        return _verified(caller, Scope(all=True), tenant)

    async def _agent(self, tenant_id: uuid.UUID, agent_id: uuid.UUID, *, until: datetime | None) -> Verified:
        try:
            tenant = await self._tenants.get(tenant_id)
        except NotFound:
            raise CredentialInvalid() from None
        rights = (await self._rights.get(tenant_id) or {}).get(agent_id)
        if rights is None:
            # Made since the others were read.
            rights = await load_rights(tenant.database, agent_id)
        if rights is None or rights.state != "active":
            raise CredentialRevoked()
        caller = Caller(kind=CallerKind.AGENT, id=agent_id, permissions=rights.permissions, expire_time=until)
        return _verified(caller, scope_of(agent_id, rights), tenant)

    async def _load_rights(self, tenant_id: uuid.UUID) -> dict[uuid.UUID, Rights]:
        return await load_all_rights((await self._tenants.get(tenant_id)).database)


def _verified(caller: Caller, scope: Scope, tenant: Tenant) -> Verified:
    return Verified(caller=caller, scope=scope, tenant_id=tenant.id, database=tenant.database, rates=tenant.rates)


def scope_of(agent_id: uuid.UUID, rights: Rights) -> Scope:
    """What an agent sees: all, or its channels, its teams and its own. The one place that decides it."""
    if options_pb2.PERMISSION_CONVERSATIONS_SEE_ALL in rights.permissions:
        return Scope(all=True, agent_id=agent_id)
    return Scope(all=False, channel_ids=rights.channel_ids, team_ids=rights.team_ids, agent_id=agent_id)
