"""Client: every RPC of the contract over one channel."""

from __future__ import annotations

import asyncio
import copy
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import betterproto2
import grpc
from switchboard_client.message_pool import default_message_pool
from switchboard_client.switchboard.v1 import (
    ConversationFilter,
    EventType,
    WatchInboxRequest,
    WatchInboxResponse,
    WatchStart,
)

from switchboard_sdk.connection import Token, metadata_of, open_channel, pause_before
from switchboard_sdk.contract import Method, methods_by_group, methods_by_request
from switchboard_sdk.errors import UnavailableError, error_from_call
from switchboard_sdk.follower import OnScopeChanged, OnState
from switchboard_sdk.watch import Watch

_TYPE_URL = "type.googleapis.com/"


def connect(
    url: str | None = None,
    *,
    token: Token | None = None,
    root_certificates: bytes | None = None,
    timeout: timedelta = timedelta(seconds=30),
    retries: int = 4,
) -> Client:
    """A client to use with `async with`; nothing is sent before the first call.

    `url` is `http://host:port` or `https://host:port`, else SWITCHBOARD_URL. `token` is an API key, an agent's token,
    or a (possibly async) function that returns one and is asked before every call, else SWITCHBOARD_TOKEN.
    `root_certificates` (PEM) replace the system's. `timeout` bounds a unary call with all its repetitions; `retries`
    is how often it is repeated at most. Raises ValueError when there is no URL or it is of another form.
    """
    url = url or os.environ.get("SWITCHBOARD_URL", "")
    if not url:
        raise ValueError("no url: pass one or set SWITCHBOARD_URL")
    token = os.environ.get("SWITCHBOARD_TOKEN", "") if token is None else token
    return Client(url, token=token, root_certificates=root_certificates, timeout=timeout, retries=retries)


class Client:
    """Calls Switchboard. Made by `connect()`.

    `client.<group>.<rpc>` are the contract's services and RPCs: `client.messages.send_message(conversation_id=...,
    text=...)`. They are made from the descriptors, so that a new RPC needs no code here; the price is that a type
    checker sees `Any` as their answer. Requests and answers themselves are typed dataclasses.
    """

    def __init__(
        self, url: str, *, token: Token, root_certificates: bytes | None, timeout: timedelta, retries: int
    ) -> None:
        self._channel = open_channel(url, root_certificates=root_certificates)
        self._token = token
        self._timeout = timeout
        self._retries = retries
        self._watches: WeakSet[Watch] = WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all watches and the channel."""
        for watch in list(self._watches):
            await watch.aclose()
        await self._channel.close()

    def __getattr__(self, group: str) -> Service:
        methods = methods_by_group().get(group)
        if methods is None:
            raise AttributeError(f"no service {group!r}; there are {', '.join(sorted(methods_by_group()))}")
        return Service(self, group, methods)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *methods_by_group()]

    async def call(self, request: betterproto2.Message, *, within: timedelta | None = None) -> Any:
        """Makes the unary call that `request` belongs to (no two RPCs share one) and returns its response message.

        A request with an empty `request_id` gets one, on a copy: passing the same object twice makes two calls, not
        one call twice. Reads, and writes with a request id, are repeated while the server is unavailable. Raises
        SwitchboardError.
        """
        method = self._method_of(request)
        if method.streams_requests or method.streams_responses:
            raise TypeError(f"{method.path} streams: use client.{method.group}.{method.name}(), or watch()")
        request, request_id = _with_request_id(request)
        repeatable = bool(request_id) or not method.has_side_effects
        answer = await self.invoke(
            method.path, bytes(request), repeatable=repeatable, request_id=request_id, within=within
        )
        return _message_type(method.response).parse(answer)

    async def invoke(
        self,
        path: str,
        request: bytes,
        *,
        repeatable: bool,
        request_id: str = "",
        within: timedelta | None = None,
    ) -> bytes:
        """Makes a unary call on serialised messages, for callers that bring their own message types.

        `repeatable` says that the call may be repeated when the server is unavailable; `request_id` is only told to
        the exception.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if within is None else within).total_seconds()
        attempt = 0
        while True:
            try:
                return await self._send(path, request, seconds=deadline - loop.time())
            except grpc.aio.AioRpcError as problem:
                error = error_from_call(problem, request_id=request_id)
            pause = max(pause_before(attempt), error.retry_after or timedelta()).total_seconds()
            attempt += 1
            worth_repeating = repeatable and isinstance(error, UnavailableError)
            if not worth_repeating or attempt > self._retries or loop.time() + pause >= deadline:
                raise error
            await asyncio.sleep(pause)

    async def _send(self, path: str, request: bytes, *, seconds: float) -> bytes:
        rpc: Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]] = self._channel.unary_unary(path)
        return await rpc(request, metadata=await metadata_of(self._token), timeout=seconds)

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes, None]:
        """Opens a server stream on serialised messages, once: it is not resumed. Use with `contextlib.aclosing`."""
        rpc: Callable[..., grpc.aio.UnaryStreamCall[bytes, Any]] = self._channel.unary_stream(path)
        call = rpc(request, metadata=await metadata_of(self._token))
        try:
            while isinstance(item := await call.read(), bytes):
                yield item
        except grpc.aio.AioRpcError as problem:
            raise error_from_call(problem) from problem
        finally:
            # A call that is dropped without this is never cancelled (https://github.com/grpc/grpc/issues/43462).
            call.cancel()

    async def pages(self, request: betterproto2.Message) -> AsyncIterator[Any]:
        """Yields the pages of a list, from `request.page_token` on. A page may be empty and yet not the last."""
        if not hasattr(request, "page_token"):
            raise TypeError(f"{type(request).__name__} has no page_token: it is not answered in pages")
        request = copy.copy(request)
        while True:
            page = await self.call(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(
        self,
        cursor: str = "",
        *,
        start: WatchStart = WatchStart.UNSPECIFIED,
        filter: ConversationFilter | None = None,  # noqa: A002  the contract's word
        event_types: Sequence[EventType] = (),
        bookmark_interval: timedelta | None = None,
        on_state: OnState | None = None,
        on_scope_changed: OnScopeChanged | None = None,
    ) -> Watch:
        """The inbox's events, live, for ever: see `Watch`. Without `cursor`, `start` says where to begin."""
        request = WatchInboxRequest(
            cursor=cursor,
            start=start,
            filter=filter,
            event_types=list(event_types),
            bookmark_interval=bookmark_interval,
        )
        return self.watch_request(request, on_state=on_state, on_scope_changed=on_scope_changed)

    def watch_request(
        self,
        request: WatchInboxRequest,
        *,
        on_state: OnState | None = None,
        on_scope_changed: OnScopeChanged | None = None,
    ) -> Watch:
        """As `watch`, for a request that is there already."""
        watch = Watch(
            self._open_inbox,
            request,
            renews_token=callable(self._token),
            on_state=on_state,
            on_scope_changed=on_scope_changed,
        )
        self._watches.add(watch)
        return watch

    async def _open_inbox(self, request: WatchInboxRequest) -> AsyncGenerator[WatchInboxResponse, None]:
        items = self.stream(self._method_of(request).path, bytes(request))
        try:
            async for item in items:
                yield WatchInboxResponse.parse(item)
        finally:
            await items.aclose()

    @staticmethod
    def _method_of(request: betterproto2.Message) -> Method:
        name = default_message_pool.type_to_url.get(type(request), "").removeprefix(_TYPE_URL)
        method = methods_by_request().get(name)
        if method is None:
            raise TypeError(f"{type(request).__name__} is not the request of an RPC")
        return method


class Service:
    """The RPCs of one service as functions, each taking its request, or the request's fields by name.

    Unary ones return an awaitable of the response; a server stream returns an async iterator of its items that does
    not resume.
    """

    def __init__(self, client: Client, group: str, methods: Mapping[str, Method]) -> None:
        self._client = client
        self._group = group
        self._methods = methods

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(f"{self._group} has no {name!r}; it has {', '.join(sorted(self._methods))}")
        kind = _message_type(method.request)

        def rpc(request: betterproto2.Message | None = None, /, **fields: Any) -> Any:
            message = kind(**fields) if request is None else request
            if not isinstance(message, kind):
                raise TypeError(f"{self._group}.{name} takes a {kind.__name__}")
            if not method.streams_responses:
                return self._client.call(message)
            return _parsed(self._client.stream(method.path, bytes(message)), _message_type(method.response))

        return rpc

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._methods]


async def _parsed(items: AsyncGenerator[bytes, None], kind: type[betterproto2.Message]) -> AsyncGenerator[Any, None]:
    try:
        async for item in items:
            yield kind.parse(item)
    finally:
        await items.aclose()


def _with_request_id(request: betterproto2.Message) -> tuple[betterproto2.Message, str]:
    if not hasattr(request, "request_id"):
        return request, ""
    if not request.request_id:
        request = copy.copy(request)
        request.request_id = str(uuid.uuid4())
    return request, request.request_id


def _message_type(name: str) -> type[betterproto2.Message]:
    return default_message_pool.url_to_type[_TYPE_URL + name]
