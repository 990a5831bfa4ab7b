"""What the rows share: the stack under load, its conversations, and the reference beside it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
from google.api import httpbody_pb2
from grpc import aio
from switchboard.v1 import conversation_service_pb2, message_service_pb2, webhook_service_pb2
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub
from switchboard.v1.webhook_service_pb2_grpc import WebhookServiceStub

from server.embedded.stack import Stack
from server.kit.db import Connection
from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign
from tests.bench.measuring import Call
from tests.bench.reference import SERVICE, Reference

IN_FLIGHT, CUSTOMERS = 64, 200


@dataclass
class Stand:
    """One serve process, its Postgres, and the reference, each with a channel or connection of this process."""

    stack: Stack
    dev: dict[str, Any]
    channel: aio.Channel
    bare: aio.Channel
    database: Connection
    reference: Reference
    quick: bool = False
    conversations: list[str] = field(default_factory=list)
    _turns: Iterator[int] = field(default_factory=count)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.dev['tenant_key']}"),)

    @property
    def pids(self) -> dict[str, int]:
        """The processes whose CPU time is shown."""
        return {"serve": self.stack.pid("serve-1"), "postgres": self.stack.pid("postgres")}

    def seconds(self, usual: float) -> float:
        """How long to load."""
        return usual / 4 if self.quick else usual

    def sending(self, text: str = "a reply") -> Callable[[], Awaitable[bytes]]:
        """A durable send with a request id, as clients are told to send; the next conversation each time.

        The load generator shares the machine with what it measures, so it works with bytes: those of a request, where only
        the request id changes.
        """
        call = self.channel.unary_unary("/switchboard.v1.MessageService/SendMessage")
        requests = []
        for conversation_id in self.conversations:
            request = message_service_pb2.SendMessageRequest(conversation_id=conversation_id)
            request.text.body = text
            requests.append(request.SerializeToString())
        field = message_service_pb2.SendMessageRequest.DESCRIPTOR.fields_by_name["request_id"].number
        tag = bytes([field << 3 | 2, 32])
        metadata = self.metadata

        async def send() -> bytes:
            body = requests[next(self._turns) % len(requests)]
            answer: bytes = await call(body + tag + uuid.uuid4().hex.encode(), metadata=metadata)
            return answer

        return send

    def echoing(self) -> Call:
        """The bare call, with as many bytes there and back as a send has."""
        call = self.bare.unary_unary(f"/{SERVICE}/Echo")
        request = (300).to_bytes(4, "big") + bytes(90)

        async def echo() -> None:
            await call(request)

        return echo

    def webhook(self, messages: int, *, customers: int) -> tuple[webhook_service_pb2.ReceiveMetaWebhookRequest, Any]:
        """A signed POST of so many messages, of customers that nobody knows yet."""
        channel, app = self.dev["channels"][0], self.dev["meta_app"]
        base = uuid.uuid4().int % 10**6
        texts = [
            InboundText(text="hello", timestamp=int(time.time()), phone=f"49{base:06d}{index % customers:04d}")
            for index in range(messages)
        ]
        raw = encode(inbound_body(Number(channel["waba_id"], channel["phone_number_id"], "15550001111"), texts))
        request = webhook_service_pb2.ReceiveMetaWebhookRequest(app_id=app["id"], body=httpbody_pb2.HttpBody(data=raw))
        return request, (("x-hub-signature-256", sign(raw, app["app_secret"])),)

    async def post(self, request: webhook_service_pb2.ReceiveMetaWebhookRequest, signature: Any) -> None:
        await WebhookServiceStub(self.channel).ReceiveMetaWebhook(request, metadata=signature)

    async def prepare(self) -> None:
        """Conversations whose reply window is open."""
        await self.post(*self.webhook(CUSTOMERS, customers=CUSTOMERS))
        listing = conversation_service_pb2.ListConversationsRequest(page_size=200)
        while len(self.conversations) < CUSTOMERS:
            await asyncio.sleep(0.2)
            page = await ConversationServiceStub(self.channel).ListConversations(listing, metadata=self.metadata)
            self.conversations = [item.id for item in page.conversations]


async def connect(dsn: str) -> Connection:
    """A connection of the load generator's own."""
    return await asyncpg.connect(dsn)
