"""The log against a list: whatever is written, killed, dropped and renamed, streams and pages show what the list says."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from grpc import StatusCode, aio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from switchboard.v1 import event_pb2, inbox_service_pb2

from server.inbox.stream import StreamLimits
from server.inbox.tail import Pace
from server.kit.db import Write
from server.kit.errors import DatabaseUnavailable
from server.log.append import Appended, append
from server.log.event import SYSTEM, NewEvent
from server.log.read import read_head
from server.log.retention import keep
from tests.inbox.inbox_bench import CAUSE, Process, Tenant, Watcher, body, new_tenant
from tests.inbox.test_inbox_resume import place, reason, refused

# Everything is found within a fifth of a second; what takes longer than WITHIN is lost.
PACE = Pace(verify=0.2, poll=0.05, freshness=1.0)
LIMITS = StreamLimits(bookmark_interval=timedelta(seconds=0.02))
WITHIN = 5.0
# No interval asked for: the process's own, which is short here.
OFTEN: dict[str, Any] = {"bookmark_interval": None}
Places = st.floats(0, 1)


class RolledBack(Exception):
    """A unit of work that changes its mind after the append."""


@dataclass
class Entry:
    """What the list knows of an event. member: whether the agent may see the channel at it. rights: it changes that."""

    id: uuid.UUID
    member: bool
    rights: bool = False


@dataclass
class Stream:
    """An open stream, and what it must have shown."""

    watcher: Watcher
    closing: AsyncExitStack
    agent: bool
    start: int
    member_at_start: bool
    head_at_start: int
    checked: int = 0


@dataclass
class Log:
    """The model: events by seq - 1, with the floor. ends: seqs that end a transaction."""

    entries: list[Entry] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    floor: int = 1

    @property
    def head(self) -> int:
        return len(self.entries)

    def shown(self, stream: Stream) -> list[uuid.UUID]:
        """What a stream shows up to the head: old events under the rights of its start, new ones under those at each."""
        found = []
        for seq in range(stream.start + 1, self.head + 1):
            entry = self.entries[seq - 1]
            allowed = stream.member_at_start if seq <= stream.head_at_start else entry.member
            if not entry.rights and (allowed or not stream.agent):
                found.append(entry.id)
        return found


class LogMachine(RuleBasedStateMachine):
    """Two processes and somebody outside write to one log; streams and pages read it. `system` gives it a loop and a database."""

    system: Callable[[], tuple[asyncio.AbstractEventLoop, str, str]]

    def __init__(self) -> None:
        super().__init__()
        self._loop, self._dsn, self._database = type(self).system()
        self.log = Log()
        self.streams: list[Stream] = []
        self._stack = AsyncExitStack()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a process refuses, or does not do in time, it must do where the machine asks for it like this."""
        try:
            return self._loop.run_until_complete(work)
        except (TimeoutError, aio.AioRpcError) as error:
            raise AssertionError(f"asked for and not done: {error!r:.200}") from error

    @initialize()
    def begin(self) -> None:
        self.do(self._begin())

    async def _begin(self) -> None:
        self.tenant: Tenant = await self._stack.enter_async_context(new_tenant(self._dsn, self._database))
        await self.tenant.execute("DROP SEQUENCE IF EXISTS planted")
        await self.tenant.execute("CREATE SEQUENCE planted")
        self.agent = await self.tenant.new_agent(channels=1)
        self.member = True
        self.processes: list[Process] = []
        for _ in range(2):
            process = Process(None, PACE, LIMITS, per_caller=1000)
            process.serve(self._dsn, self.tenant)
            await process.start()
            self._stack.push_async_callback(process.stop)
            self.processes.append(process)
        self.writers = [process.writes(self.tenant) for process in self.processes] + [self.tenant]
        self.keys = [process.credentials.key(self.tenant) for process in self.processes]
        self.tokens = [process.credentials.agent(self.tenant, self.agent) for process in self.processes]

    def teardown(self) -> None:
        self.do(self._end())

    async def _end(self) -> None:
        for stream in self.streams:
            await stream.closing.aclose()
        await self._stack.aclose()

    # What happens to the log.

    @rule(writer=st.integers(0, 2), count=st.integers(1, 4), at_once=st.booleans())
    def write(self, writer: int, count: int, at_once: bool) -> None:
        events = self._events(count)
        appended = self.do(self._commit(self.writers[writer], events, at_once=at_once))
        self._committed([(appended, events)])

    @rule(sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), min_size=2, max_size=8))
    def write_side_by_side(self, sizes: list[tuple[int, int, bool]]) -> None:
        """Concurrent appenders, some of which change their mind."""
        units = [(self.writers[writer], self._events(count), fails) for writer, count, fails in sizes]

        async def all_of() -> list[Any]:
            works = (self._commit(writer, events, fails=fails) for writer, events, fails in units)
            return await asyncio.gather(*works)

        found = zip(self.do(all_of()), units, strict=True)
        self._committed([(appended, events) for appended, (_, events, _) in found if appended is not None])

    @rule(writer=st.integers(0, 2), count=st.integers(1, 3), first=st.booleans())
    def die_before_the_commit(self, writer: int, count: int, first: bool) -> None:
        """The connection is killed between the append and the COMMIT; streams have had time to see what there is not."""

        async def killed() -> None:
            async def work(write: Write) -> None:
                await append(write, self._events(count))
                pid = write.connection.get_server_pid()
                await self.tenant.execute("SELECT pg_terminate_backend($1)", pid)
                await asyncio.sleep(0.01 if first else 0)

            with contextlib.suppress(DatabaseUnavailable, asyncpg.PostgresError):
                await self.writers[writer].database.write(work)
                raise AssertionError("it was committed")

        self.do(killed())

    @rule(process=st.integers(0, 1), ahead=st.integers(-5, 3))
    def hint(self, process: int, ahead: int) -> None:
        """True, late or from the future."""

        async def give() -> None:
            head = max(self.log.head + ahead, 0)
            self.processes[process].tails._hinted(self.tenant.id, max(head - 1, 0), head)
            await asyncio.sleep(0.03)

        self.do(give())

    @rule(then=st.integers(0, 2), writer=st.integers(0, 2))
    def change_rights(self, then: int, writer: int) -> None:
        """The agent leaves or joins the channel, and events follow at once, nobody told of either."""
        self.member = not self.member
        change = "INSERT INTO channel_members (channel_id, agent_id) VALUES ($1, $2)"
        if not self.member:
            change = "DELETE FROM channel_members WHERE channel_id = $1 AND agent_id = $2"
        what = event_pb2.InboxEvent(scope_changed=event_pb2.AgentScopeChanged(agent_id=str(self.agent)))
        moved = NewEvent(body=what, actor=SYSTEM, cause=CAUSE)

        async def work(write: Write) -> Appended | None:
            await write.connection.execute(change, self.tenant.channels[0], self.agent)
            return await append(write, [moved])

        async def move() -> Appended | None:
            return await self.writers[writer].database.write(work)

        appended = self.do(move())
        self._committed([(appended, [moved])], rights=True)
        for _ in range(then):
            events = self._events(1)
            self._committed([(self.do(self._commit(self.writers[writer], events)), events)])

    @precondition(lambda self: self.log.head >= self.log.floor)
    @rule(part=Places)
    def drop_old(self, part: float) -> None:
        """Retention takes a part of what there is. Nobody is reading it now: streams are at the head."""
        self.check_streams()
        floor = self.log.floor + round(part * (self.log.head + 1 - self.log.floor))

        async def drop() -> int:
            old = "UPDATE stream_event SET create_time = create_time - interval '8 days' WHERE seq < $1"
            await self.tenant.execute(old, floor)
            return (await keep(self.tenant.database)).floor

        assert self.do(drop()) == floor
        self.log.floor = floor

    @rule()
    def restore(self) -> None:
        """Another epoch: every stream ends and says why, and no cursor holds."""

        async def exchange() -> None:
            await self.tenant.execute("UPDATE stream_head SET epoch = gen_random_uuid()")
            for stream in self.streams:
                end = await stream.watcher.end(WITHIN * 2)
                assert inbox_service_pb2.EndReason.Name(end.reason) == "END_REASON_CURSOR_DIVERGED"
                await stream.closing.aclose()
            await asyncio.gather(*(self._follows_again(index) for index in range(2)))

        cursor = self._cursor(self.log.head)
        self.do(exchange())
        self.streams.clear()
        if self.log.head:
            for index in range(2):
                self.do(self._refused(index, cursor, "CURSOR_DIVERGED"))

    # Who reads it.

    @precondition(lambda self: len(self.streams) < 6)
    @rule(process=st.integers(0, 1), agent=st.booleans(), part=Places)
    def watch(self, process: int, agent: bool, part: float) -> None:
        """From any place there ever was."""
        seq = round(part * self.log.head)
        cursor = self._cursor(seq)
        if seq < self.log.floor - 1:
            self.do(self._refused(process, cursor, "CURSOR_EXPIRED"))
            return
        self.streams.append(self.do(self._opened(process, cursor, seq, agent=agent)))

    @precondition(lambda self: self.streams)
    @rule(part=Places)
    def leave(self, part: float) -> None:
        stream = self.streams.pop(round(part * (len(self.streams) - 1)))
        self.do(stream.closing.aclose())

    @rule(process=st.integers(0, 1), agent=st.booleans(), part=Places, size=st.integers(1, 7))
    def list_pages(self, process: int, agent: bool, part: float, size: int) -> None:
        """Pages from a place show what a stream from there would."""
        floor = self.log.floor - 1
        seq = floor + round(part * (self.log.head - floor))
        found = self.do(self._pages(process, self._cursor(seq), size, agent=agent))
        allowed = self.member or not agent
        entries = self.log.entries[seq:] if allowed else []
        assert found == [entry.id for entry in entries if not entry.rights]

    # What holds after each step.

    @invariant()
    def check_streams(self) -> None:
        self.do(self._check_streams())

    @invariant()
    def the_log_is_dense(self) -> None:
        self.do(self._check_log())

    async def _follows_again(self, process: int) -> None:
        """Waits until the process has noticed: until then, whoever comes may be told so by an end."""
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(AssertionError, aio.AioRpcError):
                    async with self.processes[process].watch(self.keys[process], **OFTEN) as watcher:
                        await watcher.control("caught_up")
                        await watcher.control("bookmark")
                        return

    async def _check_streams(self) -> None:
        """All of them to the end: none is read any more when another one has failed and the machine tidies up."""
        checks = (self._check_stream(stream) for stream in self.streams)
        for found in await asyncio.gather(*checks, return_exceptions=True):
            if found is not None:
                raise found

    async def _check_stream(self, stream: Stream) -> None:
        """A bookmark at the head proves completeness; and it never speaks of a head that there is not."""
        watcher = stream.watcher
        async with asyncio.timeout(WITHIN):
            await self._reach_head(watcher)
        expected = self.log.shown(stream)
        assert [uuid.UUID(event.id) for event in watcher.events] == expected
        self._check_transactions(stream)

    async def _reach_head(self, watcher: Watcher) -> None:
        proved = False
        while not proved:
            item = await watcher.next(WITHIN)
            if item.WhichOneof("control") == "bookmark":
                assert item.bookmark.head <= self.log.head, "a bookmark of what is not there"
                proved = item.bookmark.head == self.log.head

    def _check_transactions(self, stream: Stream) -> None:
        """Only the last event of a transaction says that it is the last; a stream of everything shows which those are."""
        for event in stream.watcher.events[stream.checked :]:
            last = event.seq in self.log.ends
            assert event.last_of_transaction == last
        stream.checked = len(stream.watcher.events)

    async def _check_log(self) -> None:
        async with self.tenant.database.connection() as connection:
            head = await read_head(connection)
            rows = await connection.fetch("SELECT seq, event_id FROM stream_event ORDER BY seq")
        assert (head.head, head.floor) == (self.log.head, self.log.floor)
        kept = self.log.entries[self.log.floor - 1 :]
        assert [(row["seq"], row["event_id"]) for row in rows] == [
            (seq, entry.id) for seq, entry in enumerate(kept, start=self.log.floor)
        ]

    def _events(self, count: int) -> list[NewEvent]:
        return [self.tenant.event(body()) for _ in range(count)]

    async def _commit(
        self, writer: Tenant, events: list[NewEvent], *, fails: bool = False, at_once: bool = False
    ) -> Appended | None:
        async def work(write: Write) -> Appended | None:
            appended = await append(write, events)
            if fails:
                raise RolledBack
            return appended

        if at_once:
            async with writer.database.held() as held:
                return await held.write_at_once(work)
        with contextlib.suppress(RolledBack):
            return await writer.database.write(work)
        return None

    def _committed(self, found: list[tuple[Any, list[NewEvent]]], *, rights: bool = False) -> None:
        for appended, events in sorted(found, key=lambda pair: int(pair[0].prev_head)):
            assert (appended.prev_head, appended.new_head) == (self.log.head, self.log.head + len(events))
            self.log.entries += [Entry(event.id, self.member, rights) for event in events]
            self.log.ends.add(self.log.head)

    def _cursor(self, seq: int) -> str:
        event_id = self.log.entries[seq - 1].id if seq else None
        return str(self.do(place(self.tenant, self.processes[0], seq, event_id=event_id)))

    async def _opened(self, process: int, cursor: str, seq: int, *, agent: bool) -> Stream:
        closing = AsyncExitStack()
        credential = self.tokens[process] if agent else self.keys[process]
        watcher = await closing.enter_async_context(self.processes[process].watch(credential, cursor=cursor, **OFTEN))
        await watcher.control("hello")
        return Stream(watcher, closing, agent, seq, self.member, self.log.head)

    async def _refused(self, process: int, cursor: str, expected: str) -> None:
        """As a stream and as a page."""
        key = self.keys[process]
        assert await refused(self.processes[process].watch(key, cursor=cursor)) == (StatusCode.OUT_OF_RANGE, expected)
        with pytest.raises(aio.AioRpcError) as caught:
            await self.processes[process].page(key, cursor=cursor)
        assert (caught.value.code(), reason(caught.value)) == (StatusCode.OUT_OF_RANGE, expected)

    async def _pages(self, process: int, cursor: str, size: int, *, agent: bool) -> list[uuid.UUID]:
        credential = self.tokens[process] if agent else self.keys[process]
        found: list[uuid.UUID] = []
        while True:
            page = await self.processes[process].page(credential, cursor=cursor, page_size=size)
            found += [uuid.UUID(event.id) for event in page.events]
            if page.next_cursor == cursor:
                return found
            cursor = page.next_cursor
