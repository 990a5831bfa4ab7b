"""Why streams end, and how the last item says it."""

from __future__ import annotations

import random
from datetime import timedelta

from switchboard.v1 import error_reason_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox.wire import duration
from server.kit.errors import Refusal
from server.log.cursor import CursorDiverged, CursorExpired
from server.rpc.auth import CredentialExpired, CredentialInvalid, CredentialRevoked, PermissionMissing

_REVOKED_REASONS = frozenset(
    {CredentialInvalid.reason, CredentialRevoked.reason, PermissionMissing.reason, "TENANT_DISABLED"}
)
_REASONS = {
    CursorExpired.reason: inbox.END_REASON_CURSOR_EXPIRED,
    CursorDiverged.reason: inbox.END_REASON_CURSOR_DIVERGED,
    CredentialExpired.reason: inbox.END_REASON_CREDENTIAL_EXPIRED,
    "SLOW_CONSUMER": inbox.END_REASON_SLOW_CONSUMER,
} | dict.fromkeys(_REVOKED_REASONS, inbox.END_REASON_CREDENTIAL_REVOKED)
_NOT_RESUMABLE = (inbox.END_REASON_CURSOR_EXPIRED, inbox.END_REASON_CURSOR_DIVERGED)
_WORDS = {
    inbox.END_REASON_DRAIN: "the server stops; resume at once, another one answers",
    inbox.END_REASON_LIFETIME: "the stream lasted long enough; resume at once",
    inbox.END_REASON_CREDENTIAL_EXPIRED: "the credential has expired; resume with a new one",
}


class ScopeUnavailable(Refusal):
    """The rights cannot be computed, so nothing is shown."""

    status = "UNAVAILABLE"
    reason = "SCOPE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the rights of the caller cannot be read now; resume later", retry_after=timedelta(seconds=1))


class SlowConsumer(Refusal):
    """The reader is further behind than the server follows."""

    status = "RESOURCE_EXHAUSTED"
    reason = "SLOW_CONSUMER"

    def __init__(self, lag: int) -> None:
        text = f"the reader is {lag} events behind and does not catch up; resume from the cursor"
        super().__init__(text, retry_after=timedelta(seconds=1))


class StreamEnd(Exception):
    """Ends a stream in order: with an end item and status OK."""

    def __init__(
        self,
        reason: inbox.EndReason.ValueType,
        *,
        retry_after: timedelta = timedelta(0),
        error: str = "",
        message: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.error = error
        self.message = message or _WORDS.get(reason, "")

    @classmethod
    def because(cls, refusal: Refusal) -> StreamEnd:
        """The end that a refusal means for a stream that has begun."""
        reason = _REASONS.get(refusal.reason, inbox.END_REASON_UNAVAILABLE)
        wait = refusal.retry_after or timedelta(0)
        if reason == inbox.END_REASON_UNAVAILABLE:
            # A process full of streams must not have them all back in the same moment.
            wait = max(wait, timedelta(seconds=1)) * random.uniform(1, 3)
        return cls(reason, retry_after=wait, error=refusal.reason, message=refusal.message)

    def item(self, cursor: str) -> bytes:
        """The last item. cursor: where to resume, left out where that is no use."""
        end = inbox.End(
            reason=self.reason,
            cursor="" if self.reason in _NOT_RESUMABLE else cursor,
            retry_after=duration(self.retry_after),
            message=self.message,
        )
        if self.error:
            end.error = error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{self.error}")
        return inbox.WatchInboxResponse(end=end).SerializeToString()
