"""InviteService."""

from __future__ import annotations

import dataclasses
import uuid

from switchboard.v1 import invite_service_pb2 as rpc
from switchboard.v1.invite_service_pb2_grpc import InviteServiceServicer

from server.audit.record import DONE, pend, record_of
from server.auth.tokens import LIFETIME, AgentTokens
from server.kit import pb
from server.kit.db import Write
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.people import invite_convert, invites
from server.people.invite_row import Invite
from server.people.invites import Accepted, Changed, InviteInvalid, Wanted
from server.people.role_choice import chosen_role
from server.requests import service as requests
from server.rpc.call import Call, Caller, CallerKind, Verified
from server.rpc.paging import PageTokens, cut, page_size
from server.rpc.rates import RateLimits, Rates
from server.tenancy.tenants import Tenant, TenantDisabled, Tenants

# Calls per second from one address, and of one process from all of them: nobody who accepts is known.
ACCEPTED = Rates(caller=5.0, tenant=50.0)
ANYBODY = uuid.UUID(int=0)


class InviteServicer(InviteServiceServicer):
    """Inviting, and accepting."""

    def __init__(
        self, *, tokens: PageTokens, cursors: Cursors, tenants: Tenants, agent_tokens: AgentTokens, limits: RateLimits
    ) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._tenants = tenants
        self._agent_tokens = agent_tokens
        self._limits = limits

    async def CreateInvite(self, request: rpc.CreateInviteRequest, call: Call) -> rpc.CreateInviteResponse:
        """Invites somebody; a repeat answers the invite as it is now, without a token."""
        token, origin, wanted = (
            invites.new_token(call.tenant_id, new_id()),
            origin_of(call, request.request_id),
            _wanted(request),
        )

        async def unit(write: Write) -> tuple[Invite, str | None]:
            earlier = await requests.claim(write, call, request, resource_id=token.invite_id)
            if earlier is not None:
                return await invites.get(write.connection, earlier), None
            changed = await invites.create(write, token, wanted, caller=call.caller, origin=origin)
            await append(write, changed.events)
            return changed.invite, str(token)

        invite, shown = await call.database.write(unit)
        return rpc.CreateInviteResponse(invite=invite_convert.invite(invite), invite_token=shown)

    async def ListInvites(self, request: rpc.ListInvitesRequest, call: Call) -> rpc.ListInvitesResponse:
        """A page of invites."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            rows = await invites.page(connection, after=uuid.UUID(after[0]) if after else None, limit=size + 1)
        items, last = cut(rows, size, invite_convert.invite)
        token = "" if last is None else self._tokens.write(call, request, [str(last.id)])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListInvitesResponse(invites=items, next_page_token=token, as_of=as_of)

    async def ResendInvite(self, request: rpc.ResendInviteRequest, call: Call) -> rpc.ResendInviteResponse:
        """Makes another token of an invite."""
        token, origin = invites.new_token(call.tenant_id, uuid.UUID(request.invite_id)), origin_of(call)

        async def unit(write: Write) -> Changed:
            changed = await invites.resend(write, token, caller=call.caller, origin=origin)
            await append(write, changed.events)
            return changed

        changed = await call.database.write(unit)
        return rpc.ResendInviteResponse(invite=invite_convert.invite(changed.invite), invite_token=str(token))

    async def RevokeInvite(self, request: rpc.RevokeInviteRequest, call: Call) -> rpc.RevokeInviteResponse:
        """Revokes an invite."""
        invite_id, origin = uuid.UUID(request.invite_id), origin_of(call, request.request_id)

        async def unit(write: Write) -> Invite:
            if await requests.claim(write, call, request, resource_id=invite_id) is not None:
                return await invites.get(write.connection, invite_id)
            changed = await invites.revoke(write, invite_id, caller=call.caller, origin=origin)
            await append(write, changed.events)
            return changed.invite

        return rpc.RevokeInviteResponse(invite=invite_convert.invite(await call.database.write(unit)))

    async def AcceptInvite(self, request: rpc.AcceptInviteRequest, call: Call) -> rpc.AcceptInviteResponse:
        """Makes the agent and signs it in. The tenant is the token's, and who acts is the new agent."""
        address = uuid.uuid5(ANYBODY, call.client_address or "")
        self._limits.take(ANYBODY, address, ACCEPTED)
        token, agent_id = invites.parse(request.invite_token), new_id()
        tenant = await self._tenant(token.tenant_id)
        caller = Caller(kind=CallerKind.AGENT, id=agent_id)
        acting = dataclasses.replace(call, verified=Verified(caller, tenant_id=tenant.id, database=tenant.database))
        origin, name = origin_of(acting), request.name if request.HasField("name") else None
        entry = dataclasses.replace(
            record_of(acting, request, outcome=DONE),
            resource_fields=["invite_id", "agent_id"],
            resource_ids=[str(token.invite_id), str(agent_id)],
        )

        async def unit(write: Write) -> Accepted:
            accepted = await invites.accept(write, token, agent_id=agent_id, name=name, origin=origin)
            await pend(write.connection, entry)
            await append(write, accepted.events)
            return accepted

        accepted = await tenant.database.write(unit)
        signed, until = await self._agent_tokens.issue(tenant_id=tenant.id, agent_id=agent_id, lifetime=LIFETIME)
        shown = accepted.member.shown()
        return rpc.AcceptInviteResponse(agent=shown, token=signed, expire_time=pb.timestamp(until))

    async def _tenant(self, tenant_id: uuid.UUID) -> Tenant:
        """The token's tenant. That there is none, or that it is disabled, is nobody's business who has no good token."""
        try:
            return await self._tenants.get(tenant_id)
        except (NotFound, TenantDisabled):
            raise InviteInvalid() from None


def _wanted(request: rpc.CreateInviteRequest) -> Wanted:
    return Wanted(
        email=request.email,
        name=request.name,
        role_id=chosen_role(request),
        team_ids=[uuid.UUID(item) for item in request.team_ids],
        channel_ids=[uuid.UUID(item) for item in request.channel_ids],
        lifetime=request.lifetime.ToTimedelta() if request.HasField("lifetime") else invites.LIFETIME,
    )
