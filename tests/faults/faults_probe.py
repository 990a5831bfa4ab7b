"""Whether a process is back: the first good answer that came through it."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Callable

import asyncpg
import grpc
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub

from server.embedded import children
from server.embedded.ports import LOOPBACK
from server.embedded.stack import Stack

EVERY = 0.05
GIVEN_UP_AFTER = 60.0


def until_back(stack: Stack, name: str) -> float | None:
    """Asks until the process answers; when (monotonic), None when it did not within a minute."""
    asks = _question(stack, name)
    until = time.monotonic() + GIVEN_UP_AFTER
    while time.monotonic() < until:
        if asks():
            return time.monotonic()
        time.sleep(EVERY)
    return None


def _question(stack: Stack, name: str) -> Callable[[], bool]:
    kind = name.partition("-")[0]
    if kind == "serve":
        return lambda: _lists(stack, stack.port(name))
    if kind == "work":
        return lambda: children.takes_calls(stack.port(name))
    if kind == "envoy":
        return lambda: _lists_by_rest(stack)
    if kind == "valkey":
        return lambda: _pong(stack)
    return lambda: _selects(stack)


def _lists(stack: Stack, port: int) -> bool:
    """A call with a credential and a query, straight to the process."""
    if not children.accepts(port):
        return False
    metadata = (("authorization", f"Bearer {stack.dev()['tenant_key']}"),)
    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        try:
            request = conversations.ListConversationsRequest(page_size=1)
            ConversationServiceStub(channel).ListConversations(request, metadata=metadata, timeout=2)
        except grpc.RpcError:
            return False
    return True


def _lists_by_rest(stack: Stack) -> bool:
    connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=2)
    try:
        headers = {"authorization": f"Bearer {stack.dev()['tenant_key']}"}
        connection.request("GET", "/v1/conversations?pageSize=1", headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pong(stack: Stack) -> bool:
    password = stack.home.load_secrets().valkey_password
    try:
        with socket.create_connection((LOOPBACK, stack.port("valkey")), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return connection.recv(64).startswith(b"+OK")
    except OSError:
        return False


def _selects(stack: Stack) -> bool:
    async def ask() -> None:
        connection = await asyncpg.connect(stack.dev()["postgres"]["tenant"], timeout=2)
        try:
            await connection.fetchval("SELECT head FROM stream_head", timeout=2)
        finally:
            await connection.close(timeout=1)

    try:
        asyncio.run(ask())
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True
