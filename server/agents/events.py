"""What the log says of agents and teams."""

from __future__ import annotations

import uuid
from typing import Literal

from switchboard.v1 import agent_pb2, event_pb2

from server.agents import convert
from server.agents.roles import Role
from server.log.event import NewEvent, Origin

Happened = Literal["created", "updated", "disabled", "enabled"]


def agent_event(origin: Origin, happened: Happened, agent: agent_pb2.Agent) -> NewEvent:
    """agent_created, agent_updated, agent_disabled, agent_enabled."""
    body = event_pb2.InboxEvent()
    getattr(body, f"agent_{happened}").agent.CopyFrom(agent)
    return _event(origin, body)


def scope_changed(origin: Origin, agent_id: uuid.UUID) -> NewEvent:
    """Makes every stream of the agent take its rights anew, at this place in the log."""
    changed = event_pb2.AgentScopeChanged(agent_id=str(agent_id))
    return _event(origin, event_pb2.InboxEvent(scope_changed=changed))


def team_event(origin: Origin, happened: Literal["created", "updated"], team: agent_pb2.Team) -> NewEvent:
    """team_created, team_updated."""
    body = event_pb2.InboxEvent()
    getattr(body, f"team_{happened}").team.CopyFrom(team)
    return _event(origin, body)


def team_deleted(origin: Origin, team_id: uuid.UUID, name: str) -> NewEvent:
    """team_deleted."""
    deleted = event_pb2.TeamDeleted(team_id=str(team_id), name=name)
    return _event(origin, event_pb2.InboxEvent(team_deleted=deleted))


def role_event(origin: Origin, happened: Literal["created", "updated"], role: Role) -> NewEvent:
    """role_created, role_updated."""
    body = event_pb2.InboxEvent()
    getattr(body, f"role_{happened}").role.CopyFrom(convert.role(role))
    return _event(origin, body)


def role_deleted(origin: Origin, role: Role) -> NewEvent:
    """role_deleted."""
    deleted = event_pb2.RoleDeleted(role_id=str(role.id), name=role.name)
    return _event(origin, event_pb2.InboxEvent(role_deleted=deleted))


def _event(origin: Origin, body: event_pb2.InboxEvent) -> NewEvent:
    return NewEvent(body=body, actor=origin.actor, cause=origin.cause)
