"""Channels that are read again by themselves, and those whose token or account comes to an end and back."""

from __future__ import annotations

import json
import time
import urllib.error
import uuid
from typing import Any

import pytest

from tests.whatsapp_channel.number import LATER, Numbers, digits


def _id(channel: dict[str, Any]) -> str:
    return str(channel["whatsapp"]["phoneNumberId"])


def test_a7_where_two_numbers_could_be_meant_both_are_read_again_and_told_apart(numbers: Numbers) -> None:
    first, twin = numbers.connect(shown="15550002222"), numbers.connect(shown="15550002222")
    event = {"event": "UNFLAGGED", "display_phone_number": "15550002222"}
    numbers.webhook("phone_number_quality_update", event, at=int(time.time()))
    for each in (first, twin):
        numbers.until(each, stale=True)
    numbers.know(_id(first), display_phone_number="15550002222", quality="YELLOW")
    numbers.know(_id(twin), display_phone_number="15550002222", quality="RED")
    numbers.check_now(first, twin)
    numbers.until(first, stale=False, quality="CHANNEL_QUALITY_YELLOW")
    numbers.until(twin, stale=False, quality="CHANNEL_QUALITY_RED")


def test_a6_an_app_that_is_installed_again_is_subscribed_again_and_makes_no_second_channel(numbers: Numbers) -> None:
    channel = numbers.connect()
    numbers.webhook("account_update", {"event": "PARTNER_APP_UNINSTALLED"}, at=int(time.time()))
    numbers.until(channel, state="CHANNEL_STATE_BLOCKED")
    numbers.know(_id(channel), subscribed=False)
    numbers.webhook("account_update", {"event": "PARTNER_APP_INSTALLED"}, at=int(time.time()) + 1)
    numbers.until(channel, state="CHANNEL_STATE_ACTIVE")
    numbers.check_now(channel)
    numbers.until(channel, stale=False, failedChecks=[])
    assert numbers.subscribed()
    listed = [each["id"] for each in numbers.call("channels?pageSize=200")["channels"] if each.get("whatsapp")]
    assert listed.count(channel["id"]) == 1


def test_a5_a_restriction_of_all_sending_ends_with_its_time_once_meta_says_so_too(numbers: Numbers) -> None:
    channel = numbers.connect()
    end = int(time.time()) + 1
    restriction = {"restriction_type": "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", "expiration": end}
    told = {"event": "ACCOUNT_RESTRICTION", "restriction_info": [restriction]}
    numbers.know(_id(channel), can_send="BLOCKED")
    numbers.webhook("account_update", told, at=int(time.time()))
    numbers.until(channel, state="CHANNEL_STATE_BLOCKED", stateReason="ACCOUNT_RESTRICTION")
    time.sleep(max(end + 0.1 - time.time(), 0))
    numbers.check_now(channel)
    still = numbers.until(channel, restrictions=[])
    assert still["state"] == "CHANNEL_STATE_BLOCKED", "its time is over, but Meta says otherwise"
    numbers.know(_id(channel), can_send="AVAILABLE")
    numbers.check_now(channel)
    assert "stateReason" not in numbers.until(channel, state="CHANNEL_STATE_ACTIVE", restriction="", failedChecks=[])


def test_a_blocked_channel_is_resumed_only_if_its_provider_agrees(numbers: Numbers) -> None:
    channel = numbers.connect()
    path = f"channels/{channel['id']}/resume"
    numbers.webhook("account_update", {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}})
    numbers.until(channel, state="CHANNEL_STATE_BLOCKED")
    numbers.know(_id(channel), can_send="BLOCKED")
    with pytest.raises(urllib.error.HTTPError) as refused:
        numbers.call(path, {})
    info = json.load(refused.value)["details"][0]
    assert (info["reason"], info["metadata"]["check"]) == ("CHANNEL_CHECK_FAILED", "MESSAGING")
    assert numbers.channel(channel)["state"] == "CHANNEL_STATE_BLOCKED"
    numbers.know(_id(channel))
    assert numbers.call(path, {})["channel"]["state"] == "CHANNEL_STATE_ACTIVE"


def test_o5_a_revoked_token_is_found_before_a_send_meets_it_and_its_queue_goes_out_with_a_new_one(
    numbers: Numbers,
) -> None:
    channel = numbers.connect()
    sender = f"49{digits(9)}"
    numbers.control("inbound", {"from": sender, "text": "hello", "phoneNumberId": _id(channel)})
    conversation = numbers.first_conversation(channel)
    numbers.know(_id(channel), access_token="EAAJnew" + numbers.token)
    numbers.check_now(channel)
    paused = numbers.until(channel, state="CHANNEL_STATE_PAUSED")
    assert (paused["health"]["token"]["valid"], paused["stateReason"][:4]) == (False, "190:")
    path, messages = f"channels/{channel['id']}/reauthorize", f"conversations/{conversation}/messages"
    assert numbers.refusal(messages, {"text": {"body": "hi"}}) == "CHANNEL_NOT_SENDING"
    other = numbers.connect()
    assert numbers.refusal(path, {"accessToken": "EAAJof-nobody"}) == "CHANNEL_CHECK_FAILED"
    strange = Numbers(numbers.stack)
    strange.connect()
    # Good, and of another number.
    assert numbers.refusal(path, {"accessToken": strange.token}) == "CHANNEL_CHECK_FAILED"
    assert numbers.channel(channel)["state"] == "CHANNEL_STATE_PAUSED", "everything is as it was"
    again = numbers.call(path, {"accessToken": "EAAJnew" + numbers.token, "requestId": uuid.uuid4().hex})["channel"]
    assert (again["state"], again["health"]["token"]) == (
        "CHANNEL_STATE_ACTIVE",
        {"valid": True, "missingPermissions": []},
    )
    entry = numbers.audited("switchboard.v1.ChannelService.ReauthorizeChannel", channel["id"])
    assert numbers.token not in json.dumps(entry)
    sent = numbers.call(messages, {"text": {"body": "there you are"}})["message"]["id"]
    numbers.message_until(sent, "MESSAGE_STATUS_SENT", "MESSAGE_STATUS_DELIVERED", "MESSAGE_STATUS_READ")
    assert numbers.channel(other)["state"] == "CHANNEL_STATE_ACTIVE"


def test_the_last_number_of_an_account_that_leaves_ends_its_webhooks_and_the_first_that_comes_begins_them(
    numbers: Numbers,
) -> None:
    first, second = numbers.connect(), numbers.connect(tenant=1)
    assert numbers.subscribed()
    numbers.call(f"channels/{first['id']}/disconnect", {})
    assert numbers.subscribed(), "another tenant's number still needs them"
    numbers.call(f"channels/{second['id']}/disconnect", {}, tenant=1)
    assert not numbers.subscribed()
    numbers.connect(_id(first))
    assert numbers.subscribed()


def test_a_channel_whose_token_is_gone_can_be_disconnected_all_the_same(numbers: Numbers) -> None:
    channel = numbers.connect()
    numbers.know(_id(channel), access_token="EAAJother" + numbers.token)
    ended = numbers.call(f"channels/{channel['id']}/disconnect", {})["channel"]
    assert ended["state"] == "CHANNEL_STATE_DISCONNECTED"


def test_an_error_that_is_no_messages_own_stands_in_the_health_without_what_may_name_somebody(numbers: Numbers) -> None:
    channel = numbers.connect()
    error = {
        "code": 130429,
        "title": "Rate limit hit",
        "message": "Rate limit hit",
        "error_data": {"details": "Message to 4915112345678 failed"},
    }
    shown = {"display_phone_number": "15550001111", "phone_number_id": _id(channel)}
    value = {"messaging_product": "whatsapp", "metadata": shown, "errors": [error]}
    numbers.webhook("messages", value, at=LATER)
    deadline = time.monotonic() + 20
    while not (told := numbers.channel(channel)["health"].get("lastError")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (told["code"], told["message"]) == ("130429", "Rate limit hit")
    assert "4915112345678" not in json.dumps(numbers.channel(channel))


def test_messages_that_come_hours_late_show_in_the_pace_of_the_channel_and_one_alone_does_not(numbers: Numbers) -> None:
    channel = numbers.connect()
    sender, old = f"49{digits(9)}", int(time.time()) - 7200
    numbers.message(_id(channel), "one", sender=sender, at=old)
    deadline = time.monotonic() + 20
    while "lastInboundTime" not in (health := numbers.channel(channel)["health"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert health["webhookPace"] == "CHANNEL_WEBHOOK_PACE_UNSPECIFIED"
    assert 7190 < float(health["webhookLag"].removesuffix("s")) < 7260
    # As one payload: another process may take the next one, and knows only its own.
    numbers.messages(_id(channel), [f"{number}" for number in range(4)], sender=sender, at=old)
    numbers.until(channel, webhookPace="CHANNEL_WEBHOOK_PACE_LATE")
