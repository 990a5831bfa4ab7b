"""Which role a request asks for."""

from __future__ import annotations

import uuid

from switchboard.v1.agent_service_pb2 import CreateAgentRequest, UpdateAgentRequest
from switchboard.v1.invite_service_pb2 import CreateInviteRequest

from server.agents import convert
from server.agents.roles import id_of
from server.kit.errors import FieldViolation, InvalidFields


def named_role(request: CreateAgentRequest | UpdateAgentRequest | CreateInviteRequest) -> uuid.UUID | None:
    """The role that is asked for, by id or by name; None for neither. InvalidFields for both."""
    if request.HasField("role_id"):
        if request.role:
            raise InvalidFields(FieldViolation("role_id", "stands instead of role"))
        return uuid.UUID(request.role_id)
    return id_of(convert.ROLE.word(request.role), None) if request.role else None


def chosen_role(request: CreateAgentRequest | CreateInviteRequest) -> uuid.UUID:
    """The role of somebody new: an agent's, unless another is asked for."""
    return named_role(request) or id_of("agent", None)
