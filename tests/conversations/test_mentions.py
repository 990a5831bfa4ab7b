"""Who is mentioned in a note is told once, whatever way the mention reaches them, and again only when an edit is the first to."""

import uuid

import pytest
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import event_pb2

from server.conversations import notes
from server.conversations.notes import Mentions, Noted
from server.inbox.match import HIDDEN, Matcher, Selection
from server.kit.errors import InvalidFields
from server.kit.ids import new_id
from server.log.read import read_page
from server.rpc.call import Scope
from tests.desk import ALL, Desk, agent


async def team_of(desk: Desk, *members: uuid.UUID) -> uuid.UUID:
    team_id = new_id()
    await desk.execute("INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team_id, str(team_id))
    for member in members:
        await desk.execute("INSERT INTO team_members (team_id, agent_id) VALUES ($1, $2)", team_id, member)
    return team_id


def told(noted: Noted) -> list[str]:
    bodies = [event.body for event in noted.events if event.body.WhichOneof("body") == "agent_mentioned"]
    return sorted(body.agent_mentioned.agent_id for body in bodies)


async def test_each_agent_is_told_once_and_not_the_author(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana, ben, eva = [await desk.new_agent() for _ in range(3)]
    gone = await desk.new_agent()
    await desk.execute("UPDATE agents SET state = 'disabled' WHERE id = $1", gone)
    both, late = await team_of(desk, ana, ben, gone), await team_of(desk, ana, eva)
    note_id = new_id()

    async def edit(text: str | None, *agents: uuid.UUID, teams: tuple[uuid.UUID, ...]) -> Noted:
        return await desk.do(
            lambda write: notes.update(
                write,
                ALL,
                row.id,
                note_id,
                origin=agent(ana),
                text=text,
                pinned=None,
                mentions=Mentions(agents, teams),
            )
        )

    added = await desk.do(
        lambda write: notes.add(
            write,
            ALL,
            row.id,
            origin=agent(ana),
            note_id=note_id,
            text="look",
            pinned=False,
            mentions=Mentions([ben, ana], [both]),
        )
    )
    assert told(added) == [str(ben)]
    assert told(await edit("look again", ben, teams=(both,))) == []
    await desk.execute("INSERT INTO team_members (team_id, agent_id) VALUES ($1, $2)", both, eva)
    assert told(await edit(None, teams=(both,))) == [], "who joins a team later was not mentioned"
    assert told(await edit(None, ben, teams=(both, late))) == [str(eva)]
    assert told(await edit(None, teams=())) == []
    assert told(await edit(None, ben, eva, teams=(late,))) == []
    with pytest.raises(InvalidFields) as refused:
        await edit(None, ben, gone, teams=(new_id(),))
    assert [violation.field for violation in refused.value.violations] == ["mentions.agent_ids[1]"]


async def test_only_who_is_mentioned_and_may_see_it_is_shown_it(desk: Desk) -> None:
    row = await desk.started(channel := await desk.new_channel())
    ana, ben = await desk.new_agent(), await desk.new_agent()
    head = (await desk.head())[1]
    await desk.do(
        lambda write: notes.add(
            write, ALL, row.id, origin=agent(ana), note_id=new_id(), text="x", pinned=False, mentions=Mentions([ben])
        )
    )
    async with desk.database.connection() as connection:
        (event,) = [
            event
            for event in (await read_page(connection, after=head)).events
            if event.kind == event_pb2.EVENT_TYPE_AGENT_MENTIONED
        ]
    member, elsewhere = frozenset({channel.id}), frozenset({new_id()})
    shown = {
        "mentioned": Scope(all=False, agent_id=ben, channel_ids=member),
        "mentioned owner": Scope(all=True, agent_id=ben),
        "service": Scope(all=True),
    }
    hidden = {
        "colleague": Scope(all=False, agent_id=ana, channel_ids=member),
        "owner": Scope(all=True, agent_id=ana),
        "mentioned, without rights": Scope(all=False, agent_id=ben, channel_ids=elsewhere),
    }
    for name, scope in {**shown, **hidden}.items():
        selection = Selection(filters.ConversationFilter(), (), agent_id=scope.agent_id, providers={})
        assert (Matcher(selection, scope).transition(event) != HIDDEN) is (name in shown), name
