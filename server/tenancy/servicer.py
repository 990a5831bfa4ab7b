"""TenantService: for the platform's operator alone."""

from __future__ import annotations

import uuid

from switchboard.v1 import tenant_service_pb2 as rpc
from switchboard.v1.tenant_service_pb2_grpc import TenantServiceServicer

from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size
from server.tenancy import convert, service
from server.tenancy.api_keys import ApiKeys
from server.tenancy.provisioning import Provisioning
from server.tenancy.tenants import Tenants


class TenantServicer(TenantServiceServicer):
    """Tenants."""

    def __init__(self, *, tenants: Tenants, provisioning: Provisioning, keys: ApiKeys, pages: PageTokens) -> None:
        self._tenants = tenants
        self._provisioning = provisioning
        self._keys = keys
        self._pages = pages

    async def CreateTenant(self, request: rpc.CreateTenantRequest, call: Call) -> rpc.CreateTenantResponse:  # noqa: ARG002
        """Makes a tenant and its first key."""
        tenant_id, key, secret = await service.create_tenant(self._provisioning, self._keys, name=request.name)
        row = await self._tenants.row(tenant_id)
        return rpc.CreateTenantResponse(tenant=convert.tenant(row), api_key=convert.api_key(key), secret=secret)

    async def ListTenants(self, request: rpc.ListTenantsRequest, call: Call) -> rpc.ListTenantsResponse:
        """A page of tenants by name."""
        size, values = page_size(request.page_size), self._pages.read(call, request)
        rows = await self._tenants.page(after=values[0] if values else None, size=size + 1)
        items, last = cut(rows, size, convert.tenant)
        token = "" if last is None else self._pages.write(call, request, [last.name])
        return rpc.ListTenantsResponse(tenants=items, next_page_token=token)

    async def GetTenant(self, request: rpc.GetTenantRequest, call: Call) -> rpc.GetTenantResponse:  # noqa: ARG002
        """One tenant."""
        row = await self._tenants.row(uuid.UUID(request.tenant_id))
        return rpc.GetTenantResponse(tenant=convert.tenant(row))

    async def DisableTenant(self, request: rpc.DisableTenantRequest, call: Call) -> rpc.DisableTenantResponse:  # noqa: ARG002
        """Stops serving a tenant."""
        row = await self._tenants.set_state(uuid.UUID(request.tenant_id), "disabled")
        return rpc.DisableTenantResponse(tenant=convert.tenant(row))

    async def EnableTenant(self, request: rpc.EnableTenantRequest, call: Call) -> rpc.EnableTenantResponse:  # noqa: ARG002
        """Serves a tenant again."""
        row = await self._tenants.set_state(uuid.UUID(request.tenant_id), "active")
        return rpc.EnableTenantResponse(tenant=convert.tenant(row))
