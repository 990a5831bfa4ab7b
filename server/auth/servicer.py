"""AuthService."""

from __future__ import annotations

import uuid
from datetime import datetime

from switchboard.v1 import auth_service_pb2 as rpc
from switchboard.v1.auth_service_pb2_grpc import AuthServiceServicer

from server.auth import service
from server.auth.tokens import LIFETIME, AgentTokens
from server.kit import pb
from server.log.event import origin_of
from server.rpc.call import Call, CallerKind
from server.rpc.paging import PageTokens, cut, page_size
from server.tenancy import convert
from server.tenancy.api_keys import ApiKeys


class AuthServicer(AuthServiceServicer):
    """API keys and tokens."""

    def __init__(self, *, keys: ApiKeys, tokens: AgentTokens, pages: PageTokens) -> None:
        self._keys = keys
        self._tokens = tokens
        self._pages = pages

    async def CreateAgentToken(self, request: rpc.CreateAgentTokenRequest, call: Call) -> rpc.CreateAgentTokenResponse:
        """Issues a token for an agent of the caller's tenant."""
        token, expire_time = await service.issue_token(
            self._tokens,
            call.database,
            call.caller,
            tenant_id=call.tenant_id,
            agent_id=uuid.UUID(request.agent_id),
            lifetime=request.lifetime.ToTimedelta() if request.HasField("lifetime") else LIFETIME,
        )
        return rpc.CreateAgentTokenResponse(token=token, expire_time=pb.timestamp(expire_time))

    async def CreateApiKey(self, request: rpc.CreateApiKeyRequest, call: Call) -> rpc.CreateApiKeyResponse:
        """Creates a key with at most the caller's permissions."""
        key, secret = await service.create_key(
            self._keys,
            call.caller,
            tenant_id=call.tenant_id,
            name=request.name,
            permissions=request.permissions,
            expire_time=pb.utc(request.expire_time, field="expire_time") if request.HasField("expire_time") else None,
        )
        return rpc.CreateApiKeyResponse(api_key=convert.api_key(key), secret=secret)

    async def ListApiKeys(self, request: rpc.ListApiKeysRequest, call: Call) -> rpc.ListApiKeysResponse:
        """A page of keys, newest first."""
        size, values = page_size(request.page_size), self._pages.read(call, request)
        after = (datetime.fromisoformat(values[0]), uuid.UUID(values[1])) if values else None
        rows = await self._keys.page(call.tenant_id, after=after, size=size + 1)
        items, last = cut(rows, size, convert.api_key)
        token = "" if last is None else self._pages.write(call, request, [last.create_time.isoformat(), str(last.id)])
        return rpc.ListApiKeysResponse(api_keys=items, next_page_token=token)

    async def RevokeApiKey(self, request: rpc.RevokeApiKeyRequest, call: Call) -> rpc.RevokeApiKeyResponse:
        """Ends a key and its streams."""
        key = await service.revoke_key(
            self._keys,
            call.database,
            tenant_id=call.tenant_id,
            api_key_id=uuid.UUID(request.api_key_id),
            origin=origin_of(call),
        )
        return rpc.RevokeApiKeyResponse(api_key=convert.api_key(key))

    async def GetCaller(self, request: rpc.GetCallerRequest, call: Call) -> rpc.GetCallerResponse:  # noqa: ARG002
        """Says who calls."""
        caller, own = call.caller, str(call.caller.id)
        return rpc.GetCallerResponse(
            tenant_id=str(call.tenant_id),
            agent_id=own if caller.kind is CallerKind.AGENT else None,
            api_key_id=own if caller.kind is CallerKind.API_KEY else None,
            permissions=sorted(caller.permissions),  # type: ignore[arg-type]
        )
