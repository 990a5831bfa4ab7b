"""Why there is no template, or none is written."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from server.kit.errors import Refusal
from server.providers.contract import Refused


class ChannelWithoutTemplates(Refusal):
    """Its provider knows none."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_WITHOUT_TEMPLATES"

    def __init__(self, provider: str) -> None:
        super().__init__("channels of this provider have no templates", metadata={"provider": provider})


class TemplateRefused(Refusal):
    """The provider looked at it and will not have it so."""

    status = "FAILED_PRECONDITION"
    reason = "TEMPLATE_REFUSED"

    def __init__(self, refused: Refused) -> None:
        numbers = {"code": refused.code, "subcode": refused.subcode}
        metadata = {name: value for name, value in numbers.items() if value} | {"problem": refused.problem or "OTHER"}
        super().__init__(f"the provider refused: {refused.advice or refused.message}", metadata=metadata)


class TemplateExists(Refusal):
    """Its name is taken in this language."""

    status = "ALREADY_EXISTS"
    reason = "TEMPLATE_EXISTS"

    def __init__(self, *, template_id: uuid.UUID | None = None, free_time: datetime | None = None) -> None:
        if free_time is not None:
            message = "an approved template of this name and language was deleted; the name is blocked for 30 days"
            super().__init__(message, metadata={"free_time": free_time.isoformat()})
        else:
            metadata = {} if template_id is None else {"template_id": str(template_id)}
            super().__init__("the account has a template of this name in this language", metadata=metadata)


class TemplateNotEditable(Refusal):
    """Its status, or what was done to it lately, does not allow it."""

    status = "FAILED_PRECONDITION"
    reason = "TEMPLATE_NOT_EDITABLE"

    def __init__(self, word: str, *, again_time: datetime | None = None) -> None:
        metadata = {"status": word} | ({} if again_time is None else {"again_time": again_time.isoformat()})
        why = "it was edited as often as the provider allows" if again_time else f"it is {word}"
        super().__init__(f"the template cannot be changed now: {why}", metadata=metadata)


class TemplateRateLimited(Refusal):
    """Too many were written of the account."""

    status = "RESOURCE_EXHAUSTED"
    reason = "TEMPLATE_RATE_LIMITED"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("too many templates of this account were written lately", retry_after=retry_after)
