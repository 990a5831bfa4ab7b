"""Merges against a model: colleagues merge, take back, block and describe contacts at random while these write, over a real database.

After each step the tables say what the model says, and so does what a reader of the log keeps of contacts by its events alone.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from unittest import mock

from hypothesis import stateful
from hypothesis import strategies as st
from switchboard.v1 import contact_pb2

from server.channels.service import ChannelRow
from server.contacts import blocking, service
from server.contacts import merging as contact_merging
from server.conversations import merging
from server.kit.db import Connection, Write
from server.kit.errors import Refusal
from server.log.append import append
from server.log.event import NewEvent
from server.messages.items import Stored, Withheld
from tests.desk import ALL, Desk, nobody, phone

CUSTOMERS = 4


@dataclass
class World:
    """A tenant's database on a loop of the machine's own."""

    desk: Desk
    channels: list[ChannelRow]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)


@dataclass
class Edge:
    """A merge that stands."""

    into: int
    identities: set[tuple[int, int]]
    filled: dict[str, int]


@dataclass
class Model:
    """Contacts by customer; who owns an identity, which is a customer on a channel; and merges by who was merged."""

    attributes: list[dict[str, int]] = field(default_factory=lambda: [{} for _ in range(CUSTOMERS)])
    blocked: list[bool] = field(default_factory=lambda: [False] * CUSTOMERS)
    owner: dict[tuple[int, int], int] = field(default_factory=dict)
    edges: dict[int, Edge] = field(default_factory=dict)

    def write(self, customer: int, channel: int) -> bool:
        """Whether it is heard. On another channel a stranger joins whoever has the number here."""
        joined = self.owner.get((customer, 1 - channel), customer)
        return not self.blocked[self.owner.setdefault((customer, channel), joined)]

    def standing(self, contact: int) -> str | None:
        return "ContactMerged" if contact in self.edges else None

    def merge(self, into: int, merged: int) -> str | None:
        if into == merged:
            return "InvalidFields"
        refused = self.standing(into) or self.standing(merged)
        if refused is None:
            moving = {key for key, owner in self.owner.items() if owner == merged}
            filled = {k: v for k, v in self.attributes[merged].items() if k not in self.attributes[into]}
            self.edges[merged] = Edge(into, moving, filled)
            self.attributes[into] |= filled
            self.owner |= dict.fromkeys(moving, into)
        return refused

    def unmerge(self, merged: int) -> str | None:
        if merged not in self.edges:
            return "NotMerged"
        edge = self.edges[merged]
        refused = self.standing(edge.into)
        if refused is None:
            del self.edges[merged]
            held = self.attributes[edge.into]
            self.attributes[edge.into] = {k: v for k, v in held.items() if edge.filled.get(k) != v}
            self.owner |= dict.fromkeys(edge.identities, merged)
        return refused


class MergingMachine(stateful.RuleBasedStateMachine):
    """One example: four customers on two channels."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model, self.desk = Model(), self.world.desk
        self.writer = self.desk.writer()
        self.seq: int = self.world.run(self.desk.head())[1]
        self.kept: dict[str, contact_pb2.Contact] = {}
        self.numbers = [phone() for _ in range(CUSTOMERS)]
        self.ids: list[uuid.UUID] = []
        for customer in range(CUSTOMERS):
            self.write(customer, 0)

    def write(self, customer: int, channel: int) -> None:
        heard = self.model.write(customer, channel)
        number, name = self.numbers[customer], f"Customer {customer}"
        receive = self.desk.receive(self.world.channels[channel], number, name=name)
        result = self.world.run(self.writer.submit(receive))
        assert isinstance(result, Stored if heard else Withheld)
        if customer == len(self.ids):
            row = self.world.run(self.desk.conversation(result.message.conversation_id))
            self.ids.append(row.contact_id)

    def change(self, refused: str | None, work: Callable[[Connection], Coroutine[Any, Any, list[NewEvent]]]) -> None:
        """What was done, or refused as the model says."""

        async def unit(write: Write) -> None:
            await append(write, await work(write.connection))

        found = None
        try:
            self.world.run(self.desk.database.write(unit))
        except Refusal as refusal:
            found = type(refusal).__name__
        assert found == refused

    customer = st.integers(0, CUSTOMERS - 1)

    @stateful.rule(customer=customer, channel=st.integers(0, 1))
    def somebody_writes(self, customer: int, channel: int) -> None:
        self.write(customer, channel)

    @stateful.rule(into=customer, merged=customer)
    def merges(self, into: int, merged: int) -> None:
        ids = self.ids[into], self.ids[merged]
        work = partial(merging.merge, scope=ALL, contact_id=ids[0], merged_id=ids[1], reason=None, origin=nobody())
        self.change(self.model.merge(into, merged), work)

    @stateful.rule(merged=customer)
    def unmerges(self, merged: int) -> None:
        refused = self.model.unmerge(merged)
        self.change(refused, partial(merging.unmerge, scope=ALL, merged_id=self.ids[merged], origin=nobody()))

    @stateful.rule(contact=customer, blocked=st.booleans())
    def blocks(self, contact: int, blocked: bool) -> None:
        refused = self.model.standing(contact)
        if refused is None:
            self.model.blocked[contact] = blocked
        contact_id, origin = self.ids[contact], nobody()
        work = partial(
            blocking.set_blocked, scope=ALL, contact_id=contact_id, blocked=blocked, reason=None, origin=origin
        )
        self.change(refused, work)

    @stateful.rule(contact=customer, key=st.sampled_from("ab"), value=st.integers(0, 1))
    def describes(self, contact: int, key: str, value: int) -> None:
        refused = self.model.standing(contact)
        if refused is None:
            self.model.attributes[contact][key] = value
        values = self.model.attributes[contact]
        contact_id, origin = self.ids[contact], nobody()
        work = partial(service.update, scope=ALL, contact_id=contact_id, attributes=values, origin=origin)
        self.change(refused, work)

    @stateful.invariant()
    def tables_agree(self) -> None:
        if len(self.ids) == CUSTOMERS:
            self.world.run(self._tables_agree())

    async def _tables_agree(self) -> None:
        model, desk = self.model, self.desk
        of = {contact_id: index for index, contact_id in enumerate(self.ids)}
        rows = await desk.rows("SELECT * FROM contacts WHERE id = ANY($1::uuid[])", self.ids)
        for row in rows:
            index = of[row["id"]]
            into = model.edges[index].into if index in model.edges else None
            assert row["merged_into_id"] == (None if into is None else self.ids[into])
            assert json.loads(row["attributes"] or "{}") == model.attributes[index]
            assert (row["block_time"] is not None) == model.blocked[index]
        owners = {key: self.ids[owner] for key, owner in model.owner.items()}
        places = {channel.id: number for number, channel in enumerate(self.world.channels)}
        identities = await desk.rows(OWNED, self.numbers)
        assert {
            (self.numbers.index(row["value"]), places[row["channel_id"]]): row["contact_id"] for row in identities
        } == owners
        threads = await desk.rows(THREADS, [row["id"] for row in identities])
        for row in threads:
            owner = of[row["owner_id"]]
            assert row["contact_id"] == row["owner_id"]
            assert row["contact_blocked"] == model.blocked[owner]
            assert row["contact_name"] == f"Customer {owner}"
        await self._events_agree({str(row["id"]): str(row["contact_id"]) for row in identities})

    async def _events_agree(self, owners: dict[str, str]) -> None:
        for seq, event in await self.desk.events(after=self.seq):
            self.seq = seq
            self._keep(event)
        told = {identity.id: contact.id for contact in self.kept.values() for identity in contact.identities}
        assert told == owners

    def _keep(self, event: Any) -> None:
        kind = event.WhichOneof("body")
        if not kind.startswith("contact_"):
            return
        body = getattr(event, kind)
        self.kept[body.contact.id] = body.contact
        if kind == "contact_merged":
            self.kept.pop(body.merged_contact_id, None)
        if kind == "contact_unmerged":
            self.kept[body.unmerged_contact.id] = body.unmerged_contact

    def teardown(self) -> None:
        self.world.run(self.desk.check())


OWNED = """
SELECT i.id, i.contact_id, i.channel_id, a.value FROM identities i JOIN identity_aliases a ON a.identity_id = i.id
WHERE a.kind = 'wa_id' AND a.value = ANY($1::text[])
"""
THREADS = """
SELECT c.*, i.contact_id AS owner_id FROM conversations c JOIN identities i ON i.id = c.identity_id
WHERE i.id = ANY($1::uuid[])
"""


def _replaced(module: Any, name: str, old: str, new: str) -> AbstractContextManager[Any]:
    sql: str = getattr(module, name)
    assert old in sql
    return mock.patch.object(module, name, sql.replace(old, new))


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "conversations stay with the merged contact": lambda: _replaced(
        merging, "FOLLOW", "WHERE identity_id", "WHERE FALSE AND identity_id"
    ),
    "a block is not taken back": lambda: _replaced(
        merging, "FOLLOW", "contact_blocked = $4", "contact_blocked = contact_blocked OR $4"
    ),
    "the conversation keeps its version": lambda: _replaced(merging, "FOLLOW", "version + 1", "version"),
    "attributes that were filled in stay": lambda: _replaced(
        contact_merging, "ADD_EDGE", "$5::jsonb", "nullif($5::jsonb, $5::jsonb)"
    ),
    "all identities move back": lambda: _replaced(
        contact_merging,
        "EDGE",
        "SELECT *",
        "SELECT id, contact_id, merged_contact_id, attributes,"
        " ARRAY(SELECT i.id FROM identities i WHERE i.contact_id = contact_merges.contact_id) AS identity_ids",
    ),
}
