"""The rules written in the protos, checked before a servicer sees the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import protovalidate
from google.protobuf.message import DecodeError, Message

from server.kit.errors import FieldViolation, InvalidFields, Refusal
from server.rpc.call import Trail
from server.rpc.wrap import Around, Behavior, Handler, WrappingInterceptor, wrap

# Only webhooks and files may be larger; their limit is the server's own (4 MiB + 64 KiB).
REQUEST_BYTES = 1 << 20
LARGE_METHODS = frozenset(
    {"/switchboard.v1.WebhookService/ReceiveMetaWebhook", "/switchboard.v1.MediaService/UploadMedia"}
)


class RequestTooLarge(Refusal):
    """Above what the method takes."""

    status = "RESOURCE_EXHAUSTED"
    reason = "REQUEST_TOO_LARGE"

    def __init__(self, size: int) -> None:
        text = f"the request has {size} bytes, the method takes {REQUEST_BYTES}"
        super().__init__(text, metadata={"limit": str(REQUEST_BYTES)})


def field_path(violation: Any) -> str:
    """A violation's proto path such as "text.body" or "tags[2]"; empty for rules on the whole message."""
    path = ""
    # A rule on the whole message has no field at all.
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += ("." if path else "") + element.field_name
        # The engine's own message classes: a oneof is an object with field and value.
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path


def rendered(violation: Any) -> FieldViolation:
    """One violation in words; a violation's own str() is a dump."""
    return FieldViolation(field_path(violation), violation.proto.message or violation.proto.rule_id)


def check(request: Message) -> None:
    """Raises InvalidFields naming every bad field."""
    violations = protovalidate.collect_violations(request)
    if violations:
        raise InvalidFields(*map(rendered, violations))


class RequestMalformed(Refusal):
    """Bytes that are not the method's request."""

    status = "INVALID_ARGUMENT"
    reason = "MALFORMED_REQUEST"

    def __init__(self) -> None:
        super().__init__("the bytes are not a request of this method, or are nested too deep")


class ValidationInterceptor(WrappingInterceptor):
    """Innermost: refuses what cannot be parsed, and what the contract's rules refuse; the rest goes on through the trail."""

    def __init__(self, trail: Trail) -> None:
        super().__init__()
        self._trail = trail

    def wrapped(self, method: str, handler: Handler) -> Handler:
        """Parses in here: outside, grpc would answer a failure in its own words, before the caller is known."""
        if handler.request_deserializer is None:
            return handler
        return wrap(handler, _validated(method, handler.request_deserializer, self._trail), parses=False)


def _validated(method: str, parse: Callable[[bytes], Any], trail: Trail) -> Around:
    """Checks size and rules before the servicer sees the request."""
    bounded = method not in LARGE_METHODS

    def around(inner: Behavior) -> Behavior:
        async def validate(data: Any, call: Any) -> Any:
            if bounded and len(data) > REQUEST_BYTES:
                raise RequestTooLarge(len(data))
            try:
                request = parse(data)
            except DecodeError:
                raise RequestMalformed() from None
            check(request)
            return await trail.through(call, request, inner)

        return validate

    return around
