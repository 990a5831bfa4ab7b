"""A channel of WhatsApp whose sends go through the worker's own path to the simulator, and the rows that are left of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from server.deliveries import claiming
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig
from tests.desk import Desk, phone
from tests.providers.provider_bench import SHORT

# What a send leaves behind; times are seconds from the claim.
ROWS = """
SELECT d.state AS delivery, d.attempt, d.uncounted, d.error_code, d.error_message, m.status AS message,
    p.error_code AS part_error, ch.state AS channel, ch.state_reason AS reason,
    extract(epoch FROM d.due_time - $2)::float8 AS waits,
    extract(epoch FROM ch.next_send_time - $2)::float8 AS account_waits,
    extract(epoch FROM b.next_send_time - $2)::float8 AS recipient_waits,
    extract(epoch FROM ch.templates_held_until - $2)::float8 AS templates_wait,
    c.reply_window_expire_time <= clock_now() AS window_closed,
    (SELECT k.state FROM marketing_consents k WHERE k.channel_id = d.channel_id) AS consent
FROM deliveries d
JOIN message_parts p ON p.id = d.part_id
JOIN messages m ON m.id = p.message_id
JOIN conversations c ON c.id = d.conversation_id
JOIN channels ch ON ch.id = d.channel_id
LEFT JOIN recipient_buckets b ON b.identity_id = c.identity_id
WHERE m.id = $1
"""
# What claiming moves by itself: 1/80 s of the account, 6 s of the recipient.
USUAL_SECONDS = {"waits": 1.0, "account_waits": 1.0, "recipient_waits": 7.0, "templates_wait": 0.0}
# A delay is made longer by up to a fifth; the test itself may take so long.
JITTER, SLACK_SECONDS = 1.2, 5.0


@dataclass
class Line:
    """A conversation on a channel of its own, and the simulator at the other end."""

    desk: Desk
    channel: Any
    conversation_id: Any
    recipient: str
    url: str
    http: aiohttp.ClientSession
    providers: dict[str, Provider]

    async def arm(self, **fault: object) -> None:
        """Has the simulator do this to what comes next."""
        async with self.http.post(f"{self.url}/_control/faults", json=fault) as response:
            assert response.status == 201, await response.text()

    async def queue(self, text: str | None = "hello", **more: Any) -> Any:
        """Stores a message; its id."""
        stored = await self.desk.writer().submit(self.desk.send(self.conversation_id, text, **more))
        assert isinstance(stored, Stored), stored
        return stored.message.id

    async def deliver(self, *, at_once: int = 50) -> None:
        """Claims what is due, when its account may send again, and sends it."""
        while not await self.sent(at_once):
            await asyncio.sleep(0.01)

    async def sent(self, at_once: int = 50) -> int:
        """Claims what may be sent now, and sends it; how many these were."""
        taken = await self.claimed(at_once)
        sender = Sender(self.desk.database, self.desk.tenant.secrets, self.providers)
        await asyncio.gather(*(sender.deliver(claimed) for claimed in taken))
        return len(taken)

    async def claimed(self, most: int = 50) -> list[claiming.Claimed]:
        """Claims what may be sent now, and leaves it at that."""
        async with self.desk.database.connection() as connection:
            taken = await claiming.claim(connection, worker="w", limit=most, providers=self.desk.providers)
        return taken.claimed

    async def requests(self) -> list[Any]:
        """What the simulator was asked, the oldest first."""
        async with self.http.get(f"{self.url}/_control/requests") as response:
            return list((await response.json())["requests"])

    async def settled(self, text: str | None = "hello", **more: Any) -> tuple[Any, dict[str, Any]]:
        """Sends one message; its id and its rows."""
        message_id = await self.queue(text, **more)
        now = await self.desk.value("SELECT clock_now()")
        await self.deliver()
        return message_id, await self.rows(message_id, since=now)

    async def rows(self, message_id: Any, *, since: Any) -> dict[str, Any]:
        """What the database has of a message; what waits no longer than usual is left out, as is what is not so."""
        (record,) = await self.desk.rows(ROWS, message_id, since)
        found = {name: value for name, value in dict(record).items() if value not in (None, False, 0)}
        for name, usual in USUAL_SECONDS.items():
            if name in found and found[name] <= usual:
                del found[name]
        return found


@asynccontextmanager
async def line(desk: Desk, *, customer: str = "", **account: object) -> AsyncIterator[Line]:
    """A new channel with a customer who wrote just now; it is paused afterwards, so that nothing of it is claimed again."""
    channel, sender = await desk.new_channel(), customer or phone()
    row = await desk.started(channel, sender)
    whole = desk.account(channel.id, **account)
    config = SimulatorConfig.model_validate({"accounts": [whole], "receipts": None})
    async with TestServer(create_app(config)) as server, aiohttp.ClientSession() as http:
        url = str(server.make_url("")).rstrip("/")
        providers = create_providers(ProviderSettings(meta_graph_url=url, meta_limits=SHORT))
        try:
            yield Line(desk, channel, row.id, sender, url, http, providers)
        finally:
            for provider in providers.values():
                await provider.close()
            await desk.execute("UPDATE channels SET state = 'paused' WHERE id = $1", channel.id)


def nominal(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The rows with each wait as the golden one has it, where it is that wait, made longer by no more than the jitter."""
    same = dict(found)
    for name in USUAL_SECONDS:
        least = wanted.get(name)
        if least is not None and name in found and least - 0.01 <= found[name] <= least * JITTER + SLACK_SECONDS:
            same[name] = least
    return same
