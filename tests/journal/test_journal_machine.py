"""Runs the journal's state machine, and shows that it sees each of the bugs that it is there for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from journal_inlet import Inlet
from journal_machine import World, machine

from server.intake import apply as apply_module
from server.intake.apply import Applier, Run
from server.intake.replay import Replay
from server.intake.service import Intake
from server.journal import items as journal_items
from server.kit.db import Write
from server.log.append import append
from server.messages import receipts, repository
from server.providers.contract import Address, InboundMessage
from tests import machines


@pytest.fixture
async def world(inlet: Inlet) -> AsyncIterator[World]:
    made = await World.of(inlet)
    yield made
    await made.mortal.close()


async def test_the_tables_become_the_model(world: World) -> None:
    await asyncio.to_thread(machines.run, machine(world), examples=4, steps=10, same=False)


@pytest.mark.faults
async def test_the_tables_become_the_model_in_many_ways(world: World) -> None:
    await asyncio.to_thread(machines.run, machine(world), examples=40, steps=25, same=False)


def patched(target: Any, name: str, make: Callable[[Any], Any]) -> Callable[[World], Any]:
    """A planted bug: the function `name` of target, made anew from what it was."""

    @contextlib.contextmanager
    def planted(_world: World) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, name, make(getattr(target, name)))
            yield

    return planted


def answered_before_it_is_durable(whole: Any) -> Any:
    """The payload is stored when the next one comes; the process ends before that."""
    waiting: list[Any] = []

    async def store(intake: Intake, *arguments: Any) -> None:
        if waiting:
            await whole(intake, *waiting.pop())
        waiting.append(arguments)

    return store


def told_apart_by_their_hash(whole: Any) -> Any:
    """A payload is applied once, and its items are taken for new."""

    async def apply(applier: Applier, tenant: Any, payload_id: Any, receive_time: Any) -> None:
        async with tenant.database.connection() as connection:
            seen = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM journal a JOIN journal b USING (sha256) WHERE a.id = $1 AND b.state = 'applied')",
                payload_id,
            )
        if not seen:
            await whole(applier, tenant, payload_id, receive_time)

    return apply


async def nothing_known(*_arguments: Any) -> set[Any]:
    return set()


@contextlib.contextmanager
def by_hash(_world: World) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Applier, "apply", told_apart_by_their_hash(Applier.apply))
        patch.setattr(repository, "known_provider_ids", nothing_known)
        yield


def receipts_make_messages(whole: Any) -> Any:
    async def take(run: Run, found: Any) -> None:
        await whole(run, found)
        await run._messages(
            [
                InboundMessage(
                    provider_id=item.provider_id,
                    provider_time=item.provider_time,
                    account_id=item.account_id,
                    addresses=(Address("wa_id", "4915100000009"),),
                    type="unsupported",
                )
                for item in found
            ]
        )

    return take


def a_failing_item_holds_up_its_siblings(_whole: Any) -> Any:
    async def outcome(work: Any, **_names: str) -> Any:
        return await work

    return outcome


def a_replay_sends(whole: Any) -> Any:
    async def apply(replay: Replay, payload: Any, seen: Any, report: Any) -> None:
        await whole(replay, payload, seen, report)
        database = replay._tenant.database
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)"
                " SELECT gen_random_uuid(), 'send', p.id, p.conversation_id, p.channel_id, 0, 'waiting', now(), now()"
                " FROM message_parts p ORDER BY p.id DESC LIMIT 1"
            )

    return apply


def the_last_receipt_wins(_whole: Any) -> Any:
    return lambda before, after: before != after


def marked_before_it_is_committed(_whole: Any) -> Any:
    async def apply(run: Run, chunk: Any) -> None:
        rows = {item: run._row(item, "applied", None) for item in chunk}
        async with run._database.connection() as connection:
            columns = journal_items.columns(list(rows.values()))
            new = {record["id"] for record in await connection.fetch(apply_module.NEW_ITEMS, *columns)}

        async def unit(write: Write) -> None:
            updates = [run._update(item, row.id) for item, row in rows.items() if row.id in new]
            applied = await receipts.apply(write, updates)
            await receipts.park(write.connection, applied.unmatched)
            await append(write, applied.events)

        await run._database.write(unit)

    return apply


PLANTED: dict[str, Callable[[World], Any]] = {
    "200 before it is durable": patched(Intake, "_journal", answered_before_it_is_durable),
    "told apart by the payload's hash": by_hash,
    "a receipt makes a message": patched(Run, "_receipts", receipts_make_messages),
    "a failing item holds up its siblings": patched(apply_module, "outcome", a_failing_item_holds_up_its_siblings),
    "a replay sends": patched(Replay, "_apply", a_replay_sends),
    "the last receipt wins, not the highest": patched(receipts, "moves", the_last_receipt_wins),
    "marked applied before it is committed": patched(Run, "_apply_receipts", marked_before_it_is_committed),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", PLANTED)
async def test_a_planted_bug_is_seen(world: World, name: str) -> None:
    if name == "told apart by the payload's hash":
        await world.inlet.as_owner(
            "ALTER TABLE message_parts DROP CONSTRAINT uq_message_parts_channel_id_provider_message_id"
        )
    with PLANTED[name](world):
        await asyncio.to_thread(machines.find, machine(world), examples=300, steps=30)
