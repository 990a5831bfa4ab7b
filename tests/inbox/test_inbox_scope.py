"""Rights that change while events flow: nothing after the change is shown by the rights before it."""

import asyncio
import uuid

from switchboard.v1 import event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.log.event import Routing
from tests.inbox.conftest import StartProcess
from tests.inbox.inbox_bench import Process, Tenant, Watcher, body

LEAVE = "DELETE FROM channel_members WHERE channel_id = $1 AND agent_id = $2"
JOIN = "INSERT INTO channel_members (channel_id, agent_id) VALUES ($1, $2)"


async def flow(tenant: Tenant, stop: asyncio.Event, channels: list[uuid.UUID]) -> None:
    while not stop.is_set():
        await tenant.commit(*(tenant.event(body("x"), channel_id=channel) for channel in channels))


def shown_by_rights(watcher: Watcher, channel_id: uuid.UUID, changes: list[tuple[int, bool]]) -> None:
    """Every event of the channel was sent under the right that holds at its seq. changes: (seq, whether seen after it)."""
    for event in watcher.events:
        sees = [after for seq, after in changes if seq <= event.seq]
        if event.conversation_id and event.conversation_updated.changed_fields == [str(channel_id)]:
            assert sees[-1], f"event {event.seq} leaked"


async def test_an_agent_who_is_removed_sees_nothing_of_what_follows(start: StartProcess, tenant: Tenant) -> None:
    process, writer = await start(tenant), await start(tenant)
    other = await tenant.new_channel()
    agent_id = await tenant.new_agent(channels=2)
    tenant_writes = writer.writes(tenant)
    changes = [(0, True)]
    stop = asyncio.Event()

    async def write(channel_id: uuid.UUID) -> None:
        while not stop.is_set():
            await tenant_writes.commit(tenant.event(body(str(channel_id)), channel_id=channel_id))

    writing = [asyncio.ensure_future(write(channel_id)) for channel_id in (tenant.channels[0], other) for _ in "ab"]
    async with process.watch(process.credentials.agent(tenant, agent_id)) as watcher:
        await watcher.control("caught_up")
        for number in range(10):
            sees = number % 2 == 1
            seq = await tenant_writes.move_rights(agent_id, JOIN if sees else LEAVE, other, agent_id)
            changes.append((seq, sees))
            changed = await watcher.control("scope_changed")
            assert list(changed.gained_channel_ids if sees else changed.lost_channel_ids) == [str(other)]
            assert watcher.seqs[-1] < seq
            await watcher.to_seq(seq + 3)
        stop.set()
        await asyncio.gather(*writing)
        await watcher.control("bookmark")
    shown_by_rights(watcher, other, changes)
    assert any(event.conversation_updated.changed_fields == [str(other)] for event in watcher.events)


async def test_nothing_lacks_that_the_rights_at_its_place_show(process: Process, tenant: Tenant) -> None:
    other = await tenant.new_channel()
    agent_id = await tenant.new_agent(channels=1)
    async with process.watch(process.credentials.agent(tenant, agent_id)) as watcher:
        await watcher.control("caught_up")
        await tenant.say(channel_id=other)
        await tenant.move_rights(agent_id, JOIN, other, agent_id)
        await tenant.say(channel_id=other)
        await watcher.to_seq(3)
        await tenant.move_rights(agent_id, LEAVE, other, agent_id)
        await tenant.say(channel_id=other)
        await tenant.say()
        await watcher.to_seq(6)
    assert watcher.seqs == [3, 6]
    assert watcher.controls.count("scope_changed") == 2


async def test_what_is_replayed_is_shown_by_the_rights_of_now(process: Process, tenant: Tenant) -> None:
    agent_id = await tenant.new_agent(channels=1)
    credential = process.credentials.agent(tenant, agent_id)
    await tenant.say("before", count=3)
    async with process.watch(credential, start=inbox.WATCH_START_EARLIEST) as watcher:
        await watcher.control("caught_up")
        start = watcher.items[0].hello.cursor
        assert watcher.seqs == [1, 2, 3]
    await tenant.move_rights(agent_id, LEAVE, tenant.channels[0], agent_id)
    async with process.watch(credential, cursor=start) as watcher:
        await watcher.control("caught_up")
        assert watcher.seqs == []
    page = await process.page(credential, cursor=start)
    assert not page.events
    assert page.head == 4


async def test_a_change_before_the_stream_opened_is_known_to_it(start: StartProcess, tenant: Tenant) -> None:
    """The verified call may be older than the head that the stream starts at."""
    process = await start(tenant)
    agent_id = await tenant.new_agent(channels=1)
    credential = process.credentials.agent(tenant, agent_id)
    async with process.watch(process.credentials.key(tenant)) as keeps_the_tail:
        await keeps_the_tail.control("caught_up")
        for _ in range(10):
            async with process.watch(credential) as watcher:
                await watcher.control("caught_up")
            process.tails._tails[tenant.id].poke()
            seq = await tenant.move_rights(agent_id, LEAVE, tenant.channels[0], agent_id)
            # The remembered rights are the old ones until the tail has read the change.
            async with process.watch(credential) as watcher:
                await watcher.control("caught_up")
                await tenant.say()
                await keeps_the_tail.to_seq(seq + 1)
                assert await watcher.listen(0.05) == []
            await tenant.move_rights(agent_id, JOIN, tenant.channels[0], agent_id)


async def test_a_conversation_handed_from_one_agent_to_another_leaves_and_enters(
    process: Process, tenant: Tenant
) -> None:
    one, two = await tenant.new_agent(), await tenant.new_agent()
    channel = tenant.channels[0]
    async with (
        process.watch(process.credentials.agent(tenant, one)) as old,
        process.watch(process.credentials.agent(tenant, two)) as new,
    ):
        await old.control("caught_up")
        await new.control("caught_up")
        assigned = event_pb2.InboxEvent(conversation_assigned=event_pb2.ConversationAssigned())
        await tenant.commit(tenant.event(assigned, before=Routing(channel), assignee_id=one))
        await tenant.commit(tenant.event(assigned, before=Routing(channel, None, one), assignee_id=two))
        await old.to_seq(2)
        await new.to_seq(2)
    assert [event.transition for event in old.events] == [event_pb2.TRANSITION_ENTERED, event_pb2.TRANSITION_LEFT]
    assert [event.WhichOneof("body") for event in old.events] == ["conversation_assigned", "conversation_left"]
    assert [(event.seq, event.transition) for event in new.events] == [(2, event_pb2.TRANSITION_ENTERED)]


async def test_every_tenant_gets_its_own_and_only_that(
    start: StartProcess, tenant: Tenant, other_tenant: Tenant
) -> None:
    process = await start(tenant, other_tenant)
    async with (
        process.watch(process.credentials.key(tenant)) as one,
        process.watch(process.credentials.key(other_tenant)) as two,
    ):
        await one.control("caught_up")
        await two.control("caught_up")
        await asyncio.gather(*(each.say(each.name) for each in (tenant, other_tenant) for _ in range(10)))
        await one.to_seq(10)
        await two.to_seq(10)
    for watcher, own in ((one, tenant), (two, other_tenant)):
        assert {event.conversation_updated.changed_fields[0] for event in watcher.events} == {own.name}
