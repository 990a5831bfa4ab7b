"""The whole way: a role of the tenant's own, somebody who is invited to it, and what they may then do, over gRPC and REST."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import invite_service_pb2 as invites
from switchboard.v1 import options_pb2
from switchboard.v1 import tenant_service_pb2 as tenants
from switchboard.v1.agent_service_pb2_grpc import AgentServiceStub
from switchboard.v1.invite_service_pb2_grpc import InviteServiceStub
from switchboard.v1.tag_service_pb2 import ListTagsRequest
from switchboard.v1.tag_service_pb2_grpc import TagServiceStub
from switchboard.v1.tenant_service_pb2_grpc import TenantServiceStub


class Office:
    """A tenant, as its API key and as whoever holds a token see it."""

    def __init__(self, channel: grpc.Channel, dev: dict[str, Any]) -> None:
        self._channel, self._url = channel, dev["url"]
        made = TenantServiceStub(channel).CreateTenant(
            tenants.CreateTenantRequest(name=f"office-{uuid.uuid4().hex[:10]}"), metadata=bearer(dev["platform_key"])
        )
        self.key: str = made.secret

    def role(self, *names: str) -> str:
        """A role that may so much."""
        numbers = [options_pb2.Permission.Value(f"PERMISSION_{name}") for name in names]
        request = agents.CreateRoleRequest(name="Trainee", permissions=numbers)
        return str(AgentServiceStub(self._channel).CreateRole(request, metadata=bearer(self.key)).role.id)

    def invited(self, role_id: str) -> str:
        """The token of an invite to the role."""
        request = invites.CreateInviteRequest(email="ben@example.com", name="Ben", role_id=role_id)
        made = InviteServiceStub(self._channel).CreateInvite(request, metadata=bearer(self.key))
        return str(made.invite_token)

    def rest(self, verb: str, path: str, body: dict[str, Any] | None = None, *, token: str = "") -> tuple[int, Any]:
        """Status and body of an answer at the edge."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def tags(self, token: str) -> grpc.StatusCode:
        """What listing tags is answered over gRPC."""
        return code(TagServiceStub(self._channel).ListTags, ListTagsRequest(), token)

    def agents(self, token: str) -> grpc.StatusCode:
        """What listing agents is answered over gRPC."""
        return code(AgentServiceStub(self._channel).ListAgents, agents.ListAgentsRequest(), token)


def code(method: Any, request: Message, token: str) -> grpc.StatusCode:
    """How a call ended."""
    found: grpc.StatusCode = method.future(request, metadata=bearer(token)).code()
    return found


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def reason(answer: Any) -> str:
    """Of a refusal over REST."""
    return next(str(detail["reason"]) for detail in answer["details"] if "reason" in detail)


def within(holds: Callable[[], bool]) -> None:
    """Waits until something holds: a credential's rights are at most 30 s old."""
    until = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def office(grpc_channel: grpc.Channel, dev: dict[str, Any]) -> Office:
    return Office(grpc_channel, dev)


def test_who_accepts_an_invite_may_what_its_own_role_may_and_nothing_else(office: Office) -> None:
    role_id = office.role("AGENTS_READ", "EVENTS_READ")
    accepted = {"inviteToken": office.invited(role_id)}
    status, made = office.rest("POST", "/v1/invites:accept", accepted)
    assert (status, made["agent"]["role"], made["agent"]["roleId"]) == (200, "AGENT_ROLE_CUSTOM", role_id)
    token = made["token"]
    # Allowed, and refused, on both ways in.
    assert office.agents(token) is grpc.StatusCode.OK
    assert office.tags(token) is grpc.StatusCode.PERMISSION_DENIED
    assert office.rest("GET", f"/v1/agents/{made['agent']['id']}", token=token)[0] == 200
    for verb, path, body in (
        ("GET", "/v1/tags", None),
        ("POST", "/v1/agents", {"name": "One more"}),
        ("POST", "/v1/invites", {"email": "more@example.com", "name": "One more"}),
    ):
        status, refused = office.rest(verb, path, body, token=token)
        assert (status, reason(refused)) == (403, "PERMISSION_MISSING")
    status, refused = office.rest("POST", "/v1/invites:accept", accepted)
    assert (status, reason(refused)) == (401, "INVITE_INVALID")
    # What the role may more, its agents may more, as soon as each process has heard of it.
    more = {"permissions": ["PERMISSION_AGENTS_READ", "PERMISSION_CONVERSATIONS_READ"]}
    assert office.rest("PATCH", f"/v1/roles/{role_id}", more, token=office.key)[0] == 200
    within(lambda: office.tags(token) is grpc.StatusCode.OK)
    within(lambda: office.rest("GET", "/v1/tags", token=token)[0] == 200)


def test_the_tenant_is_the_tokens_whatever_credential_comes_with_it(
    office: Office, grpc_channel: grpc.Channel, dev: dict[str, Any]
) -> None:
    other = Office(grpc_channel, dev)
    invite = office.invited(office.role("AGENTS_READ"))
    made = InviteServiceStub(grpc_channel).AcceptInvite(
        invites.AcceptInviteRequest(invite_token=invite, name="Benjamin"), metadata=bearer(other.key)
    )
    listed = AgentServiceStub(grpc_channel).ListAgents(agents.ListAgentsRequest(), metadata=bearer(made.token))
    assert made.agent.id in [agent.id for agent in listed.agents]
    assert made.agent.name == "Benjamin"
    assert office.rest("GET", f"/v1/agents/{made.agent.id}", token=office.key)[0] == 200
    assert other.rest("GET", f"/v1/agents/{made.agent.id}", token=other.key)[0] == 404
