"""AcceptInvite before it looks anything up: who tries too often is told to wait."""

from __future__ import annotations

from typing import Any

import pytest
from switchboard.v1.invite_service_pb2 import AcceptInviteRequest

from server.people.invite_servicer import ACCEPTED, InviteServicer
from server.people.invites import InviteInvalid
from server.rpc.auth import ANONYMOUS
from server.rpc.call import Call
from server.rpc.rates import BURST_SECONDS, RateLimited, RateLimits


class Peer:
    """grpc's context of a call that comes by the edge."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


@pytest.fixture
def servicer() -> InviteServicer:
    unused: Any = None
    return InviteServicer(tokens=unused, cursors=unused, tenants=unused, agent_tokens=unused, limits=RateLimits())


async def guess(servicer: InviteServicer, address: str) -> type[Exception]:
    context: Any = Peer()
    call = Call(ANONYMOUS, context, "/switchboard.v1.InviteService/AcceptInvite", "test", {"x-forwarded-for": address})
    with pytest.raises((InviteInvalid, RateLimited)) as refused:
        await servicer.AcceptInvite(AcceptInviteRequest(invite_token="guessed"), call)
    return refused.type


async def test_an_address_that_guesses_is_limited_and_others_are_not(servicer: InviteServicer) -> None:
    many = int(ACCEPTED.caller * BURST_SECONDS)
    answers = [await guess(servicer, "192.0.2.1") for _ in range(2 * many)]
    assert answers[:many] == [InviteInvalid] * many
    assert RateLimited in answers
    assert await guess(servicer, "192.0.2.2") is InviteInvalid
