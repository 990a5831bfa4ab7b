"""Connecting a number whose first call died between claiming the number and storing the channel."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.embedded.stack import Stack
from server.kit.clock import utc_now
from tests.known_number import know


def connect(stack: Stack, number: str, key: str) -> dict[str, Any]:
    body = {
        "name": "Second",
        "phoneNumberId": number,
        "wabaId": "1234567",
        "accessToken": "EAAx",
        "requestId": uuid.uuid4().hex,
    }
    know(stack.dev(), number, "1234567", "EAAx")
    asked = urllib.request.Request(
        stack.url + "/v1/channels:connectWhatsapp",
        method="POST",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def reason(refused: pytest.ExceptionInfo[urllib.error.HTTPError]) -> str:
    return str(json.load(refused.value)["details"][0]["reason"])


async def claimed(dev: dict[str, Any], tenant: str, number: str, *, ago: timedelta) -> None:
    """What a call left that died before its commit."""
    control = await asyncpg.connect(dev["postgres"]["control"])
    try:
        await control.execute(
            "INSERT INTO routes (provider, external_id, tenant_id, channel_id, create_time) VALUES ('whatsapp', $1, $2::uuid, $3, $4)",
            *(number, tenant, uuid.uuid4(), utc_now() - ago),
        )
    finally:
        await control.close()


async def test_a_claim_that_was_left_is_taken_over_once_nobody_can_be_at_it(stack: Stack, dev: dict[str, Any]) -> None:
    first, second = dev["tenants"]
    number = f"{uuid.uuid4().int % 10**15:015}"
    await claimed(dev, first["id"], number, ago=timedelta(minutes=2))
    with pytest.raises(urllib.error.HTTPError) as refused:
        connect(stack, number, second["key"])
    assert reason(refused) == "RESOURCE_EXISTS", "another tenant's, whatever became of it"
    assert connect(stack, number, first["key"])["channel"]["whatsapp"]["phoneNumberId"] == number
    with pytest.raises(urllib.error.HTTPError) as refused:
        connect(stack, number, first["key"])
    assert reason(refused) == "RESOURCE_EXISTS"


async def test_a_claim_of_a_moment_ago_may_still_become_a_channel(stack: Stack, dev: dict[str, Any]) -> None:
    number = f"{uuid.uuid4().int % 10**15:015}"
    await claimed(dev, dev["tenants"][0]["id"], number, ago=timedelta(seconds=5))
    with pytest.raises(urllib.error.HTTPError) as refused:
        connect(stack, number, dev["tenants"][0]["key"])
    assert reason(refused) == "DATABASE_UNAVAILABLE"
