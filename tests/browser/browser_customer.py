"""A customer of the first tenant, through the simulator: signed webhooks in, Graph requests out."""

import base64
import itertools
from dataclasses import dataclass
from typing import Any

import aiohttp

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_numbers = itertools.count(491_520_000_001)


@dataclass(frozen=True)
class Customer:
    """Writes to one phone number of the tenant. Each has a name and a number that nobody else has."""

    client: aiohttp.ClientSession
    simulator: str
    phone_number_id: str
    number: str
    name: str

    @classmethod
    def of(cls, client: aiohttp.ClientSession, dev: dict[str, Any]) -> "Customer":
        number = str(next(_numbers))
        channel = next(channel for channel in dev["channels"] if channel["tenant"] == dev["tenant"])
        return cls(client, dev["simulator"]["url"], channel["phone_number_id"], number, f"Customer {number[-4:]}")

    async def writes(self, text: str) -> None:
        body = {"from": self.number, "name": self.name, "text": text, "phoneNumberId": self.phone_number_id}
        async with self.client.post(f"{self.simulator}/_control/inbound", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def sends_picture(self, caption: str) -> bytes:
        """A picture of one pixel; its content."""
        media_id = str(next(_numbers))
        about = {"phoneNumberId": self.phone_number_id, "mimeType": "image/png", "bytes": PIXEL}
        async with self.client.put(f"{self.simulator}/_control/media/{media_id}", json=about) as answer:
            assert answer.status == 200, await answer.text()
            digest = (await answer.json())["sha256"]
        content = {"id": media_id, "mime_type": "image/png", "sha256": digest, "caption": caption}
        body = {"from": self.number, "type": "image", "content": content, "phoneNumberId": self.phone_number_id}
        async with self.client.post(f"{self.simulator}/_control/inbound", json=body) as answer:
            assert answer.status == 200, await answer.text()
        return base64.b64decode(PIXEL)

    async def received(self) -> list[str]:
        """The texts that reached this customer's number."""
        async with self.client.get(f"{self.simulator}/_control/requests") as answer:
            requests = (await answer.json())["requests"]
        sent = [request["body"] for request in requests if request["status"] == 200 and "text" in request["body"]]
        return [body["text"]["body"] for body in sent if body["to"].lstrip("+") == self.number]
