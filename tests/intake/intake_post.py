"""Meta's side of a webhook, and a look at what came of it in the tenants' databases."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
from multidict import CIMultiDict

from server.simulator import payloads
from server.simulator.payloads import InboundText, Number, Status

SIGNATURE = "X-Hub-Signature-256"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["details"][0]["reason"])


@dataclass
class Side:
    """A tenant: its key, its number at Meta, and a connection to its database."""

    tenant_id: str
    key: str
    number: Number
    database: asyncpg.Connection
    channel_id: str

    async def texts(self, like: str) -> list[str]:
        rows = await self.database.fetch(
            "SELECT text FROM messages WHERE text LIKE $1 ORDER BY create_time, arrival", like
        )
        return [row["text"] for row in rows]


@dataclass
class Post:
    """Posts to the stack, signed as Meta signs."""

    session: aiohttp.ClientSession
    dev: dict[str, Any]
    control: asyncpg.Connection
    sides: list[Side] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, session: aiohttp.ClientSession, dev: dict[str, Any]) -> AsyncIterator[Post]:
        async with contextlib.AsyncExitStack() as stack:

            async def connect(dsn: str) -> asyncpg.Connection:
                connection = await asyncpg.connect(dsn)
                stack.push_async_callback(connection.close)
                return connection

            opened = cls(session, dev, await connect(dev["postgres"]["control"]))
            for tenant in dev["tenants"]:
                (channel,) = (item for item in dev["channels"] if item["tenant"] == tenant["id"])
                number = Number(channel["waba_id"], channel["phone_number_id"], "15550783881")
                database = await connect(tenant["postgres"])
                opened.sides.append(Side(tenant["id"], tenant["key"], number, database, channel["id"]))
            yield opened

    @property
    def acme(self) -> Side:
        return self.sides[0]

    @property
    def secret(self) -> str:
        return str(self.dev["meta_app"]["app_secret"])

    async def raw(self, body: bytes, headers: Mapping[str, str], *, app: str = "") -> Answer:
        path = f"/v1/webhooks/meta/{app}" if app else self.dev["meta_app"]["webhook_path"]
        whole = CIMultiDict({"Content-Type": "application/json"})
        whole.extend(headers)
        async with self.session.post(self.dev["url"] + path, data=io.BytesIO(body), headers=whole) as response:
            return Answer(response.status, await response.read())

    async def signed(self, body: bytes | dict[str, Any]) -> Answer:
        data = body if isinstance(body, bytes) else payloads.encode(body)
        return await self.raw(data, {SIGNATURE: payloads.sign(data, self.secret)})

    async def call(self, method: str, path: str, *, key: str = "", body: Any = None, **query: str) -> Any:
        headers = {"Authorization": f"Bearer {key or self.acme.key}"}
        async with self.session.request(
            method, self.dev["url"] + path, json=body, params=query, headers=headers
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def refusal(self, side: Side) -> str:
        """Why a tenant's key is not served by the process that the edge asks next; empty where it is."""
        headers = {"Authorization": f"Bearer {side.key}"}
        async with self.session.get(f"{self.dev['url']}/v1/channels", headers=headers) as response:
            found = await response.json()
        reasons = [detail.get("reason", "") for detail in found.get("details", [])]
        return next(filter(None, reasons), "")

    async def quarantined(self, body: bytes) -> list[asyncpg.Record]:
        """Parts of this body in the quarantine."""
        hashed = hashlib.sha256(body).digest()
        return list(
            await self.control.fetch("SELECT reason, external_id, body FROM quarantine WHERE content_hash = $1", hashed)
        )


def word() -> str:
    """A word that no other test writes."""
    return f"w{uuid.uuid4().hex[:12]}"


def phone() -> str:
    return f"49{uuid.uuid4().int % 10**10:010}"


def text(body: str, sender: str | None = None, **more: Any) -> InboundText:
    return InboundText(text=body, timestamp=int(time.time()), phone=sender or phone(), **more)


def body_of(side: Side, *messages: InboundText) -> dict[str, Any]:
    return payloads.inbound_body(side.number, messages)


def receipt_of(side: Side, wamid: str, status: str) -> dict[str, Any]:
    return payloads.statuses_body(side.number, [Status(wamid=wamid, status=status, timestamp=int(time.time()))])


async def until(check: Any, *, within: float = 40) -> Any:
    """What check() answers once that is true."""
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        found = await check()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {within} s")
