"""Assignment against a plain model, in any order: agents, their presence, customers and the clock act at random.

Everything is real: the batch writer, units of work, timers, the queue's drain, on a real Postgres. Time moves in steps of five
minutes, and everything is due between two steps, so that the seconds that the test takes do not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar
from unittest import mock

import asyncpg
from assignments_office import Office
from hypothesis import stateful
from hypothesis import strategies as st
from switchboard.v1 import event_pb2

from server.assignments import availability, queue, reclaim
from server.assignments.service import NobodyEligible
from server.channels.service import ChannelRow
from server.conversations import repository
from server.conversations import timers as conversation_timers
from server.kit.clock import CLOCK
from server.kit.db import Database, Write
from server.timers import service as timers
from tests.desk import RECOUNT_LOADS, Desk, nobody, phone
from tests.moved_time import move_database

STEP = timedelta(minutes=5)
BETWEEN = STEP / 2
WINDOW, MOST = 2 * STEP + BETWEEN, 3
RECLAIM_AFTER = 2 * STEP + BETWEEN
AGENTS, CUSTOMERS = 3, 5
HEAVY = 250
LIVE = ("new", "open", "pending", "snoozed")
HANDLERS = {**conversation_timers.HANDLERS, **availability.HANDLERS}


@dataclass
class World:
    """A tenant's database as two workers see it, on a loop of the machine's own."""

    owner_dsn: str
    source: Desk
    channel: ChannelRow
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    desk: Desk = field(init=False)

    def __enter__(self) -> World:
        databases = [Database(self.source.dsn, pool_size=6) for _ in range(2)]
        self.desk = Desk(
            self.source.tenant, databases[0], databases[1], self.source.dsn, self.source.providers, self.source.numbers
        )
        return self

    def __exit__(self, *_error: object) -> None:
        CLOCK.move(timedelta(0))
        self.run(move_database(self.owner_dsn, to=timedelta(0)))
        for database in (self.desk.database, self.desk.beside):
            self.run(database.close())
        self.runner.close()

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def move(self, to: timedelta) -> None:
        self.run(move_database(self.owner_dsn, to=to))
        CLOCK.move(to)


@dataclass
class Somebody:
    """An agent as the model has it. Times in steps; turn and starts in the order in which things happened."""

    setting: str = "offline"
    lost_at: int | None = None
    away_at: int = 0
    beat_at: int = 0
    capacity: int = 2
    turn: int = 0
    starts: list[int] = field(default_factory=list)

    @property
    def counts_as(self) -> str:
        return "offline" if self.lost_at is not None else self.setting

    @property
    def away_since(self) -> int | None:
        return self.away_at if self.setting in ("away", "offline") else self.lost_at


@dataclass
class Thread:
    """A conversation as the model has it. since: when it began to wait, in the order in which things happened."""

    weight: int
    since: int
    waits: bool = True
    status: str = "new"
    agent: int | None = None
    manual: bool = False

    @property
    def load(self) -> int:
        if self.agent is None or self.status not in LIVE:
            return 0
        return self.weight if self.status in ("new", "open") else 50

    @property
    def queued(self) -> bool:
        return self.agent is None and self.status in ("new", "open")


@dataclass
class Model:
    """What the rules say, in a few lines."""

    agents: list[Somebody] = field(default_factory=lambda: [Somebody() for _ in range(AGENTS)])
    threads: dict[int, Thread] = field(default_factory=dict)
    created: dict[int, int] = field(default_factory=dict)
    step: int = 0
    count: int = 0
    dirty: bool = True

    def tick(self) -> int:
        self.count += 1
        return self.count

    def load(self, agent: int) -> int:
        return sum(thread.load for thread in self.threads.values() if thread.agent == agent)

    def eligible(self, thread: Thread) -> list[int]:
        able = []
        for number, agent in enumerate(self.agents):
            recent = [start for start in agent.starts if start > self.step - 3]
            fits = self.load(number) + thread.weight <= agent.capacity * 100
            if agent.counts_as == "online" and agent.capacity and fits and len(recent) < MOST:
                able.append(number)
        return able

    def give(self, thread: Thread, agent: int, *, manual: bool) -> None:
        if thread.agent != agent:
            self.agents[agent].starts.append(self.step)
        thread.agent, thread.manual = agent, manual
        if not manual:
            self.agents[agent].turn = self.tick()

    def choose(self, customer: int) -> bool:
        """Has the policy choose; whether it found somebody."""
        thread = self.threads[customer]
        able = self.eligible(thread)
        if able:
            self.give(thread, min(able, key=lambda number: (self.agents[number].turn, number)), manual=False)
        return bool(able)

    def queue(self) -> list[int]:
        waiting = [customer for customer, thread in self.threads.items() if thread.queued]
        return sorted(waiting, key=self._place)

    def _place(self, customer: int) -> tuple[bool, int]:
        thread = self.threads[customer]
        return not thread.waits, thread.since if thread.waits else self.created[customer]

    def drain(self) -> None:
        for customer in self.queue():
            self.choose(customer)

    def fire(self) -> None:
        """Whoever was not heard of in this step is lost; whoever is away for three gives back what policies gave."""
        for agent in self.agents:
            if agent.setting != "offline" and agent.lost_at is None and agent.beat_at < self.step:
                agent.lost_at = self.step
        for thread in self.threads.values():
            since = None if thread.agent is None else self.agents[thread.agent].away_since
            if since is not None and self.step - since >= 3 and not thread.manual and thread.status in LIVE:
                thread.agent = None


class AssignmentMachine(stateful.RuleBasedStateMachine):
    """One example: starts with three agents who are offline, and nobody waiting."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world.move(timedelta(0))
        self.office = Office(self.world.desk, self.world.channel)
        self.ids: list[uuid.UUID] = []
        self.conversations: dict[int, uuid.UUID] = {}
        self.phones = [phone() for _ in range(CUSTOMERS)]
        self.world.run(self._clean())
        self.head = self.world.run(self.world.desk.head())[1]

    async def _clean(self) -> None:
        """What earlier examples left is nobody's any more. By the owner, whom the database lets break the rules."""
        statements = (
            "UPDATE conversation_assignments SET end_time = greatest(start_time, now()) WHERE end_time IS NULL",
            "UPDATE conversations SET status = 'archived', assignee_id = NULL, snooze_until = NULL, waiting_since = NULL,"
            " resolve_time = now()",
            "DELETE FROM assignment_policies",
            "DELETE FROM channel_members",
            "DELETE FROM timers",
            "UPDATE agent_loads SET availability = 'offline', lost_time = NULL",
            "SELECT recount_agent_loads()",
            "UPDATE assignment_queue SET generation = (SELECT head FROM stream_head), look_time = NULL",
        )
        owner = await asyncpg.connect(self.world.owner_dsn)
        try:
            await owner.execute("; ".join(statements))
        finally:
            await owner.close()
        for _ in range(AGENTS):
            self.ids.append(await self.office.new_agent(online=False, capacity=2))
        await self.office.policy(fairness_most=MOST, fairness_window=WINDOW, reclaim_after=RECLAIM_AFTER)

    customers = st.integers(0, CUSTOMERS - 1)
    agents = st.integers(0, AGENTS - 1)
    words = st.sampled_from(["online", "online", "busy", "away", "offline"])

    def known(self, customer: int) -> bool:
        return customer in self.conversations

    def seen(self) -> None:
        """A worker has looked meanwhile: who is away and has something again is asked for it. It gave nothing out."""

        async def unit(write: Write) -> None:
            await reclaim.follow(write.connection, missing=True)

        self.world.run(self.world.desk.database.write(unit))

    @stateful.initialize(online=st.frozensets(agents, min_size=1))
    def a_day_begins(self, online: frozenset[int]) -> None:
        for agent in sorted(online):
            self.agent_says(agent, "online")

    def made_to_wait(self, customer: int) -> None:
        """A conversation that waits for an agent, whatever it was before."""
        if not self.known(customer):
            self.customer_writes(customer)
        self.status_is_set(customer, "open")
        self.somebody_takes_it(customer)

    @stateful.rule(customer=customers)
    def customer_writes(self, customer: int) -> None:
        self.world.run(self._write(customer))
        thread = self.model.threads.get(customer)
        if thread is None:
            self.model.created[customer] = self.model.tick()
            self.model.threads[customer] = Thread(HEAVY if customer == 0 else 100, self.model.tick())
            return
        if thread.status in ("pending", "resolved", "snoozed"):
            thread.status = "open"
            self.seen()
        if not thread.waits:
            thread.waits, thread.since = True, self.model.tick()

    async def _write(self, customer: int) -> None:
        desk = self.world.desk
        stored: Any = await desk.writer().submit(desk.receive(self.world.channel, self.phones[customer]))
        conversation_id = stored.message.conversation_id
        if not self.known(customer) and customer == 0:
            await desk.execute("UPDATE conversations SET weight = $2 WHERE id = $1", conversation_id, HEAVY)
        assert self.conversations.setdefault(customer, conversation_id) == conversation_id

    @stateful.rule(customer=customers)
    def somebody_answers(self, customer: int) -> None:
        if self.known(customer):
            desk = self.world.desk
            self.world.run(desk.writer().submit(desk.send(self.conversations[customer])))
            thread = self.model.threads[customer]
            thread.waits = False
            thread.status = "open" if thread.status in ("new", "resolved") else thread.status
            self.seen()

    @stateful.rule(customer=customers, to=st.sampled_from(["open", "pending", "snoozed", "resolved"]))
    def status_is_set(self, customer: int, to: str) -> None:
        thread = self.model.threads.get(customer)
        if thread is None or (thread.status == "resolved" and to in ("pending", "snoozed")):
            return
        self.world.run(self.world.desk.move(self.conversations[customer], to))
        if to == "resolved" and thread.status != "resolved":
            thread.waits = False
        thread.status = to
        self.seen()

    @stateful.rule(customer=customers, agent=agents)
    def somebody_chooses(self, customer: int, agent: int) -> None:
        if self.known(customer):
            self.world.run(self.office.assign(self.conversations[customer], self.ids[agent]))
            self._chosen(customer, agent)

    def _chosen(self, customer: int, agent: int) -> None:
        """Choosing who has it already changes nothing."""
        thread = self.model.threads[customer]
        if thread.agent != agent:
            self.model.give(thread, agent, manual=True)

    @stateful.rule(customer=customers)
    def somebody_takes_it(self, customer: int) -> None:
        if self.known(customer):
            self.world.run(self.office.unassign(self.conversations[customer]))
            self.model.threads[customer].agent = None

    @stateful.rule(agent=agents, to=words)
    def agent_says(self, agent: int, to: str) -> None:
        self.world.run(self.office.says(self.ids[agent], to))
        somebody = self.model.agents[agent]
        if somebody.setting != to or somebody.lost_at is not None:
            before = somebody.away_since if to in ("away", "offline") else None
            somebody.away_at = self.model.step if before is None else before
            somebody.setting, somebody.lost_at = to, None
        somebody.beat_at = self.model.step

    @stateful.rule(agent=agents, units=st.integers(0, 4))
    def capacity_is_set(self, agent: int, units: int) -> None:
        self.world.run(self.office.capacity(self.ids[agent], units))
        self.model.agents[agent].capacity = units

    @stateful.rule(steps=st.integers(1, 3), beating=st.frozensets(agents))
    def time_passes(self, steps: int, beating: frozenset[int]) -> None:
        """Some agents are heard of after it."""
        self.model.step += steps
        self.world.move(self.model.step * STEP)
        for number in sorted(beating):
            self.world.run(availability.heartbeat(self.world.desk.database, self.ids[number], origin=nobody()))
            somebody = self.model.agents[number]
            somebody.lost_at, somebody.beat_at = None, self.model.step

    @stateful.rule(both=st.booleans())
    def workers_look(self, both: bool) -> None:
        """Timers first, until nothing is due, then the queue; as often as there is reason to."""
        self.world.run(self._look(both=both))
        self.model.fire()
        self.model.drain()

    async def _look(self, *, both: bool) -> None:
        desk = self.world.desk
        databases = [desk.database, desk.beside] if both else [desk.database]
        while any([(await timers.run_due(database, HANDLERS)).fired for database in databases]):
            pass
        while any(await asyncio.gather(*(self.office.drain(database=database) for database in databases))):
            pass

    @stateful.rule(customer=customers)
    def somebody_resolves_during_a_drain(self, customer: int) -> None:
        """After the queue was read for the last time, and before the drain is over."""
        if not self.known(customer):
            return
        thread = self.model.threads[customer]
        self.workers_look(both=False)
        settle = queue.settle

        async def late(write: Write, **more: Any) -> None:
            await self.world.desk.move(self.conversations[customer], "resolved")
            await settle(write, **more)

        async def run() -> None:
            await self.world.desk.execute("UPDATE assignment_queue SET look_time = clock_now()")
            with mock.patch.object(queue, "settle", late):
                await self.office.drain()

        self.world.run(run())
        self.status_in_model(thread)
        self.world.run(self._look(both=False))
        self.model.drain()

    def status_in_model(self, thread: Thread) -> None:
        if thread.status != "resolved":
            thread.status, thread.waits = "resolved", False

    @stateful.rule(customer=customers, agent=agents)
    def somebody_chooses_during_a_drain(self, customer: int, agent: int) -> None:
        """After the first of the queue was read, and before it is locked."""
        self.made_to_wait(customer)
        self.world.run(self._fire())
        self.model.fire()
        queued = self.model.queue()
        if not queued:
            return
        lock_many, chosen = repository.lock_many, list[int]()

        async def late(connection: Any, ids: Any) -> Any:
            if not chosen and self.conversations[queued[0]] in ids:
                chosen.append(queued[0])
                await self.office.assign(
                    self.conversations[queued[0]], self.ids[agent], database=self.world.desk.beside
                )
            return await lock_many(connection, ids)

        async def run() -> None:
            await self.world.desk.execute("UPDATE assignment_queue SET look_time = clock_now()")
            with mock.patch.object(queue.repository, "lock_many", late):
                await self.office.drain()

        self.world.run(run())
        if chosen:
            self._chosen(chosen[0], agent)
        self.model.drain()

    async def _fire(self) -> None:
        while (await timers.run_due(self.world.desk.database, HANDLERS)).fired:
            pass

    @stateful.rule(one=customers, other=customers)
    def two_ask_the_policy_at_once(self, one: int, other: int) -> None:
        """Whoever comes first: it is as if one had come after the other."""
        if one == other:
            return
        self.made_to_wait(one)
        self.made_to_wait(other)

        async def ask(customer: int, database: Database) -> None:
            with contextlib.suppress(NobodyEligible):
                await self.office.by_policy(self.conversations[customer], database=database)

        async def both() -> None:
            await asyncio.gather(ask(one, self.world.desk.database), ask(other, self.world.desk.beside))

        self.world.run(both())
        found = [self.world.run(self.office.holder(self.conversations[customer])) for customer in (one, other)]
        holders = [None if agent_id is None else self.ids.index(agent_id) for agent_id in found]
        for order in ((one, other), (other, one)):
            after = copy.deepcopy(self.model)
            for customer in order:
                after.choose(customer)
            if [after.threads[customer].agent for customer in (one, other)] == holders:
                self.model = after
                return
        raise AssertionError(f"no order of the two gives {holders}")

    @stateful.invariant()
    def conversations_are_whose_the_model_says(self) -> None:
        rows = self.rows("SELECT id, status, assignee_id FROM conversations WHERE id = ANY($1)")
        found = {row["id"]: (row["status"], row["assignee_id"]) for row in rows}
        expected = {
            self.conversations[customer]: (thread.status, None if thread.agent is None else self.ids[thread.agent])
            for customer, thread in self.model.threads.items()
        }
        assert found == expected

    @stateful.invariant()
    def the_ledger_has_one_open_row_for_each_agent_held(self) -> None:
        sql = "SELECT conversation_id, agent_id, type FROM conversation_assignments WHERE end_time IS NULL AND conversation_id = ANY($1)"
        found = {row["conversation_id"]: (row["agent_id"], row["type"] == "manual") for row in self.rows(sql)}
        assert found == {
            self.conversations[customer]: (self.ids[thread.agent], thread.manual)
            for customer, thread in self.model.threads.items()
            if thread.agent is not None
        }

    @stateful.invariant()
    def counters_and_availability_agree(self) -> None:
        assert self.world.run(self.world.desk.rows(RECOUNT_LOADS)) == []
        rows = self.world.run(self.world.desk.rows("SELECT * FROM agent_loads WHERE agent_id = ANY($1)", self.ids))
        for row in rows:
            number = self.ids.index(row["agent_id"])
            somebody = self.model.agents[number]
            assert (row["load"], row["capacity"]) == (self.model.load(number), somebody.capacity)
            assert (row["availability"], row["lost_time"] is not None) == (
                somebody.setting,
                somebody.lost_at is not None,
            )

    @stateful.invariant()
    def the_queue_stands_in_its_order(self) -> None:
        sql = (
            "SELECT id FROM conversations WHERE id = ANY($1) AND assignee_id IS NULL AND status IN ('new', 'open')"
            " ORDER BY waiting_since IS NULL, coalesce(waiting_since, create_time), id"
        )
        assert [row["id"] for row in self.rows(sql)] == [self.conversations[each] for each in self.model.queue()]

    def rows(self, sql: str) -> list[Any]:
        found: list[Any] = self.world.run(self.world.desk.rows(sql, list(self.conversations.values())))
        return found

    def teardown(self) -> None:
        """What the events tell, from the first one on, is what the tables say."""
        told: dict[uuid.UUID, tuple[int, str]] = {}
        said: dict[uuid.UUID, int] = {}
        for _, event in self.world.run(self.world.desk.events(after=self.head)):
            name = str(event.WhichOneof("body"))
            body = getattr(event, name)
            if "conversation" in body.DESCRIPTOR.fields_by_name:
                row = body.conversation
                told[uuid.UUID(row.id)] = (row.status, row.assignee_id)
            if isinstance(body, event_pb2.AgentAvailabilityChanged):
                said[uuid.UUID(body.availability.agent_id)] = body.availability.availability
        words = {"new": 1, "open": 2, "pending": 3, "snoozed": 4, "resolved": 5}
        for customer, thread in self.model.threads.items():
            agent_id = "" if thread.agent is None else str(self.ids[thread.agent])
            assert told[self.conversations[customer]] == (words[thread.status], agent_id)
        numbers = {"online": 1, "busy": 2, "away": 3, "offline": 4}
        for number, somebody in enumerate(self.model.agents):
            assert said.get(self.ids[number], 4) == numbers[somebody.counts_as]
