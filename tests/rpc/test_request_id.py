"""Every call has an id: the caller's or ours; it comes back, stands in errors and in the log."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from rpc_server import Contacts
from switchboard.v1 import contact_service_pb2 as rpc
from switchboard.v1.contact_service_pb2_grpc import ContactServiceStub

BEARER = ("authorization", "Bearer anybody")


async def listed(channel: aio.Channel, *metadata: tuple[str, str]) -> str:
    """Calls; the id that came back."""
    call = ContactServiceStub(channel).ListContacts(rpc.ListContactsRequest(), metadata=(BEARER, *metadata))
    await call
    return dict(await call.trailing_metadata())["x-request-id"]


@pytest.mark.parametrize("given", ["0192a3b4-0000-7000-8000-000000000001", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "req_a.b:c-7"])
async def test_the_callers_id_is_kept_everywhere(channel: aio.Channel, contacts: Contacts, given: str) -> None:
    assert await listed(channel, ("x-request-id", given)) == given
    call, logged = contacts.calls[0]
    assert (call.id, logged["request"]) == (given, given)


@pytest.mark.parametrize("given", ["", "short", "with space in it", "x" * 65, "-starts-with-a-dash", '"};drop'])
async def test_what_is_no_id_gets_one_of_ours(channel: aio.Channel, contacts: Contacts, given: str) -> None:
    made = await listed(channel, ("x-request-id", given))
    assert uuid.UUID(made).version == 7
    assert contacts.calls[0][1]["request"] == made


async def test_calls_without_an_id_get_different_ones(channel: aio.Channel) -> None:
    assert len({await listed(channel) for _ in range(5)}) == 5


@pytest.mark.parametrize("method", ["ListContacts", "NoSuchMethod"])
async def test_a_refusal_names_the_request(channel: aio.Channel, method: str) -> None:
    call: Any = channel.unary_unary(f"/switchboard.v1.ContactService/{method}")
    with pytest.raises(aio.AioRpcError) as refused:
        await call(b"", metadata=(("x-request-id", "order-4711"),))
    error: Any = refused.value
    assert error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
    info = error_details_pb2.RequestInfo()
    assert any(detail.Unpack(info) for detail in rpc_status.from_call(error).details)
    assert (info.request_id, dict(error.trailing_metadata())["x-request-id"]) == ("order-4711", "order-4711")
