"""A tenant's log on a real Postgres, processes that serve its inbox, and clients that watch it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from grpc import StatusCode, aio
from prometheus_client import CollectorRegistry
from switchboard.v1 import event_pb2, inbox_service_pb2_grpc, options_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.audit.trail import Trail
from server.auth.repository import load_rights
from server.auth.verifier import scope_of
from server.embedded import binaries
from server.inbox.metrics import InboxMetrics
from server.inbox.servicer import InboxServicer
from server.inbox.stream import StreamLimits
from server.inbox.streams import Streams
from server.inbox.tail import Pace
from server.inbox.tails import Tails
from server.kit.db import Database, Write
from server.kit.ids import new_id
from server.kit.mac import MacKeys
from server.log.append import NOTE, Appended, append
from server.log.cursor import Cursors
from server.log.event import SYSTEM, Cause, NewEvent, Routing
from server.log.hints import Hints
from server.rpc.auth import CredentialExpired, CredentialInvalid, CredentialRevoked
from server.rpc.call import Caller, CallerKind, Scope, Verified
from server.rpc.rates import RateLimits
from server.rpc.server import public_server
from tests.lasting_port import lasting_port

SCHEMA = Path(__file__).parents[2] / "server/models/tenant/migrations/versions"
KEYS = MacKeys({1: b"k" * 32}, current=1)
READ = frozenset({int(options_pb2.PERMISSION_EVENTS_READ)})
CAUSE = Cause(kind=1, id="test")


async def make_template(server_dsn: str) -> None:
    """The database that tenants are cloned from."""
    admin = await asyncpg.connect(server_dsn)
    await admin.execute("CREATE DATABASE inbox_template")
    await admin.close()
    template = await asyncpg.connect(at(server_dsn, "inbox_template"))
    for file in sorted(SCHEMA.glob("*.sql")):
        # As migrations do: blank lines separate statements, whether they end with a semicolon or not.
        for statement in file.read_text().split("\n\n"):
            await template.fetch(statement)
    await template.close()


def at(server_dsn: str, name: str) -> str:
    """The address of another database of the server."""
    return server_dsn.rpartition("/")[0] + f"/{name}"


def body(text: str = "", **fields: Any) -> event_pb2.InboxEvent:
    """A body that any conversation may have."""
    if fields:
        return event_pb2.InboxEvent(**fields)
    return event_pb2.InboxEvent(conversation_updated=event_pb2.ConversationUpdated(changed_fields=[text or "subject"]))


@dataclass
class Tenant:
    """A tenant's database and what is in it. No process is told of what `commit` commits unless it is asked to tell."""

    id: uuid.UUID
    name: str
    database: Database
    channels: list[uuid.UUID] = field(default_factory=list)

    async def commit(self, *events: NewEvent) -> Appended:
        """One transaction with these events."""

        async def work(write: Write) -> Appended | None:
            return await append(write, events)

        appended = await self.database.write(work)
        assert appended is not None
        return appended

    async def say(self, text: str = "", count: int = 1, **routing: Any) -> Appended:
        """One transaction with so many events of one conversation of the first channel."""
        return await self.commit(*(self.event(body(text), **routing) for _ in range(count)))

    def event(self, what: event_pb2.InboxEvent, *, before: Routing | None = None, **routing: Any) -> NewEvent:
        """An event of a conversation of the first channel unless said otherwise."""
        after = Routing(**{"channel_id": self.channels[0], **routing})
        return NewEvent(
            body=what,
            actor=SYSTEM,
            cause=CAUSE,
            conversation_id=new_id(),
            conversation_version=1,
            before=before or after,
            after=after,
        )

    async def execute(self, statement: str, *values: object) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, *values)

    async def value(self, statement: str, *values: object) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchval(statement, *values)

    async def new_channel(self) -> uuid.UUID:
        channel_id = new_id()
        await self.execute(
            "INSERT INTO channels (id, provider, name, state, access_token, create_time)"
            " VALUES ($1, 'whatsapp', 'c', 'active', '', now())",
            channel_id,
        )
        self.channels.append(channel_id)
        return channel_id

    async def new_agent(self, *, role: str = "agent", channels: int = 0) -> uuid.UUID:
        agent_id = new_id()
        await self.execute(
            "INSERT INTO agents (id, name, email, kind, role, state, create_time)"
            " VALUES ($1, 'a', $2, 'human', $3, 'active', now())",
            agent_id,
            f"{agent_id}@example.org",
            role,
        )
        for channel_id in self.channels[:channels]:
            await self.join(agent_id, channel_id)
        return agent_id

    async def join(self, agent_id: uuid.UUID, channel_id: uuid.UUID) -> None:
        await self.execute("INSERT INTO channel_members (channel_id, agent_id) VALUES ($1, $2)", channel_id, agent_id)

    async def move_rights(self, agent_id: uuid.UUID, statement: str, *values: object) -> int:
        """Changes memberships and writes it into the log in the same transaction; the seq."""

        async def work(write: Write) -> Appended | None:
            await write.connection.execute(statement, *values)
            what = event_pb2.InboxEvent(scope_changed=event_pb2.AgentScopeChanged(agent_id=str(agent_id)))
            return await append(write, [NewEvent(body=what, actor=SYSTEM, cause=CAUSE)])

        appended = await self.database.write(work)
        assert appended is not None
        return appended.new_head


@contextlib.asynccontextmanager
async def new_database(server_dsn: str) -> AsyncIterator[str]:
    """The name of a database with a tenant's tables."""
    name = f"inbox_{new_id().hex[-12:]}"
    admin = await asyncpg.connect(server_dsn)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE inbox_template")
    try:
        yield name
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@contextlib.asynccontextmanager
async def new_tenant(server_dsn: str, name: str) -> AsyncIterator[Tenant]:
    """A tenant with an empty log and one channel, in this database, which nobody else uses meanwhile."""
    tenant = Tenant(new_id(), name, Database(at(server_dsn, name)))
    for table in ("stream_event", "consumers", "channel_members", "team_members", "channels", "agents", "teams"):
        await tenant.execute(f"DELETE FROM {table}")
    await tenant.execute("UPDATE stream_head SET epoch = gen_random_uuid(), head = 0, floor = 1, head_event_id = NULL")
    await tenant.new_channel()
    try:
        yield tenant
    finally:
        await tenant.database.close()


class Credentials:
    """The verifier and the rights: credentials are ids; what it read of an agent it remembers until it is told to forget."""

    def __init__(self) -> None:
        self.tenants: dict[uuid.UUID, tuple[Tenant, Database]] = {}
        self.keys: dict[str, Verified] = {}
        self.revoked: set[uuid.UUID] = set()
        self.remembered: dict[uuid.UUID, Verified] = {}
        self.failing: Exception | None = None

    def key(self, tenant: Tenant, *, expire_time: datetime | None = None) -> str:
        """A credential of a service that sees the whole tenant."""
        caller = Caller(kind=CallerKind.API_KEY, id=new_id(), permissions=READ, expire_time=expire_time)
        return self._add(Verified(caller=caller, scope=Scope(all=True), tenant_id=tenant.id))

    def agent(self, tenant: Tenant, agent_id: uuid.UUID, *, expire_time: datetime | None = None) -> str:
        """A credential of an agent."""
        caller = Caller(kind=CallerKind.AGENT, id=agent_id, permissions=READ, expire_time=expire_time)
        return self._add(Verified(caller=caller, tenant_id=tenant.id))

    def _add(self, verified: Verified) -> str:
        name = f"c{len(self.keys)}"
        self.keys[name] = verified
        return name

    async def verify(self, credential: str) -> Verified:
        if credential not in self.keys:
            raise CredentialInvalid()
        return await self.renew(self.keys[credential])

    async def renew(self, verified: Verified) -> Verified:
        if self.failing is not None:
            raise self.failing
        caller = verified.caller
        assert caller.id is not None
        assert verified.tenant_id is not None
        if caller.id in self.revoked:
            raise CredentialRevoked()
        if caller.expire_time is not None and caller.expire_time.timestamp() < time.time():
            raise CredentialExpired()
        if caller.id not in self.remembered:
            database = self.tenants[verified.tenant_id][1]
            scope = verified.scope
            if caller.kind is CallerKind.AGENT:
                rights = await load_rights(database, caller.id)
                if rights is None or rights.state != "active":
                    raise CredentialRevoked()
                scope = scope_of(caller.id, rights)
            self.remembered[caller.id] = replace(verified, scope=scope, database=database)
        return replace(self.remembered[caller.id], caller=caller)

    def invalidate(self, tenant_id: uuid.UUID) -> None:
        for agent_id in [key for key, value in self.remembered.items() if value.tenant_id == tenant_id]:
            del self.remembered[agent_id]


class Process:
    """What one server process has: hints, tails, streams, a grpc.aio server, and databases of its own."""

    def __init__(
        self,
        valkey_url: str | None,
        pace: Pace,
        limits: StreamLimits | None,
        linger: timedelta = timedelta(seconds=0.2),
        **streams: Any,
    ) -> None:
        self.credentials = Credentials()
        self.hints = Hints(valkey_url)
        self.metrics = InboxMetrics(CollectorRegistry())
        self.cursors = Cursors(KEYS)
        self.tails = Tails(
            database_of=self._database_of,
            cursors=self.cursors,
            hints=self.hints,
            rights=self.credentials,
            metrics=self.metrics,
            pace=pace,
            linger=linger,
        )
        self.streams = Streams(self.metrics, **streams)
        self.servicer = InboxServicer(self.tails, self.cursors, self.streams, limits=limits)
        self.refusal: Exception | None = None

    async def _database_of(self, tenant_id: uuid.UUID) -> Database:
        if self.refusal is not None:
            raise self.refusal
        return self.credentials.tenants[tenant_id][1]

    def serve(self, server_dsn: str, tenant: Tenant) -> None:
        """Knows a tenant from now on."""
        self.credentials.tenants[tenant.id] = (tenant, Database(at(server_dsn, tenant.name), pool_size=6))

    def writes(self, tenant: Tenant, *, tell: bool = True) -> Tenant:
        """The tenant, as written by this process: its tail knows at once, the others by a hint unless told not to."""

        def after_commit(write: Write) -> None:
            appended: Appended = write.notes[NOTE]
            self.tails.committed(tenant.id, appended)
            if tell:
                self.hints.publish(tenant.id, appended.prev_head, appended.new_head)

        dsn = str(tenant.database._engine.url.render_as_string(hide_password=False)).replace("+asyncpg", "")
        database = Database(dsn, after_commit=after_commit)
        self.opened.append(database)
        return replace(tenant, database=database)

    async def start(self) -> None:
        self.opened: list[Database] = []
        self.hints.start()
        self.server = public_server(self.credentials, RateLimits(), Trail())
        inbox_service_pb2_grpc.add_InboxServiceServicer_to_server(self.servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()
        self.channel = aio.insecure_channel(self.address)
        self.stub = inbox_service_pb2_grpc.InboxServiceStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(0.5)
        await self.tails.close()
        await self.hints.close()
        for _, database in self.credentials.tenants.values():
            await database.close()
        for database in self.opened:
            await database.close()

    @contextlib.asynccontextmanager
    async def watch(self, credential: str, **request: Any) -> AsyncIterator[Watcher]:
        """A client on a stream of this process."""
        request.setdefault("bookmark_interval", timedelta(seconds=1))
        # A connection of its own: a client that stops reading holds up only itself.
        async with aio.insecure_channel(self.address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            call = inbox_service_pb2_grpc.InboxServiceStub(channel).WatchInbox(
                inbox.WatchInboxRequest(**request), metadata=(("authorization", f"Bearer {credential}"),)
            )
            watcher = Watcher(call)
            try:
                yield watcher
            finally:
                call.cancel()
                await watcher.close()

    async def page(self, credential: str, **request: Any) -> inbox.ListInboxEventsResponse:
        return await self.stub.ListInboxEvents(
            inbox.ListInboxEventsRequest(**request), metadata=(("authorization", f"Bearer {credential}"),)
        )

    def value(self, metric: Any) -> float:
        return metric._value.get()


class Watcher:
    """A client: reads items, remembers all of them."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.items: list[inbox.WatchInboxResponse] = []
        self._reading: asyncio.Future[Any] | None = None

    async def read(self, within: float) -> Any:
        """The next item or EOF. A read that was waited for in vain goes on: grpc ends a call whose read is cancelled."""
        self._reading = self._reading or asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait([self._reading], timeout=within)
        if not done:
            raise TimeoutError(f"nothing came within {within} s")
        item, self._reading = self._reading.result(), None
        return item

    async def next(self, within: float = 30.0) -> inbox.WatchInboxResponse:
        item = await self.read(within)
        assert item is not aio.EOF, f"it ended: {await self.call.code()} {self.items[-1:]}"
        self.items.append(item)
        return item

    async def control(self, name: str, within: float = 30.0) -> Any:
        """Reads to the next control of this name."""
        until = time.monotonic() + within
        while True:
            item = await self.next(until - time.monotonic())
            if item.WhichOneof("control") == name:
                return getattr(item, name)

    async def until(self, reached: Callable[[Watcher], bool], within: float = 30.0) -> Watcher:
        until = time.monotonic() + within
        while not reached(self):
            await self.next(until - time.monotonic())
        return self

    async def listen(self, seconds: float) -> list[inbox.WatchInboxResponse]:
        """What comes in this time."""
        until, first = time.monotonic() + seconds, len(self.items)
        with contextlib.suppress(TimeoutError):
            while True:
                await self.next(until - time.monotonic())
        return self.items[first:]

    async def to_seq(self, seq: int, within: float = 30.0) -> Watcher:
        return await self.until(lambda watcher: bool(watcher.seqs) and watcher.seqs[-1] >= seq, within)

    async def end(self, within: float = 30.0) -> inbox.End:
        """Reads to the end item; nothing may follow it, and the status is OK."""
        end = await self.control("end", within)
        assert await self.read(10) is aio.EOF
        assert await self.call.code() is StatusCode.OK
        return end

    async def close(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading])
            with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError):
                self._reading.result()

    @property
    def events(self) -> list[event_pb2.InboxEvent]:
        return [event for item in self.items for event in item.events]

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    @property
    def controls(self) -> list[str]:
        return [name for item in self.items if (name := item.WhichOneof("control"))]


class Valkey:
    """A Valkey that can be killed and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = lasting_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                str(binaries.valkey_server()), "--port", str(self.port), "--bind", "127.0.0.1",
                "--save", "", "--appendonly", "no", "--dir", str(self._folder),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(2000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.01)
        raise TimeoutError("valkey does not answer")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def running_valkey(folder: Path) -> Iterator[Valkey]:
    valkey = Valkey(folder)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.kill()
