"""Lists: walked page by page each item comes once, in the order of the whole; tokens are good for their own question only."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract_agree import refused_alike
from contract_outcome import Refused, method_of_request, methods
from contract_requests import attribute, connect, invited, meta_app, policy
from contract_transports import Transport
from contract_world import World, digits, eventually, nonce
from google.protobuf.message import Message
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import attribute_definition_service_pb2 as attributes
from switchboard.v1 import audit_service_pb2 as audit
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import availability_service_pb2 as availability
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import contact_pb2, conversation_pb2
from switchboard.v1 import contact_service_pb2 as contacts
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import delivery_service_pb2 as deliveries
from switchboard.v1 import erasure_service_pb2 as erasures
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import invite_service_pb2 as invites
from switchboard.v1 import message_service_pb2 as messages
from switchboard.v1 import tag_service_pb2 as tags
from switchboard.v1 import template_service_pb2 as templates
from switchboard.v1 import tenant_service_pb2 as tenants

PAGED = {name for name, method in methods().items() if "page_token" in method.input_type.fields_by_name}
ORDERS = [number for number in conversations.ConversationOrder.values() if number]
TAG = "paging"


class Lists:
    """At least five of everything, and how to ask for them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.conversation = self._conversations()
        for number in range(4):
            self._one_of_each(number)
        entries = self.requests()["AuditService.ListAuditEntries"]
        # A follower of the calls enters them, which may be 2 s behind.
        eventually(lambda: len(world.call(entries).entries) >= 4)

    def _conversations(self) -> str:
        """Seven, of different priorities, waiting or answered, with and without an open window; one full of history."""
        ids = [self.world.conversation().id for _ in range(5)]
        phones = (f"+4915199{number:06}" for number in (17, 18))
        ids += [
            self.world.call(
                conversations.CreateConversationRequest(channel_id=self.world.channel_id, phone_number=phone)
            ).conversation.id
            for phone in phones
        ]
        for number, conversation_id in enumerate(ids):
            self.world.call(conversations.AddConversationTagsRequest(conversation_id=conversation_id, tags=[TAG]))
            priority = conversation_pb2.ConversationPriority.values()[1 + number % 3]
            change = conversations.UpdateConversationRequest(conversation_id=conversation_id, priority=priority)
            self.world.call(change)
        self.world.send(ids[1])
        return ids[0]

    def _one_of_each(self, number: int) -> None:
        world = self.world
        world.send(self.conversation, f"Message {number}")
        note = conversations.AddConversationNoteRequest(
            conversation_id=self.conversation, text=f"Note {number}", pinned=number % 2 == 0
        )
        world.call(note)
        agent_id = world.agents["agent" if number % 2 else "owner"]
        world.call(assignments.AssignConversationRequest(conversation_id=self.conversation, agent_id=agent_id))
        world.call(agents.CreateTeamRequest(name=f"Paging {number}"))
        policy(world)
        attribute(world)
        invited(world)
        world.api_key_id()
        world.tag()
        world.template()
        world.erased()
        world.call(connect(world))
        world.call(meta_app(nonce()), token=world.platform_key)
        self._conflict()

    def _conflict(self) -> None:
        """One who is to have the number of another."""
        world = self.world
        number = f"+49151{digits(8)}"
        world.call(contacts.CreateContactRequest(name="Ana", channel_id=world.channel_id, phone_number=number))
        taken = contacts.AddContactIdentityRequest(
            contact_id=world.conversation().contact.id,
            channel_id=world.channel_id,
            kind=contact_pb2.ALIAS_KIND_WA_ID,
            value=number,
        )
        with pytest.raises(Refused):
            world.call(taken)

    def requests(self) -> dict[str, Message]:
        tagged = filters.ConversationFilter(tags=[TAG])
        return {
            "ConversationService.ListConversations": conversations.ListConversationsRequest(filter=tagged),
            "ConversationService.ListConversationNotes": conversations.ListConversationNotesRequest(
                conversation_id=self.conversation
            ),
            "MessageService.ListMessages": messages.ListMessagesRequest(conversation_id=self.conversation),
            "MessageService.ListMessageStatusUpdates": messages.ListMessageStatusUpdatesRequest(
                message_id=self.world.sent
            ),
            "AssignmentService.ListConversationAssignments": assignments.ListConversationAssignmentsRequest(
                conversation_id=self.conversation
            ),
            "AssignmentPolicyService.ListAssignmentPolicies": policies.ListAssignmentPoliciesRequest(),
            "AvailabilityService.ListAgentAvailabilities": availability.ListAgentAvailabilitiesRequest(),
            "DeliveryService.ListDeliveries": deliveries.ListDeliveriesRequest(conversation_id=self.conversation),
            "TagService.ListTags": tags.ListTagsRequest(),
            "TemplateService.ListTemplates": templates.ListTemplatesRequest(channel_id=self.world.channel_id),
            "ErasureService.ListErasures": erasures.ListErasuresRequest(),
            "ContactService.ListContacts": contacts.ListContactsRequest(),
            "ContactService.ListIdentityConflicts": contacts.ListIdentityConflictsRequest(),
            "ChannelService.ListChannels": channels.ListChannelsRequest(),
            "ChannelService.ListMetaApps": channels.ListMetaAppsRequest(),
            "AttributeDefinitionService.ListAttributeDefinitions": attributes.ListAttributeDefinitionsRequest(),
            "AgentService.ListAgents": agents.ListAgentsRequest(),
            "AgentService.ListTeams": agents.ListTeamsRequest(),
            "AgentService.ListRoles": agents.ListRolesRequest(),
            "InviteService.ListInvites": invites.ListInvitesRequest(),
            "AuditService.ListAuditEntries": audit.ListAuditEntriesRequest(
                method="switchboard.v1.ConversationService.AddConversationNote", resource_id=self.conversation
            ),
            "AuthService.ListApiKeys": auth.ListApiKeysRequest(),
            "TenantService.ListTenants": tenants.ListTenantsRequest(),
        }


@pytest.fixture(scope="module")
def lists(world: World) -> Lists:
    return Lists(world)


def credential(world: World, name: str) -> str:
    return world.platform_key if name in ("ChannelService.ListMetaApps", "TenantService.ListTenants") else world.key


def items(answer: Any) -> list[Any]:
    """The repeated field of a list's answer."""
    (field,) = [field for field in answer.DESCRIPTOR.fields if field.is_repeated]
    return list(getattr(answer, field.name))


def pages(world: World, request: Any, token: str, size: int) -> Iterator[list[Any]]:
    request = type(request).FromString(request.SerializeToString())
    request.page_size, request.page_token = size, ""
    while True:
        answer = world.call(request, token=token)
        yield items(answer)
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def walk(world: World, request: Any, token: str, size: int, most: int = 40) -> list[Any]:
    """The items of at most so many pages."""
    found: list[Any] = []
    for number, page in enumerate(pages(world, request, token, size)):
        assert len(page) <= size
        found += page
        if number + 1 == most:
            break
    return found


def key_of(item: Any) -> str:
    """Which one of a list it is: what says something of an agent has no id of its own."""
    return str(item.id if "id" in item.DESCRIPTOR.fields_by_name else item.agent_id)


def test_every_list_of_the_contract_is_walked(lists: Lists) -> None:
    assert set(lists.requests()) == PAGED


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(PAGED))
def test_a_walk_shows_every_item_once_in_the_order_of_the_whole(
    world: World, lists: Lists, name: str, size: int
) -> None:
    request, token = lists.requests()[name], credential(world, name)
    whole = next(pages(world, request, token, 200))
    assert len(whole) >= 3
    walked = walk(world, request, token, size)
    assert [key_of(item) for item in walked] == [key_of(item) for item in whole][: 40 * size]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_can_be_walked(world: World, lists: Lists, order: Any, size: int) -> None:
    request = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=[TAG]), order=order)
    whole = [item.id for item in next(pages(world, request, world.key, 200))]
    assert len(set(whole)) == 7
    assert [item.id for item in walk(world, request, world.key, size)] == whole


KEYS: dict[int, Callable[[conversation_pb2.Conversation], Any]] = {
    conversations.CONVERSATION_ORDER_LAST_MESSAGE: lambda row: -row.last_message_time.ToNanoseconds(),
    conversations.CONVERSATION_ORDER_LONGEST_WAITING: lambda row: (
        not row.HasField("waiting_since"),
        row.waiting_since.ToNanoseconds(),
    ),
    conversations.CONVERSATION_ORDER_PRIORITY: lambda row: (-row.priority, -row.last_message_time.ToNanoseconds()),
    conversations.CONVERSATION_ORDER_REPLY_WINDOW: lambda row: (
        not row.reply_window.HasField("expire_time"),
        row.reply_window.expire_time.ToNanoseconds(),
    ),
    conversations.CONVERSATION_ORDER_CREATED: lambda row: -row.create_time.ToNanoseconds(),
    conversations.CONVERSATION_ORDER_OLDEST_MESSAGE: lambda row: row.last_message_time.ToNanoseconds(),
    conversations.CONVERSATION_ORDER_OLDEST: lambda row: row.create_time.ToNanoseconds(),
}


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_what_its_name_says(world: World, lists: Lists, order: Any) -> None:
    request = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=[TAG]), order=order)
    rows = next(pages(world, request, world.key, 200))
    assert rows == sorted(rows, key=KEYS[order])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_log_can_be_walked_by_its_cursors(world: World, lists: Lists, size: int) -> None:
    start = world.call(conversations.ListConversationsRequest(page_size=1)).as_of
    for number in range(5):
        note = conversations.AddConversationNoteRequest(conversation_id=lists.conversation, text=f"Logged {number}")
        world.call(note)
    whole = world.call(inbox.ListInboxEventsRequest(cursor=start, page_size=200))
    assert len(whole.events) >= 5
    walked, cursor = [], start
    while len(walked) < len(whole.events):
        page = world.call(inbox.ListInboxEventsRequest(cursor=cursor, page_size=size))
        assert 0 < len(page.events) <= size
        walked += page.events
        cursor = page.next_cursor
    assert [event.id for event in walked] == [event.id for event in whole.events]
    assert [event.seq for event in walked] == sorted({event.seq for event in walked})


def test_page_size_0_means_50_and_201_is_read_as_200(world: World) -> None:
    have = world.call(conversations.CountConversationsRequest()).count
    world.customers_write(max(1, 201 - have))
    sizes = {
        size: len(items(world.call(conversations.ListConversationsRequest(page_size=size)))) for size in (0, 200, 201)
    }
    assert sizes == {0: 50, 200: 200, 201: 200}
    assert len(items(world.call(conversations.ListConversationsRequest(page_size=2**31 - 1)))) == 200


def first_token(world: World, request: Any, token: str = "") -> str:
    asked = type(request).FromString(request.SerializeToString())
    asked.page_size = 1
    found: str = world.call(asked, token=token).next_page_token
    assert found
    return found


def refused(edges: list[Transport], world: World, request: Any, page_token: str, token: str = "") -> None:
    asked = type(request).FromString(request.SerializeToString())
    asked.page_token = page_token
    method = method_of_request(asked.DESCRIPTOR.full_name)
    found = refused_alike(edges, method, asked, token or world.key)
    assert (found.reason, found.fields) == ("PAGE_TOKEN_INVALID", ["page_token"])


def test_a_token_goes_with_its_own_question_only(edges: list[Transport], world: World, lists: Lists) -> None:
    request = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=[TAG]))
    token = first_token(world, request)
    other_filter = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=["vip"]))
    other_order = conversations.ListConversationsRequest(
        filter=filters.ConversationFilter(tags=[TAG]), order=conversations.CONVERSATION_ORDER_CREATED
    )
    for other in (other_filter, other_order, conversations.ListConversationsRequest(), contacts.ListContactsRequest()):
        refused(edges, world, other, token)
    refused(edges, world, messages.ListMessagesRequest(conversation_id=lists.conversation), token)


def test_a_token_of_contacts_is_bound_to_filter_and_order(edges: list[Transport], world: World, lists: Lists) -> None:
    asked = contacts.ListContactsRequest(channel_id=world.channel_id, order=contacts.CONTACT_ORDER_NAME)
    token = first_token(world, asked)
    for other in (
        contacts.ListContactsRequest(channel_id=world.channel_id, order=contacts.CONTACT_ORDER_UPDATED),
        contacts.ListContactsRequest(channel_id=world.channel_id, order=contacts.CONTACT_ORDER_NAME, blocked=False),
        contacts.ListContactsRequest(order=contacts.CONTACT_ORDER_NAME),
    ):
        refused(edges, world, other, token)


def test_a_token_of_one_conversation_does_not_open_another(edges: list[Transport], world: World, lists: Lists) -> None:
    token = first_token(world, messages.ListMessagesRequest(conversation_id=lists.conversation))
    refused(edges, world, messages.ListMessagesRequest(conversation_id=world.sample.id), token)


def test_a_token_of_another_tenant_is_refused(edges: list[Transport], world: World) -> None:
    request = agents.ListAgentsRequest()
    refused(edges, world, request, first_token(world, request, world.foreign.key))


def test_a_token_is_good_for_another_size(world: World, lists: Lists) -> None:
    request = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=[TAG]))
    token = first_token(world, request)
    rest = conversations.ListConversationsRequest(filter=request.filter, page_size=200, page_token=token)
    assert len(items(world.call(rest))) == 6


def test_a_tampered_token_is_refused(edges: list[Transport], world: World, lists: Lists) -> None:
    request = conversations.ListConversationsRequest(filter=filters.ConversationFilter(tags=[TAG]))
    token = first_token(world, request)
    flipped = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(0, len(token), 7)
    ]
    for each in (*flipped, token[:-1], token + "A", token + "=", token[1:], "-", "ä", " " + token):
        refused(edges, world, request, each)
