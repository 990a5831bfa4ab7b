"""The status matrix on a real database: every event at every status, and what becomes of both."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from server.assignments import service as assignments
from server.channels.service import AUTO_RESOLVE, ChannelRow
from server.conversations import notes, participants, service, tags
from server.conversations.rules import MOVES, ConversationArchived, IllegalStatusMove, VersionMismatch
from server.conversations.service import Changed, ConversationSuperseded
from server.conversations.timers import HANDLERS, SNOOZE
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.event import Actor, ActorKind, Cause, CauseKind, Origin
from server.messages import receipts
from server.messages.items import Stored
from server.messages.receipts import Applied, Update
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone

STATUSES = ("new", "open", "pending", "snoozed", "resolved", "archived")
# How a conversation that a customer began comes to a status.
WAYS: dict[str, tuple[str, ...]] = {
    "new": (),
    "open": ("open",),
    "pending": ("pending",),
    "snoozed": ("snoozed",),
    "resolved": ("resolved",),
    "archived": ("resolved", "archived"),
}
STAYS, NOTHING, REFUSED, NEW_THREAD = "stays", "nothing", "refused", "new thread"
HOUR = timedelta(hours=1)


@dataclass
class Case:
    """A conversation in some status, and how to do something to it."""

    desk: Desk
    channel: ChannelRow
    sender: str
    id: uuid.UUID

    async def do(self, work: Callable[[Write], Awaitable[Any]]) -> Any:
        return await self.desk.do(work)

    async def inbound(self) -> None:
        await self.desk.writer().submit(self.desk.receive(self.channel, self.sender, "again"))

    async def say(self, kind: int) -> None:
        author = await self.desk.new_agent() if kind == ActorKind.ACTOR_KIND_AGENT else new_id()
        origin = Origin(actor=Actor(kind, author), cause=Cause(CauseKind.CAUSE_KIND_REQUEST, "test"))
        await self.desk.writer().submit(self.desk.send(self.id, by=origin))

    async def set(self, status: str) -> None:
        until = utc_now() + 2 * HOUR if status == "snoozed" else None
        await self.desk.move(self.id, status, snooze_until=until)

    async def fire(self, kind: str) -> None:
        """A timer that is due, whether or not the conversation has set one, as if set for what is there now."""
        row = await self.desk.conversation(self.id)
        async with self.desk.database.connection() as connection:
            await timers.set_timer(
                connection, kind=kind, key=self.id, due_time=utc_now() - HOUR, generation=row.snooze_generation
            )
        await timers.run_due(self.desk.database, HANDLERS)

    async def inactive(self) -> None:
        """The channel resolves what nobody touched for an hour, and this one was left alone for two."""
        await self.desk.execute(
            "UPDATE channels SET auto_resolve_after = interval '1 hour' WHERE id = $1", self.channel.id
        )
        await self.desk.execute(
            "UPDATE conversations SET update_time = update_time - interval '2 hours' WHERE id = $1", self.id
        )
        await self.fire(AUTO_RESOLVE)

    async def assigned(self) -> None:
        agent_id = await self.desk.new_agent()
        await self.do(
            lambda write: assignments.assign(
                write,
                ALL,
                self.id,
                origin=nobody(),
                agent_id=agent_id,
                team_id=None,
                reason=None,
                expected_version=None,
            )
        )

    async def unassigned(self) -> None:
        if await self.writable():
            await self.assigned()
        whole: dict[str, Any] = {"reason": None, "expected_version": None}
        await self.do(lambda write: assignments.unassign(write, ALL, self.id, origin=nobody(), **whole))

    async def writable(self) -> bool:
        """Whether there can be something to change or to take away."""
        return (await self.desk.conversation(self.id)).status != "archived"

    async def noted(self) -> uuid.UUID:
        by, note_id = agent(await self.desk.new_agent()), new_id()
        await self.do(lambda write: notes.add(write, ALL, self.id, origin=by, note_id=note_id, text="x", pinned=False))
        return note_id

    async def note_changed(self) -> None:
        note_id = await self.noted() if await self.writable() else new_id()
        await self.do(lambda write: notes.update(write, ALL, self.id, note_id, origin=nobody(), text="y", pinned=True))

    async def note_deleted(self) -> None:
        note_id = await self.noted() if await self.writable() else new_id()
        await self.do(lambda write: notes.delete(write, ALL, self.id, note_id, origin=nobody()))

    async def tagged(self) -> None:
        await self.do(lambda write: tags.add(write, ALL, self.id, origin=nobody(), names=["vip"]))

    async def untagged(self) -> None:
        if await self.writable():
            await self.tagged()
        await self.do(lambda write: tags.remove(write, ALL, self.id, origin=nobody(), names=["vip"]))
        assert not (await self.desk.conversation(self.id)).tags

    async def joined(self, agent_id: uuid.UUID | None = None) -> None:
        who = agent_id or await self.desk.new_agent()
        await self.do(lambda write: participants.add(write, ALL, self.id, origin=nobody(), agent_id=who))

    async def left(self) -> None:
        who = await self.desk.new_agent()
        if await self.writable():
            await self.joined(who)
        await self.do(lambda write: participants.remove(write, ALL, self.id, origin=nobody(), agent_id=who))

    async def changed(self, **changes: Any) -> None:
        whole = {"priority": None, "subject": None, "attributes": None, "expected_version": None, **changes}
        await self.do(lambda write: service.update(write, ALL, self.id, origin=nobody(), **whole))

    async def receipt(self) -> None:
        """Of the campaign's message that every case begins with."""
        part_id = await self.desk.value(
            "SELECT id FROM message_parts WHERE conversation_id = $1 AND position = 0 AND status = 'pending'", self.id
        )
        update = Update(
            channel_id=self.channel.id,
            provider_message_id=f"wamid.{part_id.hex}",
            part_id=part_id,
            status="delivered",
            source="receipt",
            origin=nobody(),
        )

        async def apply(write: Write) -> Applied:
            return await receipts.apply(write, [update])

        await self.do(apply)

    async def deleted(self) -> None:
        await self.do(lambda write: service.delete(write, ALL, self.id, origin=nobody()))

    async def restored(self) -> None:
        await self.deleted()
        await self.do(lambda write: service.restore(write, ALL, self.id, origin=nobody()))
        assert (await self.desk.conversation(self.id)).delete_time is None


Act = Callable[[Case], Awaitable[object]]


# One line per event of the matrix, one word per status that it meets: the status after it, that it stays (and something happened),
# that nothing happened, or what else.
MATRIX: dict[str, tuple[Act, tuple[str, ...]]] = {
    "inbound": (Case.inbound, (STAYS, STAYS, "open", "open", "open", NEW_THREAD)),
    "reply of an agent": (
        lambda case: case.say(ActorKind.ACTOR_KIND_AGENT),
        ("open", STAYS, STAYS, STAYS, "open", REFUSED),
    ),
    "reply of a service": (
        lambda case: case.say(ActorKind.ACTOR_KIND_API_KEY),
        ("open", STAYS, STAYS, STAYS, "open", REFUSED),
    ),
    "campaign": (
        lambda case: case.say(ActorKind.ACTOR_KIND_CAMPAIGN),
        (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED),
    ),
    "automation": (lambda case: case.say(ActorKind.ACTOR_KIND_RULE), (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "assign": (Case.assigned, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "unassign": (Case.unassigned, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "set new": (lambda case: case.set("new"), (NOTHING, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
    "set open": (lambda case: case.set("open"), ("open", NOTHING, "open", "open", "open", "open")),
    "set pending": (lambda case: case.set("pending"), ("pending", "pending", NOTHING, "pending", REFUSED, REFUSED)),
    "set snoozed": (
        lambda case: case.set("snoozed"),
        ("snoozed", "snoozed", "snoozed", "snoozed", REFUSED, REFUSED),
    ),
    "set resolved": (
        lambda case: case.set("resolved"),
        ("resolved", "resolved", "resolved", "resolved", NOTHING, REFUSED),
    ),
    "set archived": (
        lambda case: case.set("archived"),
        (REFUSED, REFUSED, REFUSED, REFUSED, "archived", NOTHING),
    ),
    "snooze timer": (lambda case: case.fire(SNOOZE), (NOTHING, NOTHING, NOTHING, "open", NOTHING, NOTHING)),
    "auto-resolve timer": (Case.inactive, ("resolved", "resolved", "resolved", NOTHING, NOTHING, NOTHING)),
    "note": (Case.noted, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "note changed": (Case.note_changed, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "note deleted": (Case.note_deleted, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "tag": (Case.tagged, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "tag taken away": (Case.untagged, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "participant": (Case.joined, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "participant taken away": (Case.left, (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "priority": (lambda case: case.changed(priority=5), (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "attributes": (lambda case: case.changed(attributes={"a": 1}), (STAYS, STAYS, STAYS, STAYS, STAYS, REFUSED)),
    "receipt": (Case.receipt, (STAYS, STAYS, STAYS, STAYS, STAYS, STAYS)),
    "delete": (Case.deleted, (STAYS, STAYS, STAYS, "open", STAYS, STAYS)),
    "delete and restore": (Case.restored, (STAYS, STAYS, STAYS, "open", STAYS, STAYS)),
}
CASES = [
    pytest.param(act, event, before, after, id=f"{event}: {before} -> {after}")
    for event, (act, expected) in MATRIX.items()
    for before, after in zip(STATUSES, expected, strict=True)
]


async def case_of(desk: Desk, channel: ChannelRow, status: str) -> Case:
    """A customer wrote, a campaign too, and then it came to the status."""
    case = Case(desk, channel, sender := phone(), (await desk.started(channel, sender)).id)
    await case.say(ActorKind.ACTOR_KIND_CAMPAIGN)
    for step in WAYS[status]:
        await case.set(step)
    return case


@pytest.mark.parametrize(("act", "event", "before", "after"), CASES)
async def test_the_matrix(desk: Desk, act: Act, event: str, before: str, after: str) -> None:
    case = await case_of(desk, await desk.new_channel(), before)
    row, head = await desk.conversation(case.id), await desk.head()
    if after == REFUSED:
        # What is no move of a status has no status that it goes to (docs/decisions/0024).
        kind, _, to = event.rpartition("set ")
        reason, metadata = (
            (IllegalStatusMove, {"to": to}) if not kind and to in STATUSES else (ConversationArchived, {})
        )
        with pytest.raises(reason) as refused:
            await act(case)
        assert type(refused.value) is reason
        assert refused.value.metadata == {"from": before, "allowed": ", ".join(MOVES[before]), **metadata}
    else:
        await act(case)
    found = await desk.conversation(case.id)
    if after in (REFUSED, NOTHING):
        assert await desk.head() == head
        assert (found.status, found.version) == (row.status, row.version)
        return
    assert (await desk.head())[1] > head[1]
    if after == NEW_THREAD:
        assert found == row
        new = await desk.value("SELECT id FROM conversations WHERE previous_conversation_id = $1", case.id)
        assert (await desk.conversation(new)).status == "new"
        return
    assert found.status == (before if after == STAYS else after)
    has_timer = await desk.value("SELECT count(*) FROM timers WHERE kind = 'snooze' AND key = $1", case.id)
    assert has_timer == (found.status == "snoozed"), "whatever ends a snooze cancels its timer"


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
async def test_of_two_writers_with_the_same_version_one_is_refused(desk: Desk, before: str, to: str) -> None:
    case = await case_of(desk, await desk.new_channel(), before)
    row = await desk.conversation(case.id)
    until = utc_now() + 3 * HOUR if to == "snoozed" else None
    if to != before and to not in MOVES[before]:
        with pytest.raises(IllegalStatusMove) as refused:
            await desk.move(case.id, to, snooze_until=until, expected_version=row.version)
        assert refused.value.metadata == {"from": before, "to": to, "allowed": ", ".join(MOVES[before])}
        return
    first = await desk.move(case.id, to, snooze_until=until, expected_version=row.version)
    if to == before != "snoozed":
        assert not first.events
        return
    with pytest.raises(VersionMismatch) as stale:
        await case.do(
            lambda write: service.update(
                write,
                ALL,
                case.id,
                origin=nobody(),
                priority=4,
                subject=None,
                attributes=None,
                expected_version=row.version,
            )
        )
    assert stale.value.metadata == {"version": str(row.version + 1)}


@pytest.mark.parametrize(
    ("ago", "each_time", "continues"),
    [(timedelta(hours=71), False, True), (timedelta(hours=73), False, False), (timedelta(0), True, False)],
)
async def test_a_message_after_the_end_reopens_or_starts_a_linked_conversation(
    desk: Desk, ago: timedelta, each_time: bool, continues: bool
) -> None:
    channel = await desk.new_channel(new_thread_each_time=each_time)
    case = await case_of(desk, channel, "resolved")
    await desk.execute(
        "UPDATE conversations SET resolve_time = resolve_time - $2::interval WHERE id = $1", case.id, ago
    )
    stored = await desk.writer().submit(desk.receive(channel, case.sender, "again"))
    assert isinstance(stored, Stored)
    row = await desk.conversation(stored.message.conversation_id)
    if continues:
        assert (row.id, row.status, row.waiting_since) == (case.id, "open", stored.message.create_time)
    else:
        assert (row.status, row.previous_conversation_id) == ("new", case.id)
        assert (await desk.conversation(case.id)).status == "resolved"


@pytest.mark.parametrize("before", ["resolved", "archived"])
async def test_what_would_be_a_second_live_conversation_is_refused_and_names_the_first(desk: Desk, before: str) -> None:
    channel = await desk.new_channel(new_thread_each_time=True)
    case = await case_of(desk, channel, before)
    stored = await desk.writer().submit(desk.receive(channel, case.sender, "again"))
    assert isinstance(stored, Stored)
    with pytest.raises(ConversationSuperseded) as refused:
        await case.set("open")
    assert refused.value.metadata == {"conversation_id": str(stored.message.conversation_id)}
    assert isinstance(await desk.move(case.id, before), Changed)


async def test_a_reply_that_would_make_a_second_live_conversation_is_refused_and_names_the_first(desk: Desk) -> None:
    channel = await desk.new_channel(new_thread_each_time=True)
    case = await case_of(desk, channel, "resolved")
    stored = await desk.writer().submit(desk.receive(channel, case.sender, "again"))
    assert isinstance(stored, Stored)
    row, head = await desk.conversation(case.id), await desk.head()
    with pytest.raises(ConversationSuperseded) as refused:
        await case.say(ActorKind.ACTOR_KIND_API_KEY)
    assert refused.value.metadata == {"conversation_id": str(stored.message.conversation_id)}
    assert (await desk.conversation(case.id), await desk.head()) == (row, head)


@pytest.mark.parametrize("before", STATUSES)
async def test_a_message_for_a_deleted_conversation_starts_a_linked_one(desk: Desk, before: str) -> None:
    channel = await desk.new_channel()
    case = await case_of(desk, channel, before)
    await case.deleted()
    row = await desk.conversation(case.id)
    await case.inbound()
    assert await desk.conversation(case.id) == row
    new = await desk.value("SELECT id FROM conversations WHERE previous_conversation_id = $1", case.id)
    assert (await desk.conversation(new)).status == "new"
