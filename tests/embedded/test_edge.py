"""The front door: what passes, what is stripped, which pages may call, what the web page is served with."""

import io
import json
import ssl
import subprocess
from pathlib import Path

import pytest
from embedded_front import ORIGIN, Front
from embedded_upstream import status
from yarl import URL

from server.embedded import binaries, envoy

PREFLIGHT = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,content-type"}


def test_the_configuration_is_valid_as_it_lies_in_the_checkout() -> None:
    command = [str(binaries.envoy()), "--mode", "validate", "-c", "envoy.yaml", "-l", "warning"]
    done = subprocess.run(command, cwd=envoy.CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout


def test_the_running_configuration_differs_in_what_belongs_to_a_place_only() -> None:
    edge = envoy.Edge(http=1, tls=2, admin=3, endpoints=[envoy.Endpoint(grpc=4, internal=5, media=6)])
    before, after = flat(envoy.load()), flat(envoy.render(envoy.load(), edge, certificate=Path("/c.yaml")))
    changed = {key.rsplit("/", 1)[1] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == {"address", "port_value", "path", "proto_descriptor"}


def flat(value: object, path: str = "") -> dict[str, object]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        return {path: value}
    return {key: leaf for name, inner in pairs for key, leaf in flat(inner, f"{path}/{name}").items()}


async def test_rest_grpc_web_and_tls_reach_the_server(clean: Front) -> None:
    context = ssl.create_default_context(cafile=str(clean.child.program.command[2]).replace("envoy.yaml", "tls.crt"))
    async with clean.client.get(f"{clean.url}/v1/conversations") as plain:
        assert (plain.status, plain.content_type) == (200, "application/json")
        assert (await plain.json())["conversations"] == []
    async with clean.client.get(f"https://127.0.0.1:{clean.edge.tls}/v1/conversations", ssl=context) as secure:
        assert secure.status == 200
    assert len(clean.upstream.seen) == 2


async def test_a_stream_comes_as_one_json_object_per_line(clean: Front) -> None:
    async with clean.client.get(f"{clean.url}/v1/inbox/watch") as answer:
        lines = (await answer.text()).splitlines()
    assert [json.loads(line)["events"][0]["seq"] for line in lines] == ["1", "2"]


async def test_unknown_keys_do_not_fail_the_handshake_and_fail_everything_else(clean: Front) -> None:
    query = "hub.mode=subscribe&hub.verify_token=v&hub.challenge=c&hub.something_new=1"
    async with clean.client.get(f"{clean.url}/v1/webhooks/meta/1?{query}") as answer:
        assert answer.status == 200
    async with clean.client.get(f"{clean.url}/v1/conversations?{query}") as answer:
        assert answer.status == 400


async def test_a_webhook_of_three_megabytes_arrives_whole(clean: Front) -> None:
    async with clean.client.post(f"{clean.url}/v1/webhooks/meta/1", data=io.BytesIO(b"\xc3\xa4" * 1_600_000)) as answer:
        assert answer.status == 200
    assert clean.upstream.sizes[0] > 3_000_000


async def test_what_only_a_proxy_may_say_is_stripped(clean: Front) -> None:
    said = {
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-tenant-id": "t",
        "x-user-id": "u",
        "some-bin": "aGk",
        "x-kept": "k",
    }
    async with clean.client.get(f"{clean.url}/v1/conversations", headers=said):
        pass
    _, metadata = clean.upstream.seen[0]
    assert metadata.keys().isdisjoint(said.keys() - {"x-kept"})
    assert metadata["x-kept"] == "k"


async def test_a_page_of_an_allowed_origin_may_call(clean: Front) -> None:
    async with clean.client.options(f"{clean.url}/v1/conversations", headers={"origin": ORIGIN, **PREFLIGHT}) as answer:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-methods"] == "GET, POST, PATCH, DELETE, OPTIONS"
    async with clean.client.get(f"{clean.url}/v1/conversations", headers={"origin": ORIGIN}) as answer:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}.evil.example", "null"])
async def test_a_page_of_another_origin_is_refused_without_a_call_to_the_server(clean: Front, origin: str) -> None:
    for path in ("/v1/conversations", "/switchboard.v1.InboxService/WatchInbox"):
        async with clean.client.options(clean.url + path, headers={"origin": origin, **PREFLIGHT}) as answer:
            assert "access-control-allow-origin" not in answer.headers
    assert clean.upstream.seen == []


async def test_an_answer_to_another_origin_carries_no_permission(clean: Front) -> None:
    async with clean.client.get(f"{clean.url}/v1/conversations", headers={"origin": "https://evil.example"}) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(("path", "kind"), [("/live/", "text/html"), ("/live/inbox.js", "text/javascript")])
async def test_the_web_page_is_served_with_a_strict_policy(clean: Front, path: str, kind: str) -> None:
    async with clean.client.get(clean.url + path) as answer:
        assert (answer.status, answer.content_type) == (200, kind)
        assert answer.headers["content-security-policy"] == envoy.CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/live/missing.js", "/live/%2e%2e/%2e%2e/etc/passwd", "/live/..%2f..%2fetc/passwd"])
async def test_only_files_of_the_page_are_served(clean: Front, path: str) -> None:
    async with clean.client.get(URL(clean.url + path, encoded=True)) as answer:
        assert answer.status in (400, 404)


async def test_the_access_log_holds_no_query(clean: Front) -> None:
    async with clean.client.get(f"{clean.url}/v1/inbox/watch?cursor=c4n4ry"):
        pass
    log = (clean.child.program.command[2]).replace("envoy/envoy.yaml", "logs/envoy.log")
    written = Path(log).read_text()
    assert "/v1/" in written or "/switchboard.v1." in written
    assert "c4n4ry" not in written


@pytest.mark.parametrize("given", [{}, {"x-request-id": "from-the-caller"}])
async def test_the_server_the_caller_and_the_access_log_have_one_request_id(
    clean: Front, given: dict[str, str]
) -> None:
    async with clean.client.get(f"{clean.url}/v1/conversations", headers=given) as answer:
        told = answer.headers["x-request-id"]
    assert clean.upstream.seen[0][1]["x-request-id"] == told
    assert told == given.get("x-request-id", told)


async def test_a_rate_limited_rest_call_is_429_with_retry_after(clean: Front) -> None:
    clean.upstream.refusal = status(8, "Too many calls.", "RATE_LIMITED")
    clean.upstream.headers = (("retry-after", "3"), ("ratelimit-limit", "10"))
    try:
        async with clean.client.get(f"{clean.url}/v1/conversations") as answer:
            assert (answer.status, answer.headers["retry-after"], answer.headers["ratelimit-limit"]) == (429, "3", "10")
            assert (await answer.json())["details"][0]["reason"] == "RATE_LIMITED"
    finally:
        clean.upstream.headers = ()
