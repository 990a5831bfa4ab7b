from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from server.embedded.stack import Stack

Call = Callable[..., dict[str, Any]]


def request(url: str, method: str, body: Any = None, token: str = "") -> dict[str, Any]:
    asked = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {token}"} if token else {},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def until(look: Callable[[], Any], wanted: Any, *, within: float = 40) -> None:
    end = time.monotonic() + within
    while (found := look()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.1)


@pytest.fixture
def second(stack: Stack) -> dict[str, Any]:
    """The second tenant: nobody else's tests send from its number."""
    dev = stack.dev()
    tenant = dev["tenants"][1]
    channel = next(item for item in dev["channels"] if item["tenant"] == tenant["id"])
    accounts = json.loads(stack.home.simulator.read_text())["accounts"]
    account = next(item for item in accounts if item["phone_number_id"] == channel["phone_number_id"])
    return {"key": tenant["key"], "channel": channel, "account": account, "simulator": dev["simulator"]["url"]}


def test_a_channel_paused_by_a_revoked_token_keeps_its_queue_and_sends_it_when_resumed(
    stack: Stack, second: dict[str, Any]
) -> None:
    def call(method: str, path: str, body: Any = None) -> dict[str, Any]:
        return request(stack.url + path, method, body, second["key"])

    def listed() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = call("GET", "/v1/conversations?pageSize=200")["conversations"]
        return rows

    control, channel, account = second["simulator"] + "/_control", second["channel"], second["account"]
    inbound = {"from": "491520000111", "text": "hello from 111", "phoneNumberId": channel["phone_number_id"]}
    request(control + "/inbound", "POST", inbound)
    # Theirs, and nobody else's: the provider takes an answer only to who wrote.
    said = lambda: [row["id"] for row in listed() if row["lastMessagePreview"] == inbound["text"]]  # noqa: E731
    until(lambda: len(said()), wanted=1)
    (conversation,) = said()
    messages = f"/v1/conversations/{conversation}/messages"
    state = lambda: call("GET", f"/v1/channels/{channel['id']}")["channel"]["state"]  # noqa: E731
    request(control + "/accounts", "POST", account | {"access_token": "EAAnew"})
    sent = call("POST", messages, {"text": {"body": "are you there?"}})["message"]["id"]
    until(state, "CHANNEL_STATE_PAUSED")
    status = lambda: call("GET", f"/v1/messages/{sent}")["message"]["status"]  # noqa: E731
    assert status() == "MESSAGE_STATUS_PENDING"
    with pytest.raises(urllib.error.HTTPError) as refused:
        call("POST", messages, {"text": {"body": "hello?"}})
    assert json.load(refused.value)["details"][0]["reason"] == "CHANNEL_NOT_SENDING"

    answer = call("POST", f"/v1/channels/{channel['id']}/reauthorize", {"accessToken": "EAAnew"})
    assert answer["channel"]["state"] == "CHANNEL_STATE_ACTIVE"
    assert "stateReason" not in answer["channel"]
    until(status, "MESSAGE_STATUS_READ")
    # What was delivered may be told after what was read.
    until(lambda: len(call("GET", f"/v1/messages/{sent}/status-updates")["statusUpdates"]), 4)

    request(control + "/accounts", "POST", account)
    call("POST", f"/v1/channels/{channel['id']}/resume", {"accessToken": account["access_token"]})
