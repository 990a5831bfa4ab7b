"""DeliveryService."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from switchboard.v1 import delivery_service_pb2 as rpc
from switchboard.v1.delivery_service_pb2_grpc import DeliveryServiceServicer

from server.kit.db import Write
from server.kit.ids import parse_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import NewEvent, Origin, origin_of
from server.log.read import read_head
from server.redelivery import convert, service
from server.redelivery.service import Wanted
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, page_size

Decision = Callable[[Write, uuid.UUID, Origin], Awaitable[list[NewEvent]]]


class DeliveryServicer(DeliveryServiceServicer):
    """What is on its way, and what got stuck."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def GetDelivery(self, request: rpc.GetDeliveryRequest, call: Call) -> rpc.GetDeliveryResponse:
        """A delivery."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await service.get_visible(connection, call.scope, uuid.UUID(request.delivery_id))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetDeliveryResponse(delivery=convert.delivery(record), as_of=as_of)

    async def ListDeliveries(self, request: rpc.ListDeliveriesRequest, call: Call) -> rpc.ListDeliveriesResponse:
        """A page of deliveries."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        wanted = Wanted(
            states=frozenset(map(convert.STATE.word, request.state)),
            channel_id=parse_id(request.channel_id, field="channel_id") if request.HasField("channel_id") else None,
            conversation_id=parse_id(request.conversation_id, field="conversation_id")
            if request.HasField("conversation_id")
            else None,
        )
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records, last = await service.page(connection, call.scope, wanted, after=after, limit=size)
        return rpc.ListDeliveriesResponse(
            deliveries=[convert.delivery(record) for record in records],
            next_page_token="" if last is None else self._tokens.write(call, request, [str(last)]),
            as_of=self._cursors.at(call.tenant_id, head),
        )

    async def RetryDelivery(self, request: rpc.RetryDeliveryRequest, call: Call) -> rpc.RetryDeliveryResponse:
        """Asks for a second send."""

        async def decide(write: Write, delivery_id: uuid.UUID, origin: Origin) -> list[NewEvent]:
            return await service.retry(write, call.scope, delivery_id, origin=origin)

        return rpc.RetryDeliveryResponse(delivery=convert.delivery(await _decided(call, request, decide)))

    async def GiveUpDelivery(self, request: rpc.GiveUpDeliveryRequest, call: Call) -> rpc.GiveUpDeliveryResponse:
        """Gives a delivery up."""
        reason = request.reason if request.HasField("reason") else None

        async def decide(write: Write, delivery_id: uuid.UUID, origin: Origin) -> list[NewEvent]:
            return await service.give_up(write, call.scope, delivery_id, origin=origin, reason=reason)

        return rpc.GiveUpDeliveryResponse(delivery=convert.delivery(await _decided(call, request, decide)))


async def _decided(call: Call, request: Any, decide: Decision) -> Any:
    """Decides about a delivery once for each request id; the delivery as it is then."""
    delivery_id = uuid.UUID(request.delivery_id)

    async def unit(write: Write) -> Any:
        repeated = await requests.claim(write, call, request, resource_id=delivery_id)
        events = [] if repeated else await decide(write, delivery_id, origin_of(call, request.request_id))
        record = await service.get_visible(write.connection, call.scope, delivery_id)
        await append(write, events)
        return record

    return await call.database.write(unit)
