"""A stack with many snoozed conversations, and the load that people put on it meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from grpc import aio
from switchboard.v1 import conversation_pb2, conversation_service_pb2, event_pb2, message_service_pb2
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub
from switchboard.v1.message_service_pb2_grpc import MessageServiceStub

from server.embedded.stack import Stack

SENDS_PER_SECOND, LISTS_PER_SECOND = 10, 10
# A conversation as a snooze leaves it, with what it hangs on; key of all its rows is the number in the series.
SNOOZED = """
WITH numbers AS (SELECT n, gen_random_uuid() AS id FROM generate_series(0, $2::int - 1) AS n),
people AS (
    INSERT INTO contacts (id, name, name_source, create_time, update_time)
    SELECT id, 'Customer ' || n, 'provider', now(), now() FROM numbers
), persons AS (
    INSERT INTO identities (id, contact_id, channel_id, create_time) SELECT id, id, $1, now() FROM numbers
), threads AS (
    INSERT INTO conversations (id, channel_id, provider, contact_id, contact_name, identity_id, status, snooze_until,
        snooze_generation, last_message_time, create_time, update_time)
    SELECT id, $1, 'whatsapp', id, 'Customer ' || n, id, 'snoozed', $3::timestamptz + n * $4::interval, 1, now(), now(), now()
    FROM numbers
)
INSERT INTO timers (kind, key, due_time, generation)
SELECT 'snooze', id, $3::timestamptz + n * $4::interval, 1 FROM numbers RETURNING key, due_time
"""
IDLE = """
WITH made AS (
    INSERT INTO tenants (id, name, state, server_id, database_name, role_name, role_password, wrapped_key, schema_revision, create_time)
    SELECT u.id, u.id::text, 'active', s.id, 'idle_' || u.id, 'idle_' || u.id, '', '', '0004', now()
    FROM unnest($1::uuid[]) AS u (id), (SELECT id FROM postgres_servers LIMIT 1) AS s RETURNING id
)
INSERT INTO tenant_work (tenant_id, next_due_time)
SELECT id, CASE WHEN row_number() OVER () % 2 = 0 THEN now() + interval '1 day' END FROM made
"""
WOKEN = """
SELECT conversation_id, payload, create_time FROM stream_event
WHERE kind = 33 AND cause_kind = 3 AND conversation_id = ANY($1::uuid[])
"""


@dataclass
class Snoozes:
    """Conversations by id with the time at which their snooze is to end."""

    due: dict[uuid.UUID, datetime]
    seen: dict[uuid.UUID, datetime] = field(default_factory=dict)


@dataclass
class TimerStack:
    """The stack, and what the tests of timers do to it."""

    stack: Stack

    @property
    def dev(self) -> dict[str, Any]:
        return self.stack.dev()

    @asynccontextmanager
    async def database(self, name: str = "tenant") -> AsyncIterator[asyncpg.Connection]:
        """The tenant's database, or `control`, as the superuser."""
        dsn = self.dev["postgres"][name]
        own = self.stack.server_dsn(dsn.rpartition("/")[2])
        connection = await asyncpg.connect(own, command_timeout=300)
        try:
            yield connection
        finally:
            await connection.close()

    async def snooze(self, count: int, *, first: timedelta, apart: timedelta = timedelta(0)) -> Snoozes:
        """So many snoozed conversations whose time comes one after the other, the first after `first` from now on."""
        async with self.database() as connection:
            channel_id = await connection.fetchval("SELECT id FROM channels ORDER BY id LIMIT 1")
            due = datetime.now(UTC) + first
            rows = await connection.fetch(SNOOZED, channel_id, count, due, apart)
        await self.announce()
        return Snoozes({row["key"]: row["due_time"] for row in rows})

    async def settle(self) -> None:
        """What the database owes for what was written past the API is paid before anything is measured."""
        async with self.database() as connection:
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")

    async def announce(self) -> None:
        """Lets a worker look at the tenant, as it would had the API written."""
        async with self.database("control") as control:
            await control.execute(
                "INSERT INTO tenant_work AS work (tenant_id, active_until) VALUES ($1, now() + interval '15 s')"
                " ON CONFLICT (tenant_id) DO UPDATE SET active_until = greatest(work.active_until, excluded.active_until)",
                uuid.UUID(self.dev["tenants"][0]["id"]),
            )

    async def idle_tenants(self, count: int) -> list[str]:
        """Tenants that are idle, half of them with something due tomorrow; the names of their databases, which do not exist."""
        ids = [uuid.uuid4() for _ in range(count)]
        async with self.database("control") as control:
            await control.execute(IDLE, ids)
        return [f"idle_{each}" for each in ids]

    async def until_woken(self, snoozes: Snoozes, *, within: float) -> float:
        """Waits until no timer of them is left; seconds that took."""
        began = time.monotonic()
        async with self.database() as connection:
            while await connection.fetchval("SELECT count(*) FROM timers WHERE kind = 'snooze'"):
                assert time.monotonic() - began < within, "timers are left over"
                await asyncio.sleep(0.5)
        return time.monotonic() - began

    async def check_once_and_intended(self, snoozes: Snoozes) -> list[float]:
        """Each woke once, with the time that was intended, and is open; how late each was, by its event, in seconds."""
        late = []
        async with self.database() as connection:
            rows = await connection.fetch(WOKEN, list(snoozes.due))
            left = await connection.fetchval(
                "SELECT count(*) FROM conversations WHERE id = ANY($1::uuid[]) AND status <> 'open'", list(snoozes.due)
            )
        assert left == 0
        assert len(rows) == len({row["conversation_id"] for row in rows}) == len(snoozes.due)
        for row in rows:
            changed = event_pb2.InboxEvent.FromString(row["payload"]).conversation_status_changed
            due = snoozes.due[row["conversation_id"]]
            assert abs(changed.intended_time.ToDatetime(UTC) - due) < timedelta(microseconds=1)
            late.append((row["create_time"] - due).total_seconds())
        return late


def percentile(values: list[float], part: float) -> float:
    """The value that so large a part of them does not exceed."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


class People:
    """Sends and lists through Envoy at a steady rate, whether the answers come or not."""

    def __init__(self, timers: TimerStack) -> None:
        self._timers = timers
        self._metadata = (("authorization", f"Bearer {timers.dev['tenant_key']}"),)
        self._channel = aio.insecure_channel(timers.stack.url.removeprefix("http://"))
        self._messages = MessageServiceStub(self._channel)
        self._conversations = ConversationServiceStub(self._channel)
        self._ids: list[str] = []
        self.took: dict[str, list[float]] = {}

    async def meet(self, count: int = 200) -> None:
        """Customers write, so that there are conversations to answer in."""
        for index in range(count):
            await asyncio.to_thread(self._write, f"4915{uuid.uuid4().int % 10**8:08d}", f"hello {index}")
        listing = conversation_service_pb2.ListConversationsRequest(page_size=200)
        listing.filter.status.append(1)
        while len(self._ids) < count:
            page = await self._conversations.ListConversations(listing, metadata=self._metadata)
            self._ids = [item.id for item in page.conversations if item.HasField("last_message_time")]
            await asyncio.sleep(0.2)

    def _write(self, sender: str, text: str) -> None:
        dev = self._timers.dev
        body = json.dumps({"from": sender, "text": text, "phoneNumberId": dev["channels"][0]["phone_number_id"]})
        request = urllib.request.Request(
            dev["simulator"]["url"] + "/_control/inbound", data=body.encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()

    async def snooze(self, until: datetime) -> uuid.UUID:
        """Snoozes the first conversation until then, as any caller does."""
        request = conversation_service_pb2.UpdateConversationStatusRequest(
            conversation_id=self._ids[0], status=conversation_pb2.CONVERSATION_STATUS_SNOOZED
        )
        request.snooze_until_time.FromDatetime(until)
        await self._conversations.UpdateConversationStatus(request, metadata=self._metadata, timeout=30)
        return uuid.UUID(self._ids[0])

    async def work(self, until: Callable[[], bool]) -> dict[str, list[float]]:
        """Goes on until that is so; seconds that each call took."""
        self.took = {"send": [], "list": []}
        running: set[asyncio.Task[None]] = set()
        began, turn = time.monotonic(), 0
        gap = 1 / (SENDS_PER_SECOND + LISTS_PER_SECOND)
        while not until():
            call = self._send(turn) if turn % 2 else self._list()
            task = asyncio.create_task(self._timed("send" if turn % 2 else "list", call))
            running.add(task)
            task.add_done_callback(running.discard)
            turn += 1
            await asyncio.sleep(max(began + turn * gap - time.monotonic(), 0))
        await asyncio.gather(*running)
        return self.took

    async def _timed(self, name: str, call: Awaitable[Any]) -> None:
        began = time.monotonic()
        await call
        self.took[name].append(time.monotonic() - began)

    async def _send(self, turn: int) -> None:
        request = message_service_pb2.SendMessageRequest(conversation_id=self._ids[turn // 2 % len(self._ids)])
        request.text.body = "a reply"
        await self._messages.SendMessage(request, metadata=self._metadata, timeout=30)

    async def _list(self) -> None:
        request = conversation_service_pb2.ListConversationsRequest(page_size=50)
        await self._conversations.ListConversations(request, metadata=self._metadata, timeout=30)

    async def close(self) -> None:
        await self._channel.close()
