"""ErasureService."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import erasure_service_pb2 as rpc
from switchboard.v1.erasure_service_pb2_grpc import ErasureServiceServicer

from server.erasures import convert, service
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class ErasureServicer(ErasureServiceServicer):
    """Contacts erased for good."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def EraseContact(self, request: rpc.EraseContactRequest, call: Call) -> rpc.EraseContactResponse:
        """Erases a contact."""
        origin, claimed = origin_of(call, request.request_id), new_id()

        async def unit(write: Write) -> Any:
            erasure_id = await requests.claim(write, call, request, resource_id=claimed)
            if erasure_id is None:
                erasure_id, events = await service.begin(
                    write,
                    call.scope,
                    uuid.UUID(request.contact_id),
                    erasure_id=claimed,
                    reason=request.reason or None,
                    origin=origin,
                )
                if erasure_id != claimed:
                    await requests.settle(write, call, request, resource_id=erasure_id)
                record = await service.get(write.connection, erasure_id)
                await append(write, events)
                return record
            return await service.get(write.connection, erasure_id)

        return rpc.EraseContactResponse(erasure=convert.erasure(await call.database.write(unit)))

    async def GetErasure(self, request: rpc.GetErasureRequest, call: Call) -> rpc.GetErasureResponse:
        """An erasure."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await service.get(connection, uuid.UUID(request.erasure_id))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetErasureResponse(erasure=convert.erasure(record), as_of=as_of)

    async def ListErasures(self, request: rpc.ListErasuresRequest, call: Call) -> rpc.ListErasuresResponse:
        """A page of erasures."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            rows = await service.page(
                connection, states=[convert.STATE.word(state) for state in request.state], after=after, limit=size + 1
            )
        items, last = cut(rows, size, convert.erasure)
        token = "" if last is None else self._tokens.write(call, request, [str(last["id"])])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListErasuresResponse(erasures=items, next_page_token=token, as_of=as_of)
