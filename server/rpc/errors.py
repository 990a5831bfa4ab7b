"""The one place where errors become gRPC statuses, and one of the three edges where everything may be caught."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from server.kit import tracing
from server.kit.errors import Refusal
from server.kit.tracing import NOTHING, Span
from server.rpc.metrics import STREAMS, Measured
from server.rpc.request_id import CURRENT, HEADER, request_id_of
from server.rpc.wrap import Behavior, Continuation, Handler, WrappingInterceptor, metadata_of, wrap

DOMAIN = "switchboard"
log = structlog.get_logger(__name__)


class InternalError(Refusal):
    """Our fault; the incident id is in our log."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, incident: str) -> None:
        super().__init__(f"internal error, incident {incident}", metadata={"incident": incident})


class Draining(Refusal):
    """The process stops."""

    status = "UNAVAILABLE"
    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("the server is stopping; repeat the call")


class MethodUnknown(Refusal):
    """No such method."""

    status = "UNIMPLEMENTED"
    reason = "METHOD_UNKNOWN"


def status_of(refusal: Refusal) -> status_pb2.Status:
    """Renders a refusal: one ErrorInfo, the call's RequestInfo, and what else applies, such as BadRequest or RetryInfo."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=refusal.metadata)
    ]
    if refusal.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=item.field, description=item.description)
                    for item in refusal.violations
                ]
            )
        )
    if refusal.status == "FAILED_PRECONDITION":
        violation = error_details_pb2.PreconditionFailure.Violation(type=refusal.reason, description=refusal.message)
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    if refusal.quota is not None:
        subject, description = refusal.quota
        reached = error_details_pb2.QuotaFailure.Violation(subject=subject, description=description)
        details.append(error_details_pb2.QuotaFailure(violations=[reached]))
    if refusal.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(refusal.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    details.append(error_details_pb2.RequestInfo(request_id=CURRENT.get()))
    code: tuple[int, str] = grpc.StatusCode[refusal.status].value
    return status_pb2.Status(code=code[0], message=refusal.message, details=[packed(item) for item in details])


def packed(message: Message) -> any_pb2.Any:
    """Wraps a detail."""
    result = any_pb2.Any()
    result.Pack(message)
    return result


async def abort(context: aio.ServicerContext[Any, Any], refusal: Refusal) -> None:
    """Ends the call with the refusal; raises grpc's AbortError."""
    rich = rpc_status.to_status(status_of(refusal))
    headers = {HEADER: CURRENT.get(), **refusal.headers}
    if refusal.retry_after is not None:
        # A status without a message is one block of headers, so over REST this is HTTP's own Retry-After, in whole seconds.
        headers["retry-after"] = str(math.ceil(refusal.retry_after.total_seconds()))
    await context.abort(rich.code, rich.details, (*rich.trailing_metadata, *headers.items()))


class ErrorInterceptor(WrappingInterceptor):
    """Outermost: nothing of an exception reaches a caller but what a Refusal says."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler; an unknown method gets a typed refusal too."""
        wrapped = await super().intercept_service(continuation, handler_call_details)
        return wrapped or _unknown_method(handler_call_details)

    def wrapped(self, method: str, handler: Handler) -> Handler:
        """Gives the call its id, and turns whatever escapes into a status."""
        return wrap(handler, lambda inner: _rendered(method, inner))


def _rendered(method: str, inner: Behavior) -> Behavior:
    async def render(request: Any, context: Any) -> Any:
        request_id = request_id_of(context.invocation_metadata())
        # Each RPC runs in a task of its own, so what is set here ends with it, and what it starts inherits it.
        CURRENT.set(request_id)
        structlog.contextvars.bind_contextvars(request=request_id)
        context.set_trailing_metadata(((HEADER, request_id),))
        with Measured(method) as outcome, _traced(method, context, request_id) as span:
            try:
                answer = await inner(request, context)
            except Refusal as refusal:
                outcome.code = refusal.status
                span.set(code=refusal.status, reason=refusal.reason)
                return await abort(context, refusal)
            except aio.AbortError:
                raise
            except asyncio.CancelledError:
                # A cancellation of ours with a living client would end the call without any status (grpc#29248).
                if context.cancelled() or context.done():
                    raise
                return await abort(context, Draining())
            except Exception:
                incident, outcome.code = secrets.token_hex(8), "INTERNAL"
                log.exception("rpc.failed", method=method, incident=incident)
                return await abort(context, InternalError(incident))
            outcome.code = "OK"
            return answer

    return render


def _traced(method: str, context: Any, request_id: str) -> Span:
    """A span of the call, in the caller's trace if it is of one. A stream is none: it would be an hour long."""
    if not tracing.on() or method in STREAMS:
        return NOTHING
    parent = metadata_of(context).get(tracing.HEADER)
    return tracing.span(method.removeprefix("/"), parent=parent, kind="server", request=request_id)


def _unknown_method(details: grpc.HandlerCallDetails) -> Handler:
    async def refuse(_request: Any, context: Any) -> Any:
        CURRENT.set(request_id_of(details.invocation_metadata))
        return await abort(context, MethodUnknown(f"no such method: {details.method}"))

    made: Handler = grpc.unary_unary_rpc_method_handler(refuse)
    return made
