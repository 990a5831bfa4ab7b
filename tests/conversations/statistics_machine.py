"""Statistics against a model: agents, customers and the clock at random, while the follower is stopped, killed and started over.

The model knows no events: it looks at a conversation before and after what is done to it, and writes down what happened as the
contract defines it. What SQL over the tables can tell by itself is asked there too.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import asyncpg
from hypothesis import stateful
from hypothesis import strategies as st

from server.assignments import service as assignments
from server.channels.service import ChannelRow
from server.conversations import service, tags
from server.conversations.row import ConversationRow
from server.conversations.statistics import facts, follow
from server.conversations.statistics.periods import quarter_of
from server.conversations.statistics.sketch import ACCURACY, quantile
from server.kit.clock import CLOCK, utc_now
from server.kit.db import Database, Write
from server.kit.errors import Refusal
from server.log.event import Origin
from server.messages import receipts
from server.messages.items import Stored
from server.messages.receipts import Applied, Update
from tests.desk import ALL, Desk, agent, nobody, phone

LIVE = ("new", "open", "pending", "snoozed")
# In minutes: within a quarter of an hour, over its end, over the end of the reopen window (72 hours).
STEPS = (0.5, 7, 40, 60 * 26, 60 * 80)
MESSAGES = """
SELECT date_bin('15 minutes', m.create_time, '2000-01-01Z') AS time, m.direction, count(*) AS count
FROM messages m GROUP BY 1, 2
"""
ASSIGNED = """
SELECT agent_id::text AS agent, count(*) AS count, coalesce(sum(extract(epoch FROM end_time - start_time)), 0)::float8 AS seconds,
    count(end_time) AS ended
FROM conversation_assignments WHERE agent_id IS NOT NULL GROUP BY 1
"""
OUTCOMES = (
    "SELECT status, count(*) AS count FROM message_status_updates WHERE applied AND status <> 'pending' GROUP BY 1"
)
NOW = """
SELECT count(*) FILTER (WHERE live AND assignee_id IS NULL), count(*) FILTER (WHERE live AND inbound_count > team_read_count),
    count(*) FILTER (WHERE live AND (waiting_since IS NOT NULL OR NOT replied))
FROM (
    SELECT *, status = ANY($1) AS live, EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.direction = 'outbound')
        AS replied
    FROM conversations c WHERE delete_time IS NULL
) c
"""
PRESENT = """
SELECT dimension, value, status, count(*)::int AS count FROM conversations c, LATERAL (
    SELECT 'channel', channel_id::text UNION ALL SELECT 'team', coalesce(team_id::text, '')
    UNION ALL SELECT 'agent', coalesce(assignee_id::text, '') UNION ALL SELECT 'priority', priority::text
    UNION ALL SELECT 'tag', unnest(tags)
) AS d (dimension, value) WHERE delete_time IS NULL GROUP BY 1, 2, 3
"""
AT_HEAD = "INSERT INTO consumers (name, seq, update_time) SELECT 'statistics', head, now() FROM stream_head"
Place = tuple[str, str, str, datetime]


@dataclass
class World:
    """A tenant's database on a loop of the machine's own."""

    desk: Desk
    channels: list[ChannelRow]
    agents: list[uuid.UUID]
    teams: list[uuid.UUID]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)


class Killed(Exception):
    """The follower's process ended before its COMMIT."""


class StatisticsMachine(stateful.RuleBasedStateMachine):
    """One example: a few customers, two agents and a team of an otherwise empty tenant."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta(0)
        self.customers = [phone() for _ in range(2)]
        self.conversations: list[uuid.UUID] = []
        self.parts: list[tuple[uuid.UUID, uuid.UUID]] = []
        self.counts: Counter[Place] = Counter()
        self.durations: defaultdict[Place, list[timedelta]] = defaultdict(list)
        self.waiting: dict[uuid.UUID, datetime] = {}
        self.answered: set[uuid.UUID] = set()
        self.open_since: dict[uuid.UUID, datetime] = {}
        self.has: dict[uuid.UUID, tuple[uuid.UUID, datetime]] = {}
        self.world.run(self._emptied())
        self.writer = self.world.desk.writer()

    async def _emptied(self) -> None:
        """What another example did is not counted."""
        desk = self.world.desk
        await desk.execute("UPDATE conversations SET delete_time = now() WHERE delete_time IS NULL")
        for table in ("conversation_counts", "counted_conversations", "statistics_buckets"):
            await desk.execute(f"DELETE FROM {table}")
        await desk.execute("DELETE FROM consumers")
        await desk.execute(AT_HEAD)

    # What the model writes down.

    def happened(self, measure: str, time: datetime, row: ConversationRow, credit: uuid.UUID | None) -> None:
        for place in places(measure, time, row, credit):
            self.counts[place] += 1

    def took(
        self, measure: str, time: datetime, row: ConversationRow, credit: uuid.UUID | None, since: datetime
    ) -> None:
        for place in places(measure, time, row, credit):
            self.durations[place].append(time - since)

    def compare(self, before: ConversationRow | None, after: ConversationRow) -> None:
        """What a change of a conversation means."""
        if before is None:
            self.conversations.append(after.id)
            self.happened("new", after.create_time, after, after.assignee_id)
            self.open_since[after.id] = after.create_time
            return
        if after.status == "resolved" != before.status:
            assert after.resolve_time is not None
            self.happened("resolved", after.resolve_time, after, after.assignee_id)
            self.took("resolution", after.resolve_time, after, after.assignee_id, self.open_since[after.id])
            self.waiting.pop(after.id, None)
        if after.status in LIVE and before.status not in LIVE:
            self.happened("reopened", after.update_time, after, after.assignee_id)
            self.open_since[after.id] = after.update_time
        ledger = (before.assignee_id, before.team_id) != (after.assignee_id, after.team_id)
        if ledger and after.id in self.has:
            agent_id, since = self.has.pop(after.id)
            self.took("assignment", after.update_time, after, agent_id, since)
        if ledger and after.assignee_id is not None:
            self.has[after.id] = (after.assignee_id, after.update_time)
            self.happened("assigned", after.update_time, after, after.assignee_id)

    # What is done.

    def change(self, index: int, work: Callable[[Write, uuid.UUID], Coroutine[Any, Any, Any]]) -> None:
        if self.conversations:
            conversation_id = self.conversations[index % len(self.conversations)]
            self.world.run(self._change(conversation_id, work))

    async def _change(
        self, conversation_id: uuid.UUID, work: Callable[[Write, uuid.UUID], Coroutine[Any, Any, Any]]
    ) -> None:
        before = await self.world.desk.conversation(conversation_id)
        try:
            await self.world.desk.do(lambda write: work(write, conversation_id))
        except Refusal:
            return
        self.compare(before, await self.world.desk.conversation(conversation_id))

    index = st.integers(0, 3)

    @stateful.rule(customer=st.integers(0, 1), channel=st.sampled_from((0, 0, 1)))
    def customer_writes(self, customer: int, channel: int) -> None:
        async def write() -> None:
            desk = self.world.desk
            known_rows = {item: await desk.conversation(item) for item in self.conversations}
            item = desk.receive(self.world.channels[channel], self.customers[customer], at=utc_now().timestamp())
            stored = await self.writer.submit(item)
            assert isinstance(stored, Stored)
            message = stored.message
            after = await desk.conversation(message.conversation_id)
            self.happened("inbound", message.create_time, after, after.assignee_id)
            self.compare(known_rows.get(after.id), after)
            self.waiting.setdefault(after.id, message.create_time)

        self.world.run(write())

    @stateful.rule(index=index, by=st.integers(0, 2))
    def somebody_answers(self, index: int, by: int) -> None:
        async def write() -> None:
            desk = self.world.desk
            conversation_id = self.conversations[index % len(self.conversations)]
            before = await desk.conversation(conversation_id)
            credit = self.world.agents[by] if by < 2 else None
            origin: Origin = agent(credit) if credit else nobody()
            try:
                stored = await self.writer.submit(desk.send(conversation_id, by=origin))
            except Refusal:
                return
            assert isinstance(stored, Stored)
            message = stored.message
            part_id = await desk.value("SELECT id FROM message_parts WHERE message_id = $1", message.id)
            self.parts.append((conversation_id, part_id))
            after = await desk.conversation(conversation_id)
            self.happened("outbound", message.create_time, after, credit)
            waited = self.waiting.pop(conversation_id, None)
            if waited is not None:
                measure = "next_response" if conversation_id in self.answered else "first_response"
                self.took(measure, message.create_time, after, credit, waited)
            self.answered.add(conversation_id)
            self.compare(before, after)

        if self.conversations:
            self.world.run(write())

    @stateful.rule(index=index)
    def resolved(self, index: int) -> None:
        self.status_is_set(index=index, to="resolved")

    @stateful.rule(index=index)
    def archived(self, index: int) -> None:
        """By way of resolved, the only one: by chance alone hardly any would be."""
        self.status_is_set(index=index, to="resolved")
        self.status_is_set(index=index, to="archived")

    @stateful.rule(
        index=index, to=st.sampled_from(("open", "open", "pending", "resolved", "resolved", "resolved", "archived"))
    )
    def status_is_set(self, index: int, to: str) -> None:
        self.change(
            index,
            lambda write, it: service.update_status(
                write, ALL, it, origin=nobody(), to=to, snooze_until=None, reason=None, expected_version=None
            ),
        )

    @stateful.rule(index=index, to=st.integers(0, 2), team=st.booleans())
    def assigned(self, index: int, to: int, team: bool) -> None:
        agent_id = self.world.agents[to] if to < 2 else None
        team_id = self.world.teams[0] if team or agent_id is None else None
        self.change(
            index,
            lambda write, it: assignments.assign(
                write,
                ALL,
                it,
                origin=nobody(),
                agent_id=agent_id,
                team_id=team_id,
                reason=None,
                expected_version=None,
            ),
        )

    @stateful.rule(index=index)
    def unassigned(self, index: int) -> None:
        self.change(
            index,
            lambda write, it: assignments.unassign(write, ALL, it, origin=nobody(), reason=None, expected_version=None),
        )

    @stateful.rule(index=index, name=st.sampled_from(("vip", "late, {x}")), add=st.booleans())
    def tagged(self, index: int, name: str, add: bool) -> None:
        work = tags.add if add else tags.remove
        self.change(index, lambda write, it: work(write, ALL, it, origin=nobody(), names=[name]))

    @stateful.rule(index=index, priority=st.integers(1, 5))
    def prioritised(self, index: int, priority: int) -> None:
        self.change(
            index,
            lambda write, it: service.update(
                write,
                ALL,
                it,
                origin=nobody(),
                priority=priority,
                subject=None,
                attributes=None,
                expected_version=None,
            ),
        )

    @stateful.rule(index=index, restore=st.sampled_from((True, True, True, False)))
    def hidden(self, index: int, restore: bool) -> None:
        work = service.restore if restore else service.delete
        self.change(index, lambda write, it: work(write, ALL, it, origin=nobody()))

    @stateful.rule(index=index, status=st.sampled_from(("sent", "delivered", "read", "failed")))
    def receipt_comes(self, index: int, status: str) -> None:
        async def write() -> None:
            desk = self.world.desk
            conversation_id, part_id = self.parts[index % len(self.parts)]
            row = await desk.conversation(conversation_id)
            update = Update(
                channel_id=row.channel_id,
                provider_message_id=f"wamid.{part_id.hex}",
                part_id=part_id,
                status=status,
                source="receipt",
                origin=nobody(),
            )

            async def apply(write: Write) -> Applied:
                return await receipts.apply(write, [update])

            await desk.do(apply)

        if self.parts:
            self.world.run(write())

    @stateful.rule(minutes=st.sampled_from(STEPS))
    def time_passes(self, minutes: float) -> None:
        self.moved += timedelta(minutes=minutes)
        CLOCK.move(self.moved)

    # What the follower does.

    async def follows(self, work: Callable[[Write], Awaitable[Any]], database: Database | None = None) -> Any:
        try:
            return await (database or self.world.desk.database).write(work)
        except asyncpg.PostgresError as error:
            raise AssertionError(f"the follower stands still: {error}") from error

    @stateful.rule(limit=st.integers(1, 4))
    def follower_counts_a_little(self, limit: int) -> None:
        self.world.run(self.follows(partial(follow.follow, limit=limit)))

    @stateful.rule(limit=st.integers(1, 4))
    def follower_dies_before_its_commit(self, limit: int) -> None:
        async def die(write: Write) -> None:
            await follow.follow(write, limit=limit)
            raise Killed

        async def run() -> None:
            with contextlib.suppress(Killed):
                await self.follows(die)

        self.world.run(run())

    @stateful.rule()
    def two_followers_count_at_once(self) -> None:
        desk = self.world.desk

        async def both() -> None:
            await asyncio.gather(self.follows(follow.follow), self.follows(follow.follow, desk.beside))

        self.world.run(both())

    def teardown(self) -> None:
        try:
            self.world.run(self._agrees())
        finally:
            self.moved = timedelta(0)
            CLOCK.move(self.moved)

    async def _agrees(self) -> None:
        desk = self.world.desk
        while await self.follows(follow.follow):
            pass
        rows = await desk.rows("SELECT * FROM statistics_buckets")
        self._counts_agree(rows)
        self._durations_agree(rows)
        await self._tables_agree(rows)
        await self._present_agrees()

    def _counts_agree(self, rows: list[Any]) -> None:
        durations = {measure for measure, *_ in self.durations} | {"first_response", "next_response"}
        found: Counter[Place] = Counter()
        for row in rows:
            if row["measure"] not in {*durations, "resolution", "assignment", *facts.OUTCOMES.values()}:
                found[row["measure"], row["dimension"], row["value"], row["bucket_time"]] += row["count"]
        assert found == self.counts

    def _durations_agree(self, rows: list[Any]) -> None:
        bins: defaultdict[Place, Counter[int]] = defaultdict(Counter)
        totals: Counter[Place] = Counter()
        for row in rows:
            if row["measure"] in ("first_response", "next_response", "resolution", "assignment"):
                place = (row["measure"], row["dimension"], row["value"], row["bucket_time"])
                bins[place][row["bin"]] += row["count"]
                totals[place] += int(row["total"])
        assert set(bins) == set(self.durations)
        for place, durations in self.durations.items():
            assert bins[place].total() == len(durations)
            assert totals[place] == sum(durations, timedelta(0)) // timedelta(microseconds=1)
            for part in (0.5, 0.9):
                exact = max(disc(durations, part).total_seconds(), 0.001)
                assert abs(quantile(bins[place], part) - exact) <= ACCURACY * exact * 1.000001

    async def _tables_agree(self, rows: list[Any]) -> None:
        """By plain SQL over the tables of this example."""
        desk = self.world.desk
        one = [row for row in rows if row["dimension"] == "channel"]
        mine = "conversation_id = ANY($1)"
        messages = await desk.rows(MESSAGES.replace("GROUP", f"WHERE {mine} GROUP"), self.conversations)
        found = Counter(
            {(row["bucket_time"], row["measure"]): 0 for row in one if row["measure"] in ("inbound", "outbound")}
        )
        for row in one:
            if row["measure"] in ("inbound", "outbound"):
                found[row["bucket_time"], row["measure"]] += row["count"]
        assert found == {(row["time"], row["direction"]): row["count"] for row in messages}
        outcomes = await desk.rows(
            OUTCOMES.replace(
                "WHERE", "WHERE message_id IN (SELECT id FROM messages WHERE conversation_id = ANY($1)) AND"
            ),
            self.conversations,
        )
        counted: Counter[str] = Counter()
        for row in one:
            if row["measure"] in facts.OUTCOMES.values():
                counted[row["measure"]] += row["count"]
        assert counted == {row["status"]: row["count"] for row in outcomes}
        ledger = await desk.rows(ASSIGNED.replace("WHERE", f"WHERE {mine} AND"), self.conversations)
        agents: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
        for row in rows:
            if row["dimension"] == "agent" and row["measure"] == "assigned":
                agents[row["value"]][0] += row["count"]
            if row["dimension"] == "agent" and row["measure"] == "assignment":
                agents[row["value"]][1] += row["count"]
                agents[row["value"]][2] += float(row["total"]) / 1e6
        assert set(agents) == {row["agent"] for row in ledger}
        for row in ledger:
            count, ended, seconds = agents[row["agent"]]
            assert (count, ended) == (row["count"], row["ended"])
            assert abs(seconds - row["seconds"]) < 0.001

    async def _present_agrees(self) -> None:
        desk = self.world.desk
        counts = await desk.rows(
            "SELECT dimension, value, status, sum(count)::int AS count, sum(unassigned)::int AS unassigned,"
            " sum(unread)::int AS unread, sum(unattended)::int AS unattended FROM conversation_counts GROUP BY 1, 2, 3"
        )
        present = {(row["dimension"], row["value"], row["status"]): row["count"] for row in counts if row["count"]}
        wanted = await desk.rows(PRESENT)
        assert present == {(row["dimension"], row["value"], row["status"]): row["count"] for row in wanted}
        for dimension in ("channel", "team", "agent", "priority"):
            sums = [
                sum(row[name] for row in counts if row["dimension"] == dimension)
                for name in ("unassigned", "unread", "unattended")
            ]
            assert sums == list((await desk.rows(NOW, list(LIVE)))[0].values())


def places(measure: str, time: datetime, row: ConversationRow, credit: uuid.UUID | None) -> list[Place]:
    """Where the contract counts something."""
    found = [
        ("channel", str(row.channel_id)),
        ("team", str(row.team_id or "")),
        ("agent", str(credit or "")),
        ("priority", str(row.priority)),
        *(("tag", tag) for tag in row.tags),
    ]
    return [(measure, dimension, value, quarter_of(time)) for dimension, value in found]


def disc(durations: list[timedelta], part: float) -> timedelta:
    """SQL's percentile_disc."""
    ordered = sorted(durations)
    return next(value for n, value in enumerate(ordered, start=1) if n >= part * len(ordered))
