"""Statistics follow the log: counts go down as well as up."""

import json
import time
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from server.embedded.stack import Stack

Call = Callable[..., dict[str, Any]]


def post(url: str, body: dict[str, Any]) -> None:
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method="POST"), timeout=10).close()


class Shop:
    """A tenant that nobody else's tests write to: its numbers rise for the customers of this file alone."""

    def __init__(self, dev: dict[str, Any]) -> None:
        self._dev, self._key = dev, dev["platform_key"]
        self._key = self.call("POST", "/v1/tenants", {"name": f"statistics-{uuid.uuid4().hex[:10]}"})["secret"]
        number = {"phone_number_id": f"{uuid.uuid4().int % 10**15:015}", "waba_id": "1234567", "access_token": "EAAx"}
        app = {
            "app_secret": dev["meta_app"]["app_secret"],
            "webhook_url": dev["url"] + dev["meta_app"]["webhook_path"],
        }
        post(dev["simulator"]["url"] + "/_control/accounts", number | app | {"display_phone_number": "15550783990"})
        names = {"phone_number_id": "phoneNumberId", "waba_id": "wabaId", "access_token": "accessToken"}
        self.call("POST", "/v1/channels:connectWhatsapp", {"name": "Shop"} | {names[key]: number[key] for key in names})
        self._number = number["phone_number_id"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        request = urllib.request.Request(self._dev["url"] + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def customer_writes(self, sender: str, text: str) -> None:
        body = {"from": sender, "text": text, "phoneNumberId": self._number}
        post(self._dev["simulator"]["url"] + "/_control/inbound", body)


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack.dev())


def counts(call: Call) -> dict[str, int]:
    return {row["status"]: row["count"] for row in call("GET", "/v1/conversations/statistics")["byStatus"]}


def eventually(found: Callable[[], object], wanted: object) -> None:
    until = time.monotonic() + 40
    while found() != wanted and time.monotonic() < until:
        time.sleep(0.05)
    assert found() == wanted


def conversation_saying(call: Call, text: str) -> dict[str, Any]:
    """What a customer wrote is applied a little later: waits for it."""

    def found() -> list[dict[str, Any]]:
        rows = call("GET", "/v1/conversations?pageSize=200")["conversations"]
        return [row for row in rows if row["lastMessagePreview"] == text]

    eventually(lambda: len(found()), 1)
    return found()[0]


def test_a_conversation_is_counted_under_its_present_status_alone(shop: Shop) -> None:
    call = shop.call
    before = counts(call)
    new, open_ = "CONVERSATION_STATUS_NEW", "CONVERSATION_STATUS_OPEN"
    shop.customer_writes("4915190000001", "count me")
    eventually(lambda: counts(call).get(new, 0), before.get(new, 0) + 1)
    conversation = conversation_saying(call, "count me")
    call("PATCH", f"/v1/conversations/{conversation['id']}/status", {"status": open_})
    eventually(lambda: counts(call), {**before, open_: before.get(open_, 0) + 1})


def test_what_happened_is_told_by_interval_and_value(shop: Shop) -> None:
    call, quarter = shop.call, int(time.time()) // 900 * 900
    start, end = (
        datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z") for at in (quarter, quarter + 1800)
    )
    asked = f"/v1/statistics?startTime={start}&endTime={end}&timeZone=Asia/Kathmandu&interval=STATISTICS_INTERVAL_DAY"

    def told(dimension: str) -> list[Any]:
        found: list[Any] = call("GET", f"{asked}&dimensions=STATISTICS_DIMENSION_{dimension}")["statistics"]
        return found

    def answered() -> int:
        return sum(row["firstResponse"]["count"] for row in told("CHANNEL"))

    before = answered()
    shop.customer_writes("4915190000002", "how long does it take")
    conversation = conversation_saying(call, "how long does it take")
    call("POST", f"/v1/conversations/{conversation['id']}/messages", {"text": {"body": "not long"}})
    eventually(answered, before + 1)
    # One row for each day: a midnight of Kathmandu may be amid the range.
    (row,) = [row for row in told("CHANNEL") if row["firstResponse"]["count"]]
    assert row["channelId"] == conversation["channelId"]
    assert row["outboundCount"] >= 1
    assert 0 < float(row["firstResponse"]["median"].rstrip("s")) < 60
    # A key replied, which is no agent.
    assert "agentId" not in next(row for row in told("AGENT") if row["firstResponse"]["count"])
