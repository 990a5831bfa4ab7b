"""A stack, and what the fault tests do to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from google.api import httpbody_pb2
from switchboard.v1 import webhook_service_pb2 as rpc
from switchboard.v1.webhook_service_pb2_grpc import WebhookServiceStub

from server.embedded.stack import Stack
from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign


@dataclass
class Faults:
    """The stack, and what the tests do to it."""

    stack: Stack

    @property
    def dev(self) -> dict[str, Any]:
        return self.stack.dev()

    @property
    def number(self) -> Number:
        channel = self.dev["channels"][0]
        return Number(channel["waba_id"], channel["phone_number_id"], "15550001111")

    def post(self, server: str, messages: Sequence[InboundText]) -> None:
        """Hands a signed webhook to one serve process, not to Envoy, and returns at its 200."""
        raw = encode(inbound_body(self.number, messages))
        app = self.dev["meta_app"]
        address = next(item["grpc"] for item in self.dev["serve"] if item["pid"] == self.stack.pid(server))
        request = rpc.ReceiveMetaWebhookRequest(app_id=app["id"], body=httpbody_pb2.HttpBody(data=raw))
        signature = (("x-hub-signature-256", sign(raw, app["app_secret"])),)
        with grpc.insecure_channel(address) as channel:
            WebhookServiceStub(channel).ReceiveMetaWebhook(request, metadata=signature, timeout=30)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A REST call with the tenant's key."""
        request = urllib.request.Request(
            self.stack.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.dev['tenant_key']}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    async def sql(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """Reads the tenant's database."""
        connection = await asyncpg.connect(self.dev["postgres"]["tenant"])
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()
