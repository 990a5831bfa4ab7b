"""Every management field of Meta's that is not about templates, signed, through the real intake: what stands in the channel then."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.whatsapp_channel.number import LATER, Numbers

GOLDEN = json.loads((Path(__file__).parent / "golden" / "webhooks.json").read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_webhook_of_the_account_changes_its_channels(numbers: Numbers, name: str) -> None:
    row = GOLDEN[name]
    channel = numbers.connect()
    assert numbers.webhook(row["field"], row["value"]) == 200
    found = numbers.until(channel, **row["shows"])
    plain = channel["health"]
    told: dict[str, Any] = {key: value for key, value in found["health"].items() if plain.get(key) != value}
    told |= {key: found[key] for key in ("state", "stateReason") if key in found}
    assert told == row["shows"]


def test_a_business_that_shares_no_history_is_said_so_of_its_number(numbers: Numbers) -> None:
    channel, other = numbers.connect(), numbers.connect(shown="15550002222")
    about = {"display_phone_number": "15550001111", "phone_number_id": channel["whatsapp"]["phoneNumberId"]}
    error = {"code": 2593109, "title": "History sharing is turned off", "error_data": {"details": "By the business."}}
    assert numbers.webhook("history", {"metadata": about, "history": [{"errors": [error]}]}) == 200
    told = "2593109: History sharing is turned off"
    numbers.until(channel, alert={"type": "HISTORY_DECLINED", "severity": "INFO", "description": told})
    assert "alert" not in numbers.channel(other)["health"]


def test_a_username_that_is_reserved_says_nothing_and_one_that_is_deleted_is_gone(numbers: Numbers) -> None:
    channel = numbers.connect()
    told = {"display_phone_number": "15550001111", "username": "lucky_shrub"}
    numbers.webhook("business_username_updates", told | {"status": "reserved"}, at=LATER)
    numbers.webhook("business_username_updates", told | {"status": "hovering"}, at=LATER + 1)
    numbers.webhook("business_username_updates", told | {"status": "approved"}, at=LATER + 2)
    numbers.until(channel, username="lucky_shrub")
    numbers.webhook("business_username_updates", told | {"status": "deleted"}, at=LATER + 3)
    numbers.until(channel, username="")


def test_a_tier_of_prices_that_is_told_twice_is_one_alert(numbers: Numbers) -> None:
    channel = numbers.connect()
    told = {"event": "VOLUME_BASED_PRICING_TIER_UPDATE"}
    for later in (2, 1):
        tier = {"tier_update_time": LATER + later, "pricing_category": "MARKETING", "tier": "0:1000", "region": "India"}
        numbers.webhook("account_update", told | {"volume_tier_info": tier}, at=LATER + later)
    alert = {"type": told["event"], "severity": "", "description": ""}
    found = numbers.until(channel, alert=alert)
    assert (found["state"], found["health"].get("stale", False)) == ("CHANNEL_STATE_ACTIVE", False)


def test_an_older_webhook_that_comes_later_changes_nothing_of_what_a_newer_one_told(numbers: Numbers) -> None:
    channel = numbers.connect()
    told = {"display_phone_number": "15550001111", "event": "UPGRADE"}
    limit = "max_daily_conversations_per_business"
    numbers.webhook("phone_number_quality_update", told | {limit: "TIER_10K"}, at=LATER + 60)
    numbers.until(channel, messagingLimit="TIER_10K")
    numbers.webhook("phone_number_quality_update", told | {limit: "TIER_2K"}, at=LATER)
    numbers.webhook("account_review_update", {"decision": "APPROVED"}, at=LATER)
    assert numbers.until(channel, reviewStatus="approved")["health"]["messagingLimit"] == "TIER_10K"


def test_a_number_is_found_by_its_digits_and_where_two_could_be_meant_both_are_read_again(numbers: Numbers) -> None:
    first, second = numbers.connect(shown="+1 (555) 000-1111"), numbers.connect(shown="15550002222")
    event = {"event": "THROUGHPUT_UPGRADE", "max_daily_conversations_per_business": "TIER_100K"}
    numbers.webhook("phone_number_quality_update", event | {"display_phone_number": "15550001111"})
    numbers.until(first, throughputPerSecond=1000, messagingLimit="TIER_100K", stale=False)
    assert "throughputPerSecond" not in numbers.channel(second)["health"]
    twin = numbers.connect(shown="15550002222")
    numbers.webhook("phone_number_quality_update", event | {"display_phone_number": "15550002222"}, at=LATER + 1)
    for each in (second, twin):
        assert "throughputPerSecond" not in numbers.until(each, stale=True)["health"]


def test_a_blocked_account_refuses_sends_keeps_its_history_and_is_free_again_once_it_is_reconnected(
    numbers: Numbers,
) -> None:
    mine, theirs = numbers.connect(), numbers.connect(shown="15550002222", tenant=1)
    sender = f"49{LATER}"
    numbers.message(mine["whatsapp"]["phoneNumberId"], "hello", sender=sender)
    conversation = _conversation(numbers, mine)
    numbers.webhook("account_update", {"event": "PARTNER_REMOVED"})
    blocked = numbers.until(mine, state="CHANNEL_STATE_BLOCKED")
    assert blocked["stateReason"] == "PARTNER_REMOVED"
    numbers.until(theirs, tenant=1, state="CHANNEL_STATE_BLOCKED")
    path = f"conversations/{conversation}/messages"
    assert numbers.refusal(path, {"text": {"body": "hi"}}) == "CHANNEL_NOT_SENDING"
    assert len(numbers.call(path)["messages"]) == 1
    numbers.webhook("account_update", {"event": "ACCOUNT_RECONNECTED"}, at=LATER + 1)
    assert numbers.until(mine, state="CHANNEL_STATE_ACTIVE")["health"]["stale"]


def _conversation(numbers: Numbers, channel: dict[str, Any]) -> str:
    deadline = time.monotonic() + 20
    while not (found := numbers.call(f"conversations?filter.channelId={channel['id']}")["conversations"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(found[0]["id"])
