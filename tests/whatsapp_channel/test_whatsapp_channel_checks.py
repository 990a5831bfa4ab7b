"""What Meta is asked before a number is connected, when its token is changed, and whenever somebody wants to know."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from tests.known_number import know
from tests.whatsapp_channel.number import Numbers, digits

GOLDEN = json.loads((Path(__file__).parent / "golden" / "checks.json").read_text())


class Wanted:
    """A number that is to be connected as a row says."""

    def __init__(self, numbers: Numbers, row: dict[str, Any]) -> None:
        self.numbers, self.number = numbers, digits(15)
        self.row = json.loads(json.dumps(row).replace("{app}", numbers.dev["meta_app"]["id"]))
        self.waba = numbers.waba
        numbers.know(self.number, **self.row.get("account", {}))
        if self.row.get("other_account"):
            self.waba = digits(15)
            know(numbers.dev, digits(15), self.waba, numbers.token)

    def connect(self) -> Any:
        asked = {"phoneNumberId": self.number, "wabaId": self.waba, "accessToken": self.numbers.token, "name": "Shop"}
        fault = self.row.get("fault")
        if fault is None:
            return self.numbers.call("channels:connectWhatsapp", asked | self.row.get("asked", {}))
        path = fault.pop("path").replace("{waba}", self.waba).replace("{number}", self.number)
        armed = self.numbers.control("faults", {"kind": "error", "filter": {"path": path}, **fault})["faults"][0]["id"]
        try:
            return self.numbers.call("channels:connectWhatsapp", asked)
        finally:
            self.numbers.control(f"faults/{armed}", method="DELETE")


@pytest.mark.parametrize("name", [name for name, row in GOLDEN.items() if "refused" in row])
def test_a_number_that_cannot_be_used_is_not_connected_and_the_refusal_names_the_way_out(
    numbers: Numbers, name: str
) -> None:
    wanted = Wanted(numbers, GOLDEN[name])
    with pytest.raises(urllib.error.HTTPError) as refused:
        wanted.connect()
    told = json.load(refused.value)
    info, row = told["details"][0], dict(GOLDEN[name]["refused"])
    assert info["reason"] == row.pop("reason")
    assert row.pop("says") in told["message"]
    remedy = row.pop("remedy", "")
    assert remedy in info["metadata"].get("remedy", "")
    assert {key: info["metadata"].get(key, "") for key in row} == row
    assert bool(info["metadata"].get("trace_id")) == (row.get("code") in ("100", "190", "200"))
    mine = numbers.call("channels?pageSize=200")["channels"]
    assert wanted.number not in [channel.get("whatsapp", {}).get("phoneNumberId") for channel in mine]


@pytest.mark.parametrize("name", [name for name, row in GOLDEN.items() if "connected" in row])
def test_a_number_that_can_be_used_is_connected_with_all_that_its_provider_tells(numbers: Numbers, name: str) -> None:
    wanted = Wanted(numbers, GOLDEN[name])
    channel = wanted.connect()["channel"]
    expected = wanted.row["connected"]
    assert {key: channel["health"].get(key) for key in expected} == expected
    assert channel["whatsapp"]["displayPhoneNumber"] == "+15550001111"


def test_checks_are_made_at_any_time_and_say_of_each_thing_how_it_is(numbers: Numbers) -> None:
    channel = numbers.connect()
    number = channel["whatsapp"]["phoneNumberId"]
    path = f"channels/{channel['id']}"
    well = numbers.call(f"{path}/check", {})
    results = {check["check"].removeprefix("CHANNEL_CHECK_KIND_"): check["result"] for check in well["checks"]}
    assert list(results) == [
        "TOKEN",
        "PERMISSIONS",
        "NUMBER",
        "ACCOUNT",
        "REGISTRATION",
        "MESSAGING",
        "SUBSCRIPTION",
        "APP",
    ]
    assert set(results.values()) == {"CHANNEL_CHECK_RESULT_PASSED"}
    numbers.know(number, subscribed=False, quality="YELLOW")
    bad = numbers.call(f"{path}/check", {})
    failed = [check["check"] for check in bad["channel"]["health"]["failedChecks"]]
    assert failed == ["CHANNEL_CHECK_KIND_SUBSCRIPTION"]
    assert bad["channel"]["health"]["quality"] == "CHANNEL_QUALITY_YELLOW"
    mended = numbers.call(f"{path}/check", {"subscribe": True})
    assert mended["channel"]["health"]["failedChecks"] == []
    numbers.know(number, access_token="EAAJanother")
    revoked = numbers.call(f"{path}/check", {})
    assert [check["result"] for check in revoked["checks"][:2]] == [
        "CHANNEL_CHECK_RESULT_FAILED",
        "CHANNEL_CHECK_RESULT_SKIPPED",
    ]
    token = revoked["channel"]["health"]["token"]
    assert (token["valid"], "revokeTime" in token) == (False, True)
    again = numbers.call(f"{path}/check", {})["channel"]["health"]["token"]
    assert again["revokeTime"] == token["revokeTime"], "since when, and not when it was asked last"
