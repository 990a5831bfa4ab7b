"""Everybody who writes meets on the same fifty conversations: nobody deadlocks, and the books balance."""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.assignments import availability, policies, queue
from server.assignments import service as assignments
from server.channels.service import ChannelRow
from server.contacts import service as contacts
from server.conversations import notes, reads, service, tags
from server.conversations import timers as conversation_timers
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.deliveries import claiming
from server.kit.clock import utc_now
from server.kit.db import Database, Write
from server.kit.errors import Refusal
from server.kit.ids import new_id
from server.log.append import append
from server.messages import receipts
from server.messages.batch import BatchWriter
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.messages.receipts import Update
from server.providers.contract import Accepted, Ambiguous, ErrorClass, Refused
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone

Errors = Callable[[], list[str]]
# More than there are who write at once through one of them: whoever waits here waits for a lock, not for a connection.
CONNECTIONS = 16
MOVES = ("open", "pending", "snoozed", "resolved", "archived")


class Meeting:
    """Fifty customers and all who write about them. Refusals are answers; any other error is a finding."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.random = random.Random(seed)
        self.refused: list[Refusal] = []
        self.done = 0
        self.senders = [phone() for _ in range(50)]
        self.rows: list[ConversationRow] = []
        self.agents: list[uuid.UUID] = []

    async def prepare(self) -> None:
        self.channel = await self.desk.new_channel()
        self.agents = [await self.desk.new_agent() for _ in range(4)]
        self.rows = [await self.desk.started(self.channel, sender) for sender in self.senders]
        for agent_id in self.agents:
            await self.desk.execute("INSERT INTO channel_members VALUES ($1, $2)", self.channel.id, agent_id)
        settings = policies.Settings(
            strategy="load_based",
            required_skills=(),
            fairness_most=None,
            fairness_window=None,
            sticky=True,
            reclaim_after=timedelta(0),
            queue_order="priority",
            weight=None,
            waiting_weight=None,
        )

        async def policy(write: Write) -> None:
            whole: Any = {"policy_id": new_id(), "channel_id": self.channel.id, "team_id": None, "settings": settings}
            _, events = await policies.create(write, origin=nobody(), **whole)
            await append(write, events)

        await self.desk.database.write(policy)

    @property
    def some(self) -> uuid.UUID:
        return self.random.choice(self.rows).id

    async def unit(self, database: Database, work: Callable[[Write], Awaitable[Any]]) -> Any:
        try:
            return await self.desk.do(work, database=database)
        except Refusal as refusal:
            self.refused.append(refusal)
        finally:
            self.done += 1

    async def write(self, writer: BatchWriter) -> None:
        """A batch of answers and messages, in no order of the conversations."""
        items = [
            self.desk.receive(self.channel, self.random.choice(self.senders), name=self.random.choice("ABC"))
            for _ in range(4)
        ]
        sends = [self.desk.send(self.some, by=agent(self.random.choice(self.agents))) for _ in range(4)]
        mixed = [*items, *sends]
        self.random.shuffle(mixed)
        for result in await asyncio.gather(*(writer.submit(item) for item in mixed), return_exceptions=True):
            self.done += 1
            if isinstance(result, Refusal):
                self.refused.append(result)
            elif isinstance(result, BaseException):
                raise result

    async def move(self, database: Database) -> None:
        to, some = self.random.choice(MOVES), self.some
        until = utc_now() + timedelta(milliseconds=self.random.randint(1, 400)) if to == "snoozed" else None
        await self.unit(
            database,
            lambda write: service.update_status(
                write, ALL, some, origin=nobody(), to=to, snooze_until=until, reason=None, expected_version=None
            ),
        )

    async def assign(self, database: Database) -> None:
        some, who, more = (
            self.some,
            self.random.choice([None, *self.agents]),
            {"reason": None, "expected_version": None},
        )

        async def work(write: Write) -> Changed:
            if who is None:
                return await assignments.unassign(write, ALL, some, origin=nobody(), **more)
            return await assignments.assign(write, ALL, some, origin=nobody(), agent_id=who, team_id=None, **more)

        await self.unit(database, work)

    async def drain(self, database: Database) -> None:
        """What a worker's assigner does, whether there is reason to or not."""
        async with database.connection() as connection:
            state = await queue.state(connection)
        await queue.drain(database, state.head, present=None)
        self.done += 1

    async def come_and_go(self, database: Database) -> None:
        """Agents come and go, and take back what they were given when they go; others ask the policy to choose."""
        who, to = self.random.choice(self.agents), self.random.choice(["online", "online", "away"])

        async def say(write: Write) -> Changed:
            _, events = await availability.set_availability(write, who, origin=nobody(), to=to)
            return Changed(self.rows[0], events)

        await self.unit(database, say)
        some, more = self.some, {"team_id": None, "reason": None, "expected_version": None, "present": None}
        await self.unit(database, lambda write: assignments.assign_by_policy(write, ALL, some, origin=nobody(), **more))

    async def note(self, database: Database) -> None:
        some, by = self.some, agent(self.random.choice(self.agents))
        await self.unit(
            database, lambda write: notes.add(write, ALL, some, origin=by, note_id=new_id(), text="note", pinned=False)
        )
        names = self.random.sample(["vip", "late", "angry", "new"], 2)
        await self.unit(database, lambda write: tags.add(write, ALL, some, origin=by, names=names))

    async def read(self, database: Database) -> None:
        some, by = self.some, agent(self.random.choice(self.agents))
        await self.unit(
            database,
            lambda write: reads.mark_read(write, ALL, some, origin=by, message_id=None, providers=self.desk.providers),
        )

    async def receipts(self, database: Database) -> None:
        """Receipts of parts of several conversations in one unit of work, some of which close the window."""
        parts = await self.desk.rows(
            "SELECT p.id FROM message_parts p JOIN messages m ON m.id = p.message_id WHERE m.direction = 'outbound'"
            " ORDER BY random() LIMIT 5"
        )
        updates = [
            Update(
                channel_id=self.channel.id,
                provider_message_id=f"wamid.{part['id']}",
                part_id=part["id"],
                status=status,
                source="receipt",
                origin=nobody(),
                closes_reply_window=status == "failed",
            )
            for part in parts
            for status in self.random.sample(["sent", "delivered", "read", "failed"], 2)
        ]

        async def work(write: Write) -> receipts.Applied:
            return await receipts.apply(write, updates)

        await self.unit(database, work)

    async def timers(self, database: Database) -> None:
        await timers.run_due(database, {**conversation_timers.HANDLERS, **availability.HANDLERS})
        self.done += 1

    async def deliver(self, database: Database) -> None:
        """Claims and ends deliveries as a worker does, without a provider."""
        sender = Sender(database, self.desk.tenant.secrets, self.desk.providers)
        async with database.connection() as connection:
            claim = await claiming.claim(connection, worker="w", limit=8, providers=self.desk.providers)
        for claimed in claim.claimed:
            await sender.settle(
                claimed,
                self.random.choice(
                    [
                        Accepted(provider_id=f"wamid.{claimed.part_id}"),
                        Ambiguous("cut"),
                        Refused(
                            error_class=ErrorClass.PERMANENT, code="131047", message="no", closes_reply_window=True
                        ),
                        Refused(error_class=ErrorClass.STOP_CHANNEL, code="190", message="no"),
                    ]
                ),
            )
            self.done += 1
        # What only the test does, it does to one row after the other in one order, past what somebody holds.
        await self.desk.execute(
            "UPDATE channels SET state = 'active' WHERE id IN"
            " (SELECT id FROM channels WHERE state = 'paused' ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)"
        )
        await self.desk.execute(
            "UPDATE deliveries SET hold_until = now() WHERE id IN"
            " (SELECT id FROM deliveries WHERE state = 'unknown' ORDER BY id FOR UPDATE SKIP LOCKED)"
        )
        await self.desk.execute(
            "UPDATE deliveries SET due_time = now() WHERE id IN"
            " (SELECT id FROM deliveries WHERE state = 'queued' ORDER BY id FOR UPDATE SKIP LOCKED)"
        )


async def meet(desk: Desk, errors: Errors, *, seconds: float, seed: int) -> None:
    meeting = Meeting(desk, seed)
    await meeting.prepare()
    ends = time.monotonic() + seconds

    async def again(act: Callable[[Any], Awaitable[None]], target: Any) -> None:
        while time.monotonic() < ends:
            await act(target)

    one, two = (Database(desk.dsn, pool_size=CONNECTIONS) for _ in range(2))
    writers = (desk.writer(one), desk.writer(two))
    units = (
        meeting.move,
        meeting.assign,
        meeting.drain,
        meeting.come_and_go,
        meeting.note,
        meeting.read,
        meeting.receipts,
        meeting.timers,
        meeting.deliver,
    )
    await asyncio.gather(
        *(again(meeting.write, writer) for writer in (*writers, *writers)),
        *(again(act, database) for act, database in itertools.product(units, (one, two))),
    )
    await one.close()
    await two.close()
    # All that may come of it is what a rule says; waiting too long, losing races for ever and deadlocks are not.
    assert {item.reason for item in meeting.refused} <= {
        *("ILLEGAL_STATUS_MOVE", "CONVERSATION_ARCHIVED", "CONVERSATION_SUPERSEDED", "REPLY_WINDOW_CLOSED"),
        # A snooze of some milliseconds may be over before its turn comes.
        *("RESOURCE_NOT_FOUND", "CHANNEL_NOT_SENDING", "INVALID_FIELDS", "NOBODY_ELIGIBLE"),
    }, {item.reason for item in meeting.refused}
    assert meeting.done > 100
    await desk.check()
    # Retries and halved batches hide these from callers; the order of locks and the places of messages must not need them.
    assert not [line for line in errors() if "deadlock" in line or "duplicate key" in line]


async def test_writers_moves_assigns_notes_receipts_and_timers_meet_without_deadlock(
    own_desk: Desk, postgres_errors: Errors
) -> None:
    await meet(own_desk, postgres_errors, seconds=3, seed=1)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
async def test_they_meet_for_longer(own_desk: Desk, postgres_errors: Errors, seed: int) -> None:
    await meet(own_desk, postgres_errors, seconds=20, seed=seed)


async def test_strangers_come_in_any_order_while_agents_start_with_them(
    own_desk: Desk, postgres_errors: Errors
) -> None:
    desk, chance = own_desk, random.Random(7)
    channels = [await desk.new_channel() for _ in range(2)]

    async def write(writer: BatchWriter, senders: list[str]) -> None:
        both = [(channel, sender) for channel in channels for sender in senders]
        items = [
            desk.receive(channel, sender, name=chance.choice("AB"))
            for channel, sender in chance.sample(both, len(both))
        ]
        results = await asyncio.gather(*(writer.submit(item) for item in items), return_exceptions=True)
        assert all(isinstance(result, Stored) for result in results), results

    async def start(database: Database, channel: ChannelRow, sender: str) -> None:
        async def work(write: Write) -> Changed:
            found = await contacts.by_phone_number(
                write.connection, channel.id, desk.providers["whatsapp"], f"+{sender}", origin=nobody()
            )
            started, _ = await service.start(
                write,
                origin=nobody(),
                channel_id=channel.id,
                provider="whatsapp",
                identity_id=found.identity_id,
                contact_id=found.contact_id,
                contact_name=found.name,
                subject=None,
                windowed=True,
            )
            return Changed(started.row, [*found.events, *started.events])

        await desk.do(work, database=database)

    for _ in range(12):
        senders = [f"4930{chance.randrange(10**8):08}" for _ in range(8)]
        await asyncio.gather(
            write(desk.writer(), senders),
            write(desk.writer(desk.beside), senders),
            *(
                start(chance.choice([desk.database, desk.beside]), chance.choice(channels), sender)
                for sender in senders
            ),
        )
        found = await desk.rows(
            "SELECT a.value, count(DISTINCT i.id) AS identities, count(DISTINCT c.id) AS threads, sum(c.message_count) AS messages"
            " FROM identity_aliases a JOIN identities i ON i.id = a.identity_id JOIN conversations c ON c.identity_id = i.id"
            " WHERE a.value = ANY($1::text[]) GROUP BY a.value",
            senders,
        )
        assert [tuple(row)[1:] for row in found] == [(2, 2, 4)] * 8
    await desk.check()
    assert not [line for line in postgres_errors() if "deadlock" in line]


async def test_two_who_lock_against_the_order_are_run_again(own_desk: Desk, postgres_errors: Errors) -> None:
    desk = own_desk
    one, two = [(await desk.started(await desk.new_channel())).id for _ in range(2)]
    met = asyncio.Barrier(2)

    async def against(first: uuid.UUID, second: uuid.UUID, attempts: list[int]) -> str:
        async def work(write: Write) -> str:
            attempts.append(1)
            await write.connection.execute("UPDATE conversations SET subject = 'x' WHERE id = $1", first)
            if len(attempts) == 1:
                await met.wait()
            await write.connection.execute("UPDATE conversations SET subject = 'y' WHERE id = $1", second)
            await append(write, [])
            return "done"

        return await desk.database.write(work)

    attempts: list[list[int]] = [[], []]
    results = await asyncio.gather(
        against(one, two, attempts[0]), against(two, one, attempts[1]), return_exceptions=True
    )
    assert not any(isinstance(result, asyncpg.PostgresError) for result in results)
    assert results == ["done", "done"]
    assert sum(map(len, attempts)) == 3, "the loser of the deadlock was run again"
    assert postgres_errors() == ["deadlock detected"]
