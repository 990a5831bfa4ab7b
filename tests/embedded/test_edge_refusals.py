"""What Envoy refuses speaks like the server: one google.rpc.Status with one ErrorInfo, over REST and over gRPC."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
import yaml
from embedded_front import Front, start_envoy, wait_for_envoy
from embedded_upstream import Upstream
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from switchboard.v1 import error_reason_pb2

from server.embedded import envoy
from server.embedded.home import Home

ID = "0190a0b0-0000-7000-8000-000000000001"
JSON = {"content-type": "application/json"}
STATUS = f"/v1/conversations/{ID}/status"

REFUSALS = [
    pytest.param("PATCH", STATUS, '{"status":', 400, 3, "MALFORMED_REQUEST", id="broken JSON"),
    pytest.param("PATCH", STATUS, "hello", 400, 3, "MALFORMED_REQUEST", id="not JSON"),
    pytest.param("PATCH", STATUS, '{"snoozeUntilReply": 7}', 400, 3, "MALFORMED_REQUEST", id="wrong type"),
    pytest.param("PATCH", STATUS, '{"status": "DANCING"}', 400, 3, "MALFORMED_REQUEST", id="unknown enum word"),
    pytest.param("GET", "/v1/conversations?status=1", None, 400, 3, "MALFORMED_REQUEST", id="unknown query field"),
    pytest.param("GET", "/v1/conversations?pageSize=x", None, 400, 3, "MALFORMED_REQUEST", id="wrong type in query"),
    pytest.param("GET", "/v1/conversations?filter.status=X", None, 400, 3, "MALFORMED_REQUEST", id="enum in query"),
    pytest.param("GET", "/v1/nothing", None, 404, 5, "ROUTE_NOT_FOUND", id="no route"),
    pytest.param("GET", "/", None, 404, 5, "ROUTE_NOT_FOUND", id="outside the API"),
    pytest.param("PUT", STATUS, "{}", 404, 5, "ROUTE_NOT_FOUND", id="wrong method"),
    pytest.param("POST", "/v1/webhooks/meta/1", "a" * (5 << 20), 413, 8, "PAYLOAD_TOO_LARGE", id="too large"),
]


@pytest.mark.parametrize(("method", "path", "body", "http", "code", "reason"), REFUSALS)
async def test_a_refusal_is_a_status_with_a_reason_and_never_reaches_the_server(
    clean: Front, method: str, path: str, body: str | None, http: int, code: int, reason: str
) -> None:
    async with clean.client.request(
        method, clean.url + path, data=body and io.BytesIO(body.encode()), headers=JSON
    ) as answer:
        told = await answer.json()
    assert answer.status == http
    assert_refusal(told, code, reason)
    # Envoy may have opened the call before it read the body; it never gave the server a request.
    assert clean.upstream.sizes == []


def assert_refusal(told: dict, code: int, reason: str) -> None:
    assert told["code"] == code
    assert told["message"]
    assert told["details"] == [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "switchboard"}
    ]
    error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")


async def test_an_unknown_enum_number_passes_for_the_server_to_refuse(clean: Front) -> None:
    async with clean.client.patch(clean.url + STATUS, data='{"status": 99}', headers=JSON) as answer:
        assert answer.status == 200
    # Of the webhook that was too large a moment ago, Envoy may have opened the call without giving the server a request.
    called = [method for method, _ in clean.upstream.seen if "Webhook" not in method]
    assert called == ["/switchboard.v1.ConversationService/UpdateConversationStatus"]


async def test_a_refusal_of_the_server_keeps_its_details(clean: Front, refused) -> None:
    clean.upstream.refusal = refused
    async with clean.client.patch(clean.url + STATUS, data='{"status": 1}', headers=JSON) as answer:
        told = await answer.json()
    assert (answer.status, told["code"], told["message"]) == (400, 9, "The conversation is archived.")
    assert told["details"][0]["reason"] == "CONVERSATION_ARCHIVED"


async def test_a_grpc_call_that_no_route_takes_is_unimplemented(clean: Front) -> None:
    refusal = await grpc_refusal(clean.target, "/grpc.health.v1.Health/Check")
    assert (refusal.code, reason_of(refusal)) == (grpc.StatusCode.UNIMPLEMENTED.value[0], "METHOD_UNKNOWN")
    assert clean.upstream.seen == []


async def grpc_refusal(target: str, method: str):
    async with grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(method)(b"", timeout=10)
    return rpc_status.from_call(raised.value)


def reason_of(status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "switchboard"
    return info.reason


def test_both_forms_of_every_edge_refusal_agree() -> None:
    """The gRPC form is base64 in envoy.yaml, so nobody sees what it says: it must say what the JSON beside it says."""
    manager = envoy.load()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    spoken = 0
    for mapper in manager["local_reply_config"]["mappers"]:
        for added in mapper.get("headers_to_add", []):
            status = status_pb2.Status.FromString(base64.b64decode(added["header"]["value"]))
            assert status.message == mapper["body_format_override"]["text_format_source"]["inline_string"]
            error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason_of(status)}")
            spoken += 1
    assert spoken == 5


@asynccontextmanager
async def own_edge(tmp_path: Path, upstream: Upstream, patience: dict | None = None) -> AsyncIterator[int]:
    """The port of an Envoy of one's own; `patience` changes its running configuration, for what takes long otherwise."""
    home = Home(tmp_path / "home")
    with home.owned():
        edge, child = start_envoy(home, await upstream.start(), tmp_path)
        try:
            await wait_for_envoy(child)
            if patience:
                child.stop()
                hurry(home.envoy / "envoy.yaml", **patience)
                child.start()
                await wait_for_envoy(child)
            yield edge.http
        finally:
            child.close()
            await upstream.stop()


def hurry(file: Path, *, calls: int, timeout: str) -> None:
    running = yaml.safe_load(file.read_text())
    for listener in running["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        limit = next(each["typed_config"] for each in manager["http_filters"] if "ratelimit" in each["name"])
        limit["token_bucket"] = {"max_tokens": calls, "tokens_per_fill": 1, "fill_interval": "3600s"}
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            if route.get("route", {}).get("timeout") == "15s":
                route["route"]["timeout"] = timeout
    file.write_text(yaml.safe_dump(running))


async def assert_both_forms(port: int, *, http: int, code: int, reason: str, grpc_code: int) -> None:
    """The same refusal to a REST caller and to a gRPC caller."""
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/v1/conversations") as answer:
        assert answer.status == http
        assert_refusal(await answer.json(), code, reason)
    refusal = await grpc_refusal(f"127.0.0.1:{port}", "/switchboard.v1.ConversationService/ListConversations")
    assert (refusal.code, reason_of(refusal)) == (grpc_code, reason)


async def test_with_every_server_down_both_kinds_of_caller_hear_it(tmp_path: Path) -> None:
    upstream = Upstream()
    async with own_edge(tmp_path, upstream) as port:
        await upstream.stop()
        await assert_both_forms(port, http=503, code=14, reason="SERVER_UNAVAILABLE", grpc_code=14)


async def test_a_server_that_is_too_slow_is_a_timeout_for_both_kinds_of_caller(tmp_path: Path) -> None:
    upstream = Upstream(delay=60)
    async with own_edge(tmp_path, upstream, {"calls": 100, "timeout": "0.2s"}) as port:
        await assert_both_forms(port, http=504, code=4, reason="TIMEOUT", grpc_code=14)


async def test_too_many_calls_are_refused_to_both_kinds_of_caller(tmp_path: Path) -> None:
    upstream = Upstream()
    async with own_edge(tmp_path, upstream, {"calls": 1, "timeout": "5s"}) as port:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/v1/conversations") as first:
            assert first.status == 200
        await assert_both_forms(port, http=429, code=8, reason="RATE_LIMITED", grpc_code=8)
