"""The trail is as near behind as docs/audit.md says."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
import uuid
from typing import Any

import pytest

BEHIND_SECONDS = 2.0
CALLS = 20


class Caller:
    """The tenant's key, over REST."""

    def __init__(self, dev: dict[str, Any]) -> None:
        self.dev = dev

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.dev['tenant_key']}", "content-type": "application/json"}
        asked = urllib.request.Request(self.dev["url"] + path, data=data, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def entered(self, conversation_id: str, cause: str) -> bool:
        wanted = urllib.parse.urlencode({"resourceId": conversation_id})
        return any(
            entry.get("causeId") == cause for entry in self.ask(f"/v1/audit/entries?{wanted}").get("entries", ())
        )


@pytest.mark.faults
def test_the_trail_is_at_most_two_seconds_behind(dev: dict[str, Any], customer_writes: Any) -> None:
    """Of calls, and of messages sent, which come from the log."""
    caller = Caller(dev)
    customer_writes("491519000777", "how late")
    began = time.monotonic()
    while not (found := caller.ask("/v1/conversations?pageSize=1")["conversations"]) and time.monotonic() < began + 10:
        time.sleep(0.05)
    conversation_id = found[0]["id"]
    late = []
    for number in range(CALLS):
        cause = uuid.uuid4().hex
        if number % 2:
            caller.ask(f"/v1/conversations/{conversation_id}/notes", {"text": "x", "requestId": cause})
        else:
            text = {"body": "on its way"}
            caller.ask(f"/v1/conversations/{conversation_id}/messages", {"text": text, "requestId": cause})
        began = time.monotonic()
        while not caller.entered(conversation_id, cause) and time.monotonic() < began + 10:
            time.sleep(0.02)
        late.append(time.monotonic() - began)
    print(f"behind: {max(late):.2f} s at most, {sorted(late)[CALLS // 2]:.2f} s in the middle of {CALLS}")
    assert max(late) <= BEHIND_SECONDS
