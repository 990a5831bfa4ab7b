"""Why there is no template."""

from __future__ import annotations

from server.kit.errors import Refusal


class ChannelWithoutTemplates(Refusal):
    """Its provider knows none."""

    status = "FAILED_PRECONDITION"
    reason = "CHANNEL_WITHOUT_TEMPLATES"

    def __init__(self, provider: str) -> None:
        super().__init__("channels of this provider have no templates", metadata={"provider": provider})
