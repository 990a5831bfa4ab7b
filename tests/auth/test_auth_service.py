from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import auth_service_pb2_grpc, options_pb2, tenant_pb2, tenant_service_pb2_grpc
from switchboard.v1 import tenant_service_pb2 as tenancy

from server.audit.trail import Trail
from server.auth.servicer import AuthServicer
from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.models.migration import newest
from server.rpc.paging import PageTokens
from server.rpc.permissions import ALL, named
from server.rpc.rates import RateLimits
from server.rpc.server import public_server
from server.tenancy.provisioning import Provisioning
from server.tenancy.servicer import TenantServicer
from server.tenancy.tenants import Tenant
from tests.auth.signed_in import Process, add_agent
from tests.installation import Installed


@dataclass
class Served:
    """A server process, and a channel to it."""

    process: Process
    channel: aio.Channel

    def auth(self) -> Any:
        return auth_service_pb2_grpc.AuthServiceStub(self.channel)

    def tenants(self) -> Any:
        return tenant_service_pb2_grpc.TenantServiceStub(self.channel)

    async def key(self, tenant: Tenant | None, permissions: frozenset[int] = ALL) -> str:
        tenant_id = None if tenant is None else tenant.id
        _, secret = await self.process.keys.create(tenant_id=tenant_id, name="caller", permissions=permissions)
        return secret


@pytest.fixture
async def served(installed: Installed, process: Process) -> AsyncIterator[Served]:
    server = public_server(process.verifier, RateLimits(), Trail())
    pages = PageTokens(installed.control.mac)
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(
        AuthServicer(keys=process.keys, tokens=process.tokens, pages=pages), server
    )
    provisioning = Provisioning(installed.control)
    tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(
        TenantServicer(tenants=process.tenants, provisioning=provisioning, keys=process.keys, pages=pages), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(process, channel)
    await server.stop(None)


def as_(credential: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {credential}"),)


async def refusal(call: Any) -> tuple[str, str]:
    """Status and reason of a call that must be refused."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code().name, info.reason


async def test_a_tenant_key_gets_a_token_with_which_the_agent_calls(served: Served, acme: Tenant) -> None:
    agent_id = await add_agent(acme, role="supervisor")
    request = auth.CreateAgentTokenRequest(agent_id=str(agent_id), lifetime=duration_pb2.Duration(seconds=60))
    issued = await served.auth().CreateAgentToken(request, metadata=as_(await served.key(acme)))
    assert issued.expire_time.ToDatetime() - utc_now().replace(tzinfo=None) <= timedelta(seconds=60)
    caller = await served.auth().GetCaller(auth.GetCallerRequest(), metadata=as_(issued.token))
    assert (caller.tenant_id, caller.agent_id) == (str(acme.id), str(agent_id))
    assert not caller.HasField("api_key_id")
    assert options_pb2.PERMISSION_TOKENS_ISSUE not in caller.permissions


async def test_no_token_for_unknown_foreign_or_disabled_agents(served: Served, acme: Tenant) -> None:
    globex = await served.process.new_tenant()
    disabled = await add_agent(acme)
    async with acme.database.connection() as connection:
        await connection.execute("UPDATE agents SET state = 'disabled' WHERE id = $1", disabled)
    metadata = as_(await served.key(acme))
    for agent_id in (new_id(), await add_agent(globex), disabled):
        request = auth.CreateAgentTokenRequest(agent_id=str(agent_id))
        refused = await refusal(served.auth().CreateAgentToken(request, metadata=metadata))
        assert refused == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_a_token_for_longer_than_fifteen_minutes_is_refused(served: Served, acme: Tenant) -> None:
    request = auth.CreateAgentTokenRequest(agent_id=str(new_id()), lifetime=duration_pb2.Duration(seconds=901))
    refused = await refusal(served.auth().CreateAgentToken(request, metadata=as_(await served.key(acme))))
    assert refused == ("INVALID_ARGUMENT", "INVALID_FIELDS")


async def test_a_new_key_works_and_is_shown_once(served: Served, acme: Tenant) -> None:
    metadata = as_(await served.key(acme))
    request = auth.CreateApiKeyRequest(name="shop", permissions=[options_pb2.PERMISSION_CONVERSATIONS_READ])
    made = await served.auth().CreateApiKey(request, metadata=metadata)
    caller = await served.auth().GetCaller(auth.GetCallerRequest(), metadata=as_(made.secret))
    assert caller.api_key_id == made.api_key.id
    assert list(caller.permissions) == [options_pb2.PERMISSION_CONVERSATIONS_READ]
    listed = await served.auth().ListApiKeys(auth.ListApiKeysRequest(page_size=1), metadata=metadata)
    assert listed.api_keys[0].id == made.api_key.id
    assert made.secret.rpartition("_")[2] not in str(listed)


async def test_nobody_gives_what_he_has_not(served: Served, acme: Tenant) -> None:
    metadata = as_(await served.key(acme, named("API_KEYS_MANAGE")))
    request = auth.CreateApiKeyRequest(name="more", permissions=[options_pb2.PERMISSION_MESSAGES_SEND])
    refused = await refusal(served.auth().CreateApiKey(request, metadata=metadata))
    assert refused == ("PERMISSION_DENIED", "PERMISSION_MISSING")


async def test_keys_are_paged_newest_first(served: Served) -> None:
    tenant = await served.process.new_tenant()
    metadata = as_(await served.key(tenant))
    for number in range(4):
        request = auth.CreateApiKeyRequest(name=f"key {number}", permissions=[1])
        await served.auth().CreateApiKey(request, metadata=metadata)
    names, token = [], ""
    while True:
        page = await served.auth().ListApiKeys(
            auth.ListApiKeysRequest(page_size=2, page_token=token), metadata=metadata
        )
        names += [key.name for key in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert names == ["key 3", "key 2", "key 1", "key 0", "caller"]


async def test_a_page_token_of_another_tenant_is_refused(served: Served, acme: Tenant) -> None:
    globex = await served.process.new_tenant()
    for _ in range(2):
        own, other = await served.key(acme), await served.key(globex)
    page = await served.auth().ListApiKeys(auth.ListApiKeysRequest(page_size=1), metadata=as_(own))
    request = auth.ListApiKeysRequest(page_size=1, page_token=page.next_page_token)
    refused = await refusal(served.auth().ListApiKeys(request, metadata=as_(other)))
    assert refused == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_a_revoked_key_is_refused_and_the_log_says_so(served: Served) -> None:
    tenant = await served.process.new_tenant()
    metadata = as_(await served.key(tenant))
    made = await served.auth().CreateApiKey(auth.CreateApiKeyRequest(name="shop", permissions=[1]), metadata=metadata)
    for _ in range(2):
        revoked = await served.auth().RevokeApiKey(
            auth.RevokeApiKeyRequest(api_key_id=made.api_key.id), metadata=metadata
        )
        assert revoked.api_key.HasField("revoke_time")
    refused = await refusal(served.auth().GetCaller(auth.GetCallerRequest(), metadata=as_(made.secret)))
    assert refused == ("UNAUTHENTICATED", "CREDENTIAL_REVOKED")
    async with tenant.database.connection() as connection:
        kinds = await connection.fetch("SELECT kind FROM stream_event ORDER BY seq")
    assert [row["kind"] for row in kinds] == [91, 91]


async def test_another_tenants_key_cannot_be_revoked(served: Served, acme: Tenant) -> None:
    globex = await served.process.new_tenant()
    key, secret = await served.process.keys.create(tenant_id=globex.id, name="theirs", permissions=ALL)
    request = auth.RevokeApiKeyRequest(api_key_id=str(key.id))
    refused = await refusal(served.auth().RevokeApiKey(request, metadata=as_(await served.key(acme))))
    assert refused == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    await served.auth().GetCaller(auth.GetCallerRequest(), metadata=as_(secret))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "CREDENTIAL_MISSING"),
        ("Basic dXNlcjpwYXNz", "CREDENTIAL_INVALID"),
        ("Bearer", "CREDENTIAL_INVALID"),
        ("Bearer nonsense", "CREDENTIAL_INVALID"),
        ("Bearer sb_nonsense", "CREDENTIAL_INVALID"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "CREDENTIAL_INVALID"),
    ],
)
async def test_bad_credentials_are_refused(served: Served, header: str, reason: str) -> None:
    metadata = (("authorization", header),) if header else ()
    refused = await refusal(served.auth().GetCaller(auth.GetCallerRequest(), metadata=metadata))
    assert refused == ("UNAUTHENTICATED", reason)


async def test_the_operator_makes_a_tenant_whose_first_key_may_do_everything(served: Served) -> None:
    metadata = as_(await served.key(None, frozenset()))
    name = f"t-{new_id().hex[-12:]}"
    made = await served.tenants().CreateTenant(tenancy.CreateTenantRequest(name=name), metadata=metadata)
    assert (made.tenant.name, made.tenant.state) == (name, tenant_pb2.TENANT_STATE_ACTIVE)
    caller = await served.auth().GetCaller(auth.GetCallerRequest(), metadata=as_(made.secret))
    assert (caller.tenant_id, set(caller.permissions)) == (made.tenant.id, set(ALL))
    refused = await refusal(served.tenants().CreateTenant(tenancy.CreateTenantRequest(name=name), metadata=metadata))
    assert refused == ("ALREADY_EXISTS", "RESOURCE_EXISTS")


async def test_a_disabled_tenants_keys_are_refused_until_it_is_enabled(served: Served) -> None:
    metadata = as_(await served.key(None, frozenset()))
    tenant = await served.process.new_tenant()
    own = as_(await served.key(tenant))
    one = str(tenant.id)
    answer = await served.tenants().DisableTenant(tenancy.DisableTenantRequest(tenant_id=one), metadata=metadata)
    assert answer.tenant.state == tenant_pb2.TENANT_STATE_DISABLED
    refused = await refusal(served.auth().GetCaller(auth.GetCallerRequest(), metadata=own))
    assert refused == ("PERMISSION_DENIED", "TENANT_DISABLED")
    await served.tenants().EnableTenant(tenancy.EnableTenantRequest(tenant_id=one), metadata=metadata)
    await served.auth().GetCaller(auth.GetCallerRequest(), metadata=own)


async def test_tenants_are_paged_by_name(served: Served) -> None:
    metadata = as_(await served.key(None, frozenset()))
    made = [(await served.process.new_tenant()).name for _ in range(3)]
    names, token = [], ""
    while True:
        request = tenancy.ListTenantsRequest(page_size=2, page_token=token)
        page = await served.tenants().ListTenants(request, metadata=metadata)
        names += [tenant.name for tenant in page.tenants]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(set(names))
    assert set(made) <= set(names)


async def test_a_tenant_is_found_by_its_id_and_an_unknown_one_is_not(served: Served, acme: Tenant) -> None:
    metadata = as_(await served.key(None, frozenset()))
    found = await served.tenants().GetTenant(tenancy.GetTenantRequest(tenant_id=str(acme.id)), metadata=metadata)
    assert (found.tenant.name, found.tenant.server, found.tenant.schema_revision) == (
        acme.name,
        "local",
        newest("tenant"),
    )
    request = tenancy.GetTenantRequest(tenant_id=str(uuid.uuid4()))
    assert (await refusal(served.tenants().GetTenant(request, metadata=metadata)))[0] == "NOT_FOUND"


async def test_tenants_are_the_operators_business_alone(served: Served, acme: Tenant) -> None:
    refused = await refusal(
        served.tenants().ListTenants(tenancy.ListTenantsRequest(), metadata=as_(await served.key(acme)))
    )
    assert refused == ("PERMISSION_DENIED", "PERMISSION_MISSING")
    operator = as_(await served.key(None, frozenset()))
    refused = await refusal(served.auth().GetCaller(auth.GetCallerRequest(), metadata=operator))
    assert refused == ("PERMISSION_DENIED", "PERMISSION_MISSING")
