"""Channels that are disconnected, and come back."""

from __future__ import annotations

import time
import urllib.error

import pytest

from tests.whatsapp_channel.number import Numbers, digits


def test_a_disconnected_channel_keeps_its_history_sends_nothing_and_is_the_same_one_when_its_number_comes_back(
    numbers: Numbers,
) -> None:
    channel = numbers.connect()
    number, sender = channel["whatsapp"]["phoneNumberId"], f"49{digits(9)}"
    numbers.message(number, "hello", sender=sender)
    conversation = _written(numbers, channel)[0]["id"]
    ended = numbers.call(f"channels/{channel['id']}/disconnect", {})["channel"]
    assert ended["state"] == "CHANNEL_STATE_DISCONNECTED"
    path = f"conversations/{conversation}/messages"
    assert [item["text"]["body"] for item in numbers.call(path)["messages"]] == ["hello"]
    assert numbers.refusal(path, {"text": {"body": "hi"}}) == "CHANNEL_NOT_SENDING"
    for call in ("resume", "templates:sync"):
        assert numbers.refusal(f"channels/{channel['id']}/{call}", {}) == "CHANNEL_DISCONNECTED"
    assert numbers.message(number, "anybody there?", sender=sender) == 200
    again = numbers.connect(number)
    assert (again["id"], again["state"]) == (channel["id"], "CHANNEL_STATE_ACTIVE")
    # What came while nobody had the number waited for whoever connects it.
    deadline = time.monotonic() + 60
    while len(numbers.call(path)["messages"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_number_is_nobody_elses_while_it_is_connected_nor_just_after(numbers: Numbers) -> None:
    """Some process may still take its webhooks for the old owner's: see tests/tenancy/test_routes.py for what comes later."""
    channel = numbers.connect()
    number = channel["whatsapp"]["phoneNumberId"]
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="409"):
            numbers.connect(number, tenant=1)
        numbers.call(f"channels/{channel['id']}/disconnect", {})


def _written(numbers: Numbers, channel: dict[str, str]) -> list[dict[str, str]]:
    deadline = time.monotonic() + 60
    while not (found := numbers.call(f"conversations?filter.channelId={channel['id']}")["conversations"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    listed: list[dict[str, str]] = found
    return listed
