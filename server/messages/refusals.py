"""Why a text cannot be sent on its channel."""

from __future__ import annotations

from server.kit.errors import FieldViolation, Refusal


class ProviderLimit(Refusal):
    """The provider takes less than the contract."""

    status = "INVALID_ARGUMENT"
    reason = "PROVIDER_LIMIT"

    def __init__(self, limit: int) -> None:
        text = f"the channel takes at most {limit} characters"
        super().__init__(text, metadata={"limit": str(limit)})
        self.violations = (FieldViolation("text.body", text),)


class ChannelNotSending(Refusal):
    """The channel's provider refuses its token or account."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_NOT_SENDING"

    def __init__(self, state: str) -> None:
        super().__init__(f"the channel is {state}; what is queued stays queued", metadata={"state": state})
