"""Deliveries against a model, in any order, on real Postgres: sends, claims of two workers, every outcome, crashes, leases that
end, receipts, what operators decide, pauses, and time that moves.

Time moves in steps of a thousand seconds, and whatever waits does so for less than a step or for clearly more, so that the
seconds that the test takes do not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

from deliveries_world import BACKOFF, EVERY, OUTCOMES, STEP, World
from hypothesis import stateful
from hypothesis import strategies as st

from server.deliveries import claiming
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.kit.db import Write
from server.log.append import append
from server.messages import receipts
from server.messages.receipts import Update
from server.redelivery import service as redelivery
from server.redelivery.service import DeliveryNotPossible
from tests.desk import ALL, nobody

WORKERS = st.sampled_from("ab")
OUTCOME = st.sampled_from([*["accepted"] * 3, *OUTCOMES])


@dataclass
class Sent:
    """A delivery of the model. Times are seconds that were moved."""

    part_id: Any
    conversation: int
    position: int
    state: str
    due: float
    lane: int = 0
    aside: bool = False
    attempt: int = 0
    uncounted: int = 0
    status: str = "pending"
    worker: str = ""
    lease: float = 0.0
    hold: float = 0.0


class DeliveryMachine(stateful.RuleBasedStateMachine):
    """The model beside the tables."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sent: dict[Any, Sent] = {}
        self.claims: list[tuple[str, Claimed]] = []
        self.paused: set[int] = set()
        self.account = [0.0, 0.0]
        self.templates = [0.0, 0.0]
        self.recipient: dict[int, tuple[float, float]] = {}
        # Things of one instant of the model follow each other all the same.
        self.ticks = itertools.count(1)
        self.world.move(0)
        for statement in (
            "DELETE FROM deliveries",
            "DELETE FROM recipient_buckets",
            "UPDATE channels SET state = 'active', next_send_time = now() - interval '1 hour', templates_held_until = NULL",
        ):
            self.wait(self.world.desk.execute(statement))

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.world.wait(work)

    def tick(self) -> float:
        return self.now + next(self.ticks) * 1e-6

    def channel_of(self, sent: Sent) -> int:
        return sent.conversation % 2

    # What happens

    @stateful.rule(conversation=st.integers(0, 3), lane=st.sampled_from([0, 0, 1, 2]))
    def send(self, conversation: int, lane: int) -> None:
        self._send(conversation, lane)

    def _send(self, conversation: int, lane: int) -> None:
        if conversation % 2 in self.paused:
            return
        desk = self.world.desk
        position = next(self.ticks)
        item = desk.send(self.world.conversations[conversation], str(position))
        self.wait(desk.writer().submit(item))
        self.wait(desk.execute("UPDATE deliveries SET lane = $2 WHERE id = $1", item.delivery_id, lane))
        # It gets its lane only afterwards, so it was stored as an answer.
        self._make_way(conversation, position)
        head = any(sent.state in ("queued", "in_flight") for sent in self._of(conversation))
        self.sent[item.delivery_id] = Sent(
            item.part_id, conversation, position, "waiting" if head else "queued", self.now, lane
        )

    def _aside(self, sent: Sent) -> bool:
        """Whether others of its conversation go before it."""
        return sent.lane > 0 and (
            (sent.aside and sent.due > self.now) or self.templates[self.channel_of(sent)] > self.now
        )

    def _make_way(self, conversation: int, following: int | None = None) -> None:
        """A head steps aside for what need not wait; following: the position of what comes now."""
        queue = self._of(conversation)
        heads = [sent for sent in queue if sent.state == "queued" and self._aside(sent)]
        if heads and (following or any(sent.state == "waiting" and not self._aside(sent) for sent in queue)):
            heads[0].state = "waiting"
            if any(sent.state == "waiting" and not self._aside(sent) for sent in queue):
                self._promote(conversation)

    @stateful.rule()
    def make_way(self) -> None:
        async def unit(write: Write) -> None:
            found = await deliveries.heads_aside(write.connection)
            await deliveries.lock(write.connection, found)
            await deliveries.step_aside(write.connection, found)

        self.wait(self.world.desk.database.write(unit))
        for conversation in range(4):
            self._make_way(conversation)

    @stateful.initialize()
    def much_to_send(self) -> None:
        for conversation, lane in ((0, 0), (0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (3, 0)):
            self._send(conversation, lane)

    @stateful.rule(worker=WORKERS, limit=st.sampled_from([1, 9, 9]), lost=st.sampled_from([False] * 5 + [True]))
    def claim(self, worker: str, limit: int, lost: bool) -> None:
        """lost: the answer of the claim does not come."""
        self._claim(worker, limit, lost=lost)

    @stateful.rule(outcome=OUTCOME)
    def work_slowly(self, outcome: str) -> None:
        """What one worker had is another's by the time it says once more what became of it."""
        taken = self._claim("a", 9, lost=False)
        for claimed in taken:
            self._settle("a", claimed, "not sent")
        self.time_passes()
        self._claim("b", 9, lost=False)
        for claimed in taken:
            self._settle("a", claimed, outcome)

    @stateful.rule(worker=WORKERS, outcomes=st.lists(OUTCOME, min_size=4, max_size=4), kept=st.booleans())
    def work(self, worker: str, outcomes: list[str], kept: bool) -> None:
        """Claims, and ends what it has."""
        taken = self._claim(worker, 9, lost=False)
        for claimed, outcome in zip(taken, outcomes, strict=False):
            if not kept:
                self.claims.remove((worker, claimed))
            self._settle(worker, claimed, outcome)

    def _claim(self, worker: str, limit: int, *, lost: bool) -> list[Claimed]:
        async def work() -> list[Claimed]:
            async with self.world.database(worker).connection() as connection:
                found = await claiming.claim(connection, worker=worker, limit=limit, providers=self.world.paced)
                if lost:
                    held = [i for i, s in self.sent.items() if s.state == "in_flight" and s.worker == worker]
                    await deliveries.take_back(connection, worker=worker, sending=held)
                return found.claimed

        free = self._look()
        taken: list[Claimed] = self.wait(work())
        assert {claimed.id for claimed in taken} <= free
        assert len(taken) == min(limit, len(free))
        for claimed in taken:
            self._take(self.sent[claimed.id], worker, lost=lost)
            if not lost:
                self.claims.append((worker, claimed))
        return taken

    def _look(self) -> set[Any]:
        """What may go now; the others that are due are put off."""
        free = set()
        for delivery_id, sent in self.sent.items():
            channel = self.channel_of(sent)
            if (
                sent.state != "queued"
                or sent.due > self.now
                or channel in self.paused
                or self.account[channel] > self.now
                or (sent.lane > 0 and self.templates[channel] > self.now)
            ):
                continue
            holds = [s.hold for s in self._of(sent.conversation) if s.state == "unknown"]
            following, span = self.recipient.get(sent.conversation, (0.0, 0.0))
            if self.now >= span or following > self.now + EVERY:
                holds.append(following)
            if max(holds, default=0.0) > self.now:
                sent.due = max(holds)
            else:
                free.add(delivery_id)
        return free

    def _take(self, sent: Sent, worker: str, *, lost: bool) -> None:
        following, span = self.recipient.get(sent.conversation, (0.0, 0.0))
        until = span if following > self.now else self.now + EVERY
        self.recipient[sent.conversation] = (max(following, self.now) + EVERY, until)
        sent.attempt += 1
        sent.state, sent.worker, sent.lease = "in_flight", worker, self.now + 60
        if lost:
            sent.state, sent.due = "queued", self.now
            sent.uncounted += 1

    @stateful.precondition(lambda self: self.claims)
    @stateful.rule(which=st.integers(0, 99), outcome=OUTCOME, again=st.booleans(), current=st.booleans())
    def settle(self, which: int, outcome: str, again: bool, current: bool) -> None:
        """The end of a claim, which may be an old one by now, and may be told twice."""
        flying = [item for item in self.claims if self._flies(item[1])]
        chosen = flying if current and flying else self.claims
        worker, claimed = chosen[which % len(chosen)]
        if not again:
            self.claims.remove((worker, claimed))
        self._settle(worker, claimed, outcome)

    @stateful.precondition(lambda self: self._outlived())
    @stateful.rule(which=st.integers(0, 99), outcome=OUTCOME)
    def settle_late(self, which: int, outcome: str) -> None:
        """An old claim ends while a new one is in flight."""
        old = self._outlived()
        self._settle(*old[which % len(old)], outcome)

    def _outlived(self) -> list[tuple[str, Claimed]]:
        held = [(worker, claimed, self.sent[claimed.id]) for worker, claimed in self.claims]
        return [
            (worker, claimed)
            for worker, claimed, sent in held
            if sent.state == "in_flight" and sent.attempt > claimed.attempt
        ]

    def _flies(self, claimed: Claimed) -> bool:
        sent = self.sent[claimed.id]
        return sent.attempt == claimed.attempt and sent.state == "in_flight"

    def _settle(self, worker: str, claimed: Claimed, outcome: str) -> None:
        self.wait(self.world.sender(worker).settle(claimed, OUTCOMES[outcome](claimed)))
        sent = self.sent[claimed.id]
        mine = sent.attempt == claimed.attempt
        getattr(self, "_" + outcome.replace(" ", "_"))(sent, mine and sent.state == "in_flight", mine)

    def _accepted(self, sent: Sent, _flying: bool, _mine: bool) -> None:
        self._move(sent, "sent")

    def _not_sent(self, sent: Sent, flying: bool, _mine: bool) -> None:
        if flying:
            sent.state, sent.due, sent.aside = "queued", self.now + BACKOFF, False

    _retry = _not_sent

    def _pair(self, sent: Sent, flying: bool, mine: bool) -> None:
        self._not_sent(sent, flying, mine)
        if flying:
            following, _ = self.recipient[sent.conversation]
            self.recipient[sent.conversation] = (max(following, self.now + BACKOFF), self.now)

    def _later(self, sent: Sent, flying: bool, mine: bool) -> None:
        """A long wait: a template lets others pass."""
        self._not_sent(sent, flying, mine)
        if flying:
            sent.aside = sent.lane > 0
            self._make_way(sent.conversation)

    def _account(self, sent: Sent, flying: bool, mine: bool) -> None:
        self._later(sent, flying, mine)
        if flying:
            self.account[self.channel_of(sent)] = self.now + BACKOFF

    def _spam(self, sent: Sent, flying: bool, mine: bool) -> None:
        self._later(sent, flying, mine)
        if flying:
            self.templates[self.channel_of(sent)] = self.now + BACKOFF

    def _stop(self, sent: Sent, flying: bool, _mine: bool) -> None:
        self.paused.add(self.channel_of(sent))
        if flying:
            sent.state, sent.due, sent.aside = "queued", self.now, False
            sent.uncounted += 1

    def _permanent(self, sent: Sent, flying: bool, mine: bool) -> None:
        if flying or (mine and sent.state == "unknown"):
            self._end(sent, "failed")
            sent.status = "failed"

    _bug = _permanent

    def _ambiguous(self, sent: Sent, flying: bool, _mine: bool) -> None:
        if flying:
            sent.hold = self.tick() + 60
            self._end(sent, "unknown")
            sent.status = "unknown"

    @stateful.precondition(lambda self: self.claims)
    @stateful.rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        """It never says what became of what it had."""
        self.claims = [(name, claimed) for name, claimed in self.claims if name != worker]

    @stateful.precondition(lambda self: any(s.state == "in_flight" and s.lease <= self.now for s in self.sent.values()))
    @stateful.rule()
    def expire(self) -> None:
        async def work() -> None:
            async with self.world.desk.database.connection() as connection:
                left = await deliveries.expired(connection)
            for claimed in left:
                await self.world.sender("a").expire(claimed)

        self.wait(work())
        for sent in sorted(self.sent.values(), key=lambda sent: sent.lease):
            if sent.state == "in_flight" and sent.lease <= self.now:
                self._ambiguous(sent, True, True)

    @stateful.precondition(lambda self: any(sent.attempt for sent in self.sent.values()))
    @stateful.rule(which=st.integers(0, 99), status=st.sampled_from(["sent", "delivered", "read", "failed"]))
    def receipt(self, which: int, status: str) -> None:
        tried = [sent for sent in self.sent.values() if sent.attempt]
        sent = tried[which % len(tried)]
        update = Update(
            channel_id=self.world.channels[self.channel_of(sent)],
            provider_message_id=None,
            part_id=sent.part_id,
            status=status,
            source="receipt",
            origin=nobody(),
        )

        async def unit(write: Write) -> None:
            await append(write, (await receipts.apply(write, [update])).events)

        self.wait(self.world.desk.database.write(unit))
        self._move(sent, status)

    @stateful.precondition(lambda self: self.sent)
    @stateful.rule(which=st.integers(0, 99), decision=st.sampled_from(["retry", "give up"]))
    def decide(self, which: int, decision: str) -> None:
        """An operator."""
        delivery_id, sent = list(self.sent.items())[which % len(self.sent)]

        async def unit(write: Write) -> None:
            if decision == "retry":
                events = await redelivery.retry(write, ALL, delivery_id, origin=nobody())
            else:
                events = await redelivery.give_up(write, ALL, delivery_id, origin=nobody(), reason=None)
            await append(write, events)

        possible = ("failed", "unknown") if decision == "retry" else ("waiting", "queued", "unknown")
        try:
            self.wait(self.world.desk.database.write(unit))
        except DeliveryNotPossible:
            assert sent.state not in possible
            return
        assert sent.state in possible
        self._release(sent)
        if decision == "retry":
            sent.state, sent.status, sent.due, sent.uncounted = "waiting", "pending", self.now, sent.attempt
            self._promote(sent.conversation)
        else:
            self._end(sent, "failed")
            sent.status = "failed"

    @stateful.precondition(lambda self: not self.paused)
    @stateful.rule(channel=st.integers(0, 1))
    def pause(self, channel: int) -> None:
        self._switch(channel, "paused")
        self.paused.add(channel)

    @stateful.precondition(lambda self: self.paused)
    @stateful.rule()
    def resume(self) -> None:
        for channel in self.paused:
            self._switch(channel, "active")
        self.paused.clear()

    def _switch(self, channel: int, state: str) -> None:
        statement = "UPDATE channels SET state = $2 WHERE id = $1"
        self.wait(self.world.desk.execute(statement, self.world.channels[channel], state))

    @stateful.rule()
    def time_passes(self) -> None:
        self.now += STEP
        self.world.move(self.now)

    # What the model makes of it

    def _of(self, conversation: int) -> list[Sent]:
        return [sent for sent in self.sent.values() if sent.conversation == conversation]

    def _move(self, sent: Sent, status: str) -> None:
        if receipts.moves(sent.status, status):
            sent.status = status
            if status == "failed":
                self._release(sent)
                self._end(sent, "failed")
        if sent.status in ("sent", "delivered", "read") and sent.state != "accepted":
            self._release(sent)
            self._end(sent, "accepted")

    def _release(self, sent: Sent) -> None:
        for other in self._of(sent.conversation) if sent.state == "unknown" else ():
            if other.state == "queued" and other.due == sent.hold:
                other.due = self.now

    def _end(self, sent: Sent, state: str) -> None:
        sent.state = state
        self._promote(sent.conversation)

    def _promote(self, conversation: int) -> None:
        queue = self._of(conversation)
        waiting = sorted(
            (sent for sent in queue if sent.state == "waiting"),
            key=lambda sent: (1, sent.due, sent.position) if self._aside(sent) else (0, sent.position, 0),
        )
        if waiting and not any(sent.state in ("queued", "in_flight") for sent in queue):
            waiting[0].state, waiting[0].due = "queued", max(waiting[0].due, self.now)

    @stateful.invariant()
    def the_tables_are_the_model(self) -> None:
        query = (
            "SELECT d.*, d.due_time <= clock_now() AS due, m.status FROM deliveries d"
            " JOIN message_parts p ON p.id = d.part_id JOIN messages m ON m.id = p.message_id"
        )
        rows = {row["id"]: row for row in self.wait(self.world.desk.rows(query))}
        assert rows.keys() == self.sent.keys()
        for delivery_id, sent in self.sent.items():
            row = rows[delivery_id]
            names = ("state", "attempt", "uncounted", "status")
            found = tuple(row[name] for name in names)
            assert found == tuple(getattr(sent, name) for name in names), found
            assert row["aside"] == sent.aside, sent
            if sent.state == "queued":
                assert row["due"] == (sent.due <= self.now), (row["due_time"], sent)
        for conversation in range(4):
            flying = [sent for sent in self._of(conversation) if sent.state == "in_flight"]
            assert len(flying) <= 1
