"""Channels of systems of the user's own: connected once, handed items once, and sent to by their own addresses alone."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from server.embedded.stack import Stack
from tests.known_number import know

Ask = Callable[..., Any]
SETTING = {"name": "callback_url", "value": "http://127.0.0.1:9/"}


@pytest.fixture
def ask(stack: Stack, dev: dict[str, Any]) -> Ask:
    """`ask("channels:connect", {...})`: the answer to a call with the tenant's key; without a body it is a GET."""

    def call(
        path: str, body: dict[str, Any] | None = None, key: str = dev["tenant_key"], method: str | None = None
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"}
        asked = urllib.request.Request(f"{stack.url}/v1/{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)

    return call


def refusal(ask: Ask, path: str, body: dict[str, Any], **more: str) -> str:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(path, body, **more)
    found: list[dict[str, Any]] = json.load(refused.value)["details"]
    fields = [violation["field"] for detail in found for violation in detail.get("fieldViolations", ())]
    return " ".join([found[0]["reason"], *fields])


def connected(ask: Ask, **more: Any) -> Any:
    body = {"name": "Own", "provider": "PROVIDER_API", "settings": [SETTING], "requestId": uuid.uuid4().hex}
    return ask("channels:connect", body | more)


def message(**more: Any) -> dict[str, Any]:
    given = {"id": uuid.uuid4().hex, "userRef": uuid.uuid4().hex, "text": "Hello", "createTime": "2026-11-23T09:30:00Z"}
    return {"messages": [given | more]}


def conversations(ask: Ask, channel_id: str, count: int) -> list[Any]:
    """Those of a channel, once there are so many."""
    deadline = time.monotonic() + 40
    while len(found := ask(f"conversations?filter.channelId={channel_id}")["conversations"]) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return list(found)


def test_the_repeat_of_a_connect_tells_the_same_secret_and_nothing_else_does(ask: Ask) -> None:
    request_id = uuid.uuid4().hex
    first, again = (connected(ask, requestId=request_id) for _ in range(2))
    assert first == again
    assert first["secret"].startswith("whsec_")
    assert first["secret"] not in json.dumps(ask(f"channels/{first['channel']['id']}"))
    assert connected(ask)["secret"] != first["secret"]


@pytest.mark.parametrize("settings", [[], [SETTING, SETTING], [SETTING, {"name": "colour", "value": "red"}]])
def test_missing_double_and_unknown_settings_are_refused(ask: Ask, settings: list[Any]) -> None:
    body = {"name": "Own", "provider": "PROVIDER_API", "settings": settings}
    assert refusal(ask, "channels:connect", body) == "INVALID_FIELDS settings"


def test_a_whatsapp_number_is_connected_by_the_same_call(ask: Ask, dev: dict[str, Any]) -> None:
    number = f"{uuid.uuid4().int % 10**15:015}"
    know(dev, number, "1234567", "EAAx")
    given = {"phone_number_id": number, "waba_id": "1234567", "access_token": "EAAx", "graph_version": "v26.0"}
    settings = [{"name": name, "value": value} for name, value in given.items()]
    made = connected(ask, provider="PROVIDER_WHATSAPP", settings=settings)
    assert made["channel"]["whatsapp"]["phoneNumberId"] == number
    assert "secret" not in made


def test_what_is_handed_in_twice_is_there_once(ask: Ask) -> None:
    channel_id, once = connected(ask)["channel"]["id"], message()
    assert ask(f"channels/{channel_id}/receive", once) == {}
    (row,) = conversations(ask, channel_id, 1)
    # In one call with another behind it: once that is there, the repeat was looked at.
    once["messages"][0]["createTime"] = "2026-11-23T09:45:00Z"
    end = message(userRef=once["messages"][0]["userRef"], text="The end")
    ask(f"channels/{channel_id}/receive", {"messages": [*once["messages"], *end["messages"]]})
    deadline = time.monotonic() + 40
    while len(found := ask(f"conversations/{row['id']}/messages")["messages"]) < 2:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert sorted(each["text"]["body"] for each in found) == ["Hello", "The end"]


def test_a_key_that_may_hand_in_may_nothing_else(ask: Ask) -> None:
    channel_id = connected(ask)["channel"]["id"]
    narrow = {"name": "hands in", "permissions": ["PERMISSION_CHANNELS_RECEIVE"]}
    other = {"name": "reads", "permissions": ["PERMISSION_CHANNELS_READ"]}
    hands_in, reads = (ask("auth/api-keys", each)["secret"] for each in (narrow, other))
    assert ask(f"channels/{channel_id}/receive", message(), key=hands_in) == {}
    assert refusal(ask, f"channels/{channel_id}/receive", message(), key=reads) == "PERMISSION_MISSING"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(f"channels/{channel_id}", key=hands_in)


def test_nobody_is_met_at_an_address_that_the_channel_does_not_send_to(ask: Ask, dev: dict[str, Any]) -> None:
    own, number = connected(ask)["channel"]["id"], dev["channels"][0]["id"]
    started = {"channelId": own, "phoneNumber": "+4915112345678"}
    assert refusal(ask, "conversations", started) == "INVALID_FIELDS phone_number"
    assert refusal(ask, "contacts", started | {"name": "Ana"}) == "INVALID_FIELDS phone_number"
    ask(f"channels/{own}/receive", message())
    contact_id = conversations(ask, own, 1)[0]["contact"]["id"]
    wrong = {"channelId": number, "kind": "ALIAS_KIND_USER_REF", "value": "user-1"}
    assert refusal(ask, f"contacts/{contact_id}/identities", wrong) == "INVALID_FIELDS kind"
    right = wrong | {"channelId": own, "value": (reference := uuid.uuid4().hex)}
    identities = ask(f"contacts/{contact_id}/identities", right)["contact"]["identities"]
    (found,) = [each for each in identities if each["aliases"][0]["value"] == reference]
    assert ask("conversations", {"channelId": own, "identityId": found["id"]})["created"]


def test_a_repeat_tells_the_secret_of_its_own_call_and_never_a_later_one(ask: Ask) -> None:
    connect_id, rotate_id = uuid.uuid4().hex, uuid.uuid4().hex
    made = connected(ask, requestId=connect_id)
    path = f"channels/{made['channel']['id']}/rotate-secret"
    first, again = (ask(path, {"requestId": rotate_id}) for _ in range(2))
    assert first == again
    assert first["secret"].startswith("whsec_")
    assert first["secret"] != made["secret"]
    assert "secretRotateTime" in first["channel"]["api"]
    assert "secret" not in connected(ask, requestId=connect_id)
    assert ask(path, {"overlap": "0s"})["secret"] != first["secret"]
    assert "secret" not in ask(path, {"requestId": rotate_id})


def test_a_secret_is_rotated_and_never_given(ask: Ask, dev: dict[str, Any]) -> None:
    channel_id, number = connected(ask)["channel"]["id"], dev["channels"][0]["id"]
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert refusal(ask, f"channels/{channel_id}/resume", {"accessToken": secret}) == "INVALID_FIELDS access_token"
    assert ask(f"channels/{channel_id}/resume", {})["channel"]["state"] == "CHANNEL_STATE_ACTIVE"
    assert refusal(ask, f"channels/{number}/rotate-secret", {}) == "CHANNEL_MAKES_NO_SECRETS"
    too_long = {"overlap": "86401s"}
    assert refusal(ask, f"channels/{channel_id}/rotate-secret", too_long) == "INVALID_FIELDS overlap"


def test_a_channel_calls_back_elsewhere_when_its_address_is_changed(ask: Ask, dev: dict[str, Any]) -> None:
    channel_id, number = connected(ask)["channel"]["id"], dev["channels"][0]["id"]

    def patched(path: str, url: str) -> Any:
        return ask(f"channels/{path}", {"callbackUrl": url}, method="PATCH")

    ask(f"channels/{channel_id}/rotate-secret", {})
    before = ask(f"channels/{channel_id}")["channel"]["api"]
    moved = patched(channel_id, "https://desk.example/other")["channel"]["api"]
    assert moved == before | {"callbackUrl": "https://desk.example/other"}
    assert ask(f"channels/{channel_id}")["channel"]["api"] == moved
    for path, url in ((channel_id, "ftp://desk.example/"), (number, "https://desk.example/")):
        refused = refusal(ask, f"channels/{path}", {"callbackUrl": url}, method="PATCH")
        assert refused == "INVALID_FIELDS callback_url"


def test_a_message_to_an_address_that_is_not_allowed_fails_and_says_so(ask: Ask) -> None:
    inner = {"name": "callback_url", "value": "http://10.0.0.1:9/"}
    channel_id = connected(ask, settings=[inner])["channel"]["id"]
    ask(f"channels/{channel_id}/receive", message())
    (row,) = conversations(ask, channel_id, 1)
    sent = ask(f"conversations/{row['id']}/messages", {"text": {"body": "Hi"}})["message"]["id"]
    deadline = time.monotonic() + 40
    while "error" not in (found := ask(f"messages/{sent}")["message"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (found["status"], found["error"]["code"]) == ("MESSAGE_STATUS_FAILED", "address_not_public")
