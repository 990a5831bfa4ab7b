"""Reactions of the tenant and typing indicators: the rows they leave, what Meta is asked, and what is refused before that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sending import Line, line

from server.conversations.rules import ReplyWindowClosed
from server.deliveries import marks
from server.kit.errors import InvalidFields, Refusal
from server.messages import signalling
from server.messages.items import Stored
from server.messages.marking import Marker
from server.providers.contract import Accepted
from tests.desk import ALL, Desk, nobody
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

UNDELIVERABLE = {"code": 131026, "title": "Message undeliverable"}


@dataclasses.dataclass
class Chat:
    """A customer who wrote, and a channel to the simulator."""

    made: Line
    message_id: Any

    async def react(self, emoji: str, message_id: Any = None) -> Any:
        return await self.made.desk.do(
            lambda write: signalling.react(
                write, ALL, message_id or self.message_id, emoji, origin=nobody(), providers=self.made.providers
            )
        )

    async def typing(self) -> Any:
        return await self.made.desk.do(
            lambda write: signalling.typing(write, ALL, self.made.conversation_id, providers=self.made.providers)
        )

    @property
    def channel_id(self) -> Any:
        return self.made.channel.id

    async def claimed(self) -> list[marks.Mark]:
        async with self.made.desk.database.connection() as connection:
            return await marks.claim(connection, limit=8)

    async def told(self) -> list[Any]:
        """Tells the provider what waits; what it was asked for in all."""
        desk = self.made.desk
        for mark in await self.claimed():
            await Marker(desk.database, desk.tenant.secrets, self.made.providers).tell(mark)
        return [request["body"] for request in await self.made.requests()]

    async def reactions(self) -> list[tuple[str, str]]:
        details = await self.made.desk.value("SELECT details FROM messages WHERE id = $1", self.message_id)
        held = [] if details is None else json.loads(details).get("reactions", [])
        return [(each["by"], each["emoji"]) for each in held if each["emoji"] is not None]

    async def waiting(self) -> list[str]:
        query = "SELECT kind FROM marks WHERE conversation_id = $1 AND due_time <= clock_now() ORDER BY kind"
        return [row["kind"] for row in await self.made.desk.rows(query, self.made.conversation_id)]


class Failing:
    """Receipts of reactions that Meta took."""

    def __init__(self, installed: Installed) -> None:
        self._installed = installed

    async def wamid(self, chat: Chat) -> Any:
        query = "SELECT provider_message_id FROM sent_reactions WHERE message_id = $1"
        return await chat.made.desk.value(query, chat.message_id)

    async def receipts(self, chat: Chat, *words: str, wamid: str | None = None) -> None:
        """Of the last reaction, each in a webhook of its own."""
        desk, made = chat.made.desk, chat.made
        inlet = Inlet(self._installed, desk, made.channel, Inlet.applier_of(self._installed, desk.providers))
        about = wamid or await self.wamid(chat)
        assert about is not None
        for word in words:
            await inlet.taken(inlet.receipts((about, word), errors=[UNDELIVERABLE] if word == "failed" else ()))


@pytest.fixture
def failing(desks: Installed) -> Failing:
    return Failing(desks)


@pytest.fixture
async def chat(desk: Desk) -> AsyncIterator[Chat]:
    await desk.execute("DELETE FROM marks")
    async with line(desk) as made:
        body = {"from": made.recipient, "phoneNumberId": desk.numbers[made.channel.id].phone_number_id, "text": "hello"}
        async with made.http.post(f"{made.url}/_control/inbound", json=body) as response:
            (wamid,) = (await response.json())["wamids"]
        stored = await desk.writer().submit(desk.receive(made.channel, made.recipient, wamid=wamid))
        assert isinstance(stored, Stored)
        yield Chat(made, stored.message.id)


async def test_a_reaction_is_seen_at_once_and_told_once(chat: Chat) -> None:
    before = await chat.made.desk.value("SELECT version FROM conversations WHERE id = $1", chat.made.conversation_id)
    message = await chat.react("👍")
    assert await chat.reactions() == [("business", "👍")]
    assert json.loads(message.details)["reactions"][0]["author"]["kind"] > 0
    after = await chat.made.desk.value("SELECT version FROM conversations WHERE id = $1", chat.made.conversation_id)
    assert after == before + 1
    await chat.react("👍")
    assert (
        await chat.made.desk.value("SELECT version FROM conversations WHERE id = $1", chat.made.conversation_id)
        == after
    ), "it was there"
    (asked,) = await chat.told()
    wamid = await chat.made.desk.value(
        "SELECT provider_message_id FROM message_parts WHERE message_id = $1", message.id
    )
    assert asked == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+{chat.made.recipient}",
        "type": "reaction",
        "reaction": {"message_id": wamid, "emoji": "👍"},
    }
    assert await chat.waiting() == []


async def test_another_reaction_takes_its_place_and_an_empty_one_takes_it_away(chat: Chat) -> None:
    await chat.react("👍")
    await chat.react("🎉")
    assert await chat.reactions() == [("business", "🎉")]
    assert [body["reaction"]["emoji"] for body in await chat.told()] == ["🎉"], "the first was told to nobody"
    await chat.react("")
    assert await chat.reactions() == []
    assert [body["reaction"]["emoji"] for body in await chat.told()] == ["🎉", ""]


async def test_a_reaction_that_meta_refuses_is_taken_back(chat: Chat) -> None:
    await chat.made.arm(kind="error", code=131026, count=1)
    await chat.react("👍")
    await chat.told()
    assert (await chat.reactions(), await chat.waiting()) == ([], [])


async def test_a_reaction_that_fails_for_now_is_told_again(chat: Chat) -> None:
    await chat.made.arm(kind="error", code=131000, count=1)
    await chat.react("👍")
    await chat.told()
    assert await chat.reactions() == [("business", "👍")]
    await chat.made.desk.execute("UPDATE marks SET due_time = clock_now()")
    assert len(await chat.told()) == 2
    assert await chat.waiting() == []


async def test_a_reaction_that_fails_after_meta_took_it_is_taken_back(chat: Chat, failing: Failing) -> None:
    await chat.react("👍")
    await chat.told()
    await failing.receipts(chat, "sent")
    assert await chat.reactions() == [("business", "👍")]
    before = await chat.made.desk.value("SELECT head FROM stream_head")
    await failing.receipts(chat, "failed", "failed")
    assert await chat.reactions() == []
    assert await chat.made.desk.kinds(after=before) == ["message_updated"], "once"
    assert (
        await chat.made.desk.value("SELECT count(*) FROM parked_receipts WHERE channel_id = $1", chat.channel_id) == 0
    )
    await chat.react("👍")
    assert await chat.reactions() == [("business", "👍")]


async def test_a_reaction_that_failed_before_its_answer_was_stored_is_taken_back(chat: Chat, failing: Failing) -> None:
    await chat.react("👍")
    await failing.receipts(chat, "failed", wamid="wamid.early")
    (mark,) = await chat.claimed()
    marker = Marker(chat.made.desk.database, chat.made.desk.tenant.secrets, chat.made.providers)
    await marker.settle(mark, Accepted(provider_id="wamid.early"))
    assert (await chat.reactions(), await chat.waiting()) == ([], [])


@pytest.mark.parametrize("told", [False, True], ids=["waits", "told"])
async def test_what_failed_takes_back_no_later_reaction(chat: Chat, failing: Failing, told: bool) -> None:
    await chat.react("👍")
    await chat.told()
    first = await failing.wamid(chat)
    await chat.react("")
    await chat.react("👍")
    if told:
        await chat.told()
    await failing.receipts(chat, "failed", wamid=first)
    assert await chat.reactions() == [("business", "👍")]
    assert await chat.waiting() == ([] if told else ["reaction"])


async def test_a_reaction_that_was_told_is_forgotten_after_a_week(chat: Chat, failing: Failing) -> None:
    await chat.react("👍")
    await chat.told()
    async with chat.made.desk.database.connection() as connection:
        await marks.forget_reactions(connection, after=timedelta(days=7))
        assert await failing.wamid(chat) is not None
        await marks.forget_reactions(connection, after=timedelta(0))
    assert await failing.wamid(chat) is None


REFUSED: dict[str, tuple[str, str, type[Refusal], dict[str, str]]] = {
    "two emoji": ("SELECT 1", "👍👍", InvalidFields, {}),
    "no emoji": ("SELECT 1", "yes", InvalidFields, {}),
    "31 days": (
        "UPDATE messages SET provider_time = now() - interval '31 days' WHERE conversation_id = $1",
        *("👍", signalling.NotReactable, {"why": "age"}),
    ),
    "taken back": (
        'UPDATE messages SET details = \'{"delete_time": "2026-01-01T00:00:00+00:00"}\' WHERE conversation_id = $1',
        *("👍", signalling.NotReactable, {"why": "deleted"}),
    ),
    "not at the provider": (
        "UPDATE message_parts SET provider_message_id = NULL WHERE conversation_id = $1",
        *("👍", signalling.NotReactable, {"why": "not_sent"}),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_takes_no_reaction_is_refused_before_the_call(chat: Chat, what: str) -> None:
    statement, emoji, refusal, metadata = REFUSED[what]
    await chat.made.desk.execute(statement, *([chat.made.conversation_id] if "$1" in statement else []))
    with pytest.raises(refusal) as refused:
        await chat.react(emoji)
    assert metadata.items() <= (refused.value.metadata or {}).items()
    assert (await chat.reactions(), await chat.waiting()) == ([], [])


async def test_nothing_is_shown_outside_the_window(chat: Chat) -> None:
    await chat.made.desk.execute(
        "UPDATE conversations SET reply_window_expire_time = now() WHERE id = $1", chat.made.conversation_id
    )
    for asked in (lambda: chat.react("👍"), chat.typing):
        with pytest.raises(ReplyWindowClosed):
            await asked()


async def test_typing_is_shown_once_in_ten_seconds(chat: Chat) -> None:
    assert await chat.typing() is not None
    assert await chat.typing() is None
    (asked,) = await chat.told()
    assert (asked["status"], asked["typing_indicator"]) == ("read", {"type": "text"})
    assert await chat.typing() is None, "it is shown"
    await chat.made.desk.execute("UPDATE marks SET due_time = clock_now(), expire_time = clock_now()")
    assert len(await chat.told()) == 1, "what lasts no more is told to nobody"
    assert await chat.typing() is not None


async def test_typing_for_a_message_that_meta_does_not_know_is_let_be(chat: Chat) -> None:
    await chat.made.desk.execute(
        "UPDATE conversations SET last_inbound_provider_id = 'wamid.old' WHERE id = $1", chat.made.conversation_id
    )
    await chat.typing()
    await chat.told()
    assert await chat.waiting() == []


async def test_who_wants_no_read_receipts_shows_no_typing(own_desk: Desk) -> None:
    async with line(own_desk) as made:
        await own_desk.execute("UPDATE tenant_settings SET read_receipts = false")
        with pytest.raises(signalling.TypingNotShown) as refused:
            await Chat(made, None).typing()
    assert refused.value.metadata == {"why": "read_receipts"}
