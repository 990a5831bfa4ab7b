"""What a call can raise: one class per status code that callers tell apart, with the contract's reason and details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from switchboard_client.switchboard.v1 import End, EndReason


@dataclass(frozen=True)
class FieldViolation:
    """One field at fault: its path in the request, such as `text.body`, and what is wrong with it."""

    field: str
    description: str


class SwitchboardError(Exception):
    """A call or a stream was refused, or could not be answered.

    `code` is the gRPC status, `reason` the contract's ErrorReason without its prefix ("" when the edge or the
    transport answered), `metadata` what the reason tells besides, `retry_after` how long the server asks to wait,
    `status` the whole google.rpc.Status. `request_id` is what the SDK sent: repeating the call with it is safe.
    """

    def __init__(self, status: status_pb2.Status, *, request_id: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.request_id = request_id
        self.code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        self.message = status.message
        self.reason = ""
        self.metadata: Mapping[str, str] = {}
        self.violations: tuple[FieldViolation, ...] = ()
        self.retry_after: timedelta | None = None
        self._read_details()

    def _read_details(self) -> None:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        for detail in self.status.details:
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.violations = tuple(FieldViolation(each.field, each.description) for each in bad.field_violations)
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta()

    def __str__(self) -> str:
        words = " ".join(word for word in (self.code.name, self.reason) if word)
        fields = [f"{each.field}: {each.description}" for each in self.violations]
        return "; ".join([f"{words}: {self.message}", *(each for each in fields if each not in self.message)])


class InvalidArgumentError(SwitchboardError):
    """Something in the request is at fault whatever the state; `violations` names the fields."""


class UnauthenticatedError(SwitchboardError):
    """No credential, or one that is not good (any more)."""


class PermissionDeniedError(SwitchboardError):
    """The credential is good and may not do this."""


class NotFoundError(SwitchboardError):
    """Unknown, of another tenant, or not visible to the caller."""


class AlreadyExistsError(SwitchboardError):
    """It is there already, or the request id was used with another body."""


class FailedPreconditionError(SwitchboardError):
    """The state does not allow it; repeating alone will not help."""


class AbortedError(SwitchboardError):
    """Somebody else was quicker: read again, decide again."""


class OutOfRangeError(SwitchboardError):
    """The position is outside what is kept."""


class CursorExpiredError(OutOfRangeError):
    """The events after the cursor are no longer kept. List anew, watch from the answer's `as_of`."""


class CursorDivergedError(OutOfRangeError):
    """The log is not the one the cursor came from. Forget everything, list anew, watch from the answer's `as_of`."""


class ResourceExhaustedError(SwitchboardError):
    """Too much at once; `retry_after` says when to come back."""


class UnavailableError(SwitchboardError):
    """Nobody answered, or somebody who cannot now."""


class DeadlineExceededError(SwitchboardError):
    """The time was over before the answer. Side effects may have happened: repeat with the same `request_id`."""


class UnimplementedError(SwitchboardError):
    """The server does not know the method; it is older than this client."""


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_BY_CODE: Mapping[int, type[SwitchboardError]] = {
    code_pb2.INVALID_ARGUMENT: InvalidArgumentError,
    code_pb2.DEADLINE_EXCEEDED: DeadlineExceededError,
    code_pb2.NOT_FOUND: NotFoundError,
    code_pb2.ALREADY_EXISTS: AlreadyExistsError,
    code_pb2.PERMISSION_DENIED: PermissionDeniedError,
    code_pb2.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    code_pb2.FAILED_PRECONDITION: FailedPreconditionError,
    code_pb2.ABORTED: AbortedError,
    code_pb2.OUT_OF_RANGE: OutOfRangeError,
    code_pb2.UNIMPLEMENTED: UnimplementedError,
    code_pb2.UNAVAILABLE: UnavailableError,
    code_pb2.UNAUTHENTICATED: UnauthenticatedError,
}
_BY_REASON: Mapping[str, type[SwitchboardError]] = {
    "CURSOR_EXPIRED": CursorExpiredError,
    "CURSOR_DIVERGED": CursorDivergedError,
}
_END_CODES: Mapping[EndReason, int] = {
    EndReason.CREDENTIAL_EXPIRED: code_pb2.UNAUTHENTICATED,
    EndReason.CREDENTIAL_REVOKED: code_pb2.UNAUTHENTICATED,
    EndReason.SLOW_CONSUMER: code_pb2.RESOURCE_EXHAUSTED,
    EndReason.CURSOR_EXPIRED: code_pb2.OUT_OF_RANGE,
    EndReason.CURSOR_DIVERGED: code_pb2.OUT_OF_RANGE,
    EndReason.REFUSED: code_pb2.INVALID_ARGUMENT,
}


def error_from_status(status: status_pb2.Status, *, request_id: str = "") -> SwitchboardError:
    """The exception for a google.rpc.Status; codes without a class of their own are a plain SwitchboardError."""
    error = SwitchboardError(status, request_id=request_id)
    kind = _BY_REASON.get(error.reason) or _BY_CODE.get(status.code)
    return kind(status, request_id=request_id) if kind else error


def error_from_call(problem: grpc.aio.AioRpcError, *, request_id: str = "") -> SwitchboardError:
    """The exception for a failed call: the status its trailers carry, else the bare code and text of the transport."""
    status = rpc_status.from_call(problem)
    if status is None:
        status = status_pb2.Status(code=problem.code().value[0], message=problem.details() or "")
    return error_from_status(status, request_id=request_id)


def error_from_end(end: End) -> SwitchboardError:
    """The exception for the last item of a stream: its status shows nothing over REST, so the item says it all."""
    reason = (end.error.proto_name or "").removeprefix("ERROR_REASON_") if end.error else ""
    if not reason:
        reason = (end.reason.proto_name or "").removeprefix("END_REASON_")
    status = status_pb2.Status(code=_END_CODES.get(end.reason, code_pb2.UNAVAILABLE), message=end.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="switchboard"))
    if end.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(end.retry_after)
        status.details.add().Pack(retry)
    return error_from_status(status)


def unavailable(message: str) -> UnavailableError:
    """What the client itself finds out about a dead stream, in the shape of everything else."""
    return UnavailableError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message=message))
