"""A number of its own account whose webhooks are signed and come through the stack's public door."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import asyncpg

from server.embedded.stack import Stack
from server.simulator import payloads
from server.simulator.payloads import Number
from tests.known_number import know

# After every connect of this run: what was told before is older than what the number itself said then.
LATER = int(time.time()) + 3600

DUE = "UPDATE channels SET check_due_time = clock_now() WHERE id = ANY($1::text[]::uuid[])"


def digits(count: int) -> str:
    return f"1{uuid.uuid4().int % 10 ** (count - 1):0{count - 1}}"


def plain(shown: str) -> str:
    return "".join(character for character in shown if character.isdigit())


class Numbers:
    """Numbers of one WhatsApp business account, connected by tenants of the stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.dev = stack, stack.dev()
        self.waba, self.token = digits(15), f"EAA{digits(15)}"

    def call(self, path: str, body: Any = None, *, tenant: int = 0) -> Any:
        key = self.dev["tenants"][tenant]["key"]
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"}
        asked = urllib.request.Request(f"{self.stack.url}/v1/{path}", data=data, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def refusal(self, path: str, body: Any = None, *, tenant: int = 0) -> str:
        try:
            self.call(path, body, tenant=tenant)
        except urllib.error.HTTPError as error:
            return str(json.load(error)["details"][0]["reason"])
        raise AssertionError("it was not refused")

    def connect(self, number: str = "", *, shown: str = "15550001111", tenant: int = 0) -> dict[str, Any]:
        number = number or digits(15)
        self.know(number, display_phone_number=plain(shown))
        asked = {"phoneNumberId": number, "wabaId": self.waba, "accessToken": self.token, "name": "Shop"}
        found: dict[str, Any] = self.call("channels:connectWhatsapp", asked, tenant=tenant)["channel"]
        return found

    def know(self, number: str, **more: Any) -> None:
        """Tells the simulator of a number, or of what is different of one."""
        usual = {"access_token": self.token, "messaging_limit": "TIER_50", "name_status": "PENDING_REVIEW"}
        given = usual | more
        know(self.dev, number, self.waba, given.pop("access_token"), **given)

    def control(self, path: str, body: Any = None, *, method: str = "POST") -> Any:
        """A call of the simulator's control."""
        url, data = f"{self.dev['simulator']['url']}/_control/{path}", json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=20) as answer:
            return json.load(answer)

    def channel(self, channel: dict[str, Any], *, tenant: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.call(f"channels/{channel['id']}", tenant=tenant)["channel"]
        return found

    def webhook(self, field: str, value: Any, *, at: int = LATER, waba: str = "") -> int:
        entry = {"id": waba or self.waba, "time": at, "changes": [{"field": field, "value": value}]}
        return self.post({"object": "whatsapp_business_account", "entry": [entry]})

    def message(self, number: str, text: str, *, sender: str, at: int | None = None) -> int:
        """A customer's message to a number."""
        return self.messages(number, [text], sender=sender, at=at)

    def messages(self, number: str, texts: list[str], *, sender: str, at: int | None = None) -> int:
        """Several in one webhook."""
        when = int(time.time()) if at is None else at
        made = [payloads.InboundText(text=text, timestamp=when, phone=sender) for text in texts]
        return self.post(payloads.inbound_body(Number(self.waba, number, "15550001111"), made))

    def first_conversation(self, channel: dict[str, Any]) -> str:
        """The channel's conversation, once it has one."""
        deadline = time.monotonic() + 20
        while not (found := self.call(f"conversations?filter.channelId={channel['id']}")["conversations"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return str(found[0]["id"])

    def message_until(self, message_id: str, *statuses: str) -> None:
        deadline = time.monotonic() + 40
        while (found := self.call(f"messages/{message_id}")["message"]["status"]) not in statuses:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def audited(self, method: str, resource_id: str) -> dict[str, Any]:
        """What the trail has of a call, once it has it."""
        deadline = time.monotonic() + 20
        while not (found := self.call(f"audit/entries?method={method}&resourceId={resource_id}")["entries"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        entry: dict[str, Any] = found[0]
        return entry

    def subscribed(self) -> bool:
        """Whether the account's webhooks are sent, as Meta's side has it."""
        url = f"{self.dev['simulator']['url']}/v26.0/{self.waba}/subscribed_apps"
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return bool(json.load(answer)["data"])

    def check_now(self, *channels: dict[str, Any], tenant: int = 0) -> None:
        """What would be read again soon, or in a day, is now."""
        ids = [channel["id"] for channel in channels]
        asyncio.run(_change(self.stack, self.dev["tenants"][tenant]["id"], DUE, ids))

    def hold(self, channel: dict[str, Any], *, held: bool, tenant: int = 0) -> None:
        """What is sent on the channel stays in its queue, or goes."""
        until = "clock_now() + interval '1 hour'" if held else "clock_now()"
        statement = f"UPDATE channels SET next_send_time = {until} WHERE id = ANY($1::text[]::uuid[])"
        asyncio.run(_change(self.stack, self.dev["tenants"][tenant]["id"], statement, [channel["id"]]))

    def post(self, body: Any) -> int:
        raw, app = payloads.encode(body), self.dev["meta_app"]
        headers = {"X-Hub-Signature-256": payloads.sign(raw, app["app_secret"]), "content-type": "application/json"}
        asked = urllib.request.Request(self.dev["url"] + app["webhook_path"], data=raw, headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)

    def until(self, channel: dict[str, Any], *, tenant: int = 0, **wanted: Any) -> dict[str, Any]:
        """The channel, once these fields of it, or of its health, are so."""
        deadline = time.monotonic() + 20
        while True:
            found = self.channel(channel, tenant=tenant)
            if all((found | found["health"]).get(name) == value for name, value in wanted.items()):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


async def _change(stack: Stack, tenant_id: str, statement: str, ids: list[str]) -> None:
    control = await asyncpg.connect(stack.dev()["postgres"]["control"])
    name = await control.fetchval("SELECT database_name FROM tenants WHERE id = $1::text::uuid", tenant_id)
    await control.close()
    connection = await asyncpg.connect(stack.server_dsn(name))
    await connection.execute(statement, ids)
    await connection.close()
