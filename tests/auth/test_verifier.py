import asyncio
import itertools
from datetime import timedelta

import pytest

from server.agents.roles import PERMISSIONS
from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.models.tenant.agent import ROLES
from server.rpc.auth import CredentialExpired, CredentialInvalid, CredentialRevoked
from server.rpc.call import CallerKind, Scope
from server.rpc.permissions import ALL, named
from server.tenancy.tenants import Tenant, TenantDisabled
from tests.auth.signed_in import Process, add_agent, add_memberships

READ = named("CONVERSATIONS_READ")


async def set_state(tenant: Tenant, agent_id: object, state: str) -> None:
    async with tenant.database.connection() as connection:
        await connection.execute("UPDATE agents SET state = $2 WHERE id = $1", agent_id, state)


async def test_a_key_is_its_tenants_and_sees_everything(process: Process, acme: Tenant) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    verified = await process.verifier.verify(secret)
    assert (verified.caller.kind, verified.caller.id) == (CallerKind.API_KEY, key.id)
    assert verified.caller.permissions == READ
    assert (verified.tenant_id, verified.scope) == (acme.id, Scope(all=True))
    assert verified.database is not None


async def test_a_platform_key_has_no_tenant(process: Process) -> None:
    _, secret = await process.keys.create(tenant_id=None, name="operator", permissions=())
    verified = await process.verifier.verify(secret)
    assert verified.caller.kind is CallerKind.PLATFORM
    assert (verified.tenant_id, verified.database) == (None, None)


async def test_only_the_hash_of_a_key_is_stored(process: Process, acme: Tenant) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    assert secret.startswith(f"sb_{key.key_id}_")
    async with process.installed.control.database.connection() as connection:
        row = await connection.fetchrow("SELECT api_keys::text AS all FROM api_keys WHERE id = $1", key.id)
    assert secret.rpartition("_")[2] not in row["all"]


async def test_wrong_keys_are_refused_alike(process: Process, acme: Tenant) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    refusals = set()
    for wrong in (
        f"sb_{key.key_id}_{'0' * 64}",
        f"sb_{'a' * 16}_{secret.rpartition('_')[2]}",
        secret[:-1],
        secret + "0",
        secret.upper(),
        "sb_",
        "sb__",
    ):
        with pytest.raises(CredentialInvalid) as refused:
            await process.verifier.verify(wrong)
        refusals.add(str(refused.value))
    assert len(refusals) == 1


async def test_an_expired_key_is_refused_as_expired(process: Process, acme: Tenant) -> None:
    past = utc_now() - timedelta(seconds=1)
    _, secret = await process.keys.create(tenant_id=acme.id, name="old", permissions=READ, expire_time=past)
    with pytest.raises(CredentialExpired):
        await process.verifier.verify(secret)


async def test_a_revoked_key_is_refused_at_once_here_and_after_an_event_elsewhere(
    process: Process, acme: Tenant
) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    elsewhere = Process(process.installed)
    await elsewhere.verifier.verify(secret)
    await process.keys.revoke(acme.id, key.id)
    with pytest.raises(CredentialRevoked):
        await process.verifier.verify(secret)
    elsewhere.verifier.invalidate(acme.id)
    with pytest.raises(CredentialRevoked):
        await elsewhere.verifier.verify(secret)
    await elsewhere.tenants.close()


async def test_a_stream_learns_that_its_key_was_revoked(process: Process, acme: Tenant) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    verified = await process.verifier.verify(secret)
    assert await process.verifier.renew(verified) == verified
    await Process(process.installed).keys.revoke(acme.id, key.id)
    with pytest.raises(CredentialRevoked):
        await process.verifier.renew(verified)


async def test_the_last_use_of_a_key_is_written_to_the_minute(process: Process, acme: Tenant) -> None:
    key, secret = await process.keys.create(tenant_id=acme.id, name="shop", permissions=READ)
    await process.verifier.verify(secret)
    await process.keys.flush()
    found = await process.keys.by_id(key.id)
    assert found is not None
    assert found.last_use_time is not None
    assert found.last_use_time.second == 0
    assert utc_now() - found.last_use_time < timedelta(minutes=2)


@pytest.mark.parametrize("role", ROLES)
async def test_an_agent_may_do_what_its_role_may(process: Process, acme: Tenant, role: str) -> None:
    agent_id = await add_agent(acme, role=role)
    verified = await process.verifier.verify(await process.token(acme, agent_id))
    assert verified.caller.kind is CallerKind.AGENT
    assert verified.caller.permissions == PERMISSIONS[role]
    assert verified.scope.all == (role in ("owner", "admin", "supervisor", "service"))
    assert verified.scope.agent_id == agent_id


def test_roles_widen_from_reader_to_owner() -> None:
    chain = [PERMISSIONS[role] for role in ("read_only", "agent", "service", "supervisor", "admin", "owner")]
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(chain))
    assert ALL - PERMISSIONS["supervisor"] == named(
        "API_KEYS_MANAGE",
        "TOKENS_ISSUE",
        "AGENTS_MANAGE",
        "CHANNELS_MANAGE",
        "SETTINGS_MANAGE",
        "AUDIT_READ",
        "ROLES_MANAGE",
        "OWNERS_MANAGE",
        "CHANNELS_RECEIVE",
        "CONTACTS_ERASE",
    )
    assert PERMISSIONS["owner"] - PERMISSIONS["admin"] == named("OWNERS_MANAGE")
    assert PERMISSIONS["service"] - PERMISSIONS["agent"] == named("CONVERSATIONS_SEE_ALL")
    assert not PERMISSIONS["read_only"] & named("CONVERSATIONS_WRITE", "MESSAGES_SEND", "CONVERSATIONS_ASSIGN")


async def test_an_agent_sees_its_channels_and_teams(process: Process, acme: Tenant) -> None:
    agent_id = await add_agent(acme)
    channel_id, team_id = await add_memberships(acme, agent_id)
    verified = await process.verifier.verify(await process.token(acme, agent_id))
    assert verified.scope == Scope(
        all=False, channel_ids=frozenset({channel_id}), team_ids=frozenset({team_id}), agent_id=agent_id
    )


async def test_changed_rights_are_seen_after_the_event(process: Process, acme: Tenant) -> None:
    agent_id = await add_agent(acme)
    token = await process.token(acme, agent_id)
    before = await process.verifier.verify(token)
    channel_id, _ = await add_memberships(acme, agent_id)
    assert (await process.verifier.verify(token)).scope == before.scope
    process.verifier.invalidate(acme.id)
    assert (await process.verifier.verify(token)).scope.channel_ids == {channel_id}
    assert (await process.verifier.renew(before)).scope.channel_ids == {channel_id}


async def test_a_disabled_agent_is_refused(process: Process, acme: Tenant) -> None:
    agent_id = await add_agent(acme)
    token = await process.token(acme, agent_id)
    verified = await process.verifier.verify(token)
    await set_state(acme, agent_id, "disabled")
    process.verifier.invalidate(acme.id)
    with pytest.raises(CredentialRevoked):
        await process.verifier.verify(token)
    with pytest.raises(CredentialRevoked):
        await process.verifier.renew(verified)


async def test_an_agent_of_another_tenant_is_nobody_here(process: Process, acme: Tenant) -> None:
    globex = await process.new_tenant()
    stranger = await add_agent(globex)
    with pytest.raises(CredentialRevoked):
        await process.verifier.verify(await process.token(acme, stranger))


async def test_a_token_of_an_unknown_tenant_is_invalid(process: Process) -> None:
    token, _ = await process.tokens.issue(tenant_id=new_id(), agent_id=new_id())
    with pytest.raises(CredentialInvalid):
        await process.verifier.verify(token)


async def test_nobody_of_a_disabled_tenant_is_served(process: Process) -> None:
    tenant = await process.new_tenant()
    _, secret = await process.keys.create(tenant_id=tenant.id, name="shop", permissions=READ)
    token = await process.token(tenant, await add_agent(tenant))
    await process.tenants.set_state(tenant.id, "disabled")
    for credential in (secret, token):
        with pytest.raises(TenantDisabled):
            await process.verifier.verify(credential)


async def test_many_calls_at_once_read_the_rights_once(process: Process, acme: Tenant) -> None:
    token = await process.token(acme, await add_agent(acme))
    verified = await asyncio.gather(*(process.verifier.verify(token) for _ in range(50)))
    assert len({id(item.scope.channel_ids) for item in verified}) == 1


async def test_the_credential_of_a_stream_ends_with_its_token(process: Process, acme: Tenant) -> None:
    agent_id = await add_agent(acme)
    token, _ = await process.tokens.issue(tenant_id=acme.id, agent_id=agent_id, lifetime=timedelta(seconds=1))
    verified = await process.verifier.verify(token)
    await asyncio.sleep(1.1)
    with pytest.raises(CredentialExpired):
        await process.verifier.renew(verified)
