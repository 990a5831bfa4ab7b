"""Templates from the provider to the inbox: synchronised, changed by webhooks, gone."""

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

BODY = {"type": "BODY", "text": "Hello {{1}}, order {{2}} is ready.", "example": {"body_text": [["Mia", "17"]]}}


class Shop:
    """A number of its own account, of which the simulator knows, and whose webhooks come to the stack."""

    def __init__(self, stack: Stack, dev: dict[str, Any]) -> None:
        self.stack, self.dev = stack, dev
        self.waba, self.number, token = (
            f"{uuid.uuid4().int % 10**15:015}",
            f"1{uuid.uuid4().int % 10**14:014}",
            "EAAJshop",
        )
        account = {"phone_number_id": self.number, "waba_id": self.waba, "access_token": token}
        more = {
            "display_phone_number": "15550007777",
            "app_secret": dev["meta_app"]["app_secret"],
            "webhook_url": dev["url"] + dev["meta_app"]["webhook_path"],
        }
        self.control("accounts", account | more)
        given = {"phoneNumberId": self.number, "wabaId": self.waba, "accessToken": token}
        connected = self.ask("channels:connectWhatsapp", {"name": "Shop", **given})
        self.path = f"channels/{connected['channel']['id']}/templates"

    def _json(self, url: str, method: str, body: Any, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def ask(self, path: str, body: Any = None) -> Any:
        key = f"Bearer {self.dev['tenant_key']}"
        return self._json(f"{self.stack.url}/v1/{path}", "GET" if body is None else "POST", body, authorization=key)

    def control(self, path: str, body: Any, method: str = "POST") -> Any:
        return self._json(f"{self.dev['simulator']['url']}/_control/{path}", method, body)

    def put(self, *names: str) -> list[str]:
        templates = [{"name": name, "language": "en_US", "components": [BODY]} for name in names]
        ids: list[str] = self.control("templates", {"wabaId": self.waba, "templates": templates})["ids"]
        return ids

    def sync(self) -> Any:
        return self.ask(f"{self.path}:sync", {})

    def templates(self, query: str = "") -> list[Any]:
        found: list[Any] = self.ask(self.path + query)["templates"]
        return found

    def until(self, name: str, told: Callable[[Any], bool]) -> Any:
        """A template, once it is so."""
        deadline = time.monotonic() + 40
        while True:
            found = next((each for each in self.templates() if each["name"] == name), None)
            if found is not None and told(found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack, stack.dev())


def test_what_the_provider_has_is_listed_after_a_synchronisation_and_what_it_has_not_is_gone(shop: Shop) -> None:
    kept, dropped = shop.put("kept", "dropped")
    assert shop.sync() == {"foundCount": 2, "changedCount": 2, "goneCount": 0}
    assert shop.sync() == {"foundCount": 2, "changedCount": 0, "goneCount": 0}
    first = shop.until("kept", lambda _: True)
    assert (first["externalId"], first["language"], first["status"]) == (kept, "en_US", "TEMPLATE_STATUS_APPROVED")
    assert first["components"] == [
        {
            "type": "BODY",
            "format": "",
            "text": "Hello {{1}}, order {{2}} is ready.",
            "buttons": [],
            "places": ["1", "2"],
            "cards": [],
        }
    ]
    assert shop.ask(f"{shop.path}/{first['id']}")["template"] == first
    shop.control(f"templates/{dropped}", None, "DELETE")
    assert shop.sync() == {"foundCount": 1, "changedCount": 0, "goneCount": 1}
    assert shop.until("dropped", lambda each: "goneTime" in each)
    assert [each["name"] for each in shop.templates("?sendable=true")] == ["kept"]


def test_a_webhook_of_the_account_changes_the_template(shop: Shop) -> None:
    (template_id,) = shop.put("told")
    shop.sync()
    changed = {"status": "PAUSED", "reason": "NONE", "quality": "RED", "correctCategory": "MARKETING"}
    assert shop.control(f"templates/{template_id}", changed) == {"webhookStatuses": [200, 200, 200]}
    found = shop.until(
        "told",
        lambda each: (
            each["status"].endswith("PAUSED") and each["quality"].endswith("RED") and "upcomingCategory" in each
        ),
    )
    assert (found["providerStatus"], found["upcomingCategory"], found["stale"]) == ("PAUSED", "MARKETING", False)


def test_a_token_that_is_refused_changes_nothing(shop: Shop) -> None:
    shop.put("safe")
    shop.sync()
    before = shop.templates()
    number, token = f"2{uuid.uuid4().int % 10**14:014}", uuid.uuid4().hex
    know(shop.dev, number, shop.waba, token)
    channel = {"name": "Other", "phoneNumberId": number, "accessToken": token}
    connected = shop.ask("channels:connectWhatsapp", channel | {"wabaId": shop.waba})
    know(shop.dev, number, shop.waba, "another one")
    with pytest.raises(urllib.error.HTTPError) as refused:
        shop.ask(f"channels/{connected['channel']['id']}/templates:sync", {})
    assert json.load(refused.value)["details"][0]["reason"] == "PROVIDER_REFUSED"
    assert shop.templates() == before
