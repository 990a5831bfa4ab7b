"""The methods of AgentService about roles."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from switchboard.v1 import agent_service_pb2 as rpc
from switchboard.v1 import role_pb2
from switchboard.v1.agent_service_pb2_grpc import AgentServiceServicer

from server.agents import convert, own_roles
from server.agents.own_roles import Changed
from server.agents.roles import Role
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import Origin, origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class RoleServicer(AgentServiceServicer):
    """Roles of the tenant's own, and the built-in ones to read."""

    _tokens: PageTokens
    _cursors: Cursors

    async def CreateRole(self, request: rpc.CreateRoleRequest, call: Call) -> rpc.CreateRoleResponse:
        """Creates a role."""
        role_id = new_id()

        async def work(write: Write, origin: Origin) -> Changed:
            return await own_roles.create(
                write,
                role_id=role_id,
                name=request.name,
                permissions=request.permissions,
                caller=call.caller,
                origin=origin,
            )

        return rpc.CreateRoleResponse(role=await _change(call, request, role_id, work))

    async def UpdateRole(self, request: rpc.UpdateRoleRequest, call: Call) -> rpc.UpdateRoleResponse:
        """Changes a role."""
        role_id = uuid.UUID(request.role_id)

        async def work(write: Write, origin: Origin) -> Changed:
            return await own_roles.update(
                write,
                role_id,
                name=request.name if request.HasField("name") else None,
                permissions=request.permissions,
                caller=call.caller,
                origin=origin,
            )

        return rpc.UpdateRoleResponse(role=await _change(call, request, role_id, work))

    async def DeleteRole(self, request: rpc.DeleteRoleRequest, call: Call) -> rpc.DeleteRoleResponse:
        """Deletes a role."""
        role_id, origin = uuid.UUID(request.role_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> None:
            if await requests.claim(write, call, request, resource_id=role_id) is None:
                await append(write, await own_roles.delete(write, role_id, caller=call.caller, origin=origin))

        await call.database.write(unit)
        return rpc.DeleteRoleResponse()

    async def GetRole(self, request: rpc.GetRoleRequest, call: Call) -> rpc.GetRoleResponse:
        """A role."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            role = await own_roles.get(connection, uuid.UUID(request.role_id))
        return rpc.GetRoleResponse(role=convert.role(role), as_of=self._cursors.at(call.tenant_id, head))

    async def ListRoles(self, request: rpc.ListRolesRequest, call: Call) -> rpc.ListRolesResponse:
        """A page of roles."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            roles = await own_roles.page(connection, after=uuid.UUID(after[0]) if after else None, limit=size + 1)
        items, last = cut(roles, size, convert.role)
        token = "" if last is None else self._tokens.write(call, request, [str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListRolesResponse(roles=items, next_page_token=token, as_of=as_of)


async def _change(
    call: Call,
    request: rpc.CreateRoleRequest | rpc.UpdateRoleRequest,
    role_id: uuid.UUID,
    work: Callable[[Write, Origin], Awaitable[Changed]],
) -> role_pb2.Role:
    """Runs work and appends its events; a repeat answers the role as it is now."""
    origin = origin_of(call, request.request_id)

    async def unit(write: Write) -> Role:
        earlier = await requests.claim(write, call, request, resource_id=role_id)
        if earlier is not None:
            return await own_roles.get(write.connection, earlier)
        changed = await work(write, origin)
        await append(write, changed.events)
        return changed.role

    return convert.role(await call.database.write(unit))
