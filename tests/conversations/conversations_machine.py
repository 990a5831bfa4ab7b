"""Conversations against a model: agents, customers and the clock at random, over a real database, timers and all.

After each step the tables say what the model says, and so does what a reader of the log keeps of its events alone.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from unittest import mock

from conversations_model import Model, Refused, Thread
from hypothesis import stateful
from hypothesis import strategies as st

from server.assignments import service as assignments
from server.channels.service import ChannelRow
from server.conversations import convert, notes, participants, reads, repository, rules, service, tags
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.conversations.timers import HANDLERS
from server.kit.clock import CLOCK, utc_now
from server.kit.errors import Refusal
from server.kit.ids import new_id
from server.log.event import Actor, ActorKind, Cause, CauseKind, Origin
from server.messages.items import Duplicate, Receive, Stored
from server.rpc.call import Scope
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone
from tests.installation import connection_to
from tests.moved_time import move_database
from tests.replayed import Replayed, differences, stored

# In minutes: next to nothing, more than a snooze, more than inactivity, more than the reply window, the reopen window and retention.
STEPS = (7, 65, 130, 60 * 25, 60 * 75)
SNOOZE = timedelta(minutes=60)
CAMPAIGN = Origin(actor=Actor(ActorKind.ACTOR_KIND_CAMPAIGN, new_id()), cause=Cause(CauseKind.CAUSE_KIND_REQUEST, "x"))


@dataclass
class World:
    """A tenant's database on a loop of the machine's own, and its owner's address, who alone moves its clock."""

    desk: Desk
    owner_dsn: str
    channels: list[ChannelRow]
    agents: list[uuid.UUID]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def move(self, to: timedelta) -> None:
        self.run(move_database(self.owner_dsn, to=to))
        CLOCK.move(to)


class ConversationMachine(stateful.RuleBasedStateMachine):
    """One example: two customers on two numbers, and two agents."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.moved = timedelta(0)
        self.customers = [phone() for _ in range(2)]
        self.newest: Receive | None = None
        self.texts = 0
        self.desk = self.world.desk
        self.writer = self.desk.writer()
        self.world.run(self.desk.execute("DELETE FROM timers"))
        self.seq: int = self.world.run(self.desk.head())[1]
        self.reader = Replayed()

    def text(self) -> str:
        self.texts += 1
        return f"text {self.texts}"

    def thread(self, index: int) -> Thread | None:
        return self.model.threads[-1 - index % len(self.model.threads)] if self.model.threads else None

    def both(self, real: Coroutine[Any, Any, Any], model: Callable[[Any], None]) -> None:
        """What was done and what the rules say of it: the same, or the same refusal. model is given what came of it."""
        result, refused = None, None
        try:
            result = self.world.run(real)
        except Refusal as refusal:
            refused = type(refusal).__name__
        expected = None
        try:
            model(result)
        except Refused as refusal:
            expected = str(refusal)
        assert refused == expected

    def change(
        self, index: int, work: Callable[..., Coroutine[Any, Any, Any]], model: Callable[[Thread], None], **more: Any
    ) -> None:
        thread = self.thread(index)
        if thread is not None:
            found = thread
            more = {"origin": nobody(), **more}
            scope = more.pop("scope", ALL)
            real = self.desk.do(lambda write: work(write, scope, found.id, **more))
            self.both(real, lambda _result: model(found))

    index = st.integers(0, 3)

    @stateful.rule(customer=st.integers(0, 1), channel=st.integers(0, 1), late=st.booleans())
    def customer_writes(self, customer: int, channel: int, late: bool) -> None:
        text = self.text()
        at = int((utc_now() - timedelta(minutes=10 if late else 0)).timestamp())
        self.newest = self.desk.receive(self.world.channels[channel], self.customers[customer], text, at=at)
        stored = self.world.run(self.writer.submit(self.newest))
        assert isinstance(stored, Stored)
        self.model.customer_writes(
            channel=channel,
            customer=customer,
            now=stored.message.create_time,
            at=datetime.fromtimestamp(at, UTC),
            found=stored.message.conversation_id,
            said=(stored.message.id, text),
        )

    @stateful.rule()
    def provider_repeats_itself(self) -> None:
        if self.newest is not None:
            again = self.desk.receive_of(self.newest.channel, self.newest.inbound)
            assert isinstance(self.world.run(self.writer.submit(again)), Duplicate)

    @stateful.rule(index=index, by=st.integers(0, 3))
    def somebody_sends(self, index: int, by: int) -> None:
        """An agent, a service or a campaign."""
        thread = self.thread(index)
        if thread is None:
            return
        text, found = self.text(), thread
        agent_id = self.world.agents[by] if by < 2 else None
        origin = agent(agent_id) if agent_id else nobody() if by == 2 else CAMPAIGN

        def said(stored: Any) -> None:
            now = utc_now() if stored is None else stored.message.create_time
            message_id = new_id() if stored is None else stored.message.id
            self.model.sends(found, now=now, said=(message_id, text), by=agent_id, reply=by < 3)

        self.both(self.writer.submit(self.desk.send(found.id, text, by=origin)), said)

    @stateful.rule(
        index=index,
        to=st.sampled_from(("new", "open", "pending", "snoozed", "resolved", "resolved", "archived")),
        timed=st.booleans(),
    )
    def status_is_set(self, index: int, to: str, timed: bool) -> None:
        until = utc_now() + SNOOZE if to == "snoozed" and timed else None
        whole: dict[str, Any] = {"reason": None, "expected_version": None}
        self.change(
            index,
            service.update_status,
            lambda thread: self.model.sets(thread, to, now=utc_now(), until=until),
            to=to,
            snooze_until=until,
            **whole,
        )

    @stateful.rule(index=index)
    def it_sleeps_until_the_customer_writes(self, index: int) -> None:
        self.status_is_set(index=index, to="snoozed", timed=False)

    @stateful.rule(index=index, by=st.integers(0, 2), upto=st.sampled_from((None, None, 0, 1, 2)))
    def somebody_reads(self, index: int, by: int, upto: int | None) -> None:
        thread = self.thread(index)
        if thread is None:
            return
        agent_id = self.world.agents[by] if by < 2 else None
        arrival = None if upto is None else 1 + upto % len(thread.messages)
        self.change(
            index,
            reads.mark_read,
            lambda item: self.model.reads(item, now=utc_now(), by=agent_id, arrival=arrival),
            origin=agent(agent_id) if agent_id else nobody(),
            scope=Scope(all=True, agent_id=agent_id),
            message_id=None if arrival is None else thread.messages[arrival - 1].id,
            providers=self.world.desk.providers,
        )

    @stateful.rule(index=index)
    def somebody_notes(self, index: int) -> None:
        self.change(
            index,
            notes.add,
            lambda thread: self.model.notes(thread, now=utc_now()),
            origin=agent(self.world.agents[0]),
            note_id=new_id(),
            text="a note",
            pinned=False,
        )

    @stateful.rule(index=index, names=st.sets(st.sampled_from(("vip", "late", "new")), min_size=1), add=st.booleans())
    def somebody_tags(self, index: int, names: set[str], add: bool) -> None:
        self.change(
            index,
            tags.add if add else tags.remove,
            lambda thread: self.model.tags_become(
                thread, thread.tags | names if add else thread.tags - names, now=utc_now()
            ),
            names=sorted(names),
        )

    @stateful.rule(index=index, to=st.integers(0, 2))
    def somebody_gives_it(self, index: int, to: int) -> None:
        """To one of the agents, or to nobody."""
        holder = self.world.agents[to] if to < 2 else None
        whole: dict[str, Any] = {"reason": None, "expected_version": None}
        whole |= {"agent_id": holder, "team_id": None} if holder else {}
        self.change(
            index,
            assignments.assign if holder else assignments.unassign,
            lambda thread: self.model.gives(thread, holder, now=utc_now()),
            **whole,
        )

    @stateful.rule(index=index, who=st.integers(0, 1))
    def somebody_joins(self, index: int, who: int) -> None:
        agent_id = self.world.agents[who]
        self.change(
            index,
            participants.add,
            lambda thread: self.model.joins(thread, agent_id, now=utc_now()),
            agent_id=agent_id,
        )

    @stateful.rule(index=index)
    def two_change_the_same_version(self, index: int) -> None:
        """One of them is refused, whichever."""
        thread = self.thread(index)
        if thread is None or thread.gone or thread.deleted is not None or thread.status == "archived":
            return
        found = thread
        wanted = [thread.priority % 5 + 1, (thread.priority + 1) % 5 + 1]

        async def both() -> list[Any]:
            whole: dict[str, Any] = {"subject": None, "attributes": None, "expected_version": found.version}
            works = [
                self.desk.do(
                    lambda write, to=to: service.update(write, ALL, found.id, origin=nobody(), priority=to, **whole),
                    database=database,
                )
                for to, database in zip(wanted, (self.desk.database, self.desk.beside), strict=True)
            ]
            return await asyncio.gather(*works, return_exceptions=True)

        results = self.world.run(both())
        refused = [isinstance(result, rules.VersionMismatch) for result in results]
        assert sorted(refused) == [False, True], results
        self.model.prioritises(found, wanted[refused.index(False)], now=utc_now())

    @stateful.rule(index=index, restore=st.booleans())
    def hidden(self, index: int, restore: bool) -> None:
        if restore:
            self.change(index, service.restore, lambda thread: self.model.restores(thread, now=utc_now()))
        else:
            self.change(index, service.delete, lambda thread: self.model.deletes(thread, now=utc_now()))

    @stateful.rule(minutes=st.sampled_from(STEPS))
    def time_passes(self, minutes: int) -> None:
        self.moved += timedelta(minutes=minutes)
        self.world.move(self.moved)

        async def fire() -> None:
            while (await timers.run_due(self.desk.database, HANDLERS)).fired:
                pass

        self.world.run(fire())
        self.model.time_passes(utc_now())

    @stateful.invariant()
    def tables_and_events_agree(self) -> None:
        self.world.run(self._agree())

    async def _agree(self) -> None:
        ids = [thread.id for thread in self.model.threads]
        records = await self.desk.rows("SELECT * FROM conversations WHERE id = ANY($1::uuid[])", ids)
        rows = {record["id"]: repository.from_record(record) for record in records}
        assert set(rows) == {thread.id for thread in self.model.threads if not thread.gone}
        reads = await self.desk.rows("SELECT * FROM read_positions WHERE conversation_id = ANY($1)", ids)
        positions = {(record["conversation_id"], record["agent_id"]): record["inbound_count"] for record in reads}
        for record in reads:
            row = rows[record["conversation_id"]]
            behind = row.delete_time is None and row.inbound_count > record["inbound_count"]
            assert record["behind"] == behind, "behind"
        for thread in self.model.threads:
            if not thread.gone:
                self._row_agrees(thread, rows[thread.id], positions)
        await self._follow()
        async with self.desk.database.connection() as connection:
            assert differences(self.reader.facts(), await stored(connection.fetch, ids)) == []

    def _row_agrees(
        self, thread: Thread, row: ConversationRow, positions: dict[tuple[uuid.UUID, uuid.UUID], int]
    ) -> None:
        said = thread.newest
        assert (row.status, row.version, row.priority) == (thread.status, thread.version, thread.priority)
        assert (row.last_message_id, row.last_message_preview) == (said.id, said.text), "preview"
        assert row.unread_count == thread.unread(), "unread"
        for agent_id in self.world.agents:
            row.my_read_count = positions.get((thread.id, agent_id))
            assert row.my_unread_count == thread.unread(agent_id), "unread of an agent"
        assert row.waiting_since == thread.waiting_since, "waiting since"
        assert (set(row.tags), row.assignee_id) == (thread.tags, thread.holder)
        assert row.snooze_until == thread.snooze_until
        assert row.previous_conversation_id == thread.previous
        assert (row.delete_time is None) == (thread.deleted is None)

    async def _follow(self) -> None:
        """What a reader keeps who sees nothing but events."""
        for seq, event in await self.desk.events(after=self.seq):
            assert seq == self.seq + 1
            self.seq = seq
            self.reader.apply(event)

    def teardown(self) -> None:
        self.world.move(timedelta(0))


def _unread_not_raised() -> AbstractContextManager[Any]:
    right = rules.inbound

    def wrong(row: ConversationRow, *, now: datetime) -> rules.Move | None:
        move = right(row, now=now)
        if move is not None and move.before == "resolved":
            row.team_read_count += 1
        return move

    return mock.patch.object(rules, "inbound", wrong)


def _note_answers() -> AbstractContextManager[Any]:
    right = notes._locked

    async def wrong(*arguments: Any) -> ConversationRow:
        row = await right(*arguments)
        row.waiting_since = None
        return row

    return mock.patch.object(notes, "_locked", wrong)


def _last_processed_shown() -> AbstractContextManager[Any]:
    right = rules.count_message

    def wrong(row: ConversationRow, place: rules.Place, **more: Any) -> None:
        right(row, place, **more)
        row.last_message_id, row.last_message_preview = more["message_id"], more["preview_text"]

    return mock.patch.object(rules, "count_message", wrong)


def _everybody_reads() -> AbstractContextManager[Any]:
    right = ConversationRow.my_unread_count.fget

    def wrong(row: ConversationRow) -> int:
        assert right is not None
        return min(right(row), row.unread_count)

    return mock.patch.object(ConversationRow, "my_unread_count", property(wrong))


@contextmanager
def _without_trigger(name: str) -> Iterator[None]:
    """The trigger of conversations is off in the machine's own database; its owner alone may do that."""
    world = ConversationMachine.world

    async def turn(word: str) -> None:
        async with connection_to(world.owner_dsn) as owner:
            await owner.execute(f"ALTER TABLE conversations {word} TRIGGER {name}")

    world.run(turn("DISABLE"))
    try:
        yield
    finally:
        world.run(turn("ENABLE"))


def _told_to_nobody(module: Any, name: str) -> AbstractContextManager[Any]:
    """A change without its event."""
    right = getattr(module, name)

    async def wrong(*arguments: Any, **more: Any) -> Any:
        changed = await right(*arguments, **more)
        return Changed(changed.row)

    return mock.patch.object(module, name, wrong)


def _assignment_of_before() -> AbstractContextManager[Any]:
    """The event of an assignment shows when the one before began."""
    right, shown = convert.assignment, dict[Any, Any]()

    def wrong(record: Any) -> Any:
        told = right(record)
        before = shown.get(told.conversation_id)
        shown[told.conversation_id] = right(record)
        return before or told

    return mock.patch("server.assignments.ledger.convert.assignment", wrong)


def _a_tag_too_few() -> AbstractContextManager[Any]:
    """The event of a change of tags lacks the last of them."""
    right = tags.events.updated

    def wrong(origin: Any, row: Any, *changed: str) -> Any:
        fewer = copy.copy(row)
        fewer.tags = row.tags[:-1]
        return right(origin, fewer, *changed)

    return mock.patch.object(tags.events, "updated", wrong)


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "unread is not raised on reopen": _unread_not_raised,
    "a note ends the waiting": _note_answers,
    "the preview goes by arrival": _last_processed_shown,
    "reading clears the badge of others": _everybody_reads,
    "a message leaves nobody behind": partial(_without_trigger, "leave_positions_behind"),
    "a tag is told to nobody": partial(_told_to_nobody, tags, "add"),
    "an event tells one tag too few": _a_tag_too_few,
    "taking it away is told to nobody": partial(_told_to_nobody, assignments, "unassign"),
    "joining is told to nobody": partial(_told_to_nobody, participants, "add"),
    "an assignment is told as the one before": _assignment_of_before,
    "inactivity resolves what sleeps": partial(
        mock.patch.object, rules, "ACTIVE", ("new", "open", "pending", "snoozed")
    ),
}
