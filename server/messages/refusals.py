"""Why a message cannot be sent on its channel."""

from __future__ import annotations

from dataclasses import dataclass

from server.kit.errors import FieldViolation, Refusal


@dataclass(frozen=True, slots=True)
class Excess:
    """A field with more than the provider takes. most: what it takes; None where that is no matter of a number."""

    field: str
    description: str
    most: int | None = None


class ProviderLimit(Refusal):
    """The provider takes less than the contract. The first field's limit stands in the metadata, if it has one."""

    status = "INVALID_ARGUMENT"
    reason = "PROVIDER_LIMIT"

    def __init__(self, *excesses: Excess) -> None:
        most = excesses[0].most
        text = "; ".join(excess.description for excess in excesses)
        super().__init__(text, metadata={} if most is None else {"limit": str(most)})
        self.violations = tuple(FieldViolation(excess.field, excess.description) for excess in excesses)


class ChannelNotSending(Refusal):
    """The channel's provider refuses its token or account, or it has none any more."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_NOT_SENDING"

    def __init__(self, state: str) -> None:
        super().__init__(f"the channel is {state}", metadata={"state": state})
