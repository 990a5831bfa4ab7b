"""Timers against a model, in any order: set, replaced, cancelled, failing, crashed, by two workers, while time moves.

The timers are real: snoozes of conversations, and probes that note what they did in a table of the test. Time moves in steps
of five minutes, and everything is due between two steps, so that the seconds that the test takes do not matter. The clock of
the process stands behind that of the database, which alone decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import asyncpg
from hypothesis import stateful
from hypothesis import strategies as st
from switchboard.v1 import event_pb2

from server.conversations import rules, service
from server.conversations import timers as conversation_timers
from server.kit.clock import CLOCK
from server.kit.db import Database, Write
from server.kit.errors import DatabaseUnavailable
from server.log.append import append
from server.log.event import NewEvent
from server.rpc.call import Scope
from server.timers import service as timers
from server.timers.service import Fired, Firing, Handlers
from tests.desk import nobody
from tests.moved_time import move_database

PROBE = "probe"
STEP = timedelta(minutes=5)
BETWEEN = STEP / 2
PROCESS_BEHIND = timedelta(minutes=12)
RETRIES = (2 * STEP, 3 * STEP)
NOTE = "INSERT INTO probe_effects (key, due_time) VALUES ($1, $2)"
WOKEN = "SELECT conversation_id, payload FROM stream_event WHERE kind = 33 AND cause_kind = 3 AND seq > $1"
Effect = tuple[uuid.UUID, datetime]


class Probes:
    """What a probe does: it notes that it fired, unless its payload says that it fails."""

    def __init__(self, write: Write) -> None:
        self._write = write

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        await self._write.connection.execute(NOTE, fired.key, fired.due_time)
        if fired.payload["fails"]:
            await self._write.connection.execute("SELECT 1 / 0")
        return []

    async def save(self) -> None:
        return None


async def open_probes(write: Write, _keys: Sequence[uuid.UUID]) -> Probes:
    return Probes(write)


HANDLERS: Handlers = {**conversation_timers.HANDLERS, PROBE: open_probes}


class Crashing:
    """The connection dies after the effects and before the commit; and before what would fail, which so is not a failure."""

    def __init__(self, write: Write, firing: Firing) -> None:
        self._write = write
        self._firing = firing

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        if fired.payload.get("fails"):
            await self._die()
        return await self._firing.fire(fired)

    async def save(self) -> None:
        await self._firing.save()
        await self._die()

    async def _die(self) -> None:
        await self._write.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def crashing(opener: timers.Opener) -> timers.Opener:
    async def opened(write: Write, keys: Sequence[uuid.UUID]) -> Firing:
        return Crashing(write, await opener(write, keys))

    return opened


CRASHING: Handlers = {kind: crashing(opener) for kind, opener in HANDLERS.items()}


@dataclass
class World:
    """A tenant's database as two workers see it, on a loop of the machine's own."""

    owner_dsn: str
    dsn: str
    conversations: list[uuid.UUID]
    probes: list[uuid.UUID] = field(default_factory=lambda: [uuid.uuid4() for _ in range(3)])
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    workers: list[Database] = field(default_factory=list)

    def __enter__(self) -> World:
        self.workers = [Database(self.dsn, pool_size=2) for _ in range(2)]
        self.run(self._owned("CREATE TABLE probe_effects (key uuid, due_time timestamptz)"))
        self.run(self._owned("GRANT ALL ON probe_effects TO PUBLIC"))
        return self

    def __exit__(self, *_error: object) -> None:
        CLOCK.move(timedelta(0))
        for worker in self.workers:
            self.run(worker.close())
        self.runner.close()

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def move(self, to: timedelta) -> None:
        self.run(move_database(self.owner_dsn, to=to))
        CLOCK.move(to - PROCESS_BEHIND)

    async def _owned(self, statement: str) -> None:
        connection = await asyncpg.connect(self.owner_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def execute(self, statement: str, *values: object) -> None:
        async with self.workers[0].connection() as connection:
            await connection.execute(statement, *values)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        async with self.workers[0].connection() as connection:
            return list(await connection.fetch(statement, *values))


@dataclass(frozen=True)
class Expected:
    """A timer as the model has it. when: the next try; None: it is dead. stale: its snooze is over, it does nothing."""

    due: datetime
    when: datetime | None
    fails: bool = False
    stale: bool = False
    attempt: int = 0


class TimerMachine(stateful.RuleBasedStateMachine):
    """One example: starts from open conversations, no timers, and the real time."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.offset = timedelta(0)
        self.expected: dict[tuple[str, uuid.UUID], Expected] = {}
        self.status = dict.fromkeys(self.world.conversations, "open")
        self.noted: Counter[Effect] = Counter()
        self.woken: Counter[Effect] = Counter()
        self.world.move(timedelta(0))
        self.start = datetime.now(UTC)
        self.world.run(self._clean())
        (row,) = self.world.run(self.world.rows("SELECT head FROM stream_head"))
        self.head = row["head"]

    async def _clean(self) -> None:
        for statement in (
            "DELETE FROM timers",
            "DELETE FROM probe_effects",
            "UPDATE conversations SET status = 'open', snooze_until = NULL",
        ):
            await self.world.execute(statement)

    @property
    def now(self) -> datetime:
        """The database's time, to the step; whole steps and what lies between them never meet."""
        return self.start + self.offset

    def in_steps(self, steps: int) -> datetime:
        return self.now + steps * STEP + BETWEEN

    conversations = st.integers(0, 2)
    steps = st.integers(-1, 4)

    def _move(self, index: int, to: str, until: datetime | None = None) -> uuid.UUID:
        conversation_id = self.world.conversations[index]

        async def unit(write: Write) -> None:
            changed = await service.update_status(
                write,
                Scope(all=True),
                conversation_id,
                origin=nobody(),
                to=to,
                snooze_until=until,
                reason=None,
                expected_version=None,
            )
            await append(write, changed.events)

        self.world.run(self.world.workers[0].write(unit))
        self.status[conversation_id] = to
        return conversation_id

    @stateful.rule(index=conversations, steps=steps)
    def snooze(self, index: int, steps: int) -> None:
        """Sets the timer, or replaces the one that is there."""
        due = self.in_steps(steps)
        conversation_id = self._move(index, "snoozed", due)
        self.expected["snooze", conversation_id] = Expected(due, due)

    @stateful.rule(index=conversations)
    def snooze_until_a_reply(self, index: int) -> None:
        """Snoozed without a time: whatever timer there was is cancelled."""
        self.expected.pop(("snooze", self._move(index, "snoozed")), None)

    @stateful.rule(index=conversations)
    def end_snooze(self, index: int) -> None:
        if self.status[self.world.conversations[index]] == "snoozed":
            self.expected.pop(("snooze", self._move(index, "open")), None)

    @stateful.rule(index=conversations, steps=steps)
    def leave_an_old_timer(self, index: int, steps: int) -> None:
        """A timer of an earlier snooze, as a restore from a copy may bring it back."""
        key, due = self.world.conversations[index], self.in_steps(steps)
        if ("snooze", key) not in self.expected:
            statement = (
                "INSERT INTO timers (kind, key, due_time, generation)"
                " SELECT 'snooze', id, $2, snooze_generation - 1 FROM conversations WHERE id = $1"
            )
            self.world.run(self.world.execute(statement, key, due))
            self.expected["snooze", key] = Expected(due, due, stale=True)

    @stateful.rule(index=conversations, steps=steps, fails=st.booleans())
    def set_probe(self, index: int, steps: int, fails: bool) -> None:
        key, due = self.world.probes[index], self.in_steps(steps)

        async def unit(write: Write) -> None:
            await timers.set_timer(write.connection, kind=PROBE, key=key, due_time=due, payload={"fails": fails})

        self.world.run(self.world.workers[0].write(unit))
        self.expected[PROBE, key] = Expected(due, due, fails=fails)

    @stateful.rule(index=conversations)
    def cancel_probe(self, index: int) -> None:
        key = self.world.probes[index]
        self.world.run(
            self.world.workers[1].write(lambda write: timers.cancel(write.connection, kind=PROBE, keys=[key]))
        )
        self.expected.pop((PROBE, key), None)

    @stateful.rule()
    def operator_asks_again(self) -> None:
        self.world.run(self.world.workers[0].write(lambda write: timers.rearm(write.connection, kind=None, key=None)))
        for key, timer in self.expected.items():
            self.expected[key] = replace(timer, when=timer.due, attempt=0)

    @stateful.rule(steps=st.integers(1, 3))
    def time_passes(self, steps: int) -> None:
        self.offset += steps * STEP
        self.world.move(self.offset)

    @stateful.rule(both=st.booleans())
    def workers_look(self, both: bool) -> None:
        workers = self.world.workers if both else self.world.workers[:1]

        async def look() -> None:
            await asyncio.gather(*(timers.run_due(worker, HANDLERS) for worker in workers))

        self.world.run(look())
        for (kind, key), timer in list(self.expected.items()):
            if timer.when is not None and timer.when <= self.now:
                self._fired(kind, key, timer)

    @stateful.rule(looks=st.integers(2, 4))
    def a_worker_keeps_looking(self, looks: int) -> None:
        """Long enough for what fails to be tried for the last time."""
        for _ in range(looks):
            self.time_passes(3)
            self.workers_look(both=False)

    def _fired(self, kind: str, key: uuid.UUID, timer: Expected) -> None:
        if timer.fails:
            again = self.now + RETRIES[timer.attempt] if timer.attempt < len(RETRIES) else None
            self.expected[kind, key] = replace(timer, when=again, attempt=timer.attempt + 1)
            return
        del self.expected[kind, key]
        if kind == PROBE:
            self.noted[key, timer.due] += 1
        elif not timer.stale:
            self.woken[key, timer.due] += 1
            self.status[key] = "open"

    @stateful.rule()
    def a_worker_dies_before_its_commit(self) -> None:
        with contextlib.suppress(DatabaseUnavailable):
            self.world.run(timers.run_due(self.world.workers[1], CRASHING))

    @stateful.invariant()
    def timers_are_what_is_expected(self) -> None:
        rows = self.world.run(self.world.rows("SELECT kind, key, due_time, attempt, dead_time FROM timers"))
        found = {(row["kind"], row["key"]): (row["due_time"], row["attempt"], row["dead_time"] is None) for row in rows}
        assert found == {
            key: (timer.due, timer.attempt, timer.when is not None) for key, timer in self.expected.items()
        }

    @stateful.invariant()
    def each_effect_is_there_once_with_its_intended_time(self) -> None:
        rows = self.world.run(self.world.rows("SELECT key, due_time FROM probe_effects"))
        assert Counter((row["key"], row["due_time"]) for row in rows) == self.noted
        events = self.world.run(self.world.rows(WOKEN, self.head))
        assert Counter(map(_woken, events)) == self.woken

    @stateful.invariant()
    def conversations_stand_where_they_should(self) -> None:
        rows = self.world.run(
            self.world.rows("SELECT id, status FROM conversations WHERE id = ANY($1)", list(self.status))
        )
        assert {row["id"]: row["status"] for row in rows} == self.status


def _woken(row: Any) -> Effect:
    changed = event_pb2.InboxEvent.FromString(row["payload"]).conversation_status_changed
    return row["conversation_id"], changed.intended_time.ToDatetime(UTC)


def _sql(name: str, old: str, new: str) -> Callable[[], AbstractContextManager[Any]]:
    """A statement of timers with a part of it replaced."""
    statement = getattr(timers, name)
    assert old in statement
    return partial(mock.patch.object, timers, name, statement.replace(old, new))


def _taken_apart() -> AbstractContextManager[Any]:
    """The timers are deleted in a transaction of their own, before the one with the effect."""

    async def fire(database: Database, opener: timers.Opener, batch: Sequence[Any]) -> int:
        wanted = [(item.kind, item.key) for item in batch]
        taken = await database.write(lambda write: timers.take(write.connection, wanted))

        async def effect(write: Write) -> None:
            firing = await opener(write, sorted({item.key for item in batch}))
            events = [event for record in taken for event in await firing.fire(timers._fired(record))]
            await firing.save()
            await append(write, events)

        await database.write(effect)
        return len(taken)

    return mock.patch.object(timers, "_fire", fire)


def _any_generation() -> AbstractContextManager[Any]:
    wake = rules.wake
    return mock.patch.object(
        rules, "wake", lambda row, *, generation, now: wake(row, generation=row.snooze_generation, now=now)
    )


@contextlib.contextmanager
def _process_clock() -> Iterator[None]:
    behind = f"(clock_now() - interval '{PROCESS_BEHIND.total_seconds()} seconds')"
    with _sql("DUE", "clock_now()", behind)(), _sql("TAKE", "<= clock_now()", f"<= {behind}")():
        yield


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "fires without deleting": _sql(
        "TAKE", "DELETE FROM timers t USING locked", "UPDATE timers t SET generation = t.generation FROM locked"
    ),
    "deletes before the effect in another transaction": _taken_apart,
    "the intended time is replaced by now": _sql(
        "TAKE", "t.due_time, t.generation", "clock_now() AS due_time, t.generation"
    ),
    "an old generation fires": _any_generation,
    "due by the clock of the process": _process_clock,
    "a failure forgets the intended time": _sql(
        "FAIL", "attempt = attempt + 1", "attempt = attempt + 1, due_time = clock_now()"
    ),
    "setting anew leaves the old time": _sql("SET", "SET due_time = excluded.due_time,", "SET"),
    "two workers count one failure twice": _sql("FAIL", " AND attempt = $7", " AND $7::integer IS NOT NULL"),
    "what failed is tried again for ever": _sql("FAIL", "CASE WHEN $6::interval IS NULL THEN clock_now() END", "NULL"),
}
