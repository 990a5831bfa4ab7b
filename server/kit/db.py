"""One database of one process: a small pool, single-statement reads, and units of work.

The pool is SQLAlchemy's, in AUTOCOMMIT, over asyncpg. Transactions are opened on the asyncpg connection, visibly, by `write`
and `snapshot`, so that hot SQL text and the ORM share one connection and one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import asyncpg
import sqlalchemy.event
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from server.kit.errors import Contended, DatabaseUnavailable

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ATTEMPTS = 3
ACQUIRE_SECONDS = 2.0


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
    session: AsyncSession
    known: frozenset[str] = frozenset()
    learned: set[str] = field(default_factory=set)
    notes: dict[str, Any] = field(default_factory=dict)


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
        self._known: frozenset[str] = frozenset()

    @contextlib.asynccontextmanager
    async def _acquire(self) -> AsyncIterator[tuple[AsyncConnection, Connection]]:
        try:
            connection = await self._engine.connect()
        except NOT_CONNECTED as error:
            raise DatabaseUnavailable() from error
        try:
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
            await connection.close()

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
    async def session(self) -> AsyncIterator[AsyncSession]:
        """An ORM session in autocommit, for reads."""
        async with self._acquire() as (connection, _), orm_session(connection) as session:
            yield session

    async def write(self, work: Callable[[Write], Awaitable[T]]) -> T:
        """Runs work in one READ COMMITTED transaction and commits.

        Shielded from cancellation: once begun it ends by commit or rollback, whatever becomes of the caller. Deadlocks, lock
        timeouts and lost races are retried, three attempts in all, so work must not keep state outside the transaction;
        Contended after the last one.
        """
        await self._before_write()
        task = asyncio.ensure_future(self._write_retrying(work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # A caller that went away does not ask, and asyncio would report that nobody did.
            task.exception()

    async def _write_retrying(self, work: Callable[[Write], Awaitable[T]]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._write_once(work)
            except RETRIED as error:
                lost: Exception = error
            except sqlalchemy.exc.DBAPIError as error:
                if not isinstance(error.orig and error.orig.__cause__, RETRIED):
                    raise
                lost = error
            if attempt < ATTEMPTS:
                await asyncio.sleep(random.uniform(0.005, 0.05) * attempt)
        raise Contended() from lost

    async def _write_once(self, work: Callable[[Write], Awaitable[T]]) -> T:
        async with self._acquire() as (connection, driver):
            async with driver.transaction(isolation="read_committed"), orm_session(connection) as session:
                write = Write(connection=driver, session=session, known=self._known)
                result = await work(write)
                await session.flush()
        self._known |= write.learned
        self._after_commit(write)
        return result

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds, used and idle."""
        pool: Any = self._engine.pool
        return int(pool.checkedin() + pool.checkedout())

    @property
    def busy(self) -> bool:
        """Whether a connection is in use now."""
        pool: Any = self._engine.pool
        return bool(self._running) or bool(pool.checkedout())

    async def close(self) -> None:
        """Waits for running units of work and closes the pool; a later use opens it again."""
        if self._running:
            await asyncio.wait(self._running, timeout=5)
        await self._engine.dispose()


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
