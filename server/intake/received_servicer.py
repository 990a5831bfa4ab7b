"""IntakeService: what systems of the user's own call."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from google.protobuf.json_format import MessageToDict
from switchboard.v1 import intake_service_pb2 as rpc
from switchboard.v1.intake_service_pb2_grpc import IntakeServiceServicer

from server.intake import received
from server.intake.apply import Applier
from server.providers.contract import Provider
from server.rpc.call import Call


class IntakeServicer(IntakeServiceServicer):
    """Messages and receipts that are handed in."""

    def __init__(self, *, providers: Mapping[str, Provider], applier: Applier) -> None:
        self._providers = providers
        self._applier = applier

    async def ReceiveItems(self, request: rpc.ReceiveItemsRequest, call: Call) -> rpc.ReceiveItemsResponse:
        """Answers once everything is durable; applying starts before the answer is on its way."""
        channel_id = uuid.UUID(request.channel_id)
        async with call.database.connection() as connection:
            account = await received.account_of(connection, call.scope, channel_id, self._providers)
        items = MessageToDict(request, preserving_proto_field_name=True)
        body = json.dumps({**items, "account_id": account.account_id}, separators=(",", ":")).encode()
        payload = await received.store(call.database, account.provider, body)
        self._applier.soon(call.tenant_id, payload.id, payload.receive_time)
        return rpc.ReceiveItemsResponse()
