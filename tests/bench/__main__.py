"""Starts a stack of its own, loads it from this process, and prints a table. Every row names its reference.

Load generator, servers and Postgres share the machine, so compare rows of one run with each other, not runs of different machines.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import uvloop
from google.api import httpbody_pb2
from grpc import aio
from rich.console import Console
from rich.table import Table
from switchboard.v1 import conversation_service_pb2, inbox_service_pb2, message_service_pb2, webhook_service_pb2
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub
from switchboard.v1.message_service_pb2_grpc import MessageServiceStub
from switchboard.v1.webhook_service_pb2_grpc import WebhookServiceStub

from server.embedded.stack import Options, Stack
from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign

SECONDS, IN_FLIGHT, CUSTOMERS = 5.0, 64, 200
Call = Callable[[], Awaitable[Any]]


async def throughput(call: Call, *, in_flight: int = IN_FLIGHT, seconds: float = SECONDS) -> float:
    """Calls per second with so many in flight."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / seconds


async def latency(call: Call, *, times: int = 500) -> float:
    """Median milliseconds at one in flight."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


async def echo_server() -> tuple[aio.Server, str]:
    """The bare reference: bytes in, the same bytes out, no interceptors."""

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


class Bench:
    """The stack under load."""

    def __init__(self, stack: Stack) -> None:
        self.dev = stack.dev()
        self.address = self.dev["serve"][0]["grpc"]
        self.metadata = (("authorization", f"Bearer {self.dev['tenant_key']}"),)
        self.conversations: list[str] = []
        self.rows: list[tuple[str, str, str]] = []

    def webhook(self, messages: int, *, customers: int) -> tuple[webhook_service_pb2.ReceiveMetaWebhookRequest, Any]:
        """A signed POST of so many messages."""
        channel, app = self.dev["channels"][0], self.dev["meta_app"]
        base = uuid.uuid4().int % 10**6
        now = int(time.time())
        texts = [
            InboundText(text="hello", timestamp=now, phone=f"49{base:06d}{index % customers:04d}")
            for index in range(messages)
        ]
        raw = encode(inbound_body(Number(channel["waba_id"], channel["phone_number_id"], "15550001111"), texts))
        body = httpbody_pb2.HttpBody(data=raw)
        request = webhook_service_pb2.ReceiveMetaWebhookRequest(app_id=app["id"], body=body)
        return request, (("x-hub-signature-256", sign(raw, app["app_secret"])),)

    async def prepare(self, channel: aio.Channel) -> None:
        """Conversations whose reply window is open."""
        request, signature = self.webhook(CUSTOMERS, customers=CUSTOMERS)
        await WebhookServiceStub(channel).ReceiveMetaWebhook(request, metadata=signature)
        listing = conversation_service_pb2.ListConversationsRequest(page_size=200)
        while len(self.conversations) < CUSTOMERS:
            await asyncio.sleep(0.2)
            page = await ConversationServiceStub(channel).ListConversations(listing, metadata=self.metadata)
            self.conversations = [item.id for item in page.conversations]

    async def sends(self, channel: aio.Channel, echo: Call, statement: Call) -> None:
        """Durable sends, beside an echo and a bare statement."""
        stub, turn = MessageServiceStub(channel), iter(range(10**9))

        async def send() -> None:
            conversation_id = self.conversations[next(turn) % len(self.conversations)]
            request = message_service_pb2.SendMessageRequest(conversation_id=conversation_id)
            request.text.body = "a reply"
            await stub.SendMessage(request, metadata=self.metadata)

        alone = await latency(send)
        reference = await latency(echo) + await latency(statement)
        self.rows.append(
            ("send, 1 in flight, p50", f"{alone:.2f} ms", f"{reference:.2f} ms  echo + one bare statement")
        )
        rate, bare = await throughput(send), await throughput(echo)
        self.rows.append((f"durable sends, {IN_FLIGHT} in flight", f"{rate:,.0f} /s", f"{bare:,.0f} /s  bare echo"))

    async def intake(self, channel: aio.Channel, database: asyncpg.Connection[Any]) -> None:
        """Webhooks of 100 messages: answered, and applied."""
        stub = WebhookServiceStub(channel)
        posts = [self.webhook(100, customers=20) for _ in range(20)]
        before = await database.fetchval("SELECT count(*) FROM messages")
        began = time.perf_counter()
        for request, signature in posts:
            await stub.ReceiveMetaWebhook(request, metadata=signature)
        answered = time.perf_counter() - began
        while await database.fetchval("SELECT count(*) FROM messages WHERE direction = 'inbound'") < CUSTOMERS + 2000:
            await asyncio.sleep(0.05)
        applied = time.perf_counter() - began
        assert before is not None
        self.rows.append(
            ("webhook of 100 messages, answered", f"{answered / 20 * 1000:.1f} ms", "1 s  what Meta asks for")
        )
        self.rows.append(
            ("inbound messages applied", f"{2000 / applied:,.0f} /s", f"{2000 / answered:,.0f} /s  stored raw")
        )

    async def live(self, channel: aio.Channel) -> None:
        """From the answer of a send to its event at a client, over the live stream."""
        stream = InboxServiceStub(channel).WatchInbox(inbox_service_pb2.WatchInboxRequest(), metadata=self.metadata)
        seen: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

        async def follow() -> None:
            async for item in stream:
                for event in item.events:
                    if event.HasField("message_created"):
                        seen.put_nowait((event.message_created.message.id, time.perf_counter()))

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.5)
        stub, found = MessageServiceStub(channel), []
        for index in range(200):
            request = message_service_pb2.SendMessageRequest(conversation_id=self.conversations[index % CUSTOMERS])
            request.text.body = "a reply"
            answer = await stub.SendMessage(request, metadata=self.metadata)
            answered = time.perf_counter()
            while True:
                message_id, received = await asyncio.wait_for(seen.get(), 5)
                if message_id == answer.message.id:
                    break
            found.append((received - answered) * 1000)
        following.cancel()
        quantiles = statistics.quantiles(found, n=100)
        self.rows.append(
            (
                "answer of a send -> its event at a client",
                f"p50 {statistics.median(found):.2f} ms",
                f"p99 {quantiles[98]:.2f} ms",
            )
        )


async def run(stack: Stack) -> None:
    """All rows."""
    bench = Bench(stack)
    server, address = await echo_server()
    database = await asyncpg.connect(bench.dev["postgres"]["tenant"])
    async with aio.insecure_channel(address) as bare, aio.insecure_channel(bench.address) as channel:
        call = bare.unary_unary("/bench.Echo/Echo")
        await bench.prepare(channel)
        await bench.sends(
            channel, lambda: call(b"x" * 100), lambda: database.execute("UPDATE stream_head SET head = head")
        )
        await bench.live(channel)
        await bench.intake(channel, database)
    await database.close()
    await server.stop(0)
    table = Table("what", "measured", "reference in the same run")
    for row in bench.rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Runs the benchmark in a home of its own."""
    with tempfile.TemporaryDirectory() as folder, Stack(Options(home=Path(folder) / "home", receipts=None)) as stack:
        stack.terminate("work")
        uvloop.run(run(stack))


if __name__ == "__main__":
    main()
