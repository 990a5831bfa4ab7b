"""A shop whose templates are at the simulator, and whose webhooks come to a stack."""

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
        self.account = account | more
        self.control("accounts", self.account)
        given = {"phoneNumberId": self.number, "wabaId": self.waba, "accessToken": token}
        connected = self.ask("channels:connectWhatsapp", {"name": "Shop", **given})
        # Others of this process may have said something of all accounts.
        self.review()
        self.path = f"channels/{connected['channel']['id']}/templates"

    def _json(self, url: str, method: str, body: Any, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        key, verb = f"Bearer {self.dev['tenant_key']}", method or ("GET" if body is None else "POST")
        return self._json(f"{self.stack.url}/v1/{path}", verb, body, authorization=key)

    def refused(self, path: str, body: Any = None, method: str | None = None) -> tuple[str, dict[str, str]]:
        """Why a call is refused: the reason, and the data of it; of fields that are wrong, these."""
        with pytest.raises(urllib.error.HTTPError) as error:
            self.ask(path, body, method)
        details = json.load(error.value)["details"]
        fields = {each["field"]: each["description"] for part in details for each in part.get("fieldViolations", ())}
        return details[0]["reason"], fields or details[0].get("metadata", {})

    def get(self, name: str) -> Any:
        """The template of a name."""
        return self.until(name, lambda _: True)

    def control(self, path: str, body: Any, method: str = "POST") -> Any:
        return self._json(f"{self.dev['simulator']['url']}/_control/{path}", method, body)

    def review(self, **given: Any) -> None:
        """What becomes of templates that are written from now on; by default they are approved."""
        self.control("reviews", {"wabaId": self.waba, **given})

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
