"""The whole way: somebody comes online through the API, and a worker gives what waits to them."""

from __future__ import annotations

import statistics
import time
import uuid
from typing import Any

import grpc
import pytest
from switchboard.v1 import agent_service_pb2, agent_service_pb2_grpc, assignment_pb2, inbox_service_pb2
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import availability_service_pb2 as availability
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import tenant_service_pb2 as tenants
from switchboard.v1.assignment_policy_pb2 import AssignmentSettings
from switchboard.v1.assignment_policy_service_pb2_grpc import AssignmentPolicyServiceStub
from switchboard.v1.assignment_service_pb2_grpc import AssignmentServiceStub
from switchboard.v1.availability_pb2 import AVAILABILITY_OFFLINE, AVAILABILITY_ONLINE
from switchboard.v1.availability_service_pb2_grpc import AvailabilityServiceStub
from switchboard.v1.channel_service_pb2_grpc import ChannelServiceStub
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub
from switchboard.v1.event_pb2 import EVENT_TYPE_CONVERSATION_ASSIGNED
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub
from switchboard.v1.tenant_service_pb2_grpc import TenantServiceStub

from tests.desk import phone
from tests.known_number import know

WITHIN_SECONDS = 40


class Team:
    """A tenant with a number, and a team of one with a policy of its own, through the API."""

    def __init__(self, channel: grpc.Channel, dev: dict[str, Any]) -> None:
        as_platform = [("authorization", f"Bearer {dev['platform_key']}")]
        tenant = tenants.CreateTenantRequest(name=f"office-{uuid.uuid4().hex[:10]}")
        made = TenantServiceStub(channel).CreateTenant(tenant, metadata=as_platform)
        self._as_key: Any = [("authorization", f"Bearer {made.secret}")]
        self._conversations = ConversationServiceStub(channel)
        self._assignments = AssignmentServiceStub(channel)
        self._availability = AvailabilityServiceStub(channel)
        self._inbox = InboxServiceStub(channel)
        number = channels.ConnectWhatsappChannelRequest(
            name="Number",
            phone_number_id=f"{uuid.uuid4().int % 10**15:015}",
            waba_id="1234567",
            access_token="EAAtoken",
        )
        know(dev, number.phone_number_id, number.waba_id, number.access_token)
        connected = ChannelServiceStub(channel).ConnectWhatsappChannel(number, metadata=self._as_key)
        self._channel_id = connected.channel.id
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.id = agents.CreateTeam(agent_service_pb2.CreateTeamRequest(name="Team"), metadata=self._as_key).team.id
        member = agent_service_pb2.CreateAgentRequest(name="Ana", team_ids=[self.id])
        self.agent_id = agents.CreateAgent(member, metadata=self._as_key).agent.id
        settings = AssignmentSettings(strategy=assignment_pb2.ASSIGNMENT_TYPE_AVAILABILITY)
        policy = policies.CreateAssignmentPolicyRequest(team_id=self.id, settings=settings)
        AssignmentPolicyServiceStub(channel).CreateAssignmentPolicy(policy, metadata=self._as_key)

    def says(self, to: Any) -> None:
        request = availability.SetAvailabilityRequest(agent_id=self.agent_id, availability=to)
        self._availability.SetAvailability(request, metadata=self._as_key)

    def takes(self, units: int) -> None:
        request = availability.SetAgentCapacityRequest(agent_id=self.agent_id, capacity=units)
        self._availability.SetAgentCapacity(request, metadata=self._as_key)

    def conversation(self) -> str:
        """A new one that nobody has."""
        request = conversations.CreateConversationRequest(channel_id=self._channel_id, phone_number=f"+{phone()}")
        return str(self._conversations.CreateConversation(request, metadata=self._as_key).conversation.id)

    def gets(self, conversation_id: str) -> None:
        """The team gets it; whoever of it, the policy says."""
        request = assignments.AssignConversationRequest(conversation_id=conversation_id, team_id=self.id)
        self._assignments.AssignConversation(request, metadata=self._as_key)

    def preview(self, conversation_id: str) -> assignment_pb2.AssignmentDecision:
        request = assignments.PreviewAssignmentRequest(conversation_id=conversation_id)
        return self._assignments.PreviewAssignment(request, metadata=self._as_key).decision

    def taken(self, conversation_id: str) -> assignment_pb2.Assignment:
        """The newest row of its ledger, as soon as an agent has it."""
        request = assignments.ListConversationAssignmentsRequest(conversation_id=conversation_id)
        until = time.monotonic() + WITHIN_SECONDS
        while time.monotonic() < until:
            newest = self._assignments.ListConversationAssignments(request, metadata=self._as_key).assignments[0]
            if newest.HasField("agent_id"):
                return newest
            time.sleep(0.02)
        raise AssertionError("nobody got it")

    def cursor(self) -> str:
        return self._inbox.ListInboxEvents(
            inbox_service_pb2.ListInboxEventsRequest(), metadata=self._as_key
        ).next_cursor

    def assigned_since(self, cursor: str) -> list[Any]:
        request = inbox_service_pb2.ListInboxEventsRequest(
            cursor=cursor, event_types=[EVENT_TYPE_CONVERSATION_ASSIGNED], page_size=200
        )
        return list(self._inbox.ListInboxEvents(request, metadata=self._as_key).events)


@pytest.fixture
def team(grpc_channel: grpc.Channel, dev: dict[str, Any]) -> Team:
    return Team(grpc_channel, dev)


def test_what_waits_goes_to_who_comes_online(team: Team) -> None:
    conversation_id = team.conversation()
    team.gets(conversation_id)
    told = team.preview(conversation_id)
    assert not told.HasField("agent_id")
    assert [each.removed_by for each in told.candidates] == [assignment_pb2.ASSIGNMENT_FILTER_NOT_AVAILABLE]
    team.says(AVAILABILITY_ONLINE)
    taken = team.taken(conversation_id)
    assert (taken.agent_id, taken.type) == (team.agent_id, assignment_pb2.ASSIGNMENT_TYPE_AVAILABILITY)
    assert taken.decision.agent_id == team.agent_id
    team.says(AVAILABILITY_OFFLINE)


@pytest.mark.faults
def test_a_free_agent_has_it_within_a_second(team: Team) -> None:
    team.takes(100)
    team.says(AVAILABILITY_ONLINE)
    cursor = team.cursor()
    for _ in range(20):
        conversation_id = team.conversation()
        team.gets(conversation_id)
        team.taken(conversation_id)
    team.says(AVAILABILITY_OFFLINE)
    waited, given = [], {}
    for event in team.assigned_since(cursor):
        assigned = event.conversation_assigned
        if assigned.assignment.HasField("agent_id"):
            since = event.create_time.ToNanoseconds() - given.pop(event.conversation_id)
            waited.append(since / 1e9)
        else:
            given[event.conversation_id] = event.create_time.ToNanoseconds()
    print(f"from team to agent: median {statistics.median(waited):.3f} s, at most {max(waited):.3f} s")
    assert len(waited) == 20
    assert max(waited) < 2
    assert statistics.median(waited) < 1
