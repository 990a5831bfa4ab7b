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


def test_o13_what_a_removed_channel_had_to_send_fails_and_is_not_said_when_its_number_comes_back(
    numbers: Numbers,
) -> None:
    channel, sender = numbers.connect(), f"49{digits(9)}"
    number = channel["whatsapp"]["phoneNumberId"]
    other = numbers.connect()
    # By the simulator, which lets nobody be answered who did not write to it.
    numbers.control("inbound", {"from": sender, "phoneNumberId": number, "text": "hello"})
    conversation = numbers.first_conversation(channel)
    path = f"conversations/{conversation}/messages"
    numbers.hold(channel, held=True)
    sent = [numbers.call(path, {"text": {"body": f"old {index}"}})["message"]["id"] for index in range(3)]
    numbers.call(f"channels/{channel['id']}/disconnect", {})
    for message in sent:
        numbers.message_until(message, "MESSAGE_STATUS_FAILED")
    (update,) = numbers.call(f"messages/{sent[0]}/status-updates")["statusUpdates"]
    assert update["error"]["code"] == "channel_disconnected"
    assert numbers.refusal(path, {"text": {"body": "hi"}}) == "CHANNEL_NOT_SENDING"
    (delivery, *_) = numbers.call(f"deliveries?conversationId={conversation}")["deliveries"]
    assert numbers.refusal(f"deliveries/{delivery['id']}/retry", {}) == "CHANNEL_DISCONNECTED"
    again = numbers.connect(number)
    numbers.hold(channel, held=False)
    assert again["id"] == channel["id"]
    said = numbers.call(path, {"text": {"body": "new"}})["message"]["id"]
    numbers.message_until(said, "MESSAGE_STATUS_SENT", "MESSAGE_STATUS_DELIVERED", "MESSAGE_STATUS_READ")
    assert {numbers.call(f"messages/{each}")["message"]["status"] for each in sent} == {"MESSAGE_STATUS_FAILED"}
    assert numbers.channel(other)["state"] == "CHANNEL_STATE_ACTIVE"


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
