"""AssignmentPolicyService."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from switchboard.v1 import assignment_policy_pb2
from switchboard.v1 import assignment_policy_service_pb2 as rpc
from switchboard.v1.assignment_policy_service_pb2_grpc import AssignmentPolicyServiceServicer

from server.assignments import convert, policies
from server.assignments.policies import Settings
from server.conversations.convert import ASSIGNMENT_TYPE
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class AssignmentPolicyServicer(AssignmentPolicyServiceServicer):
    """The policies of channels and teams."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def CreateAssignmentPolicy(
        self, request: rpc.CreateAssignmentPolicyRequest, call: Call
    ) -> rpc.CreateAssignmentPolicyResponse:
        """Creates a policy."""
        policy_id, settings = new_id(), _settings(request.settings)

        async def unit(write: Write) -> Any:
            earlier = await requests.claim(write, call, request, resource_id=policy_id)
            if earlier is not None:
                return await policies.get(write.connection, earlier)
            record, events = await policies.create(
                write,
                origin=origin_of(call, request.request_id),
                policy_id=policy_id,
                channel_id=uuid.UUID(request.channel_id) if request.HasField("channel_id") else None,
                team_id=uuid.UUID(request.team_id) if request.HasField("team_id") else None,
                settings=settings,
            )
            await append(write, events)
            return record

        return rpc.CreateAssignmentPolicyResponse(policy=convert.policy(await call.database.write(unit)))

    async def GetAssignmentPolicy(
        self, request: rpc.GetAssignmentPolicyRequest, call: Call
    ) -> rpc.GetAssignmentPolicyResponse:
        """A policy."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await policies.get(connection, uuid.UUID(request.policy_id))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetAssignmentPolicyResponse(policy=convert.policy(record), as_of=as_of)

    async def ListAssignmentPolicies(
        self, request: rpc.ListAssignmentPoliciesRequest, call: Call
    ) -> rpc.ListAssignmentPoliciesResponse:
        """A page of policies."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records = await policies.page(connection, after=after, limit=size + 1)
        items, last = cut(records, size, convert.policy)
        values = None if last is None else [last["create_time"].isoformat(), str(last["id"])]
        token = "" if values is None else self._tokens.write(call, request, values)
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListAssignmentPoliciesResponse(policies=items, next_page_token=token, as_of=as_of)

    async def UpdateAssignmentPolicy(
        self, request: rpc.UpdateAssignmentPolicyRequest, call: Call
    ) -> rpc.UpdateAssignmentPolicyResponse:
        """Replaces the settings of a policy."""
        policy_id, settings = uuid.UUID(request.policy_id), _settings(request.settings)

        async def unit(write: Write) -> Any:
            if await requests.claim(write, call, request, resource_id=policy_id) is not None:
                return await policies.get(write.connection, policy_id)
            origin = origin_of(call, request.request_id)
            record, events = await policies.update(write, policy_id, origin=origin, settings=settings)
            await append(write, events)
            return record

        return rpc.UpdateAssignmentPolicyResponse(policy=convert.policy(await call.database.write(unit)))

    async def DeleteAssignmentPolicy(
        self, request: rpc.DeleteAssignmentPolicyRequest, call: Call
    ) -> rpc.DeleteAssignmentPolicyResponse:
        """Deletes a policy."""
        policy_id = uuid.UUID(request.policy_id)

        async def unit(write: Write) -> None:
            if await requests.claim(write, call, request, resource_id=policy_id) is None:
                origin = origin_of(call, request.request_id)
                await append(write, await policies.delete(write, policy_id, origin=origin))

        await call.database.write(unit)
        return rpc.DeleteAssignmentPolicyResponse()


def _settings(asked: assignment_policy_pb2.AssignmentSettings) -> Settings:
    fair = asked.HasField("fairness")
    order = asked.queue_order or assignment_policy_pb2.QUEUE_ORDER_LONGEST_WAITING
    waiting = asked.HasField("waiting_weight_percent")
    return Settings(
        strategy=ASSIGNMENT_TYPE.word(asked.strategy),
        required_skills=list(asked.required_skills),
        fairness_most=asked.fairness.most if fair else None,
        fairness_window=_delta(asked.fairness.window) if fair else None,
        sticky=asked.sticky,
        reclaim_after=_delta(asked.reclaim_after) if asked.HasField("reclaim_after") else None,
        queue_order=convert.QUEUE_ORDER.word(order),
        weight=asked.weight_percent if asked.HasField("weight_percent") else None,
        waiting_weight=asked.waiting_weight_percent if waiting else None,
    )


def _delta(value: Any) -> timedelta:
    delta: timedelta = value.ToTimedelta()
    return delta
