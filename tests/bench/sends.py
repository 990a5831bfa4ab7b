"""Durable sends beside a bare echo, and one send alone beside the same statements."""

from __future__ import annotations

import time
import uuid
from typing import Any

from server.kit.db import Connection, Write
from server.kit.ids import new_id
from server.log.event import Actor, ActorKind, Cause, CauseKind, Origin
from server.messages.items import Send
from server.messages.unit import Unit
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.rpc.call import Scope
from tests.bench.measuring import Costs, Row, at_least, at_most, medians, throughput
from tests.bench.stand import IN_FLIGHT, Stand

SECONDS, ROUNDS = 6.0, 3


async def rows(stand: Stand) -> list[Row]:
    """Both rows; a first second warms everything up."""
    await throughput(stand.sending(), in_flight=IN_FLIGHT, seconds=1)
    await throughput(stand.echoing(), in_flight=IN_FLIGHT, seconds=1)
    return [await many(stand), await alone(stand)]


async def many(stand: Stand) -> Row:
    """64 in flight. Sends and echoes take turns, so that what else the machine does meets both."""
    seconds = stand.seconds(SECONDS) / ROUNDS
    sent = echoed = 0.0
    send, echo = stand.sending(), stand.echoing()
    spent, bare = Costs(**stand.pids), Costs(server=stand.reference.pid)
    for _ in range(ROUNDS):
        with spent:
            sent += await throughput(send, in_flight=IN_FLIGHT, seconds=seconds) / ROUNDS
        with bare:
            echoed += await throughput(echo, in_flight=IN_FLIGHT, seconds=seconds) / ROUNDS
    return Row(
        f"durable sends, {IN_FLIGHT} in flight",
        f"{sent:,.0f} /s",
        f"{echoed:,.0f} /s  bare echo ({bare.each(echoed * seconds * ROUNDS)})",
        cost=spent.each(sent * seconds * ROUNDS),
        **at_least(sent / echoed, 0.50),
    )


class Timed:
    """A connection that adds up how long its statements take."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.spent = 0.0

    async def fetch(self, *statement: Any) -> Any:
        return await self._timed(self._connection.fetch(*statement))

    async def fetchrow(self, *statement: Any) -> Any:
        return await self._timed(self._connection.fetchrow(*statement))

    async def _timed(self, running: Any) -> Any:
        began = time.perf_counter()
        result = await running
        self.spent += time.perf_counter() - began
        return result


async def statements(stand: Stand, provider: dict[str, Provider], found: list[float]) -> None:
    """The statements of one send, run here on a connection of our own: what they take is added to found, in ms."""
    timed = Timed(stand.database)
    send = Send(
        scope=Scope(all=True),
        origin=Origin(Actor(ActorKind.ACTOR_KIND_API_KEY, new_id()), Cause(CauseKind.CAUSE_KIND_REQUEST, "bench")),
        conversation_id=uuid.UUID(stand.conversations[len(found) % len(stand.conversations)]),
        text="a reply",
        request_id=uuid.uuid4().hex,
        request_hash=b"x" * 32,
        last_seen_message_id=None,
    )
    write = Write(connection=timed, pooled=None)  # type: ignore[arg-type]
    assert await Unit(write, [send], provider).run_at_once() is not None
    found.append(timed.spent * 1000)


async def alone(stand: Stand) -> Row:
    """One in flight, beside an echo and the very statements of a send, run by themselves; all three take turns."""
    providers = create_providers(ProviderSettings(meta_graph_url="http://127.0.0.1:9"))
    bare: list[float] = []
    times = 100 if stand.quick else 400
    sent, echoed, _ = await medians(
        stand.sending(), stand.echoing(), lambda: statements(stand, providers, bare), times=times
    )
    reference = echoed + sorted(bare)[len(bare) // 2]
    for provider in providers.values():
        await provider.close()
    return Row(
        "send, 1 in flight, p50",
        f"{sent:.2f} ms",
        f"{reference:.2f} ms  echo {echoed:.2f} + its statements, bare",
        **at_most(sent / reference, 1.50),
    )
