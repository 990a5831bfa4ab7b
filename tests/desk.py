"""A tenant's database on a real Postgres, without any server in front of it: what the slices' own tests work at."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
from switchboard.v1 import event_pb2

from server.channels import service as channels
from server.channels.service import ChannelRow
from server.conversations import repository, service
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.db import Database, Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.event import Actor, ActorKind, Cause, CauseKind, Origin
from server.messages.batch import BatchWriter
from server.messages.items import Receive, Send
from server.providers.contract import Account, InboundMessage, Provider
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.registry import ProviderSettings, create_providers
from server.rpc.call import Scope
from server.simulator import payloads
from server.simulator.payloads import InboundText, Number
from server.tenancy.tenants import Tenant
from tests.installation import Installed
from tests.replayed import differences, replayed, stored

T = TypeVar("T")
ALL = Scope(all=True)


def nobody() -> Origin:
    """A service's key."""
    return Origin(
        actor=Actor(ActorKind.ACTOR_KIND_API_KEY, new_id()), cause=Cause(CauseKind.CAUSE_KIND_REQUEST, "test")
    )


def agent(agent_id: uuid.UUID) -> Origin:
    """An agent."""
    return Origin(actor=Actor(ActorKind.ACTOR_KIND_AGENT, agent_id), cause=Cause(CauseKind.CAUSE_KIND_REQUEST, "test"))


def phone() -> str:
    """A number that nobody else has."""
    # No 0 behind the country's code: written with a +, a number is told the same without it.
    return f"49{10**9 + uuid.uuid4().int % (9 * 10**9)}"


@dataclass
class Desk:
    """One tenant in two processes' worth of pools; what tests do to it and look up in it."""

    tenant: Tenant
    database: Database
    beside: Database
    dsn: str
    providers: dict[str, Provider]
    numbers: dict[uuid.UUID, Number] = field(default_factory=dict)

    def writer(self, database: Database | None = None) -> BatchWriter:
        """A batch writer; give it `beside` and it is another process's."""
        return BatchWriter(database or self.database, self.providers)

    def account(self, channel_id: uuid.UUID, **more: object) -> dict[str, Any]:
        """A channel as the simulator is told of it; its webhooks go nowhere."""
        number = self.numbers[channel_id]
        return {
            "phone_number_id": number.phone_number_id,
            "waba_id": number.waba_id,
            "display_phone_number": number.display_phone_number,
            "access_token": "EAAJtoken",
            "app_secret": "secret",
            "webhook_url": "http://127.0.0.1:9/",
            "window": "off",
            **more,
        }

    async def execute(self, statement: str, *values: object) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, *values)

    async def value(self, statement: str, *values: object) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        async with self.database.connection() as connection:
            found: list[Any] = await connection.fetch(statement, *values)
            return found

    async def do(self, work: Callable[[Write], Awaitable[T]], *, database: Database | None = None) -> T:
        """A unit of work that appends the events of what it returns, if that has any."""

        async def unit(write: Write) -> T:
            result = await work(write)
            await append(write, getattr(result, "events", ()))
            return result

        return await (database or self.database).write(unit)

    async def new_channel(self, **columns: object) -> ChannelRow:
        """A WhatsApp number; columns of its row besides those of every channel."""
        number = Number("102290129340398", f"{uuid.uuid4().int % 10**15:015}", "15550783881")
        shown = columns.pop("display_phone_number", number.display_phone_number)
        details = {"phone_number_id": number.phone_number_id, "waba_id": number.waba_id, "graph_version": "v26.0"}
        details |= {} if shown is None else {"display_phone_number": str(shown)}
        wanted = channels.Connect(
            id=new_id(),
            name="WhatsApp",
            provider="whatsapp",
            account=Account(account_id=number.phone_number_id, token="EAAJtoken", details=details),
        )

        async def connect(write: Write) -> None:
            _, events = await channels.connect(write, self.tenant.secrets, wanted, origin=nobody())
            await append(write, events)

        await self.database.write(connect)
        self.numbers[wanted.id] = number
        for name, value in columns.items():
            await self.execute(f"UPDATE channels SET {name} = $2 WHERE id = $1", wanted.id, value)
        async with self.database.connection() as connection:
            return (await channels.by_ids(connection, [wanted.id]))[wanted.id]

    async def new_agent(self, role: str = "owner") -> uuid.UUID:
        agent_id = new_id()
        await self.execute(
            "INSERT INTO agents (id, name, email, kind, role, state, create_time) VALUES ($1, 'Ana', $2, 'human', $3, 'active', now())",
            *(agent_id, f"{agent_id}@example.org", role),
        )
        return agent_id

    def receive(
        self,
        channel: ChannelRow,
        sender: str | None = None,
        text: str = "hello",
        *,
        at: float | None = None,
        **more: Any,
    ) -> Receive:
        """A customer's message as it comes out of a webhook. at: Unix seconds; more: bsuid, name, wamid."""
        inbound = InboundText(text=text, timestamp=int(time.time() if at is None else at), phone=sender, **more)
        return self.received(channel, payloads.inbound_body(self.numbers[channel.id], [inbound]))[0]

    def received(self, channel: ChannelRow, body: Any) -> list[Receive]:
        """The messages of a webhook's body."""
        envelope = read_envelope(payloads.encode(body), objects=self.providers["whatsapp"].webhook_objects)
        assert isinstance(envelope, Envelope)
        items = [item for change in envelope.changes for item in self.providers["whatsapp"].parse(change)]
        return [self.receive_of(channel, item) for item in items if isinstance(item, InboundMessage)]

    def receive_of(self, channel: ChannelRow, inbound: InboundMessage) -> Receive:
        item_id = new_id()
        cause = Cause(CauseKind.CAUSE_KIND_JOURNAL_ITEM, str(item_id))
        return Receive(
            channel=channel,
            inbound=inbound,
            origin=Origin(actor=Actor(ActorKind.ACTOR_KIND_SYSTEM), cause=cause),
            journal_id=new_id(),
            journal_item_id=item_id,
            parser_version=1,
        )

    def send(
        self, conversation_id: uuid.UUID, text: str | None = "hi", *, by: Origin | None = None, **more: Any
    ) -> Send:
        """An answer. more: scope, request_id, request_hash, last_seen_message_id, client_address, user_agent."""
        whole: dict[str, Any] = {
            **{
                "scope": ALL,
                "request_id": None,
                "request_hash": (text or "").encode("utf-8", "replace"),
                "last_seen_message_id": None,
            },
            **more,
        }
        return Send(origin=by or nobody(), conversation_id=conversation_id, text=text, **whole)

    async def conversation(self, conversation_id: uuid.UUID) -> ConversationRow:
        async with self.database.connection() as connection:
            return (await repository.get_visible(connection, ALL, conversation_id, deleted=True))[0]

    async def started(self, channel: ChannelRow, sender: str | None = None) -> ConversationRow:
        """A conversation that a customer began just now."""
        stored = await self.writer().submit(self.receive(channel, sender or phone()))
        return await self.conversation(stored.message.conversation_id)  # type: ignore[union-attr]

    async def move(self, conversation_id: uuid.UUID, to: str, **more: Any) -> Changed:
        """Sets a status."""
        whole = {"snooze_until": None, "reason": None, "expected_version": None, **more}
        return await self.do(
            lambda write: service.update_status(write, ALL, conversation_id, origin=nobody(), to=to, **whole)
        )

    async def head(self) -> tuple[Any, ...]:
        return tuple((await self.rows("SELECT epoch, head, floor, head_event_id, xmin::text FROM stream_head"))[0])

    async def events(self, *, after: int = 0) -> list[tuple[int, event_pb2.InboxEvent]]:
        found = await self.rows("SELECT seq, payload FROM stream_event WHERE seq > $1 ORDER BY seq", after)
        return [(row["seq"], event_pb2.InboxEvent.FromString(row["payload"])) for row in found]

    async def kinds(self, *, after: int = 0) -> list[str]:
        return [str(event.WhichOneof("body")) for _, event in await self.events(after=after)]

    async def check(self) -> None:
        """What is always true of a tenant's log and of its counters."""
        await self.check_log()
        await self.check_counters()
        await self.check_snapshots()

    async def check_log(self) -> None:
        """Dense and gapless, and the head points at its newest event."""
        rows = await self.rows("SELECT seq, tx_last, event_id FROM stream_event ORDER BY seq")
        _, head, _, head_event_id, _ = await self.head()
        assert [row["seq"] for row in rows] == list(range(1, head + 1))
        assert len({row["event_id"] for row in rows}) == len(rows)
        assert not rows or rows[-1]["event_id"] == head_event_id
        ends = {row["tx_last"] for row in rows}
        assert all(row["seq"] <= row["tx_last"] for row in rows)
        assert ends <= {row["seq"] for row in rows}
        assert all(rows[end - 1]["tx_last"] == end for end in ends)

    async def check_counters(self) -> None:
        """The counters of every conversation equal a recount of its messages."""
        assert await self.rows(RECOUNT) == []
        assert await self.rows("SELECT conversation_id, sequence FROM messages GROUP BY 1, 2 HAVING count(*) > 1") == []
        assert await self.rows(RECOUNT_LOADS) == []

    async def check_snapshots(self) -> None:
        """What a reader keeps of events alone equals the tables: rows, tags, notes, assignments, participants, the queue."""
        async with self.database.connection() as connection:
            found = differences(await replayed(connection.fetch), await stored(connection.fetch))
        assert not found, found[:10]


RECOUNT = """
SELECT c.id FROM conversations c LEFT JOIN LATERAL (
    SELECT count(*)::int AS messages, count(*) FILTER (WHERE direction = 'inbound' AND origin IS NULL)::int AS inbound,
        coalesce(max(arrival), 0) AS arrival, coalesce(max(sequence), 0) AS sequence,
        coalesce(max(arrival) FILTER (WHERE direction = 'inbound' AND origin IS NULL), 0) AS in_arrival,
        coalesce(max(arrival) FILTER (WHERE direction = 'outbound' AND origin IS DISTINCT FROM 'history' AND shown), 0) AS out_arrival,
        (array_agg(id ORDER BY sequence DESC) FILTER (WHERE shown))[1] AS newest,
        (array_agg(text ORDER BY sequence DESC) FILTER (WHERE shown))[1] AS newest_text,
        (array_agg(CASE WHEN details ? 'delete_time' THEN 'deleted' ELSE type END ORDER BY sequence DESC) FILTER (WHERE shown))[1]
            AS newest_type,
        (array_agg(author_id ORDER BY arrival DESC)
            FILTER (WHERE direction = 'outbound' AND origin IS DISTINCT FROM 'history' AND shown))[1] AS author
    FROM (
        SELECT *, details ->> 'origin' AS origin, NOT coalesce(details ? 'same_as_message_id', FALSE) AS shown FROM messages
    ) m WHERE m.conversation_id = c.id
) m ON TRUE
WHERE (c.message_count, c.inbound_count, c.message_count, c.last_sequence, c.last_inbound_arrival, c.last_outbound_arrival)
    IS DISTINCT FROM (m.messages, m.inbound, m.arrival, m.sequence, m.in_arrival, m.out_arrival)
    OR c.last_message_id IS DISTINCT FROM m.newest OR c.last_outbound_author_id IS DISTINCT FROM m.author
    OR c.team_read_count NOT BETWEEN 0 AND c.inbound_count
    OR left(coalesce(m.newest_text, '[' || m.newest_type || ']'), 20) IS DISTINCT FROM left(nullif(c.last_message_preview, ''), 20)
"""

# What each agent holds, counted anew: its live conversations, and what they weigh for it.
RECOUNT_LOADS = """
SELECT l.agent_id, l.load, l.conversations, held.load AS held_load, held.conversations AS held FROM agent_loads l LEFT JOIN (
    SELECT assignee_id, count(*) AS conversations,
        sum(CASE WHEN status IN ('new', 'open') THEN weight ELSE waiting_weight END) AS load
    FROM conversations WHERE status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL GROUP BY assignee_id
) held ON held.assignee_id = l.agent_id
WHERE (l.load, l.conversations) <> (coalesce(held.load, 0), coalesce(held.conversations, 0))
"""


async def open_desk(installed: Installed) -> Desk:
    """A new tenant of an installation."""
    await installed.new_tenant(name := f"t-{new_id().hex[-12:]}")
    row = await installed.tenants.by_name(name)
    assert row is not None
    tenant = await installed.tenants.get(row.id)
    dsn = installed.tenants.dsn(row)
    providers = create_providers(ProviderSettings(meta_graph_url="http://127.0.0.1:9"))
    return Desk(tenant, tenant.database, Database(dsn, pool_size=4), dsn, providers)


async def close_desk(desk: Desk) -> None:
    for provider in desk.providers.values():
        await provider.close()
    await desk.beside.close()
    await desk.database.close()


async def kill_backends(dsn: str, server_dsn: str) -> int:
    """Ends every backend of the tenant's database, as a crash of the server would look to it."""
    admin = await asyncpg.connect(server_dsn)
    try:
        killed: int = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1", dsn.rpartition("/")[2]
        )
        return killed
    finally:
        await admin.close()
