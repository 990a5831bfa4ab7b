"""AttributeDefinitionService."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import attribute_definition_service_pb2 as rpc
from switchboard.v1.attribute_definition_service_pb2_grpc import AttributeDefinitionServiceServicer

from server.attributes import convert, service
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AttributeDefinitionServicer(AttributeDefinitionServiceServicer):
    """What attributes may hold."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def ListAttributeDefinitions(
        self, request: rpc.ListAttributeDefinitionsRequest, call: Call
    ) -> rpc.ListAttributeDefinitionsResponse:
        """A page of definitions."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records = await service.page(connection, after=after, limit=size + 1)
        items, last = cut(records, size, convert.definition)
        token = "" if last is None else self._tokens.write(call, request, [last["target"], last["key"]])
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListAttributeDefinitionsResponse(attribute_definitions=items, next_page_token=token, as_of=as_of)

    async def CreateAttributeDefinition(
        self, request: rpc.CreateAttributeDefinitionRequest, call: Call
    ) -> rpc.CreateAttributeDefinitionResponse:
        """Defines a key."""
        definition_id = new_id()

        async def unit(write: Write) -> Any:
            earlier = await requests.claim(write, call, request, resource_id=definition_id)
            if earlier is not None:
                return await service.get(write.connection, earlier)
            record, events = await service.create(
                write,
                origin=origin_of(call, request.request_id),
                definition_id=definition_id,
                target=convert.TARGET.word(request.target),
                key=request.key,
                kind=convert.TYPE.word(request.type),
                options=request.options,
                label=request.label,
            )
            await append(write, events)
            return record

        made = convert.definition(await call.database.write(unit))
        return rpc.CreateAttributeDefinitionResponse(attribute_definition=made)

    async def UpdateAttributeDefinition(
        self, request: rpc.UpdateAttributeDefinitionRequest, call: Call
    ) -> rpc.UpdateAttributeDefinitionResponse:
        """Changes label or options."""
        definition_id = uuid.UUID(request.attribute_definition_id)

        async def unit(write: Write) -> Any:
            if await requests.claim(write, call, request, resource_id=definition_id) is not None:
                return await service.get(write.connection, definition_id)
            record, events = await service.update(
                write,
                definition_id,
                origin=origin_of(call, request.request_id),
                label=request.label if request.HasField("label") else None,
                options=request.options,
            )
            await append(write, events)
            return record

        changed = convert.definition(await call.database.write(unit))
        return rpc.UpdateAttributeDefinitionResponse(attribute_definition=changed)

    async def DeleteAttributeDefinition(
        self, request: rpc.DeleteAttributeDefinitionRequest, call: Call
    ) -> rpc.DeleteAttributeDefinitionResponse:
        """Removes a definition."""
        definition_id = uuid.UUID(request.attribute_definition_id)

        async def unit(write: Write) -> None:
            if await requests.claim(write, call, request, resource_id=definition_id) is None:
                origin = origin_of(call, request.request_id)
                await append(write, await service.delete(write, definition_id, origin=origin))

        await call.database.write(unit)
        return rpc.DeleteAttributeDefinitionResponse()
