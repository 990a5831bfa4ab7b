"""The directory of work against what it promises: whatever is committed is found and done, whoever dies and whenever.

One tenant; its database is a table beside the directory. Two processes write to it, two workers look for work, and time passes
for all of them at once: the directory's times and the work's are moved back, the processes' monotonic clock forward.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar
from unittest import mock

from hypothesis import stateful
from hypothesis import strategies as st

from server.kit.db import Connection, Database, Write
from server.tenancy import work
from server.tenancy.work import Lease, WorkDirectory

T = TypeVar("T")
# The rest of ten seconds is what a write may take from its announcement to its commit.
SLOW_SECONDS = 4
PASS = """
WITH directory AS (
    UPDATE tenant_work SET active_until = active_until - $1::interval, lease_until = lease_until - $1::interval,
        next_due_time = next_due_time - $1::interval
)
UPDATE machine_work SET due_time = due_time - $1::interval
"""
UNFINDABLE = """
SELECT count(*) FROM machine_work WHERE NOT EXISTS (
    SELECT FROM tenant_work WHERE active_until IS NOT NULL OR next_due_time <= machine_work.due_time)
"""


class Monotonic:
    """The clock of all processes, which only the machine moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class World:
    """A control database with one tenant, on a loop of the machine's own."""

    control_dsn: str
    tenant_id: uuid.UUID
    clock: Monotonic = field(default_factory=Monotonic)
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __enter__(self) -> World:
        self.control = Database(self.control_dsn, pool_size=6)
        self.execute("CREATE TABLE machine_work (id serial, due_time timestamptz)")
        return self

    def __exit__(self, *_error: object) -> None:
        self.execute("DROP TABLE machine_work")
        self.run(self.control.close())
        self.runner.close()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    def execute(self, statement: str, *values: object) -> Any:
        return self.run(self.value(statement, *values))

    async def value(self, statement: str, *values: object) -> Any:
        async with self.control.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def time_passes(self, seconds: float) -> None:
        await self.value(PASS, timedelta(seconds=seconds))
        self.clock.seconds += seconds


class Process:
    """One that announces and writes. It may die at its commit."""

    def __init__(self, world: World) -> None:
        self.directory = WorkDirectory(world.control)
        self.dies_at_commit = self.dead = False
        self._world = world

    async def write(self, unit: Callable[[Connection], Awaitable[Any]]) -> None:
        database = Database(
            self._world.control_dsn, pool_size=1, before_write=self._announce, after_commit=self._committed
        )

        async def whole(write: Write) -> None:
            await unit(write.connection)

        await database.write(whole)
        await database.close()

    async def _announce(self) -> None:
        if not self.dead:
            await self.directory.announce(self._world.tenant_id)

    def _committed(self, _write: Write) -> None:
        self.dead = self.dies_at_commit


class WorkingProcess(Process):
    """A worker: leases, looks, retires."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.name = f"{name}-{uuid.uuid4().hex[:6]}"
        self.lease: Lease | None = None
        self.looked: tuple[Lease, datetime | None] | None = None

    async def find(self) -> None:
        for lease in await self.directory.find(self.name, limit=10):
            self.lease = lease

    async def renew(self) -> None:
        if self.lease is not None:
            self.lease = (await self.directory.renew(self.name, [self.lease.tenant_id])).get(self.lease.tenant_id)

    async def look(self) -> None:
        """Does what is due, and sees what is next: with the lease as it was read before."""
        if self.lease is None:
            return
        lease = self.lease
        if await self._world.value("SELECT count(*) FROM machine_work WHERE due_time <= now()"):
            await self.write(lambda connection: connection.execute("DELETE FROM machine_work WHERE due_time <= now()"))
        self.looked = lease, await self._world.value("SELECT min(due_time) FROM machine_work")

    async def retire(self) -> None:
        if self.looked is not None and not self.looked[0].active and await self.directory.retire(*self.looked):
            self.lease = None
        self.looked = None


class WorkMachine(stateful.RuleBasedStateMachine):
    """Starts with an idle tenant."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.execute("DELETE FROM machine_work")
        self.world.execute(
            "UPDATE tenant_work SET active_until = NULL, next_due_time = NULL, lessee = NULL, lease_until = NULL"
        )
        self.processes = [Process(self.world) for _ in range(2)]
        self.workers = [WorkingProcess(self.world, name) for name in ("one", "two")]

    which = st.integers(0, 1)
    due = st.sampled_from([0, 1, 6, 30, 90])

    @stateful.rule(index=which, due=due, dies=st.booleans())
    def write(self, index: int, due: int, dies: bool) -> None:
        process = self.processes[index]
        process.dies_at_commit = dies
        self.world.run(process.write(partial(_insert, due=due)))
        if dies:
            self.processes[index] = Process(self.world)

    @stateful.rule(index=which, worker=which, due=due, after=st.sampled_from([0, 11]))
    def write_slowly_while_a_worker_looks(self, index: int, worker: int, due: int, after: int) -> None:
        working = self.workers[worker]

        async def slowly(connection: Connection) -> None:
            await self.world.time_passes(SLOW_SECONDS)
            for step in (working.find, working.renew, working.look, working.retire):
                await step()
            await _insert(connection, due=due)

        self.world.run(self.world.time_passes(after))
        self.world.run(self.processes[index].write(slowly))

    @stateful.rule(index=which, worker=which, due=due, after=st.sampled_from([0, 16]))
    def write_between_look_and_retiring(self, index: int, worker: int, due: int, after: int) -> None:
        working = self.workers[worker]
        self.world.run(self.world.time_passes(after))
        for step in (working.find, working.renew, working.look):
            self.world.run(step())
        self.world.run(self.processes[index].write(partial(_insert, due=due)))
        self.world.run(working.retire())

    @stateful.rule(index=which)
    def renew_announcements(self, index: int) -> None:
        self.world.run(self.processes[index].directory.renew_announced())

    @stateful.rule(seconds=st.sampled_from([4, 8, 16, 60]))
    def time_passes(self, seconds: int) -> None:
        self.world.run(self.world.time_passes(seconds))

    @stateful.rule(index=which)
    def find(self, index: int) -> None:
        self.world.run(self.workers[index].find())

    @stateful.rule(index=which)
    def renew(self, index: int) -> None:
        self.world.run(self.workers[index].renew())

    @stateful.rule(index=which)
    def look_and_retire(self, index: int) -> None:
        self.world.run(self.workers[index].look())
        self.world.run(self.workers[index].retire())

    @stateful.rule(index=which)
    def end_worker(self, index: int) -> None:
        self.world.run(self.workers[index].directory.leave(self.workers[index].name))
        self.workers[index] = WorkingProcess(self.world, "after an end")

    @stateful.rule(index=which)
    def kill_worker(self, index: int) -> None:
        self.workers[index] = WorkingProcess(self.world, "after a kill")

    @stateful.invariant()
    def what_is_committed_can_be_found(self) -> None:
        assert self.world.execute(UNFINDABLE) == 0

    @stateful.invariant()
    def one_worker_has_the_tenant(self) -> None:
        held = self.world.execute("SELECT count(*) FROM tenant_work WHERE (lessee IS NULL) <> (lease_until IS NULL)")
        assert held == 0

    def teardown(self) -> None:
        """Everybody dies; a worker that comes later does everything in its time, and then leaves the tenant alone."""
        self.world.run(self._all_is_done())

    async def _all_is_done(self) -> None:
        worker = WorkingProcess(self.world, "last")
        for _ in range(16):
            await self.world.time_passes(11)
            for step in (worker.renew, worker.find, worker.look, worker.retire):
                await step()
        assert await self.world.value("SELECT count(*) FROM machine_work") == 0, "work was not found"
        assert await self.world.value("SELECT count(*) FROM tenant_work WHERE active_until IS NOT NULL") == 0, (
            "not retired"
        )


async def _insert(connection: Connection, *, due: int) -> None:
    await connection.execute(
        "INSERT INTO machine_work (due_time) VALUES (clock_timestamp() + $1::interval)", timedelta(seconds=due)
    )


def _sql(name: str, old: str, new: str) -> Callable[[], AbstractContextManager[Any]]:
    """A statement of the directory with a part of it replaced."""
    statement = getattr(work, name)
    assert old in statement
    return partial(mock.patch.object, work, name, statement.replace(old, new))


def _announced_after() -> AbstractContextManager[Any]:
    """The announcement follows the commit."""

    write = Database.write

    async def late(self: Any, unit: Callable[[Write], Awaitable[Any]]) -> Any:
        announce, self._before_write = self._before_write, _nothing
        done = await write(self, unit)
        await announce()
        return done

    return mock.patch.object(Database, "write", late)


async def _nothing() -> None:
    return None


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "retires without looking at what was announced meanwhile": _sql(
        "RETIRE",
        "AND active_until IS NOT DISTINCT FROM $3 AND (active_until IS NULL OR active_until <= now())",
        "AND ($3::timestamptz IS NULL OR true)",
    ),
    "announces after the commit": _announced_after,
    "announces at the last moment": partial(mock.patch.object, work, "MARGIN", timedelta(0)),
    "looks at announcements that lie ahead alone": _sql(
        "FIND", "work.active_until IS NOT NULL", "work.active_until > now()"
    ),
    "retires without the next due time": _sql(
        "RETIRE", "next_due_time = $4", "next_due_time = nullif($4::timestamptz, $4)"
    ),
    "the lease of a dead worker does not end": _sql("FIND", "work.lease_until <= now()", "false"),
}
