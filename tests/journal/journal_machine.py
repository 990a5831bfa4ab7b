"""The journal as a state machine on real Postgres, beside a model that is a few sets.

Customers write, receipts come; payloads carry any of it, cut in any way, again and again; two apply at once, some die in the
midst of it, an operator replays, the parser learns, what the database refused is cured. In the end the tables are the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from journal_inlet import NO_POISON, POISON, Inlet

from server.channels.service import ChannelRow
from server.intake.apply import Applier
from server.intake.replay import Replay, Report
from server.intake.service import Intake, Stored
from server.journal.service import ATTEMPTS, Range
from server.kit.clock import utc_now
from server.kit.db import Database, Write
from server.kit.errors import DatabaseUnavailable
from server.log.append import append
from server.messages import receipts
from server.messages.receipts import Update
from server.providers.contract import Provider
from server.simulator import payloads
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import WHATSAPP, Routes
from tests.desk import nobody

T = TypeVar("T")
APP, SECRET = "machine", "app secret"
RANK = ["pending", "sent", "delivered", "read"]
SENDERS = ("4915100000001", "4915100000002", "4915100000003")
PLACE = {"latitude": 52.5, "longitude": 13.4}
ORDER = {"catalog_id": "1", "text": "two", "product_items": []}
CONTENT: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": {"body": "hello"}},
    "poison": {"type": "text", "text": {"body": "poison"}},
    # The older parser ignores places, and takes orders for a placeholder.
    "location": {"type": "location", "location": PLACE},
    "order": {"type": "order", "order": ORDER},
}
SHOWN = {
    "text": ("text", "hello"),
    "poison": ("text", "poison"),
    "location": ("location", None),
    "order": ("order", "two"),
}


class Mortal(Database):
    """The database as a process sees it that dies in the midst of its work: at its nth transaction, before or after the commit."""

    lives, after = 0, False

    def revive(self, lives: int, *, after: bool) -> None:
        self.lives, self.after = lives, after

    @contextlib.asynccontextmanager
    async def _acquire(self) -> Any:
        if self.lives < 0:
            raise DatabaseUnavailable
        async with super()._acquire() as pair:
            yield pair

    async def _write_on(self, pair: Any, work: Callable[[Write], Awaitable[T]], *, transaction: bool = True) -> T:
        self.lives -= 1
        if self.lives < 0 and not self.after:
            raise DatabaseUnavailable
        result = await super()._write_on(pair, work, transaction=transaction)
        if self.lives < 0:
            raise DatabaseUnavailable
        return result


@dataclass
class World:
    """What the examples of one test share: a tenant, the intake, and parsers old and new."""

    inlet: Inlet
    loop: asyncio.AbstractEventLoop
    intake: Intake
    routes: Routes
    mortal: Mortal
    parsers: dict[str, dict[str, Provider]]
    appliers: dict[str, Applier] = field(default_factory=dict)

    @classmethod
    async def of(cls, inlet: Inlet) -> World:
        control = inlet.installed.control
        apps, routes = MetaApps(control), Routes(control.database)
        await apps.ensure(app_id=APP, name=APP, app_secret=SECRET, verify_token="-")
        intake = Intake(
            tenants=inlet.installed.tenants,
            routes=routes,
            meta_apps=apps,
            quarantine=Quarantine(control.database),
            objects=inlet.desk.providers["whatsapp"].webhook_objects,
        )
        older: Any = inlet.older()
        parsers: Any = {"old": older._providers, "new": inlet.desk.providers}
        mortal = Mortal(inlet.desk.dsn, pool_size=4)
        return cls(inlet, asyncio.get_running_loop(), intake, routes, mortal, parsers)

    def wait(self, work: Awaitable[T]) -> T:
        """Runs on the loop of the test; the machine itself runs in a thread."""

        async def whole() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(whole(), self.loop).result(60)

    def applier(self, parser: str, process: str) -> Applier:
        """What applies with a parser in a process."""
        name = f"{parser} {process}"
        if name not in self.appliers:
            self.appliers[name] = self.inlet.applier_of(self.inlet.installed, self.parsers[parser])
        return self.appliers[name]

    async def channel(self) -> ChannelRow:
        """A new number, routed to the tenant."""
        row = await self.inlet.desk.new_channel()
        number = self.inlet.desk.numbers[row.id].phone_number_id
        tenant_id = self.inlet.desk.tenant.id
        await self.routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=row.id)
        return row

    async def poison(self, *, on: bool) -> None:
        """Whether the database refuses poisonous texts."""
        standing = await self.inlet.desk.value("SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'poison')")
        if standing != on:
            await self.inlet.as_owner(POISON if on else NO_POISON)


@dataclass(frozen=True)
class Raw:
    """One item as it stands in payloads: `messages` or `statuses`."""

    array: str
    value: dict[str, Any]
    kind: str = ""

    @property
    def id(self) -> str:
        return str(self.value["id"])


class JournalMachine(RuleBasedStateMachine):
    """One number of one tenant. `world` is set by the test."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.raws: list[Raw] = []
        # The model: what a 200 was given for.
        self.taken: dict[tuple[str, str], Raw] = {}
        self.stored: list[Stored] = []
        self.ours: dict[str, uuid.UUID] = {}
        self.parser, self.poisoned, self.sends = "old", True, 0
        self.second = int(time.time()) - 10_000

    @initialize()
    def begin(self) -> None:
        world = self.world
        self.channel = world.wait(world.channel())
        world.wait(world.poison(on=True))
        world.wait(world.inlet.desk.execute("UPDATE journal SET state = 'applied' WHERE state = 'received'"))
        self.conversation = world.wait(world.inlet.desk.started(self.channel, "4915199999999"))
        self.begun = utc_now()
        self.deliveries = self.value("SELECT count(*) FROM deliveries")

    def value(self, statement: str, *values: object) -> Any:
        return self.world.wait(self.world.inlet.desk.value(statement, *values))

    def rows(self, statement: str, *values: object) -> list[Any]:
        return self.world.wait(self.world.inlet.desk.rows(statement, *values))

    # What happens outside.

    @rule(sender=st.sampled_from(SENDERS), kind=st.sampled_from(sorted(CONTENT)), back=st.integers(0, 500))
    def a_customer_writes(self, sender: str, kind: str, back: int) -> None:
        said = {"from": sender, "id": f"wamid.{uuid.uuid4().hex}", "timestamp": str(self.second - back)}
        self.raws.append(Raw("messages", said | CONTENT[kind], kind))

    @rule(words=st.lists(st.sampled_from(RANK[1:]), min_size=1, max_size=3, unique=True))
    def we_send(self, words: list[str]) -> None:
        """The provider took a send of ours, and its receipts are on their way."""
        wamid = f"wamid.{uuid.uuid4().hex}"
        self.ours[wamid] = self.world.wait(self._send(wamid))
        self.sends += 1
        self._receipts(wamid, words)

    async def _send(self, wamid: str) -> uuid.UUID:
        desk = self.world.inlet.desk
        item = desk.send(self.conversation.id)
        stored: Any = await desk.writer().submit(item)
        sent = Update(
            channel_id=self.channel.id,
            provider_message_id=wamid,
            part_id=item.part_id,
            status="sent",
            source="response",
            origin=nobody(),
        )

        async def unit(write: Write) -> None:
            await append(write, (await receipts.apply(write, [sent])).events)

        await desk.database.write(unit)
        found: uuid.UUID = stored.message.id
        return found

    @rule(words=st.lists(st.sampled_from(RANK[1:]), min_size=1, max_size=2, unique=True))
    def receipts_of_a_stranger(self, words: list[str]) -> None:
        self._receipts(f"wamid.{uuid.uuid4().hex}", words)

    def _receipts(self, wamid: str, words: list[str]) -> None:
        for word in words:
            self.raws.append(Raw("statuses", {"id": wamid, "status": word, "timestamp": str(self.second)}))

    # What the provider does.

    @precondition(lambda self: self.raws)
    @rule(data=st.data())
    def a_payload(self, data: st.DataObject) -> None:
        """Any of what there is, in any order, in any number of changes; what was sent before may come again."""
        new = st.sampled_from(range(len(self.raws))[-4:])
        chosen = data.draw(st.lists(new | st.sampled_from(range(len(self.raws))), min_size=1, max_size=6))
        cuts = data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
        bodies: list[list[Raw]] = []
        for index, cut in zip(chosen, cuts, strict=True):
            if cut or not bodies:
                bodies.append([])
            bodies[-1].append(self.raws[index])
        number = self.world.inlet.desk.numbers[self.channel.id]
        body = payloads.merge(
            *(
                payloads.webhook_body(
                    number,
                    messages=[raw.value for raw in part if raw.array == "messages"],
                    statuses=[raw.value for raw in part if raw.array == "statuses"],
                )
                for part in bodies
            )
        )
        self._post(payloads.encode(body), [self.raws[index] for index in chosen])

    def _post(self, data: bytes, carried: list[Raw]) -> None:
        self.stored += self.world.wait(self.world.intake.receive(APP, data, payloads.sign(data, SECRET)))
        for raw in carried:
            self.taken[(raw.id, str(raw.value.get("status")))] = raw

    # What our processes do.

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), times=st.integers(1, 2))
    def apply(self, data: st.DataObject, times: int) -> None:
        """By one process or by two at once."""
        stored = data.draw(st.sampled_from(self.stored))
        tenants = [
            self.world.inlet.desk.tenant,
            dataclasses.replace(self.world.inlet.desk.tenant, database=self.beside),
        ]
        self.world.wait(self._together(stored, tenants[:times]))

    @property
    def beside(self) -> Database:
        return self.world.inlet.desk.beside

    async def _together(self, stored: Stored, tenants: list[Any]) -> None:
        works = (
            self.world.applier(self.parser, str(index)).apply(tenant, stored.payload_id, stored.receive_time)
            for index, tenant in enumerate(tenants)
        )
        await asyncio.gather(*works, return_exceptions=True)

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), lives=st.integers(0, 2), after=st.booleans())
    def apply_and_die(self, data: st.DataObject, lives: int, after: bool) -> None:
        """Before or after a commit, of something new; what was not done is left to somebody else."""
        self._die_with(data.draw(st.sampled_from(self.stored[-2:])), lives=lives, after=after)

    @rule(word=st.sampled_from(RANK[2:]), after=st.booleans())
    def a_receipt_reaches_a_dying_process(self, word: str, after: bool) -> None:
        """What seldom comes about by chance: nothing but one receipt, and the end before or after its transaction."""
        self.we_send([word])
        self._carried(self.raws[-1:])
        self._die_with(self.stored[-1], lives=0, after=after)

    @rule()
    def receipts_come_backwards(self) -> None:
        self.we_send(["read", "delivered"])
        for raw in self.raws[-2:]:
            self._carried([raw])
            self.world.wait(self._together(self.stored[-1], [self.world.inlet.desk.tenant]))

    @rule(sender=st.sampled_from(SENDERS))
    def a_message_comes_again_in_other_company(self, sender: str) -> None:
        self.a_customer_writes(sender, "text", 0)
        self.a_customer_writes(sender, "text", 1)
        for carried in (self.raws[-1:], self.raws[-2:]):
            self._carried(carried)
            self.world.wait(self._together(self.stored[-1], [self.world.inlet.desk.tenant]))

    @rule(sender=st.sampled_from(SENDERS))
    def a_receipt_comes_behind_a_poisonous_message(self, sender: str) -> None:
        self.we_send(["read"])
        self.a_customer_writes(sender, "poison", 0)
        self._carried(self.raws[-2:])

    def _carried(self, raws: list[Raw]) -> None:
        """One payload with just these."""
        number = self.world.inlet.desk.numbers[self.channel.id]
        items = {name: [raw.value for raw in raws if raw.array == name] for name in ("messages", "statuses")}
        self._post(payloads.encode(payloads.webhook_body(number, **items)), raws)

    def _die_with(self, stored: Stored, *, lives: int, after: bool) -> None:
        mortal = dataclasses.replace(self.world.inlet.desk.tenant, database=self.world.mortal)
        self.world.mortal.revive(lives, after=after)
        self.world.wait(self._together(stored, [mortal]))

    @rule()
    def a_worker_looks(self) -> None:
        self.world.wait(self._left(1))

    async def _left(self, rounds: int) -> None:
        desk = self.world.inlet.desk
        for _ in range(rounds):
            await desk.execute("UPDATE journal SET due_time = now() WHERE state = 'received'")
            # A worker's loop logs what escapes, and looks again a second later.
            with contextlib.suppress(Exception):
                await self.world.applier(self.parser, "0").apply_left(desk.tenant)

    @rule(apply=st.booleans())
    def an_operator_replays(self, apply: bool) -> None:
        self.world.wait(self._replay(apply=apply))

    async def _replay(self, *, apply: bool) -> Report:
        replay = Replay(
            self.world.inlet.desk.tenant, self.world.applier(self.parser, "0"), self.world.parsers[self.parser]
        )
        report = Report()
        await replay.run(Range(self.begun, utc_now()), apply=apply, report=report)
        return report

    @precondition(lambda self: self.parser == "old")
    @rule()
    def the_parser_learns(self) -> None:
        self.parser = "new"

    @precondition(lambda self: self.poisoned)
    @rule()
    def what_was_refused_is_cured(self) -> None:
        self.poisoned = False
        self.world.wait(self.world.poison(on=False))

    # What must hold in the end.

    def teardown(self) -> None:
        if not hasattr(self, "conversation"):
            return
        self.world.wait(self._left(ATTEMPTS + 1))
        # What the database refused waits for an operator's replay, also when it would be taken by now.
        self._check(without={"poison"} | ({"location", "order"} if self.parser == "old" else set()))
        self.what_was_refused_is_cured()
        self.the_parser_learns()
        self.world.wait(self._replay(apply=True))
        self._check(without=set(), exactly=True)
        head = self.value("SELECT head FROM stream_head")
        again = self.world.wait(self._replay(apply=True))
        assert again.differs == {}, "a second time there is nothing to do"
        assert self.value("SELECT head FROM stream_head") == head, "and nothing is done"
        assert self.value("SELECT count(*) FROM deliveries") == self.deliveries + self.sends, "nothing else is sent"
        self.world.wait(self.world.inlet.desk.check_log())
        self.world.wait(self.world.inlet.desk.check_counters())

    def _check(self, *, without: set[str], exactly: bool = False) -> None:
        """What was taken is there once; without: kinds that could not be applied yet, or not as what they are."""
        wanted = {raw.id: SHOWN[raw.kind] for raw in self.taken.values() if raw.array == "messages"}
        kinds = {raw.id: raw.kind for raw in self.taken.values()}
        found = self.rows(
            "SELECT p.provider_message_id AS id, m.type, m.text, m.provider_time FROM messages m"
            " JOIN message_parts p ON p.message_id = m.id WHERE m.channel_id = $1 AND m.direction = 'inbound'"
            " AND m.conversation_id <> $2 ORDER BY m.conversation_id, m.sequence",
            self.channel.id,
            self.conversation.id,
        )
        ids = [row["id"] for row in found]
        assert len(ids) == len(set(ids)), "each message once"
        assert set(ids) <= set(wanted), "nothing that no customer wrote"
        needed = {wamid for wamid in wanted if kinds[wamid] not in without}
        assert needed <= set(ids), f"lost: {[kinds[wamid] for wamid in needed - set(ids)]}"
        for row in found if exactly else ():
            assert (row["type"], row["text"]) == wanted[row["id"]]
        self._check_order()
        self._check_statuses()

    def _check_order(self) -> None:
        """Shown by the provider's time, whenever they came."""
        rows = self.rows(
            "SELECT conversation_id, provider_time FROM messages WHERE channel_id = $1 AND direction = 'inbound'"
            " ORDER BY conversation_id, sequence",
            self.channel.id,
        )
        shown = [(row["conversation_id"], row["provider_time"]) for row in rows]
        assert shown == sorted(shown)

    def _check_statuses(self) -> None:
        """The highest rank of what was taken, in whatever order it came."""
        for wamid, message_id in self.ours.items():
            words = ["sent", *(word for (of, word) in self.taken if of == wamid)]
            status = self.value("SELECT status FROM messages WHERE id = $1", message_id)
            assert status == max(words, key=RANK.index)


def machine(world_of_test: World) -> type[JournalMachine]:
    """The machine in this world."""
    return type("JournalMachineOfTest", (JournalMachine,), {"world": world_of_test})
