"""Statistics follow the log: counts go down as well as up."""

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Call = Callable[..., dict[str, Any]]


def caller(dev: dict[str, Any]) -> Call:
    def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {dev['tenant_key']}", "content-type": "application/json"}
        request = urllib.request.Request(dev["url"] + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    return call


def counts(call: Call) -> dict[str, int]:
    return {row["status"]: row["count"] for row in call("GET", "/v1/conversations/statistics")["byStatus"]}


def eventually(found: Callable[[], object], wanted: object) -> None:
    until = time.monotonic() + 10
    while found() != wanted and time.monotonic() < until:
        time.sleep(0.05)
    assert found() == wanted


def conversation_saying(call: Call, text: str) -> dict[str, Any]:
    """What a customer wrote is applied a little later: waits for it, as a number may have risen for somebody else."""

    def found() -> list[dict[str, Any]]:
        rows = call("GET", "/v1/conversations?pageSize=200")["conversations"]
        return [row for row in rows if row["lastMessagePreview"] == text]

    eventually(lambda: len(found()), 1)
    return found()[0]


def test_a_conversation_is_counted_under_its_present_status_alone(dev: dict[str, Any], customer_writes: Any) -> None:
    call = caller(dev)
    before = counts(call)
    new, open_ = "CONVERSATION_STATUS_NEW", "CONVERSATION_STATUS_OPEN"
    customer_writes("4915190000001", "count me")
    eventually(lambda: counts(call).get(new, 0), before.get(new, 0) + 1)
    conversation = conversation_saying(call, "count me")
    call("PATCH", f"/v1/conversations/{conversation['id']}/status", {"status": open_})
    eventually(lambda: counts(call), {**before, open_: before.get(open_, 0) + 1})


def test_what_happened_is_told_by_interval_and_value(dev: dict[str, Any], customer_writes: Any) -> None:
    call, quarter = caller(dev), int(time.time()) // 900 * 900
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
    customer_writes("4915190000002", "how long does it take")
    conversation = conversation_saying(call, "how long does it take")
    call("POST", f"/v1/conversations/{conversation['id']}/messages", {"text": {"body": "not long"}})
    eventually(answered, before + 1)
    (row,) = [row for row in told("CHANNEL") if row["channelId"] == conversation["channelId"]]
    assert row["outboundCount"] >= 1
    assert 0 < float(row["firstResponse"]["median"].rstrip("s")) < 60
    # A key replied, which is no agent.
    assert "agentId" not in next(row for row in told("AGENT") if row["firstResponse"]["count"])
