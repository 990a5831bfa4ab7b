"""Why a channel cannot be used."""

from __future__ import annotations

from datetime import timedelta

from server.kit.errors import Refusal
from server.providers.checks import Check
from server.providers.contract import Refused


class ProviderUnavailable(Refusal):
    """The provider did not answer to the end."""

    status = "UNAVAILABLE"
    reason = "PROVIDER_UNAVAILABLE"

    def __init__(self, problem: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(f"the provider did not answer: {problem}", retry_after=retry_after)


class ProviderRefused(Refusal):
    """The provider answered that it will not."""

    status = "FAILED_PRECONDITION"
    reason = "PROVIDER_REFUSED"

    def __init__(self, refused: Refused) -> None:
        metadata = {"code": refused.code, "class": refused.error_class.value}
        super().__init__(f"the provider refused: {refused.message}", metadata=metadata)


class ChannelCheckFailed(Refusal):
    """The provider does not let the account be used so."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_CHECK_FAILED"

    def __init__(self, check: Check) -> None:
        told = {"remedy": check.remedy, "code": check.code, "trace_id": check.trace_id}
        metadata = {"check": check.name.upper()} | {name: value for name, value in told.items() if value}
        message = f"{check.name}: {check.message.rstrip('.')}"
        super().__init__(f"{message}. {check.remedy}" if check.remedy else message, metadata=metadata)


class ChannelMakesNoSecrets(Refusal):
    """The provider makes the channel's tokens."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_MAKES_NO_SECRETS"

    def __init__(self, provider: str) -> None:
        message = "the provider makes this channel's tokens; resume the channel with a new one"
        super().__init__(message, metadata={"provider": provider})


class ChannelDisconnected(Refusal):
    """The channel has no account any more."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_DISCONNECTED"

    def __init__(self) -> None:
        super().__init__("the channel was disconnected; connect its account again")
