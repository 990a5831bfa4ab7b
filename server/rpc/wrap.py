"""Wraps the handlers of grpc.aio.

Streams here are reader/writer handlers (context.write), never async generators: unary calls and streams look alike, and a
cancelled stream runs its cleanup at once.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc import aio

Behavior = Callable[[Any, Any], Awaitable[Any]]
Around = Callable[[Behavior], Behavior]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


def serialize(message: Any) -> bytes:
    """Passes bytes through: streams write responses that were serialised once for everybody."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def wrap(handler: Handler, around: Around, *, parses: bool = True) -> Handler:
    """Returns the handler with around(its behaviour) in place of its behaviour; without parses that gets bytes."""
    streams = handler.unary_stream is not None
    inner: Any = handler.unary_stream if streams else handler.unary_unary
    # One coroutine for each interceptor: every further one is paid for by each call.
    make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    made: Handler = make(
        around(inner),
        request_deserializer=handler.request_deserializer if parses else None,
        response_serializer=serialize,
    )
    return made


class WrappingInterceptor(aio.ServerInterceptor, abc.ABC):
    """An interceptor that wraps every known method, and each only once: grpc asks for the handler anew at every call."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """The wrapped handler; None, for an unknown method, stays None."""
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        self._wrapped[method] = self.wrapped(method, handler)
        return self._wrapped[method]

    @abc.abstractmethod
    def wrapped(self, method: str, handler: Handler) -> Handler:
        """The handler of a method with this interceptor around it; what differs from call to call is in its context."""


def metadata_of(context: aio.ServicerContext[Any, Any]) -> dict[str, str]:
    """The text metadata that a call came with."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
