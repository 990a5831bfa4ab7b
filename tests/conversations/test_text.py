"""The words of conversations follow whatever is written, changed, deleted and purged, and the filter finds by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

import pytest
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as rpc

from server.contacts import service as contacts
from server.conversations import counts, events, listing, notes, service
from server.conversations.row import ConversationRow
from server.conversations.text import follow
from server.conversations.timers import HANDLERS
from server.kit.ids import new_id
from server.messages import inbound
from server.messages.items import Receive, Stored
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone

# What the tables say, of every conversation that has rows or words.
TEXTS = """
SELECT conversation_id, string_agg(text, ' ') AS text FROM (
    SELECT conversation_id, text FROM messages UNION ALL SELECT conversation_id, text FROM conversation_notes
    UNION ALL SELECT c.id, ct.name FROM conversations c JOIN contacts ct ON ct.id = c.contact_id
) t GROUP BY conversation_id
"""
KEPT = "SELECT conversation_id, array_agg(word) AS words FROM conversation_words GROUP BY conversation_id"


async def caught_up(desk: Desk, *, limit: int = 3) -> None:
    while await desk.database.write(lambda write: follow.follow(write, limit=limit)):
        pass


async def check_words(desk: Desk) -> None:
    """The texts of these tests are plain lower-case words, so that cutting them is no matter."""
    await caught_up(desk)
    wanted = {row["conversation_id"]: set(row["text"].split()) for row in await desk.rows(TEXTS)}
    assert {row["conversation_id"]: set(row["words"]) for row in await desk.rows(KEPT)} == wanted


async def find(desk: Desk, text: str, **more: Any) -> set[Any]:
    wanted = filters.ConversationFilter(text=text, **more)
    query = listing.Query(wanted, listing.ORDERS[rpc.CONVERSATION_ORDER_LAST_MESSAGE], None, 50)
    async with desk.database.connection() as connection:
        page = await listing.page(connection, ALL, query)
        counted, _ = await counts.count(connection, ALL, wanted)
    assert counted.count == len(page.rows)
    return {row.id for row in page.rows}


@dataclasses.dataclass
class Story:
    """Two conversations of one contact's number with two channels, and what happens to the first."""

    desk: Desk
    row: ConversationRow
    heard: Receive

    @classmethod
    async def begin(cls, desk: Desk, *, name: str = "cara") -> Story:
        sender = phone()
        for _ in range(2):
            channel = await desk.new_channel()
            heard = desk.receive(channel, sender, "where is my parcel", name=name)
            stored = await desk.writer().submit(heard)
            assert isinstance(stored, Stored)
        return cls(desk, await desk.conversation(stored.message.conversation_id), heard)

    async def answered(self) -> None:
        await self.desk.writer().submit(self.desk.send(self.row.id, "it left the parcel shop today"))

    async def read_anew(self) -> None:
        """A later parser reads the customer's message better."""
        message_id = await self.desk.value(
            "SELECT id FROM messages WHERE conversation_id = $1 AND direction = 'inbound'", self.row.id
        )
        read = dataclasses.replace(self.heard.inbound, text="where is our box")
        await self.desk.do(lambda write: _events(inbound.reread(write, self.row.id, message_id, read, origin=nobody())))

    async def noted(self) -> None:
        """One note that is changed, and one that is deleted."""
        desk, by, ids = self.desk, agent(await self.desk.new_agent()), (new_id(), new_id())
        for note_id, text in zip(ids, ("angry about shipping", "call back"), strict=True):
            added = partial(notes.add, scope=ALL, conversation_id=self.row.id, origin=by, note_id=note_id, text=text)
            await desk.do(partial(added, pinned=False))
        await check_words(desk)
        one = {"scope": ALL, "conversation_id": self.row.id, "origin": by}
        await desk.do(partial(notes.update, **one, note_id=ids[0], text="calm again", pinned=None))
        await check_words(desk)
        await desk.do(partial(notes.delete, **one, note_id=ids[1]))

    async def noted_at_last(self) -> None:
        add = partial(notes.add, scope=ALL, conversation_id=self.row.id, origin=nobody(), note_id=new_id())
        await self.desk.do(partial(add, text="at last", pinned=True))

    async def renamed(self) -> None:
        work = partial(contacts.update, scope=ALL, contact_id=self.row.contact_id, origin=nobody(), name="dora")
        await self.desk.do(lambda write: _events(work(write.connection)))

    async def moved(self) -> None:
        """Its contact turns out to be somebody else."""
        other = await Story.begin(self.desk, name="emil")
        await check_words(self.desk)
        move = "UPDATE conversations SET contact_id = $2 WHERE id = $1"
        await self.desk.execute(move, self.row.id, other.row.contact_id)
        await self.desk.do(lambda write: _events(_result([events.updated(nobody(), self.row, "contact")])))

    async def purged(self) -> None:
        await self.desk.do(partial(service.delete, scope=ALL, conversation_id=self.row.id, origin=nobody()))
        await self.desk.execute("UPDATE timers SET due_time = now() WHERE key = $1", self.row.id)
        past = "UPDATE conversations SET delete_time = delete_time - interval '31 days' WHERE id = $1"
        await self.desk.execute(past, self.row.id)
        await timers.run_due(self.desk.database, HANDLERS)
        assert await self.desk.value("SELECT count(*) FROM conversations WHERE id = $1", self.row.id) == 0


@dataclasses.dataclass
class Done:
    """What a unit of work returns so that its events are appended."""

    events: Any


async def _events(work: Awaitable[Any]) -> Done:
    return Done(await work)


async def _result(found: Any) -> Any:
    return found


async def lived(desk: Desk) -> None:
    story = await Story.begin(desk)
    await check_words(desk)
    for chapter in (story.answered, story.read_anew, story.noted, story.renamed, story.moved, story.purged):
        await chapter()
        await check_words(desk)


async def test_words_follow_whatever_happens(own_desk: Desk) -> None:
    await lived(own_desk)


async def test_what_happened_while_nobody_followed_is_caught_up_with(own_desk: Desk) -> None:
    story = await Story.begin(own_desk)
    for chapter in (story.answered, story.read_anew, story.renamed):
        await chapter()
    gone = await Story.begin(own_desk)
    await gone.purged()
    await caught_up(own_desk, limit=1000)
    await check_words(own_desk)


def _deaf_to(name: str) -> AbstractContextManager[Any]:
    return mock.patch.dict(follow._TELL, {name: lambda *_: None})


def _without_removal() -> AbstractContextManager[Any]:
    return mock.patch.object(follow, "REMOVE", f"SELECT FROM ({follow.REMOVE.replace('DELETE', 'SELECT')}) x")


def _of_its_own_message_only() -> AbstractContextManager[Any]:
    return mock.patch.object(follow, "TEXTS", follow.TEXTS.partition("UNION")[0])


PLANTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a changed note keeps its words": partial(_deaf_to, "note_updated"),
    "a deleted note keeps its words": partial(_deaf_to, "note_deleted"),
    "a message that is read anew keeps its words": partial(_deaf_to, "message_updated"),
    "a contact keeps its old name": partial(_deaf_to, "contact_updated"),
    "a conversation keeps the name of whom it was taken from": partial(_deaf_to, "conversation_updated"),
    "what the team writes is not heard": partial(_deaf_to, "message_created"),
    "nothing is taken away": _without_removal,
    "reading anew forgets notes and names": _of_its_own_message_only,
}


@pytest.mark.faults
@pytest.mark.parametrize("bug", PLANTED)
async def test_a_planted_bug_is_found(own_desk: Desk, bug: str) -> None:
    with PLANTED[bug](), pytest.raises(AssertionError):
        await lived(own_desk)


async def test_conversations_are_purged_with_their_words_at_once(own_desk: Desk) -> None:
    story = await Story.begin(own_desk)
    await caught_up(own_desk)
    await story.purged()
    kept = "SELECT count(*) FROM conversation_words WHERE conversation_id = $1"
    assert await own_desk.value(kept, story.row.id) == 0
    # A follower that had read the event before writes once more; the log then tells it of the end.
    await own_desk.execute("INSERT INTO conversation_words VALUES ($1, 'late')", story.row.id)
    await caught_up(own_desk)
    assert await own_desk.value(kept, story.row.id) == 0


@pytest.mark.parametrize("given_up", [False, True])
async def test_what_the_log_no_longer_tells_is_read_from_the_tables(
    own_desk: Desk, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    desk = own_desk
    monkeypatch.setattr(follow, "READ_AT_ONCE", 2)
    if given_up:
        await caught_up(desk)
        await desk.execute("UPDATE consumers SET broken_time = now() WHERE name = 'text'")
    for _ in range(3):
        await (await Story.begin(desk)).noted_at_last()
    await desk.execute("UPDATE stream_head SET floor = head + 1")
    await desk.execute("DELETE FROM stream_event WHERE seq < (SELECT floor FROM stream_head)")
    await desk.writer().submit(desk.receive(await desk.new_channel(), phone(), "afterwards", name="ben"))
    async with desk.database.connection() as connection:
        assert await follow.behind(connection)
    await check_words(desk)
    async with desk.database.connection() as connection:
        assert not await follow.behind(connection)


async def test_every_word_must_begin_a_word_of_the_conversation(own_desk: Desk) -> None:
    desk, ids = own_desk, {}
    for text, name in (("Große Straße 12", "Ana"), ("我想退货", "陈"), ("große Eile, Где заказ?", "Ahmed Straßer")):
        stored = await desk.writer().submit(desk.receive(await desk.new_channel(), phone(), text, name=name))
        assert isinstance(stored, Stored)
        ids[name] = stored.message.conversation_id
    await caught_up(desk)
    ana, chen, ahmed = ids.values()
    assert await find(desk, "GROSSE") == {ana, ahmed}
    assert await find(desk, "strasse gross") == {ana, ahmed}
    assert await find(desk, "große straße 12") == {ana}
    assert await find(desk, "strasse", **{"not": {"text": "eile"}}) == {ana}
    assert await find(desk, "ahm зак") == {ahmed}
    assert await find(desk, "退货") == await find(desk, "货") == await find(desk, "想退货") == {chen}
    assert await find(desk, "货退") == await find(desk, "rosse") == set()
    either = {"or": [{"text": "陈"}, {"text": "ana"}]}
    assert await find(desk, "", **either) == {ana, chen}
