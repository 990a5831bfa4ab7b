"""A customer who sends files through the simulator, and an agent who sees them come."""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.intake.intake_post import Post, until

IDS = itertools.count(7_000_000_000_001)
PHONES = itertools.count(4_915_700_000_001)
ENDED = ("ATTACHMENT_STATE_STORED", "ATTACHMENT_STATE_FAILED", "ATTACHMENT_STATE_EXPIRED")


@dataclass
class Sent:
    """A message with a file, as the agent sees it."""

    post: Post
    message_id: str
    phone: str
    media_id: str

    async def message(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.post.call("GET", f"/v1/messages/{self.message_id}"))["message"]
        return found

    async def attachment(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.message())["attachments"][0]
        return found

    async def ended(self) -> dict[str, Any]:
        """The attachment once something has become of it."""

        async def over() -> bool:
            return (await self.attachment())["state"] in ENDED

        await until(over)
        return await self.attachment()

    async def database(self, sql: str) -> Any:
        return await self.post.acme.database.fetchval(sql, (await self.attachment())["id"])


@dataclass
class Side:
    """Sends files as a customer of the first tenant."""

    post: Post

    async def control(self, method: str, path: str, body: Any) -> dict[str, Any]:
        url = f"{self.post.dev['simulator']['url']}/_control/{path}"
        async with self.post.session.request(method, url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def put(self, content: bytes | None = None, *, media_id: str | None = None, **more: Any) -> dict[str, Any]:
        """A file at Meta."""
        number = self.post.acme.number.phone_number_id
        given = {} if content is None else {"bytes": base64.b64encode(content).decode()}
        return await self.control("PUT", f"media/{media_id or next(IDS)}", {"phoneNumberId": number, **given, **more})

    async def send(self, media: dict[str, Any], *, kind: str = "image", **more: Any) -> Sent:
        """A message that names it."""
        phone = str(next(PHONES))
        content = {"id": media["id"], "mime_type": media["mimeType"], "sha256": media["sha256"], **more}
        number = self.post.acme.number.phone_number_id
        body = {"from": phone, "phoneNumberId": number, "type": kind, "content": content}
        assert (await self.control("POST", "inbound", body))["webhookStatus"] == 200
        find = """
            SELECT p.message_id::text FROM message_attachments a JOIN message_parts p USING (message_id)
            JOIN conversations c ON c.id = p.conversation_id JOIN identity_aliases i ON i.identity_id = c.identity_id
            WHERE a.provider_media_id = $1 AND i.value = $2
        """

        async def there() -> bool:
            return await self.post.acme.database.fetchval(find, media["id"], phone) is not None

        await until(there)
        message_id = await self.post.acme.database.fetchval(find, media["id"], phone)
        return Sent(self.post, message_id, phone, media["id"])


async def fetch(
    session: aiohttp.ClientSession, url: str, *, method: str = "GET", **headers: str
) -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, url, headers=named) as answer:
        return answer.status, answer.headers, await answer.read()
