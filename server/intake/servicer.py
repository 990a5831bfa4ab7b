"""WebhookService: what providers call."""

from __future__ import annotations

from google.api import httpbody_pb2
from switchboard.v1 import webhook_service_pb2 as rpc
from switchboard.v1.webhook_service_pb2_grpc import WebhookServiceServicer

from server.intake.apply import Applier
from server.intake.service import Intake
from server.rpc.call import Call

SIGNATURE = "x-hub-signature-256"


class WebhookServicer(WebhookServiceServicer):
    """Webhooks of Meta."""

    def __init__(self, *, intake: Intake, applier: Applier) -> None:
        self._intake = intake
        self._applier = applier

    async def VerifyMetaWebhook(self, request: rpc.VerifyMetaWebhookRequest, call: Call) -> httpbody_pb2.HttpBody:  # noqa: ARG002
        """Echoes the challenge as plain text."""
        hub = request.hub
        challenge = await self._intake.handshake(
            request.app_id, mode=hub.mode, token=hub.verify_token, challenge=hub.challenge
        )
        return httpbody_pb2.HttpBody(content_type="text/plain", data=challenge.encode())

    async def ReceiveMetaWebhook(self, request: rpc.ReceiveMetaWebhookRequest, call: Call) -> httpbody_pb2.HttpBody:
        """Answers once every part is durable; applying starts before the answer is on its way."""
        for stored in await self._intake.receive(request.app_id, request.body.data, _signature(call)):
            self._applier.soon(stored.tenant_id, stored.payload_id, stored.receive_time)
        return httpbody_pb2.HttpBody(content_type="text/plain", data=b"ok")


def _signature(call: Call) -> str | None:
    """The signature, None when there is none or more than one: Meta sends one, and a proxy might have added the other."""
    found = [str(value) for key, value in call.context.invocation_metadata() or () if key == SIGNATURE]
    return found[0] if len(found) == 1 else None
