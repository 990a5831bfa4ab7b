"""One database of one process: a small pool, single-statement reads, and units of work.

The pool is SQLAlchemy's, in AUTOCOMMIT, over asyncpg. Transactions are opened on the asyncpg connection, visibly, by `write`
and `snapshot`, so that hot SQL text and the ORM share one connection and one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import asyncpg
import sqlalchemy.event
import sqlalchemy.exc
from prometheus_client import Counter, Histogram
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from server.kit.errors import Contended, DatabaseUnavailable

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pair: TypeAlias = "tuple[AsyncConnection, Connection]"

ATTEMPTS = 3
ACQUIRE_SECONDS = 2.0
# A connection that lies ready is there in less; what is counted waited for one, or for a new one to be made.
WAITED_SECONDS = 0.001
WAITED = Histogram(
    "switchboard_pool_wait_seconds",
    "Waits for a connection that took longer than 1 ms.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
)
REFUSED = Counter("switchboard_pool_refused_total", "Times that no connection could be had.")


class Raced(Exception):
    """Another transaction won a race that this one cannot continue from; run again, it will see the winner."""


RETRIED = (
    Raced,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.SerializationError,
)
LOST = (
    OSError,
    asyncpg.exceptions.PostgresConnectionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    # No connection, memory or disk left: it passes, and what was acknowledged must be tried again, not be called faulty.
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.InterfaceError,
    # What asyncpg says of a connection that failed while it lay idle, until its socket is seen closed as well.
    asyncpg.exceptions.InternalClientError,
)
# InvalidRequestError: every connection that the pool made was closed again before it could be handed out.
NOT_CONNECTED = (sqlalchemy.exc.TimeoutError, sqlalchemy.exc.DBAPIError, sqlalchemy.exc.InvalidRequestError, *LOST)


@dataclass(slots=True)
class Write:
    """A unit of work inside its transaction: the asyncpg connection, and an ORM session on the same one.

    notes: what the work leaves for the callbacks after the commit, such as the range of events it appended. known: what this
    process has made sure of in this database, such as a partition; learned: what this work adds to that by its commit.
    """

    connection: Connection
    pooled: AsyncConnection
    known: Set[str] = frozenset()
    learned: set[str] = field(default_factory=set)
    notes: dict[str, Any] = field(default_factory=dict)
    _session: AsyncSession | None = None

    @property
    def session(self) -> AsyncSession:
        """The ORM session, made when it is first asked for: hot work does without."""
        if self._session is None:
            self._session = orm_session(self.pooled)
        return self._session

    async def flush(self) -> None:
        """Writes what the ORM session holds back."""
        if self._session is not None:
            await self._session.flush()

    async def close(self) -> None:
        """Ends the ORM session; the transaction goes on."""
        if self._session is not None:
            await self._session.close()


async def ensure(write: Write, sql: str, *arguments: Any) -> None:
    """Runs a statement that makes sure of something, such as a partition, once per process and database. Raced."""
    name = f"{sql} {arguments}"
    if name not in write.known and name not in write.learned:
        try:
            await write.connection.execute(sql, *arguments)
        except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError) as error:
            # IF NOT EXISTS does not see what another transaction is making at the same instant.
            raise Raced from error
        write.learned.add(name)


async def _nothing() -> None:
    return None


def _ignore(_write: Write) -> None:
    return None


class Database:
    """A database as one process sees it.

    dsn: postgresql://user:password@host:port/name. before_write is awaited before a unit of work begins; after_commit is
    called, without waiting, once it is durable.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 8,
        before_write: Callable[[], Awaitable[None]] = _nothing,
        after_commit: Callable[[Write], None] = _ignore,
    ) -> None:
        self._engine: AsyncEngine = create_async_engine(
            dsn.replace("postgresql://", "postgresql+asyncpg://", 1),
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            # The connection used last has its statements planned and its caches warm.
            pool_use_lifo=True,
            pool_timeout=ACQUIRE_SECONDS,
            pool_recycle=1800,
            # JSON columns come as the text they are: the dialect's codec would parse them for the driver's own statements too.
            json_deserializer=str,
            connect_args={"timeout": ACQUIRE_SECONDS * 2, "command_timeout": 30},
        )
        sqlalchemy.event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
        self._before_write = before_write
        self._after_commit = after_commit
        self._running: set[asyncio.Task[Any]] = set()
        self._held: set[Held] = set()
        self._known: set[str] = set()
        self._half = asyncio.Semaphore(max(pool_size // 2, 1))
        self._gate: asyncio.Semaphore | None = None
        self._first: Callable[[Write], Awaitable[None]] | None = None

    @contextlib.asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Pair]:
        began = time.perf_counter()
        await self._enter()
        connection: AsyncConnection | None = None
        try:
            connection = await self._opened(began)
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            try:
                yield connection, driver
            except (sqlalchemy.exc.DBAPIError, *LOST) as error:
                if not _lost(error):
                    raise
                await connection.invalidate()
                raise DatabaseUnavailable() from error
        finally:
            if connection is not None:
                await connection.close()
            if self._gate is not None:
                self._gate.release()

    async def _enter(self) -> None:
        """Through the gate, where there is one. DatabaseUnavailable after 2 s."""
        if self._gate is None:
            return
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._gate.acquire()
        except TimeoutError as error:
            REFUSED.inc()
            raise DatabaseUnavailable() from error

    async def _opened(self, began: float) -> AsyncConnection:
        try:
            connection = await self._engine.connect()
        except NOT_CONNECTED as error:
            REFUSED.inc()
            raise DatabaseUnavailable() from error
        if (waited := time.perf_counter() - began) > WAITED_SECONDS:
            WAITED.observe(waited)
        return connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit, for reads of one statement. DatabaseUnavailable when none is free within 2 s."""
        async with self._acquire() as (_, driver):
            yield driver

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection in REPEATABLE READ READ ONLY, for reads of several statements that must agree."""
        async with self._acquire() as (_, driver), driver.transaction(isolation="repeatable_read", readonly=True):
            yield driver

    @contextlib.asynccontextmanager
    async def session_snapshot(self) -> AsyncIterator[tuple[AsyncSession, Connection]]:
        """An ORM session in REPEATABLE READ READ ONLY, and its connection."""
        async with self._acquire() as (pooled, driver):
            async with driver.transaction(isolation="repeatable_read", readonly=True), orm_session(pooled) as session:
                yield session, driver

    async def write(self, work: Callable[[Write], Awaitable[T]]) -> T:
        """Runs work in one READ COMMITTED transaction and commits.

        Shielded from cancellation: once begun it ends by commit or rollback, whatever becomes of the caller. Deadlocks, lock
        timeouts and lost races are retried, three attempts in all, so work must not keep state outside the transaction;
        Contended after the last one.
        """
        await self._before_write()
        task = asyncio.ensure_future(retried(lambda: self._write_once(work)))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def beginning_with(self, first: Callable[[Write], Awaitable[None]]) -> Database:
        """The same database and pool; each unit of work there begins with this, in its transaction."""
        other = copy.copy(self)
        other._first = first
        return other

    @property
    def background(self) -> Database:
        """The same database and pool, for work that comes in floods and whose callers wait for nothing else.

        It takes at most half of the connections, so that those who read and write one thing find one free.
        """
        other = copy.copy(self)
        other._gate = self._half
        return other

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[Held]:
        """A connection for many writes of one task in turn, which spares each of them the way through the pool."""
        held = Held(self)
        self._held.add(held)
        try:
            yield held
        finally:
            self._held.discard(held)
            await held.release()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # A caller that went away does not ask, and asyncio would report that nobody did.
            task.exception()

    async def _write_once(self, work: Callable[[Write], Awaitable[T]]) -> T:
        async with self._acquire() as pair:
            return await self._write_on(pair, work)

    async def _write_on(self, pair: Pair, work: Callable[[Write], Awaitable[T]], *, transaction: bool = True) -> T:
        """Runs work on a connection and, in a transaction, commits; without one its only statement commits by itself."""
        pooled, driver = pair
        write = Write(connection=driver, pooled=pooled, known=self._known)
        async with driver.transaction(isolation="read_committed") if transaction else contextlib.nullcontext():
            try:
                if self._first is not None:
                    await self._first(write)
                result = await work(write)
                await write.flush()
            finally:
                await write.close()
        self._known |= write.learned
        self._after_commit(write)
        return result

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds, used and idle."""
        pool: Any = self._engine.pool
        return int(pool.checkedin() + pool.checkedout())

    @property
    def busy_connections(self) -> int:
        """How many of them are in use now."""
        pool: Any = self._engine.pool
        return int(pool.checkedout())

    @property
    def busy(self) -> bool:
        """Whether a connection is in use now."""
        pool: Any = self._engine.pool
        return bool(self._running) or bool(pool.checkedout())

    async def close(self) -> None:
        """Waits for running units of work and closes the pool; a later use opens it again."""
        if self._running:
            await asyncio.wait(self._running, timeout=5)
        for held in list(self._held):
            await held.release()
        await self._engine.dispose()


class Held:
    """A connection that one task keeps for its writes; a fault gives it back, and the next write takes another."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._pair: Pair | None = None
        self._stack = contextlib.AsyncExitStack()

    async def write(self, work: Callable[[Write], Awaitable[T]]) -> T:
        """Like Database.write, but not shielded: for tasks that nobody cancels."""
        return await retried(lambda: self._write(work, transaction=True))

    async def write_at_once(self, work: Callable[[Write], Awaitable[T]]) -> T:
        """Runs work that writes by one statement, without a transaction around it: it commits in the server when it ends.

        What work reads before is not locked: the statement itself must prove that it still holds. Never retried.
        """
        return await self._write(work, transaction=False)

    async def release(self) -> None:
        """Gives the connection back to the pool."""
        async with self._lock:
            self._pair = None
            await self._stack.aclose()

    async def _write(self, work: Callable[[Write], Awaitable[T]], *, transaction: bool) -> T:
        await self._database._before_write()
        async with self._lock:
            pair, stack = self._pair, self._stack
            self._pair, self._stack = None, contextlib.AsyncExitStack()
            async with stack:
                if pair is None:
                    pair = await stack.enter_async_context(self._database._acquire())
                result = await self._database._write_on(pair, work, transaction=transaction)
                # Kept for the next one; after a fault the stack's end judges whether it was the connection's.
                self._pair, self._stack = pair, stack.pop_all()
            return result


async def retried(once: Callable[[], Awaitable[T]]) -> T:
    """Runs it up to three times while it loses races, deadlocks or waits for locks in vain. Contended."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await once()
        except RETRIED as error:
            lost: Exception = error
        except sqlalchemy.exc.DBAPIError as error:
            if not isinstance(error.orig and error.orig.__cause__, RETRIED):
                raise
            lost = error
        if attempt < ATTEMPTS:
            await asyncio.sleep(random.uniform(0.005, 0.05) * attempt)
    raise Contended() from lost


class Pinned:
    """A connection of a pool, kept from one use to the next: for whoever asks all the time and must not wait for one."""

    def __init__(self) -> None:
        self._database: Database | None = None
        self._held: contextlib.AsyncExitStack | None = None
        self._connection: Connection | None = None

    @contextlib.asynccontextmanager
    async def of(self, database: Database) -> AsyncIterator[Connection]:
        """The connection, for one user at a time; another one after an error, or when the database is another."""
        connection = self._connection
        if connection is None or self._database is not database or connection.is_closed():
            await self.close()
            self._held = contextlib.AsyncExitStack()
            connection = await self._held.enter_async_context(database.connection())
            self._database, self._connection = database, connection
        try:
            yield connection
        except BaseException:
            # The pool judges the error as it does for everybody else.
            held, self._held, self._connection = self._held, None, None
            if held is None or not await held.__aexit__(*sys.exc_info()):
                raise

    async def close(self) -> None:
        """Gives the connection back."""
        held, self._held, self._connection = self._held, None, None
        if held is not None:
            await held.aclose()


def _lost(error: BaseException) -> bool:
    """Whether the fault is the connection's. SQLAlchemy wraps the driver's error twice."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.orig is not None and error.orig.__cause__ is not None and _lost(error.orig.__cause__)
    # A ValueError: asyncpg could not encode a parameter, which is the value's fault.
    return isinstance(error, LOST) and not isinstance(error, ValueError)


def _refuse_closed(pooled: Any, _record: Any, _proxy: Any) -> None:
    """Has the pool replace connections that the server closed meanwhile, all at once, instead of failing one call for each."""
    if pooled.driver_connection.is_closed():
        raise sqlalchemy.exc.InvalidatePoolError()


def orm_session(connection: AsyncConnection) -> AsyncSession:
    """An ORM session on a connection whose transaction, if any, belongs to somebody else."""
    return AsyncSession(bind=connection, expire_on_commit=False)
