"""The two users of a simulator: an application and its webhook endpoint, and a test with the control API."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

PHONE_NUMBER_ID = "106540352242922"
CUSTOMER = "16505551234"
TOKEN = "EAAJtoken"
SECRET = "app-secret"


@dataclass
class Webhook:
    """One POST as it arrived."""

    headers: Mapping[str, str]
    raw: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.raw)["entry"][0]["changes"][0]["value"]


@dataclass
class Receiver:
    """A webhook endpoint: keeps what arrives, answers with the statuses lined up and then with 200."""

    url: str = ""
    seen: list[Webhook] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    most_at_once: int = 0
    pause: float = 0.0
    _at_once: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(self.pause)
        self.seen.append(Webhook(request.headers.copy(), await request.read()))
        self._at_once -= 1
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def wait(self, count: int) -> list[Webhook]:
        async with asyncio.timeout(30):
            while len(self.seen) < count:
                await asyncio.sleep(0.002)
        return self.seen

    def statuses(self) -> list[Any]:
        return [status for webhook in self.seen for status in webhook.value.get("statuses", [])]


@dataclass
class Meta:
    """The simulator as its two users see it: an application with a token, and a test with the control API."""

    url: str
    session: aiohttp.ClientSession
    receiver: Receiver
    stop: Callable[[], Awaitable[None]]

    async def post(
        self, body: object, *, path: str = f"/v26.0/{PHONE_NUMBER_ID}/messages", token: str | None = TOKEN
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.post(self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def control(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        async with self.session.request(method, f"{self.url}/_control/{path}", json=body) as response:
            return response.status, await response.json()

    async def fault(self, kind: str, **fields: object) -> str:
        """Arms a fault; its id."""
        status, answer = await self.control("POST", "faults", {"kind": kind, **fields})
        assert status == 201, answer
        return str(answer["faults"][0]["id"])

    async def fired(self) -> Any:
        return (await self.control("GET", "faults"))[1]["fired"]

    async def requests(self) -> list[Any]:
        requests: list[Any] = (await self.control("GET", "requests"))[1]["requests"]
        return requests

    async def inbound(self, **fields: object) -> Any:
        status, answer = await self.control("POST", "inbound", {"from": CUSTOMER, "text": "hello", **fields})
        assert status == 200, answer
        return answer


def text(**fields: object) -> dict[str, object]:
    """A valid text message; `fields` replace or add top-level members, None removes one."""
    body: dict[str, object] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+{CUSTOMER}",
        "type": "text",
        "text": {"body": "good morning", "preview_url": False},
    }
    return {name: value for name, value in (body | fields).items() if value is not None}


def account(webhook_url: str = "http://127.0.0.1:9/", **fields: object) -> dict[str, object]:
    return {
        "phone_number_id": PHONE_NUMBER_ID,
        "waba_id": "102290129340398",
        "display_phone_number": "15550783881",
        "access_token": TOKEN,
        "app_secret": SECRET,
        "webhook_url": webhook_url,
        **fields,
    }


def hours_ago(hours: float) -> int:
    return int(time.time() - hours * 3600)


Start = Callable[..., Awaitable[Meta]]
