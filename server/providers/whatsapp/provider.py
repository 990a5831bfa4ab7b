"""WhatsApp as a provider: its capabilities, its parser, its way of sending."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from server.providers.contract import Capabilities, Change, Item, Outcome, Outgoing, Pace
from server.providers.meta.graph import GraphClient
from server.providers.whatsapp import parse, send


class WhatsApp:
    """The Cloud API of WhatsApp Business. Implements `server.providers.contract.Provider`."""

    name = "whatsapp"
    webhook_objects = frozenset({"whatsapp_business_account"})
    parser_version = parse.VERSION
    capabilities = Capabilities(
        text_characters=4096,
        opaque_characters=512,
        reply_window=timedelta(hours=24),
        reply_window_margin=timedelta(seconds=60),
        # 80 messages a second for each number; no more than a tenth of a second's worth at once.
        account_pace=Pace(every=timedelta(seconds=1) / 80, ahead=timedelta(milliseconds=100)),
        # One in 6 s to each user, and up to 45 at once, borrowed from the time after.
        recipient_pace=Pace(every=timedelta(seconds=6), ahead=44 * timedelta(seconds=6)),
        address_kinds=frozenset({"wa_id", "bsuid", "parent_bsuid", "group"}),
    )

    def __init__(self, graph: GraphClient) -> None:
        self._graph = graph

    def parse(self, change: Change) -> Sequence[Item]:
        """As of Provider."""
        return parse.parse(change)

    async def send(self, outgoing: Outgoing) -> Outcome:
        """As of Provider."""
        answer = await self._graph.post(
            version=outgoing.graph_version,
            object_id=outgoing.account_id,
            edge="messages",
            token=outgoing.token,
            body=send.message_body(outgoing),
        )
        return send.outcome(answer, attempt=outgoing.attempt)

    async def close(self) -> None:
        """As of Provider."""
        await self._graph.close()
