"""Answers through the batch writer, on a real tenant database."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from server.conversations.rules import ConversationArchived, ReplyOutdated, ReplyWindowClosed
from server.conversations.service import ConversationSuperseded
from server.kit import tracing
from server.kit.clock import utc_now
from server.kit.errors import NotFound, Refusal
from server.kit.ids import new_id
from server.messages.items import Stored
from server.messages.refusals import ChannelNotSending, ProviderLimit
from server.requests.service import RequestIdReused
from server.rpc.call import Scope
from tests.desk import Desk, agent, nobody, phone


async def all_of(*waiting: Any) -> list[Any]:
    return list(await asyncio.gather(*waiting, return_exceptions=True))


async def test_an_answer_is_durable_pending_queued_and_marks_read(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana = await desk.new_agent()
    before = (await desk.head())[1]
    stored = await desk.writer().submit(desk.send(row.id, "how can I help?", by=agent(ana)))
    assert isinstance(stored, Stored)
    after = await desk.conversation(row.id)
    assert (stored.message.status, stored.message.arrival) == ("pending", 2)
    assert stored.message.sequence > row.last_sequence
    assert (after.status, after.waiting_since, after.unread_count) == ("open", None, 0)
    assert (after.last_message_preview, after.last_outbound_author_id) == ("how can I help?", ana)
    assert await desk.kinds(after=before) == ["message_created", "conversation_status_changed"]
    queued = await desk.rows("SELECT state, position, kind FROM deliveries WHERE conversation_id = $1", row.id)
    assert [tuple(item) for item in queued] == [("queued", stored.message.sequence, "send")]
    read = await desk.rows(
        "SELECT agent_id, arrival, inbound_count FROM read_positions WHERE conversation_id = $1", row.id
    )
    assert [tuple(item) for item in read] == [(ana, 2, 1)]


async def test_refusals_change_nothing_and_leave_their_neighbours(desk: Desk) -> None:
    channel = await desk.new_channel()
    good, closed, archived, deleted = [await desk.started(channel) for _ in range(4)]
    await desk.execute("UPDATE conversations SET reply_window_expire_time = now() WHERE id = $1", closed.id)
    resolved = "UPDATE conversations SET status = 'resolved', resolve_time = now(), waiting_since = NULL WHERE id = $1"
    for change in (resolved, "UPDATE conversations SET status = 'archived' WHERE id = $1"):
        await desk.execute(change, archived.id)
    await desk.execute("UPDATE conversations SET delete_time = now() WHERE id = $1", deleted.id)
    blind = Scope(all=False, channel_ids=frozenset({new_id()}), agent_id=new_id())
    items = [
        desk.send(good.id, "first"),
        desk.send(closed.id),
        desk.send(archived.id),
        desk.send(deleted.id),
        desk.send(new_id()),
        desk.send(good.id, scope=blind),
        desk.send(good.id, "x" * 4097),
        desk.send(good.id, "x" * 4096),
        desk.send(good.id, last_seen_message_id=new_id()),
    ]
    writer = desk.writer()
    results = await all_of(*(writer.submit(item) for item in items))
    kinds = [
        Stored,
        ReplyWindowClosed,
        ConversationArchived,
        NotFound,
        NotFound,
        NotFound,
        ProviderLimit,
        Stored,
        NotFound,
    ]
    assert [type(result) for result in results] == kinds
    assert (await desk.conversation(good.id)).message_count == 3
    for row in (closed, archived, deleted):
        assert (await desk.conversation(row.id)).version == row.version


async def test_a_paused_channel_takes_no_new_sends_and_says_so(desk: Desk) -> None:
    channel = await desk.new_channel()
    row = await desk.started(channel)
    by = nobody()
    first = await desk.writer().submit(desk.send(row.id, "queued", by=by, request_id="r"))
    await desk.execute("UPDATE channels SET state = 'paused' WHERE id = $1", channel.id)
    with pytest.raises(ChannelNotSending) as refused:
        await desk.writer().submit(desk.send(row.id))
    assert refused.value.metadata == {"state": "paused"}
    again = await desk.writer().submit(desk.send(row.id, "queued", by=by, request_id="r"))
    assert isinstance(again, Stored)
    assert isinstance(first, Stored)
    assert again.message.id == first.message.id, "a repeat is answered all the same"


async def test_a_refused_batch_leaves_the_head_alone(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    head = await desk.head()
    writer = desk.writer()
    results = await all_of(*(writer.submit(desk.send(new_id())) for _ in range(5)))
    assert {type(result) for result in results} == {NotFound}
    assert await desk.head() == head
    assert (await desk.conversation(row.id)).version == row.version


async def test_an_answer_after_another_wrote_is_refused(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    ana, ben = agent(await desk.new_agent()), agent(await desk.new_agent())
    writer = desk.writer()
    seen = row.last_message_id
    mine = await writer.submit(desk.send(row.id, by=ana, last_seen_message_id=seen))
    assert isinstance(mine, Stored)
    await writer.submit(desk.send(row.id, "again", by=ana, last_seen_message_id=seen))
    with pytest.raises(ReplyOutdated):
        await writer.submit(desk.send(row.id, by=ben, last_seen_message_id=seen))
    await writer.submit(
        desk.send(row.id, by=ben, last_seen_message_id=(await desk.conversation(row.id)).last_message_id)
    )
    late = await writer.submit(desk.receive(channel, sender, at=1_790_000_000))
    with pytest.raises(ReplyOutdated) as refused:
        await writer.submit(desk.send(row.id, by=ben, last_seen_message_id=mine.message.id))
    # The late message stands above the answers, and has arrived after them all the same.
    assert isinstance(late, Stored)
    assert refused.value.metadata == {"message_id": str(late.message.id)}
    await writer.submit(desk.send(row.id, by=ben, last_seen_message_id=late.message.id))


@pytest.mark.parametrize("policy", ["accept", "warn"])
async def test_a_tenant_may_have_answers_to_what_was_not_seen_sent(own_desk: Desk, policy: str) -> None:
    desk = own_desk
    await desk.execute("UPDATE tenant_settings SET reply_fence_policy = $1", policy)
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    writer = desk.writer()
    late = await writer.submit(desk.receive(channel, sender, "wait"))
    assert isinstance(late, Stored)
    first, second, seen_all = await asyncio.gather(
        writer.submit(desk.send(row.id, last_seen_message_id=row.last_message_id)),
        writer.submit(desk.send(row.id, last_seen_message_id=late.message.id)),
        writer.submit(desk.send(row.id)),
    )
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert isinstance(seen_all, Stored)
    told = [first.unseen_message_id, second.unseen_message_id, seen_all.unseen_message_id]
    assert told == ([late.message.id, first.message.id, None] if policy == "warn" else [None] * 3)
    assert (await desk.conversation(row.id)).message_count == 5
    await desk.check()


async def test_a_request_id_gives_one_message_in_one_batch_over_two_writers_and_later(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    by, one, two = nobody(), desk.writer(), desk.writer(desk.beside)
    same = {"by": by, "request_id": "r-1"}
    results = await asyncio.gather(
        *((one, two)[index % 2].submit(desk.send(row.id, "once", **same)) for index in range(10))
    )
    results.append(await one.submit(desk.send(row.id, "once", **same)))
    assert len({result.message.id for result in results if isinstance(result, Stored)}) == 1
    assert sum(not result.duplicate for result in results if isinstance(result, Stored)) == 1
    with pytest.raises(RequestIdReused):
        await one.submit(desk.send(row.id, "something else", **same))
    other = await one.submit(desk.send(row.id, "once", by=nobody(), request_id="r-1"))
    assert isinstance(other, Stored)
    assert not other.duplicate, "request ids are each principal's own"
    assert (await desk.conversation(row.id)).message_count == 3


async def test_answers_of_one_batch_keep_their_order(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    writer = desk.writer()
    await asyncio.gather(*(writer.submit(desk.send(row.id, f"{index:03}")) for index in range(200)))
    for order in ("sequence", "arrival"):
        found = await desk.rows(
            f"SELECT text FROM messages WHERE conversation_id = $1 AND direction = 'outbound' ORDER BY {order}", row.id
        )
        assert [item["text"] for item in found] == [f"{index:03}" for index in range(200)]
    await desk.check_counters()


async def test_a_reply_reopens_a_resolved_conversation_unless_another_is_live(desk: Desk) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    old = await desk.started(channel, sender)
    await desk.move(old.id, "resolved")
    await desk.writer().submit(desk.send(old.id))
    assert (await desk.conversation(old.id)).status == "open"
    await desk.move(old.id, "resolved")
    live = await desk.started(channel, sender)
    with pytest.raises(ConversationSuperseded) as refused:
        await desk.writer().submit(desk.send(old.id))
    assert refused.value.metadata == {"conversation_id": str(live.id)}
    with pytest.raises(ConversationSuperseded):
        await desk.move(old.id, "open")


@pytest.mark.parametrize("first", ["reply", "message"])
async def test_a_reply_to_a_resolved_conversation_meets_a_new_message_in_one_batch(desk: Desk, first: str) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    old = await desk.started(channel, sender)
    await desk.move(old.id, "resolved")
    writer = desk.writer()
    items = [desk.send(old.id), desk.receive(channel, sender)]
    results = await asyncio.wait_for(
        all_of(*(writer.submit(item) for item in (items if first == "reply" else items[::-1]))), 5
    )
    assert all(isinstance(result, Stored | ConversationSuperseded) for result in results), results
    assert (
        await desk.value(
            "SELECT count(*) FROM conversations WHERE identity_id = $1 AND status <> 'resolved'", old.identity_id
        )
        == 1
    )
    await desk.check_counters()


async def test_replies_to_two_resolved_conversations_of_one_customer_leave_one_live(desk: Desk) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    rows = []
    for _ in range(3):
        rows.append(await desk.started(channel, sender))
        await desk.move(rows[-1].id, "resolved")
    writer = desk.writer()
    # The newest is also where a message would go that comes in the same batch, if the channel reopened.
    items = [desk.send(rows[0].id), desk.send(rows[1].id), desk.send(rows[0].id)]
    results = await asyncio.wait_for(all_of(*(writer.submit(item) for item in items)), 30)
    assert [type(result) for result in results] == [Stored, ConversationSuperseded, Stored]


async def test_a_message_goes_where_a_reply_of_the_same_batch_brought_the_thread_back(desk: Desk) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    older, newer = await desk.started(channel, sender), None
    await desk.move(older.id, "resolved")
    newer = await desk.started(channel, sender)
    await desk.move(newer.id, "resolved")
    await desk.execute("UPDATE channels SET new_thread_each_time = false WHERE id = $1", channel.id)
    reopening = await desk.value("SELECT reopen_window FROM channels WHERE id = $1", channel.id)
    assert reopening > timedelta(0)
    item = replace(desk.receive(channel, sender), channel=replace(channel, new_thread_each_time=False))
    writer = desk.writer()
    results = await asyncio.wait_for(all_of(writer.submit(desk.send(older.id)), writer.submit(item)), 30)
    assert [type(result) for result in results] == [Stored, Stored], results
    assert results[1].message.conversation_id == older.id


async def test_the_reply_window_opens_by_the_providers_time_and_is_never_shortened(desk: Desk) -> None:
    channel, sender, now = await desk.new_channel(), phone(), int(utc_now().timestamp())
    writer = desk.writer()
    expiries = []
    for at in (now - 90_000, now - 3600, now - 7200, now - 10):
        stored = await writer.submit(desk.receive(channel, sender, at=at))
        row = await desk.conversation(stored.message.conversation_id)  # type: ignore[union-attr]
        assert row.reply_window_expire_time is not None
        expiries.append(int(row.reply_window_expire_time.timestamp()) - now)
    assert expiries[0] <= 1, "a message of the day before yesterday opens nothing"
    assert expiries[1:] == [86_400 - 60 - 3600, 86_400 - 60 - 3600, 86_400 - 60 - 10]


async def test_a_message_sent_later_by_nobody_who_can_see_it_looks_like_an_unknown_conversation(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    refusals: list[Refusal] = []
    for conversation_id, scope in ((row.id, Scope(all=False, agent_id=new_id())), (new_id(), Scope(all=True))):
        with pytest.raises(NotFound) as refused:
            await desk.writer().submit(desk.send(conversation_id, scope=scope))
        refusals.append(refused.value)
    assert [(item.message, item.metadata) for item in refusals[:1]] == [
        (item.message, item.metadata) for item in refusals[1:]
    ]


async def test_a_send_whose_trace_cannot_be_stored_is_sent_without_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await desk.started(await desk.new_channel())
    monkeypatch.setattr(tracing, "on", lambda: True)
    # Postgres refuses the character, and with it the statement.
    traced = replace(desk.send(row.id, "hello"), traceparent="\x00")
    assert isinstance(await asyncio.wait_for(desk.writer().submit(traced), 30), Stored)
