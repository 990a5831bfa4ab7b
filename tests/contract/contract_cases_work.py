"""One success and one refusal of every method about who works: agents, their invites, presence, policies and assignments."""

from contract_case import Case
from contract_requests import (
    accepted,
    assigned,
    invited,
    of_a_team_with_policy,
    policy,
    settings,
    some_agent,
    some_role,
    some_team,
)
from contract_world import nonce, unknown
from switchboard.v1 import agent_pb2, availability_pb2, options_pb2
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import availability_service_pb2 as availability
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import invite_service_pb2 as invites

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
