"""The vocabulary: its words are unique whatever their case, and conversations follow what becomes of them."""

import uuid

import pytest
from switchboard.v1 import options_pb2

from server.conversations import tag_sweep, tags, vocabulary
from server.conversations.service import Changed
from server.conversations.vocabulary import Tagged
from server.kit.errors import AlreadyExists, NotFound
from server.kit.ids import new_id
from server.rpc.auth import PermissionMissing, require
from server.rpc.call import Caller, CallerKind
from server.timers.service import run_due
from tests.desk import ALL, Desk, nobody


async def add(desk: Desk, conversation_id: uuid.UUID, *names: str) -> Changed:
    return await desk.do(lambda write: tags.add(write, ALL, conversation_id, origin=nobody(), names=names))


async def create(desk: Desk, name: str) -> uuid.UUID:
    tag_id = new_id()
    await desk.do(
        lambda write: vocabulary.create(
            write, origin=nobody(), tag_id=tag_id, name=name, color="#AABBCC", description=""
        )
    )
    return tag_id


async def rename(desk: Desk, tag_id: uuid.UUID, name: str) -> Tagged:
    return await desk.do(
        lambda write: vocabulary.update(write, tag_id, origin=nobody(), name=name, color=None, description=None)
    )


async def sweep(desk: Desk) -> int:
    """Lets the timers of tags fire until none is left; how many transactions that took."""
    rounds = 0
    while (await run_due(desk.database, tag_sweep.HANDLERS)).fired:
        rounds += 1
    return rounds


async def test_names_that_differ_in_case_alone_are_one_tag(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await create(desk, "Überfällig")
    with pytest.raises(AlreadyExists):
        await create(desk, "ÜBERFÄLLIG")
    assert (await add(desk, row.id, "überfällig", "new", "NEW")).row.tags in (
        ["NEW", "Überfällig"],
        ["new", "Überfällig"],
    )
    assert not (await add(desk, row.id, "ÜberfälliG")).events
    gone = await desk.do(lambda write: tags.remove(write, ALL, row.id, origin=nobody(), names=["ÜBERFÄLLIG", "New"]))
    assert gone.row.tags == []
    assert await desk.value("SELECT count(*) FROM conversation_tags WHERE conversation_id = $1", row.id) == 0


async def test_a_first_use_creates_a_tag_if_the_caller_may(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await create(desk, "known")
    caller = Caller(CallerKind.AGENT, new_id(), frozenset({options_pb2.PERMISSION_CONVERSATIONS_WRITE}))

    def refuse() -> None:
        require(caller, options_pb2.PERMISSION_TAGS_MANAGE)

    async def by_agent(*names: str) -> Changed:
        return await desk.do(lambda write: tags.add(write, ALL, row.id, origin=nobody(), names=names, create=refuse))

    assert (await by_agent("Known")).row.tags == ["known"]
    with pytest.raises(PermissionMissing):
        await by_agent("known", "unheard of")
    assert await desk.value("SELECT count(*) FROM tags WHERE name = 'unheard of'") == 0
    head = (await desk.head())[1]
    await add(desk, row.id, "unheard of")
    assert await desk.kinds(after=head) == ["tag_created", "conversation_updated"]


async def test_conversations_follow_a_new_name_and_a_deletion_so_many_at_a_time(
    own_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = own_desk
    monkeypatch.setattr(tag_sweep, "BATCH", 3)
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(8)]
    tag_id = await create(desk, "late")
    for index, row in enumerate(rows):
        await add(desk, row.id, *(["late", "other"] if index % 2 else ["late"]))
    head = (await desk.head())[1]
    await rename(desk, tag_id, "overdue")
    await add(desk, rows[0].id, "overdue")
    assert await sweep(desk) == 3
    assert [(await desk.conversation(row.id)).tags for row in rows] == [["overdue"], ["other", "overdue"]] * 4
    assert (await desk.kinds(after=head)).count("conversation_updated") == 8
    await desk.do(lambda write: vocabulary.delete(write, tag_id, origin=nobody()))
    with pytest.raises(NotFound):
        await rename(desk, tag_id, "too late")
    again = await create(desk, "overdue")
    await add(desk, rows[2].id, "overdue")
    await sweep(desk)
    tagged = [(await desk.conversation(row.id)).tags for row in rows]
    assert tagged == [[], ["other"], ["overdue"], ["other"], [], ["other"], [], ["other"]]
    assert await desk.value("SELECT count(*) FROM tags WHERE id = $1", tag_id) == 0
    assert await desk.value("SELECT count(*) FROM conversation_tags WHERE tag_id = $1", again) == 1
    await desk.check()


async def test_a_name_that_is_taken_back_during_the_sweep_is_what_all_have(
    own_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = own_desk
    monkeypatch.setattr(tag_sweep, "BATCH", 2)
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(5)]
    tag_id = await create(desk, "one")
    for row in rows:
        await add(desk, row.id, "one")
    await rename(desk, tag_id, "two")
    await run_due(desk.database, tag_sweep.HANDLERS)
    await rename(desk, tag_id, "one")
    await sweep(desk)
    assert [(await desk.conversation(row.id)).tags for row in rows] == [["one"]] * 5
    await desk.check()
