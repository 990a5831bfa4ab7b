"""One success and one refusal of every RPC. A success is asked for anew on every transport: what changes something is done to
something fresh."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from contract_requests import (
    accepted,
    assigned,
    attribute,
    attribute_page,
    attribute_request,
    blocked,
    conflict_page,
    connect,
    deleted,
    handshake,
    identity_to_remove,
    in_future,
    invited,
    meta_app,
    nested,
    note_of,
    notification,
    of_a_team_with_policy,
    of_now,
    of_sample,
    of_trail,
    of_yesterday,
    participant,
    policy,
    sample_update,
    settings,
    signature,
    snooze,
    some_agent,
    some_role,
    some_team,
    tagged,
)
from contract_world import World, digits, nonce, unknown
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from switchboard.v1 import (
    agent_pb2,
    availability_pb2,
    conversation_pb2,
    delivery_pb2,
    event_pb2,
    options_pb2,
    tenant_settings_pb2,
)
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import attribute_definition_service_pb2 as attributes
from switchboard.v1 import audit_service_pb2 as audit
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import availability_service_pb2 as availability
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import contact_service_pb2 as contacts
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import delivery_service_pb2 as deliveries
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import invite_service_pb2 as invites
from switchboard.v1 import message_service_pb2 as messages
from switchboard.v1 import settings_service_pb2 as tenant_settings
from switchboard.v1 import tag_service_pb2 as tags
from switchboard.v1 import tenant_service_pb2 as tenants
from switchboard.v1.contact_pb2 import ALIAS_KIND_BSUID, ALIAS_KIND_WA_ID

Ask = Callable[[World], Message]
HTTP_BODY = "google.api.HttpBody: raw bytes in or out, which only a provider sends, over HTTP"
STREAM = "a stream: the walk of streams compares its first items and its end"

# What is left out of the walk of unary calls, and why. Everything else goes over every transport.
EXCLUDED: Mapping[tuple[str, str], str] = {
    ("WebhookService.VerifyMetaWebhook", "cli"): HTTP_BODY,
    ("WebhookService.VerifyMetaWebhook", "python"): HTTP_BODY,
    ("WebhookService.ReceiveMetaWebhook", "cli"): HTTP_BODY,
    ("WebhookService.ReceiveMetaWebhook", "python"): HTTP_BODY,
    ("InboxService.WatchInbox", "*"): STREAM,
}

# What these answer follows the log: between two calls more of it may have been counted.
COUNTED_LATER = ("ConversationService.GetConversationStatistics", "StatisticsService.GetStatistics")


@dataclass(frozen=True, kw_only=True)
class Case:
    """An RPC. Callers are roles of agents, "key" for the tenant's key, "platform", "nobody" and "broken"."""

    ask: Ask
    refuse: Ask
    reason: str
    caller: str = "key"
    refused: str = ""
    headers: Callable[[World, Message], Mapping[str, str]] = lambda _world, _request: {}
    # What the reference shows instead of `ask`, where what can be compared says little.
    shown: Ask | None = None
    refused_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused_caller(self) -> str:
        return self.refused or self.caller


def token(world: World, caller: str) -> str:
    """The credential of a caller."""
    known = {"key": world.key, "platform": world.platform_key, "nobody": "", "broken": "sb_broken"}
    return known[caller] if caller in known else world.tokens[caller]


CONVERSATIONS: dict[str, Case] = {
    "ListConversations": Case(
        ask=lambda w: conversations.ListConversationsRequest(filter=of_sample(w), page_size=10),
        refuse=lambda w: conversations.ListConversationsRequest(page_size=-1),
        reason="INVALID_FIELDS",
    ),
    "CountConversations": Case(
        ask=lambda w: conversations.CountConversationsRequest(filter=nested(3)),
        refuse=lambda w: conversations.CountConversationsRequest(filter=nested(4)),
        reason="INVALID_FIELDS",
    ),
    "GetConversation": Case(
        ask=lambda w: conversations.GetConversationRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationRequest(conversation_id=w.foreign_sample.id),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "CreateConversation": Case(
        ask=lambda w: conversations.CreateConversationRequest(
            channel_id=w.channel_id, phone_number=f"+49151{digits(8)}", subject="A subject"
        ),
        refuse=lambda w: conversations.CreateConversationRequest(channel_id=w.channel_id, identity_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "UpdateConversation": Case(
        ask=sample_update,
        refuse=lambda w: conversations.UpdateConversationRequest(conversation_id=w.archived.id, subject="A subject"),
        reason="CONVERSATION_ARCHIVED",
    ),
    "DeleteConversation": Case(
        ask=lambda w: conversations.DeleteConversationRequest(conversation_id=w.conversation().id),
        refuse=lambda w: conversations.DeleteConversationRequest(conversation_id=w.sample.id),
        reason="PERMISSION_MISSING",
        caller="owner",
        refused="agent",
    ),
    "RestoreConversation": Case(
        ask=lambda w: conversations.RestoreConversationRequest(conversation_id=deleted(w)),
        refuse=lambda w: conversations.RestoreConversationRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="admin",
    ),
    "UpdateConversationStatus": Case(
        ask=snooze,
        refuse=lambda w: conversations.UpdateConversationStatusRequest(
            conversation_id=w.archived.id, status=conversation_pb2.CONVERSATION_STATUS_PENDING
        ),
        reason="ILLEGAL_STATUS_MOVE",
        caller="supervisor",
    ),
    "MarkConversationRead": Case(
        ask=lambda w: conversations.MarkConversationReadRequest(conversation_id=w.conversation().id),
        refuse=lambda w: conversations.MarkConversationReadRequest(
            conversation_id=w.sample.id, message_id=w.archived.last_message_id
        ),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
    "GetConversationParticipants": Case(
        ask=lambda w: conversations.GetConversationParticipantsRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationParticipantsRequest(conversation_id=w.foreign_sample.id),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "AddConversationParticipant": Case(
        ask=lambda w: conversations.AddConversationParticipantRequest(
            conversation_id=w.conversation().id, agent_id=w.agents["agent"]
        ),
        refuse=lambda w: conversations.AddConversationParticipantRequest(
            conversation_id=w.sample.id, agent_id=unknown()
        ),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "RemoveConversationParticipant": Case(
        ask=participant,
        refuse=lambda w: conversations.RemoveConversationParticipantRequest(
            conversation_id=w.archived.id, agent_id=w.agents["agent"]
        ),
        reason="CONVERSATION_ARCHIVED",
    ),
    "GetConversationThread": Case(
        ask=lambda w: conversations.GetConversationThreadRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.GetConversationThreadRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "AddConversationNote": Case(
        ask=lambda w: conversations.AddConversationNoteRequest(
            conversation_id=w.conversation().id, text="A note with ümlauts, 漢字 and \u202e", pinned=True
        ),
        refuse=lambda w: conversations.AddConversationNoteRequest(conversation_id=w.sample.id, text=""),
        reason="INVALID_FIELDS",
        caller="owner",
    ),
    "ListConversationNotes": Case(
        ask=lambda w: conversations.ListConversationNotesRequest(conversation_id=w.sample.id),
        refuse=lambda w: conversations.ListConversationNotesRequest(conversation_id=w.sample.id, page_token="x"),
        reason="PAGE_TOKEN_INVALID",
    ),
    "UpdateConversationNote": Case(
        ask=lambda w: conversations.UpdateConversationNoteRequest(**note_of(w), text="Another text", pinned=True),
        refuse=lambda w: conversations.UpdateConversationNoteRequest(
            conversation_id=w.sample.id, note_id=unknown(), pinned=True
        ),
        reason="RESOURCE_NOT_FOUND",
    ),
    "DeleteConversationNote": Case(
        ask=lambda w: conversations.DeleteConversationNoteRequest(**note_of(w)),
        refuse=lambda w: conversations.DeleteConversationNoteRequest(
            conversation_id=w.archived.id, note_id=w.sample_note
        ),
        reason="CONVERSATION_ARCHIVED",
    ),
    "AddConversationTags": Case(
        ask=lambda w: conversations.AddConversationTagsRequest(
            conversation_id=w.conversation().id, tags=["vip", "a tag", "Ü"]
        ),
        refuse=lambda w: conversations.AddConversationTagsRequest(conversation_id=w.sample.id),
        reason="INVALID_FIELDS",
    ),
    "RemoveConversationTags": Case(
        ask=lambda w: conversations.RemoveConversationTagsRequest(
            conversation_id=tagged(w), tags=["vip", "late & new"]
        ),
        refuse=lambda w: conversations.RemoveConversationTagsRequest(conversation_id=w.archived.id, tags=["vip"]),
        reason="CONVERSATION_ARCHIVED",
    ),
    "GetConversationStatistics": Case(
        ask=lambda w: conversations.GetConversationStatisticsRequest(
            filter=filters.ConversationFilter(channel_id=[w.channel_id])
        ),
        refuse=lambda w: conversations.GetConversationStatisticsRequest(),
        reason="PERMISSION_MISSING",
        refused="read_only",
    ),
}


MESSAGES: dict[str, Case] = {
    "SendMessage": Case(
        ask=lambda w: messages.SendMessageRequest(
            conversation_id=w.conversation().id, text=messages.SendText(body="Good day"), request_id=nonce()
        ),
        refuse=lambda w: messages.SendMessageRequest(
            conversation_id=w.sample.id, text=messages.SendText(body="x" * 4097), request_id=nonce()
        ),
        reason="PROVIDER_LIMIT",
        caller="owner",
    ),
    "GetMessage": Case(
        ask=lambda w: messages.GetMessageRequest(message_id=w.sent),
        refuse=lambda w: messages.GetMessageRequest(message_id=w.foreign_sample.last_message_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListMessages": Case(
        ask=lambda w: messages.ListMessagesRequest(conversation_id=w.sample.id),
        refuse=lambda w: messages.ListMessagesRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListMessageStatusUpdates": Case(
        ask=lambda w: messages.ListMessageStatusUpdatesRequest(message_id=w.sent),
        refuse=lambda w: messages.ListMessageStatusUpdatesRequest(message_id="not an id"),
        reason="INVALID_FIELDS",
    ),
}
TAGS: dict[str, Case] = {
    "ListTags": Case(
        ask=lambda w: tags.ListTagsRequest(page_size=2),
        refuse=lambda w: tags.ListTagsRequest(page_token="AAAA"),
        reason="PAGE_TOKEN_INVALID",
        caller="read_only",
    ),
    "CreateTag": Case(
        ask=lambda w: tags.CreateTagRequest(name=f"Tag {nonce()}", color="#00FFaa", description="What it is for"),
        refuse=lambda w: tags.CreateTagRequest(name="SAMPLE"),
        reason="RESOURCE_EXISTS",
        caller="supervisor",
    ),
    "UpdateTag": Case(
        ask=lambda w: tags.UpdateTagRequest(tag_id=w.tag(), name=f"Tag {nonce()}", color=""),
        refuse=lambda w: tags.UpdateTagRequest(tag_id=w.tag(), name="sample"),
        reason="RESOURCE_EXISTS",
    ),
    "DeleteTag": Case(
        ask=lambda w: tags.DeleteTagRequest(tag_id=w.tag()),
        refuse=lambda w: tags.DeleteTagRequest(tag_id=w.tag()),
        reason="PERMISSION_MISSING",
        refused="agent",
    ),
}
DELIVERIES: dict[str, Case] = {
    "GetDelivery": Case(
        ask=lambda w: deliveries.GetDeliveryRequest(delivery_id=w.sample_delivery),
        refuse=lambda w: deliveries.GetDeliveryRequest(delivery_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "ListDeliveries": Case(
        ask=lambda w: deliveries.ListDeliveriesRequest(
            conversation_id=w.sample.id, state=[delivery_pb2.DELIVERY_STATE_ACCEPTED], page_size=2
        ),
        refuse=lambda w: deliveries.ListDeliveriesRequest(state=[delivery_pb2.DELIVERY_STATE_UNSPECIFIED]),
        reason="INVALID_FIELDS",
    ),
    "RetryDelivery": Case(
        ask=lambda w: deliveries.RetryDeliveryRequest(delivery_id=w.dead_letter()),
        refuse=lambda w: deliveries.RetryDeliveryRequest(delivery_id=w.sample_delivery),
        reason="DELIVERY_NOT_POSSIBLE",
        caller="supervisor",
    ),
    "GiveUpDelivery": Case(
        ask=lambda w: deliveries.GiveUpDeliveryRequest(delivery_id=w.stuck_delivery(), reason="Too late"),
        refuse=lambda w: deliveries.GiveUpDeliveryRequest(delivery_id=w.sample_delivery),
        reason="DELIVERY_NOT_POSSIBLE",
    ),
}
ASSIGNMENTS: dict[str, Case] = {
    "AssignConversation": Case(
        ask=lambda w: assignments.AssignConversationRequest(
            conversation_id=w.conversation().id, agent_id=w.agents["agent"], team_id=w.team_id, reason="because"
        ),
        refuse=lambda w: assignments.AssignConversationRequest(
            conversation_id=w.sample.id, agent_id=w.agents["read_only"]
        ),
        reason="NOT_ASSIGNABLE",
        caller="supervisor",
    ),
    "UnassignConversation": Case(
        ask=lambda w: assignments.UnassignConversationRequest(conversation_id=assigned(w), reason="because"),
        refuse=lambda w: assignments.UnassignConversationRequest(conversation_id=w.sample.id, expected_version=999),
        reason="VERSION_MISMATCH",
    ),
    "ListConversationAssignments": Case(
        ask=lambda w: assignments.ListConversationAssignmentsRequest(conversation_id=w.sample.id),
        refuse=lambda w: assignments.ListConversationAssignmentsRequest(conversation_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "PreviewAssignment": Case(
        ask=lambda w: assignments.PreviewAssignmentRequest(conversation_id=of_a_team_with_policy(w)),
        refuse=lambda w: assignments.PreviewAssignmentRequest(conversation_id=w.sample.id),
        reason="NO_ASSIGNMENT_POLICY",
    ),
}
POLICIES: dict[str, Case] = {
    "CreateAssignmentPolicy": Case(
        ask=lambda w: policies.CreateAssignmentPolicyRequest(
            team_id=w.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team.id, settings=settings()
        ),
        refuse=lambda w: policies.CreateAssignmentPolicyRequest(team_id=unknown(), settings=settings()),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "GetAssignmentPolicy": Case(
        ask=lambda w: policies.GetAssignmentPolicyRequest(policy_id=policy(w).id),
        refuse=lambda w: policies.GetAssignmentPolicyRequest(policy_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "ListAssignmentPolicies": Case(
        ask=lambda w: policies.ListAssignmentPoliciesRequest(page_size=1),
        refuse=lambda w: policies.ListAssignmentPoliciesRequest(page_size=-1),
        reason="INVALID_FIELDS",
    ),
    "UpdateAssignmentPolicy": Case(
        ask=lambda w: policies.UpdateAssignmentPolicyRequest(policy_id=policy(w).id, settings=settings("AVAILABILITY")),
        refuse=lambda w: policies.UpdateAssignmentPolicyRequest(policy_id=policy(w).id, settings=settings()),
        reason="PERMISSION_MISSING",
        refused="agent",
    ),
    "DeleteAssignmentPolicy": Case(
        ask=lambda w: policies.DeleteAssignmentPolicyRequest(policy_id=policy(w).id),
        refuse=lambda w: policies.DeleteAssignmentPolicyRequest(policy_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
}
AVAILABILITY: dict[str, Case] = {
    "GetAgentAvailability": Case(
        ask=lambda w: availability.GetAgentAvailabilityRequest(agent_id=w.agents["owner"]),
        refuse=lambda w: availability.GetAgentAvailabilityRequest(agent_id=w.foreign.agents["owner"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListAgentAvailabilities": Case(
        ask=lambda w: availability.ListAgentAvailabilitiesRequest(page_size=2),
        refuse=lambda w: availability.ListAgentAvailabilitiesRequest(page_token="AAAA"),
        reason="PAGE_TOKEN_INVALID",
        caller="read_only",
    ),
    "SetAvailability": Case(
        ask=lambda w: availability.SetAvailabilityRequest(
            agent_id=some_agent(w), availability=availability_pb2.AVAILABILITY_BUSY
        ),
        # Of others only who manages assignment says it; anybody else is told of them what is told of ids that nobody has.
        refuse=lambda w: availability.SetAvailabilityRequest(
            agent_id=w.agents["owner"], availability=availability_pb2.AVAILABILITY_BUSY
        ),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
        refused="agent",
    ),
    "Heartbeat": Case(
        ask=lambda w: availability.HeartbeatRequest(agent_id=w.agents["agent"]),
        refuse=lambda w: availability.HeartbeatRequest(agent_id=w.foreign.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "SetAgentCapacity": Case(
        ask=lambda w: availability.SetAgentCapacityRequest(
            agent_id=some_agent(w), capacity=7, skills=["spanish", "billing"]
        ),
        refuse=lambda w: availability.SetAgentCapacityRequest(agent_id=w.agents["admin"], capacity=-1),
        reason="INVALID_FIELDS",
        caller="admin",
    ),
}
INBOX: dict[str, Case] = {
    "WatchInbox": Case(
        ask=lambda w: inbox.WatchInboxRequest(
            start=inbox.WATCH_START_EARLIEST,
            event_types=[event_pb2.EVENT_TYPE_NOTE_ADDED, event_pb2.EVENT_TYPE_CONVERSATION_STATUS_CHANGED],
            bookmark_interval=duration_pb2.Duration(seconds=20),
        ),
        refuse=lambda w: inbox.WatchInboxRequest(filter=filters.ConversationFilter(tags=["vip"])),
        reason="FILTER_NOT_STREAMABLE",
    ),
    "ListInboxEvents": Case(
        ask=lambda w: inbox.ListInboxEventsRequest(
            start=inbox.WATCH_START_EARLIEST, event_types=[event_pb2.EVENT_TYPE_MESSAGE_STATUS_UPDATED], page_size=2
        ),
        refuse=lambda w: inbox.ListInboxEventsRequest(cursor="not a cursor"),
        reason="CURSOR_INVALID",
    ),
}
CONTACTS: dict[str, Case] = {
    "CreateContact": Case(
        ask=lambda w: contacts.CreateContactRequest(
            name="Ümit O'Hara", channel_id=w.channel_id, phone_number=f"+49151{digits(8)}"
        ),
        refuse=lambda w: contacts.CreateContactRequest(name="Cara", channel_id=w.channel_id, phone_number="12"),
        reason="INVALID_FIELDS",
        caller="supervisor",
    ),
    "UpdateContact": Case(
        ask=lambda w: contacts.UpdateContactRequest(contact_id=w.conversation().contact.id, name=f"Cara {digits(8)}"),
        refuse=lambda w: contacts.UpdateContactRequest(contact_id=w.sample.contact.id, name="Cara"),
        reason="PERMISSION_MISSING",
        refused="read_only",
    ),
    "BlockContact": Case(
        ask=lambda w: contacts.BlockContactRequest(contact_id=w.conversation().contact.id, reason="Sends spam."),
        refuse=lambda w: contacts.BlockContactRequest(contact_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "UnblockContact": Case(
        ask=lambda w: contacts.UnblockContactRequest(contact_id=blocked(w)),
        refuse=lambda w: contacts.UnblockContactRequest(contact_id=w.foreign_sample.contact.id),
        reason="RESOURCE_NOT_FOUND",
        caller="supervisor",
    ),
    "AddContactIdentity": Case(
        ask=lambda w: contacts.AddContactIdentityRequest(
            contact_id=w.conversation().contact.id,
            channel_id=w.channel_id,
            kind=ALIAS_KIND_WA_ID,
            value=f"+49151{digits(8)}",
        ),
        refuse=lambda w: contacts.AddContactIdentityRequest(
            contact_id=w.sample.contact.id, channel_id=w.channel_id, kind=ALIAS_KIND_BSUID, value="not an id"
        ),
        reason="INVALID_FIELDS",
        caller="supervisor",
    ),
    "RemoveContactIdentity": Case(
        ask=identity_to_remove,
        refuse=lambda w: contacts.RemoveContactIdentityRequest(
            contact_id=w.sample.contact.id, identity_id=w.sample.identity_id
        ),
        reason="IDENTITY_IN_USE",
        caller="supervisor",
    ),
    "ListIdentityConflicts": Case(
        ask=lambda w: contacts.ListIdentityConflictsRequest(page_size=3),
        shown=conflict_page,
        refuse=lambda w: contacts.ListIdentityConflictsRequest(page_size=-3),
        reason="INVALID_FIELDS",
    ),
    "GetContact": Case(
        ask=lambda w: contacts.GetContactRequest(contact_id=w.sample.contact.id),
        refuse=lambda w: contacts.GetContactRequest(contact_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListContacts": Case(
        ask=lambda w: contacts.ListContactsRequest(page_size=3),
        refuse=lambda w: contacts.ListContactsRequest(page_size=-3),
        reason="INVALID_FIELDS",
    ),
}
CHANNELS: dict[str, Case] = {
    "ConnectWhatsappChannel": Case(
        ask=lambda w: connect(digits(15)), refuse=lambda w: connect(w.phone_number_id), reason="RESOURCE_EXISTS"
    ),
    "GetChannel": Case(
        ask=lambda w: channels.GetChannelRequest(channel_id=w.channel_id),
        refuse=lambda w: channels.GetChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "UpdateChannel": Case(
        ask=lambda w: channels.UpdateChannelRequest(
            channel_id=w.channel_id,
            name=f"Number {nonce()}",
            reopen_window=duration_pb2.Duration(seconds=259_200),
            new_thread_each_time=False,
            auto_resolve_after=duration_pb2.Duration(seconds=31_536_000),
        ),
        refuse=lambda w: channels.UpdateChannelRequest(channel_id=w.foreign.channel_id, name="A number"),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ResumeChannel": Case(
        ask=lambda w: channels.ResumeChannelRequest(channel_id=w.channel_id),
        refuse=lambda w: channels.ResumeChannelRequest(channel_id=w.foreign.channel_id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListChannels": Case(
        ask=lambda w: channels.ListChannelsRequest(page_size=1),
        refuse=lambda w: channels.ListChannelsRequest(page_token="AAAA"),
        reason="PAGE_TOKEN_INVALID",
        caller="admin",
    ),
    "CreateMetaApp": Case(
        ask=lambda w: meta_app(nonce()),
        refuse=lambda w: meta_app(w.meta_app["id"]),
        reason="RESOURCE_EXISTS",
        caller="platform",
    ),
    "ListMetaApps": Case(
        ask=lambda w: channels.ListMetaAppsRequest(),
        refuse=lambda w: channels.ListMetaAppsRequest(),
        reason="PERMISSION_MISSING",
        caller="platform",
        refused="key",
    ),
}
AGENTS: dict[str, Case] = {
    "CreateAgent": Case(
        ask=lambda w: agents.CreateAgentRequest(
            name="Another", email=f"{nonce()}@example.com", team_ids=[w.team_id], channel_ids=[w.channel_id]
        ),
        refuse=lambda w: agents.CreateAgentRequest(name="Another", email="owner@example.com"),
        reason="RESOURCE_EXISTS",
    ),
    "GetAgent": Case(
        ask=lambda w: agents.GetAgentRequest(agent_id=w.agents["owner"]),
        refuse=lambda w: agents.GetAgentRequest(agent_id=w.foreign.agents["owner"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "ListAgents": Case(
        ask=lambda w: agents.ListAgentsRequest(page_size=4),
        refuse=lambda w: agents.ListAgentsRequest(page_size=-1),
        reason="INVALID_FIELDS",
    ),
    "SetAgentMemberships": Case(
        ask=lambda w: agents.SetAgentMembershipsRequest(
            agent_id=w.call(agents.CreateAgentRequest(name="Member")).agent.id, team_ids=[w.team_id]
        ),
        refuse=lambda w: agents.SetAgentMembershipsRequest(
            agent_id=w.agents["agent"], team_ids=[w.team_id, w.foreign.team_id]
        ),
        reason="INVALID_FIELDS",
        caller="admin",
    ),
    "UpdateAgent": Case(
        ask=lambda w: agents.UpdateAgentRequest(
            agent_id=some_agent(w), name="Renamed", email=f"{nonce()}@example.com", role_id=some_role(w)
        ),
        refuse=lambda w: agents.UpdateAgentRequest(agent_id=w.agents["owner"], role=agent_pb2.AGENT_ROLE_ADMIN),
        reason="LAST_OWNER",
    ),
    "DisableAgent": Case(
        ask=lambda w: agents.DisableAgentRequest(agent_id=some_agent(w)),
        refuse=lambda w: agents.DisableAgentRequest(agent_id=w.agents["owner"]),
        reason="PERMISSION_MISSING",
        refused="admin",
    ),
    "EnableAgent": Case(
        ask=lambda w: agents.EnableAgentRequest(
            agent_id=w.call(agents.DisableAgentRequest(agent_id=some_agent(w))).agent.id
        ),
        refuse=lambda w: agents.EnableAgentRequest(agent_id=w.foreign.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
    "GetTeam": Case(
        ask=lambda w: agents.GetTeamRequest(team_id=w.team_id),
        refuse=lambda w: agents.GetTeamRequest(team_id=w.foreign.team_id),
        reason="RESOURCE_NOT_FOUND",
        caller="agent",
    ),
    "UpdateTeam": Case(
        ask=lambda w: agents.UpdateTeamRequest(team_id=some_team(w), name=f"Team {nonce()}"),
        refuse=lambda w: agents.UpdateTeamRequest(team_id=some_team(w), name="Team"),
        reason="RESOURCE_EXISTS",
    ),
    "DeleteTeam": Case(
        ask=lambda w: agents.DeleteTeamRequest(team_id=some_team(w)),
        refuse=lambda w: agents.DeleteTeamRequest(
            team_id=w.call(
                conversations.GetConversationRequest(conversation_id=of_a_team_with_policy(w))
            ).conversation.team_id
        ),
        reason="TEAM_IN_USE",
    ),
    "AddTeamMember": Case(
        ask=lambda w: agents.AddTeamMemberRequest(team_id=w.team_id, agent_id=some_agent(w)),
        refuse=lambda w: agents.AddTeamMemberRequest(team_id=w.foreign.team_id, agent_id=w.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
        caller="admin",
    ),
    "RemoveTeamMember": Case(
        ask=lambda w: agents.RemoveTeamMemberRequest(
            team_id=w.team_id,
            agent_id=w.call(agents.CreateAgentRequest(name="Member", team_ids=[w.team_id])).agent.id,
        ),
        refuse=lambda w: agents.RemoveTeamMemberRequest(team_id=w.team_id, agent_id=w.foreign.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "CreateRole": Case(
        ask=lambda w: agents.CreateRoleRequest(
            name=f"Role {nonce()}",
            permissions=[options_pb2.PERMISSION_EVENTS_READ, options_pb2.PERMISSION_MESSAGES_SEND],
        ),
        refuse=lambda w: agents.CreateRoleRequest(name="Owner", permissions=[options_pb2.PERMISSION_EVENTS_READ]),
        reason="RESOURCE_EXISTS",
        caller="admin",
    ),
    "GetRole": Case(
        ask=lambda w: agents.GetRoleRequest(role_id=some_role(w)),
        refuse=lambda w: agents.GetRoleRequest(role_id=w.foreign_role),
        reason="RESOURCE_NOT_FOUND",
        caller="read_only",
    ),
    "ListRoles": Case(
        ask=lambda w: agents.ListRolesRequest(page_size=5),
        refuse=lambda w: agents.ListRolesRequest(page_size=-1),
        reason="INVALID_FIELDS",
    ),
    "UpdateRole": Case(
        ask=lambda w: agents.UpdateRoleRequest(
            role_id=some_role(w), name=f"Role {nonce()}", permissions=[options_pb2.PERMISSION_CONTACTS_READ]
        ),
        refuse=lambda w: agents.UpdateRoleRequest(role_id=w.call(agents.ListRolesRequest()).roles[0].id, name="Boss"),
        reason="ROLE_BUILT_IN",
        caller="owner",
    ),
    "DeleteRole": Case(
        ask=lambda w: agents.DeleteRoleRequest(role_id=some_role(w)),
        refuse=lambda w: agents.DeleteRoleRequest(
            role_id=w.call(agents.CreateAgentRequest(name="Holder", role_id=some_role(w))).agent.role_id
        ),
        reason="ROLE_IN_USE",
    ),
    "CreateTeam": Case(
        ask=lambda w: agents.CreateTeamRequest(name=f"Team {nonce()}"),
        refuse=lambda w: agents.CreateTeamRequest(name="Team"),
        reason="RESOURCE_EXISTS",
    ),
    "ListTeams": Case(
        ask=lambda w: agents.ListTeamsRequest(),
        refuse=lambda w: agents.ListTeamsRequest(),
        reason="CREDENTIAL_INVALID",
        refused="broken",
    ),
}
INVITES: dict[str, Case] = {
    "CreateInvite": Case(
        ask=lambda w: invites.CreateInviteRequest(
            email=f"{nonce()}@example.com", name="Invited", role_id=some_role(w), team_ids=[w.team_id]
        ),
        refuse=lambda w: invites.CreateInviteRequest(email=invited(w).invite.email, name="Invited"),
        reason="RESOURCE_EXISTS",
        caller="admin",
    ),
    "ListInvites": Case(
        ask=lambda w: invites.ListInvitesRequest(page_size=2),
        refuse=lambda w: invites.ListInvitesRequest(),
        reason="PERMISSION_MISSING",
        refused="supervisor",
    ),
    "ResendInvite": Case(
        ask=lambda w: invites.ResendInviteRequest(invite_id=invited(w).invite.id),
        refuse=lambda w: invites.ResendInviteRequest(invite_id=accepted(w)),
        reason="INVITE_CLOSED",
        caller="owner",
    ),
    "RevokeInvite": Case(
        ask=lambda w: invites.RevokeInviteRequest(invite_id=invited(w).invite.id),
        refuse=lambda w: invites.RevokeInviteRequest(invite_id=w.foreign_invite),
        reason="RESOURCE_NOT_FOUND",
    ),
    "AcceptInvite": Case(
        ask=lambda w: invites.AcceptInviteRequest(invite_token=invited(w).invite_token, name="Chosen"),
        refuse=lambda w: invites.AcceptInviteRequest(invite_token="unknown"),
        reason="INVITE_INVALID",
        caller="nobody",
    ),
}
AUTH: dict[str, Case] = {
    "CreateAgentToken": Case(
        ask=lambda w: auth.CreateAgentTokenRequest(
            agent_id=w.agents["agent"], lifetime=duration_pb2.Duration(seconds=60)
        ),
        refuse=lambda w: auth.CreateAgentTokenRequest(agent_id=w.foreign.agents["agent"]),
        reason="RESOURCE_NOT_FOUND",
    ),
    "CreateApiKey": Case(
        ask=lambda w: auth.CreateApiKeyRequest(
            name="A key", permissions=[options_pb2.PERMISSION_CONTACTS_READ], expire_time=in_future(3600)
        ),
        refuse=lambda w: auth.CreateApiKeyRequest(
            name="A key", permissions=[options_pb2.PERMISSION_CONTACTS_READ], expire_time=in_future(-1)
        ),
        reason="INVALID_FIELDS",
    ),
    "ListApiKeys": Case(
        ask=lambda w: auth.ListApiKeysRequest(page_size=2),
        refuse=lambda w: auth.ListApiKeysRequest(),
        reason="PERMISSION_MISSING",
        refused="supervisor",
    ),
    "RevokeApiKey": Case(
        ask=lambda w: auth.RevokeApiKeyRequest(api_key_id=w.api_key_id()),
        refuse=lambda w: auth.RevokeApiKeyRequest(api_key_id=w.foreign.key_row.id),
        reason="RESOURCE_NOT_FOUND",
    ),
    "GetCaller": Case(
        ask=lambda w: auth.GetCallerRequest(),
        refuse=lambda w: auth.GetCallerRequest(),
        reason="CREDENTIAL_MISSING",
        caller="agent",
        refused="nobody",
    ),
}
TENANTS: dict[str, Case] = {
    "CreateTenant": Case(
        ask=lambda w: tenants.CreateTenantRequest(name=f"made-{nonce()}"),
        refuse=lambda w: tenants.CreateTenantRequest(name=w.name),
        reason="RESOURCE_EXISTS",
        caller="platform",
    ),
    "ListTenants": Case(
        ask=lambda w: tenants.ListTenantsRequest(page_size=2),
        refuse=lambda w: tenants.ListTenantsRequest(),
        reason="PERMISSION_MISSING",
        caller="platform",
        refused="owner",
    ),
    "GetTenant": Case(
        ask=lambda w: tenants.GetTenantRequest(tenant_id=w.id),
        refuse=lambda w: tenants.GetTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "DisableTenant": Case(
        ask=lambda w: tenants.DisableTenantRequest(tenant_id=w.spare),
        refuse=lambda w: tenants.DisableTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
    "EnableTenant": Case(
        ask=lambda w: tenants.EnableTenantRequest(tenant_id=w.spare),
        refuse=lambda w: tenants.EnableTenantRequest(tenant_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="platform",
    ),
}
ATTRIBUTES: dict[str, Case] = {
    "ListAttributeDefinitions": Case(
        ask=attribute_page,
        refuse=lambda w: attributes.ListAttributeDefinitionsRequest(page_size=-1),
        reason="INVALID_FIELDS",
        caller="agent",
    ),
    "CreateAttributeDefinition": Case(
        ask=lambda w: attribute_request(),
        refuse=lambda w: attributes.CreateAttributeDefinitionRequest(target=1, key="1st", type=1),
        reason="INVALID_FIELDS",
    ),
    "UpdateAttributeDefinition": Case(
        ask=lambda w: attributes.UpdateAttributeDefinitionRequest(
            attribute_definition_id=attribute(w), label="Plan", options=["gold", "silver"]
        ),
        refuse=lambda w: attributes.UpdateAttributeDefinitionRequest(attribute_definition_id=unknown()),
        reason="RESOURCE_NOT_FOUND",
        caller="owner",
    ),
    "DeleteAttributeDefinition": Case(
        ask=lambda w: attributes.DeleteAttributeDefinitionRequest(attribute_definition_id=attribute(w)),
        refuse=lambda w: attributes.DeleteAttributeDefinitionRequest(attribute_definition_id=unknown()),
        reason="PERMISSION_MISSING",
        caller="admin",
        refused="agent",
    ),
}
SETTINGS: dict[str, Case] = {
    "GetTenantSettings": Case(
        ask=lambda w: tenant_settings.GetTenantSettingsRequest(),
        refuse=lambda w: tenant_settings.GetTenantSettingsRequest(),
        reason="PERMISSION_MISSING",
        caller="owner",
        refused="agent",
    ),
    "UpdateTenantSettings": Case(
        ask=lambda w: tenant_settings.UpdateTenantSettingsRequest(
            conversation_retention=duration_pb2.Duration(seconds=2_592_000),
            reply_fence_policy=tenant_settings_pb2.REPLY_FENCE_POLICY_REFUSE,
        ),
        refuse=lambda w: tenant_settings.UpdateTenantSettingsRequest(
            conversation_retention=duration_pb2.Duration(seconds=-1)
        ),
        reason="INVALID_FIELDS",
    ),
}
WEBHOOKS: dict[str, Case] = {
    "VerifyMetaWebhook": Case(
        ask=lambda w: handshake(w, w.meta_app["verify_token"]),
        refuse=lambda w: handshake(w, "another token"),
        reason="HANDSHAKE_REFUSED",
        caller="nobody",
    ),
    "ReceiveMetaWebhook": Case(
        ask=lambda w: notification(w, "whatsapp_business_account"),
        refuse=lambda w: notification(w, "unsigned"),
        reason="SIGNATURE_INVALID",
        caller="nobody",
        headers=lambda w, request: {"x-hub-signature-256": signature(request, w.meta_app["app_secret"])},
        refused_headers={"x-hub-signature-256": "sha256=" + "0" * 64},
    ),
}
AUDIT: dict[str, Case] = {
    "ListAuditEntries": Case(
        ask=of_trail,
        refuse=lambda w: audit.ListAuditEntriesRequest(actor_id="somebody"),
        reason="INVALID_FIELDS",
    ),
    "GetAuditSettings": Case(
        ask=lambda w: audit.GetAuditSettingsRequest(),
        refuse=lambda w: audit.GetAuditSettingsRequest(),
        reason="PERMISSION_MISSING",
        refused="agent",
    ),
    "UpdateAuditSettings": Case(
        ask=lambda w: audit.UpdateAuditSettingsRequest(reads=False),
        refuse=lambda w: audit.UpdateAuditSettingsRequest(reads=True),
        reason="PERMISSION_MISSING",
        refused="supervisor",
    ),
}
STATISTICS: dict[str, Case] = {
    "GetStatistics": Case(
        ask=lambda w: of_yesterday(dimensions=["STATISTICS_DIMENSION_AGENT"], time_zone="Asia/Kathmandu"),
        shown=lambda w: of_now(dimensions=["STATISTICS_DIMENSION_CHANNEL"], time_zone="Europe/Berlin"),
        refuse=lambda w: of_yesterday(dimensions=["STATISTICS_DIMENSION_AGENT", "STATISTICS_DIMENSION_TAG"]),
        reason="EXPORT_NEEDED",
    ),
}
CASES: Mapping[str, Case] = {
    f"{service}.{name}": case
    for service, cases in {
        "ConversationService": CONVERSATIONS,
        "MessageService": MESSAGES,
        "TagService": TAGS,
        "DeliveryService": DELIVERIES,
        "AssignmentService": ASSIGNMENTS,
        "AssignmentPolicyService": POLICIES,
        "AvailabilityService": AVAILABILITY,
        "InboxService": INBOX,
        "ContactService": CONTACTS,
        "ChannelService": CHANNELS,
        "AttributeDefinitionService": ATTRIBUTES,
        "SettingsService": SETTINGS,
        "AgentService": AGENTS,
        "InviteService": INVITES,
        "AuthService": AUTH,
        "AuditService": AUDIT,
        "StatisticsService": STATISTICS,
        "TenantService": TENANTS,
        "WebhookService": WEBHOOKS,
    }.items()
    for name, case in cases.items()
}
