"""Bugs that the state machine of deliveries must find, put into this process and its database and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from deliveries_machine import DeliveryMachine

from server.deliveries import claiming
from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.messages.delivering import Sender
from server.providers.contract import NotSent


@contextlib.contextmanager
def without_index() -> Iterator[None]:
    """One head for each conversation is not enforced by the schema."""
    world = DeliveryMachine.world
    world.wait(world.owner.execute("DROP INDEX uq_deliveries_head"))
    yield


def changed(module: Any, name: str, before: str, after: str) -> Callable[[], AbstractContextManager[Any]]:
    """A statement in which something is another way."""
    statement: str = getattr(module, name)
    assert before in statement
    return lambda: mock.patch.object(module, name, statement.replace(before, after))


@contextlib.contextmanager
def two_heads() -> Iterator[None]:
    head = "WHERE NOT EXISTS (SELECT FROM deliveries h WHERE h.conversation_id = c.id AND h.state IN ('queued', 'in_flight'))"
    with without_index(), changed(deliveries, "PROMOTE", head, "")():
        yield


@contextlib.contextmanager
def no_guard() -> Iterator[None]:
    guard, none = "attempt = $2", "$2::integer IS NOT NULL"
    with changed(deliveries, "FINISH", guard, none)(), changed(deliveries, "AGAIN", guard, none)():
        yield


async def _requeued(self: Sender, claimed: Claimed) -> None:
    await self.settle(claimed, NotSent("the worker stopped"))


HELD = "WHERE conversation_id = h.conversation_id AND state = 'unknown'"
PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a lease that ends queues the send again": lambda: mock.patch.object(Sender, "expire", _requeued),
    "what is in flight does not stop the conversation's next": two_heads,
    "an old claim ends a new one": no_guard,
    "a receipt is ignored while the send is in flight": changed(
        deliveries, "RESOLVE", "AND state <> $2", "AND state NOT IN ('in_flight', $2)"
    ),
    "a paused channel burns attempts": changed(
        deliveries, "AGAIN", "uncounted + $4::integer", "uncounted + 0 * $4::integer"
    ),
    "the recipient's bucket is ignored": changed(
        claiming, "CLAIM", "WHERE identity_id IN (SELECT identity_id FROM head) FOR UPDATE", "WHERE false"
    ),
    "the next one is chosen by its due time": changed(
        deliveries, "PROMOTE", "ORDER BY position, id LIMIT 1", "ORDER BY due_time, id LIMIT 1"
    ),
    "what waits for long lets nobody pass": changed(
        deliveries, "STEP_ASIDE", "state = 'waiting'\n", "state = 'queued'\n"
    ),
    "what waits for long is the next all the same": changed(deliveries, "PROMOTE", "AND NOT steps_aside(d)", ""),
    "an unknown send holds nothing": changed(claiming, "CLAIM", HELD, "WHERE false"),
    "a paused channel sends": changed(claiming, "CLAIM", "c.state = 'active' AND", ""),
    "what the provider lets an account begin no more goes": changed(
        claiming, "CLAIM", f"{claiming.BEGINS} > clock_now()", "false"
    ),
    "what an unknown send held back waits on": changed(
        deliveries, "RELEASE", "due_time = clock_now()", "due_time = h.due_time"
    ),
}
