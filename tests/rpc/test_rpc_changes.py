"""Every change takes as many statements where there is much as where there is little: none for each thing that follows."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import contact_merge_service_pb2 as merges
from switchboard.v1 import contact_service_pb2 as contacts
from switchboard.v1 import conversation_pb2, note_pb2
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import erasure_service_pb2 as erasures
from switchboard.v1 import tag_service_pb2 as tags

from server.assignments import service as giving
from server.channels.service import ChannelRow
from server.conversations import notes
from server.conversations import tags as tagging
from server.conversations.row import ConversationRow
from server.kit.ids import new_id
from server.messages.items import Stored
from tests.desk import ALL, Desk, nobody, phone
from tests.installation import Installed
from tests.rpc.office import Office, opened

MUCH, MOST = 4, 20
FILES = (agents, assignments, merges, contacts, conversations, erasures, tags)
ONE_ROW = "one row of its own, and nothing that could follow"
LEFT_OUT = {
    **dict.fromkeys(
        (
            *(
                "AgentService.CreateAgent",
                "AgentService.CreateTeam",
                "AgentService.CreateRole",
                "AgentService.UpdateRole",
            ),
            *("AgentService.AddTeamMember", "AgentService.RemoveTeamMember", "AgentService.EnableAgent"),
            *("TagService.CreateTag", "ContactService.CreateContact", "ConversationService.CreateConversation"),
            *("ContactService.AddContactIdentity", "ContactService.RemoveContactIdentity"),
            *("ConversationService.AddConversationParticipant", "ConversationService.RemoveConversationParticipant"),
            *("ConversationService.DeleteConversationNote",),
        ),
        ONE_ROW,
    ),
    "AgentService.DeleteRole": "refused while anybody has the role",
    "ContactService.UnblockContact": "as BlockContact",
    "ContactMergeService.UnmergeContact": "as MergeContacts",
    "ConversationService.RestoreConversation": "as DeleteConversation",
}


@dataclass
class Shop:
    """A tenant in which things with little and with much are made."""

    desk: Desk
    channel: ChannelRow

    async def conversation(self, messages: int = 1) -> ConversationRow:
        """With so many unread messages of its customer."""
        row = await self.desk.started(self.channel, customer := phone())
        for _ in range(messages - 1):
            stored = await self.desk.writer().submit(self.desk.receive(self.channel, customer))
            assert isinstance(stored, Stored)
        return row

    async def noted(self, count: int) -> ConversationRow:
        """With so many notes, and as many tags."""
        row = await self.conversation()
        for number in range(count):
            text = f"note {number}"
            await self.desk.do(
                lambda write, text=text: notes.add(
                    write, ALL, row.id, origin=nobody(), note_id=new_id(), text=text, pinned=False
                )
            )
        await self.tag(row, [f"tag {number}" for number in range(count)])
        return row

    async def tag(self, row: ConversationRow, names: list[str]) -> None:
        await self.desk.do(lambda write: tagging.add(write, ALL, row.id, origin=nobody(), names=names))

    async def tagged(self, count: int) -> str:
        """The id of a tag that so many conversations have."""
        name = f"tag {new_id()}"
        for _ in range(count):
            await self.tag(await self.conversation(), [name])
        return str(await self.desk.value("SELECT id FROM tags WHERE name = $1", name))

    async def agents(self, count: int) -> list[str]:
        return [str(await self.desk.new_agent("agent")) for _ in range(count)]

    async def teams(self, count: int) -> list[str]:
        teams = [new_id() for _ in range(count)]
        for team in teams:
            await self.desk.execute(
                "INSERT INTO teams (id, name, create_time) VALUES ($1, $2, now())", team, f"Team {team}"
            )
        return [str(team) for team in teams]

    async def holding(self, count: int) -> str:
        """An agent who has so many conversations."""
        agent_id = await self.desk.new_agent("agent")
        await self.desk.execute("INSERT INTO agent_loads (agent_id) VALUES ($1) ON CONFLICT DO NOTHING", agent_id)
        for _ in range(count):
            await self.give(await self.conversation(), agent_id)
        return str(agent_id)

    async def give(self, row: ConversationRow, agent_id: uuid.UUID) -> None:
        more: dict[str, Any] = {"team_id": None, "reason": None, "expected_version": None}
        await self.desk.do(lambda write: giving.assign(write, ALL, row.id, origin=nobody(), agent_id=agent_id, **more))

    async def given(self, count: int) -> ConversationRow:
        """A conversation that so many agents had, one after the other; the last one has it."""
        row = await self.conversation()
        for _ in range(count):
            await self.give(row, uuid.UUID(await self.holding(0)))
        return row

    async def full_team(self, count: int) -> str:
        (team,) = await self.teams(1)
        for agent_id in await self.agents(count):
            await self.desk.execute("INSERT INTO team_members (team_id, agent_id) VALUES ($1, $2)", team, agent_id)
        return team

    async def regular(self, count: int) -> str:
        """A contact who has had so many conversations."""
        customer = phone()
        channel = await self.desk.new_channel(new_thread_each_time=True)
        for number in range(count):
            row = await self.desk.started(channel, customer)
            if number < count - 1:
                await self.desk.move(row.id, "resolved")
        return str(row.contact_id)


Change = Callable[[Shop, int], Awaitable[Message]]


async def _note(shop: Shop, count: int) -> Message:
    row = await shop.noted(count)
    mentions = note_pb2.Mentions(agent_ids=await shop.agents(count), team_ids=await shop.teams(count))
    return conversations.AddConversationNoteRequest(conversation_id=str(row.id), text="look", mentions=mentions)


async def _changed_note(shop: Shop, count: int) -> Message:
    row = await shop.noted(count)
    note_id = await shop.desk.value("SELECT id FROM conversation_notes WHERE conversation_id = $1 LIMIT 1", row.id)
    return conversations.UpdateConversationNoteRequest(
        conversation_id=str(row.id),
        note_id=str(note_id),
        text="look again",
        mentions=note_pb2.Mentions(agent_ids=await shop.agents(count)),
    )


async def _remove_tags(shop: Shop, count: int) -> Message:
    row = await shop.noted(count)
    names = [f"tag {number}" for number in range(count)]
    return conversations.RemoveConversationTagsRequest(conversation_id=str(row.id), tags=names)


async def _memberships(shop: Shop, count: int) -> Message:
    channel_ids = [str((await shop.desk.new_channel()).id) for _ in range(count)]
    (agent_id,) = await shop.agents(1)
    return agents.SetAgentMembershipsRequest(
        agent_id=agent_id, team_ids=await shop.teams(count), channel_ids=channel_ids
    )


CHANGES: dict[str, Change] = {
    "AgentService.SetAgentMemberships": _memberships,
    "AgentService.UpdateAgent": lambda shop, count: _of(
        shop.holding(count), lambda some: agents.UpdateAgentRequest(agent_id=some, name="Renamed")
    ),
    "AgentService.DisableAgent": lambda shop, count: _of(
        shop.holding(count), lambda some: agents.DisableAgentRequest(agent_id=some)
    ),
    "AgentService.UpdateTeam": lambda shop, count: _of(
        shop.full_team(count), lambda some: agents.UpdateTeamRequest(team_id=some, name=f"Renamed {some}")
    ),
    "AgentService.DeleteTeam": lambda shop, count: _of(
        shop.full_team(count), lambda some: agents.DeleteTeamRequest(team_id=some)
    ),
    "AssignmentService.AssignConversation": lambda shop, count: _both(
        shop.given(count),
        shop.holding(count),
        lambda row, some: assignments.AssignConversationRequest(conversation_id=str(row.id), agent_id=some),
    ),
    "AssignmentService.UnassignConversation": lambda shop, count: _of(
        shop.given(count), lambda row: assignments.UnassignConversationRequest(conversation_id=str(row.id))
    ),
    "ContactMergeService.MergeContacts": lambda shop, count: _both(
        shop.regular(count),
        shop.regular(count),
        lambda some, other: merges.MergeContactsRequest(contact_id=some, merged_contact_id=other),
    ),
    "ErasureService.EraseContact": lambda shop, count: _of(
        shop.regular(count), lambda some: erasures.EraseContactRequest(contact_id=some)
    ),
    "ContactService.UpdateContact": lambda shop, count: _of(
        shop.regular(count), lambda some: contacts.UpdateContactRequest(contact_id=some, name="Renamed")
    ),
    "ContactService.BlockContact": lambda shop, count: _of(
        shop.regular(count), lambda some: contacts.BlockContactRequest(contact_id=some)
    ),
    "ConversationService.UpdateConversation": lambda shop, count: _of(
        shop.noted(count),
        lambda row: conversations.UpdateConversationRequest(conversation_id=str(row.id), subject="a subject"),
    ),
    "ConversationService.DeleteConversation": lambda shop, count: _of(
        shop.noted(count), lambda row: conversations.DeleteConversationRequest(conversation_id=str(row.id))
    ),
    "ConversationService.UpdateConversationStatus": lambda shop, count: _of(
        shop.noted(count),
        lambda row: conversations.UpdateConversationStatusRequest(
            conversation_id=str(row.id), status=conversation_pb2.CONVERSATION_STATUS_RESOLVED
        ),
    ),
    "ConversationService.MarkConversationRead": lambda shop, count: _of(
        shop.conversation(count), lambda row: conversations.MarkConversationReadRequest(conversation_id=str(row.id))
    ),
    "ConversationService.AddConversationNote": _note,
    "ConversationService.UpdateConversationNote": _changed_note,
    "ConversationService.AddConversationTags": lambda shop, count: _of(
        shop.noted(count),
        lambda row: conversations.AddConversationTagsRequest(
            conversation_id=str(row.id), tags=[f"{row.id} {number}" for number in range(count)]
        ),
    ),
    "ConversationService.RemoveConversationTags": _remove_tags,
    "TagService.UpdateTag": lambda shop, count: _of(
        shop.tagged(count), lambda some: tags.UpdateTagRequest(tag_id=some, name=f"Renamed {some}")
    ),
    "TagService.DeleteTag": lambda shop, count: _of(
        shop.tagged(count), lambda some: tags.DeleteTagRequest(tag_id=some)
    ),
}


async def _of(making: Awaitable[Any], request: Callable[[Any], Message]) -> Message:
    return request(await making)


async def _both(one: Awaitable[Any], other: Awaitable[Any], request: Callable[[Any, Any], Message]) -> Message:
    return request(await one, await other)


METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().idempotency_level != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
}


@pytest.fixture(scope="module")
async def office(desk: Desk, desks: Installed) -> AsyncIterator[Office]:
    async with opened(desk, desks) as made:
        yield made


@pytest.fixture(scope="module")
async def shop(desk: Desk) -> Shop:
    return Shop(desk, await desk.new_channel())


def test_every_change_is_counted_or_says_why_not() -> None:
    assert set(METHODS) == {*CHANGES, *LEFT_OUT}


@pytest.mark.parametrize("name", CHANGES)
async def test_much_is_changed_by_as_many_statements_as_little(office: Office, shop: Shop, name: str) -> None:
    counts = []
    # The first time a connection learns types.
    for count in (1, 1, MUCH):
        _, statements = await office.call(METHODS[name], await CHANGES[name](shop, count))
        counts.append(len(statements))
    assert counts[2] <= counts[1], statements
    assert 0 < counts[1] <= MOST, statements
