"""SettingsService."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import settings_service_pb2 as rpc
from switchboard.v1.settings_service_pb2_grpc import SettingsServiceServicer

from server.kit.db import Write
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.tenant_settings import convert, service


class SettingsServicer(SettingsServiceServicer):
    """How the tenant works."""

    def __init__(self, *, cursors: Cursors) -> None:
        self._cursors = cursors

    async def GetTenantSettings(
        self,
        request: rpc.GetTenantSettingsRequest,  # noqa: ARG002
        call: Call,
    ) -> rpc.GetTenantSettingsResponse:
        """The settings."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await service.get(connection)
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetTenantSettingsResponse(settings=convert.settings(record), as_of=as_of)

    async def UpdateTenantSettings(
        self, request: rpc.UpdateTenantSettingsRequest, call: Call
    ) -> rpc.UpdateTenantSettingsResponse:
        """Changes settings."""

        async def unit(write: Write) -> Any:
            if await requests.claim(write, call, request, resource_id=call.tenant_id) is not None:
                return await service.get(write.connection)
            record, events = await service.update(
                write,
                origin=origin_of(call, request.request_id),
                retention=request.conversation_retention.ToTimedelta()
                if request.HasField("conversation_retention")
                else None,
                fence=convert.FENCE.word(request.reply_fence_policy)
                if request.HasField("reply_fence_policy")
                else None,
                read_receipts=request.read_receipts if request.HasField("read_receipts") else None,
                closing_before=request.reply_window_closing_before.ToTimedelta()
                if request.HasField("reply_window_closing_before")
                else None,
            )
            await append(write, events)
            return record

        return rpc.UpdateTenantSettingsResponse(settings=convert.settings(await call.database.write(unit)))
