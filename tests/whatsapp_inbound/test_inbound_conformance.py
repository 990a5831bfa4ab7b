"""Every documented kind of message, from the signed webhook to the stored row and to what the contract shows: golden JSON.

`GOLDEN=write pytest tests/whatsapp_inbound` writes the files anew; they are read by eye before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from inbound_rows import ROWS, Row

from server.embedded.stack import Stack
from tests.golden import golden, normal
from tests.intake.intake_post import Post, until

GOLDEN = Path(__file__).parent / "golden"
MESSAGES = """
SELECT m.id::text, m.direction, m.type, m.status, m.arrival, m.text, m.details::text AS details,
    array_remove(array_agg(to_jsonb(a)::text ORDER BY a.position), NULL) AS attachments
FROM messages m JOIN conversations c ON c.id = m.conversation_id JOIN identity_aliases i ON i.identity_id = c.identity_id
LEFT JOIN message_attachments a ON a.message_id = m.id
WHERE i.value = $1 GROUP BY m.id ORDER BY m.arrival
"""
CONVERSATION = """
SELECT c.status, c.message_count, c.inbound_count, c.last_message_preview AS preview
FROM conversations c JOIN identity_aliases i ON i.identity_id = c.identity_id WHERE i.value = $1
"""
# A second look for a message of another form comes at once, by a worker.
UNSETTLED = """
SELECT (SELECT count(*) FROM timers WHERE kind IN ('reply_link', 'message_change') AND coalesce((payload ->> 'tries')::int, 0) = 0)
    + (SELECT count(*) FROM media_fetches)
"""


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {name: make(Row()) for name, make in ROWS.items()}


@pytest.fixture(scope="module")
async def seen(stack: Stack, rows: dict[str, Row]) -> dict[str, Any]:
    """All rows in one webhook, and what became of each."""
    dev = stack.dev()
    async with aiohttp.ClientSession() as session, Post.open(session, dev) as post:
        number = post.acme.number
        value = {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": number.display_phone_number,
                "phone_number_id": number.phone_number_id,
            },
            "contacts": [{"profile": {"name": "Ana"}, "wa_id": row.phone} for row in rows.values()],
            "messages": [item for row in rows.values() for item in row.items],
        }
        entry = {"id": number.waba_id, "changes": [{"field": "messages", "value": value}]}
        assert (await post.signed({"object": "whatsapp_business_account", "entry": [entry]})).status == 200

        async def settled() -> bool:
            left = await post.acme.database.fetchval("SELECT count(*) FROM journal WHERE state = 'received'")
            return left == 0 and await post.acme.database.fetchval(UNSETTLED) == 0

        await until(settled)
        return {name: await came(post, row) for name, row in rows.items()}


async def came(post: Post, row: Row) -> dict[str, Any]:
    """What there is of the customer, and of the group where the row has one."""
    found = await thread_of(post, row.phone)
    if any("group_id" in item for item in row.items):
        found = {"alone": found, "group": await thread_of(post, row.group)}
    return dict(json.loads(json.dumps(found).replace(row.phone, "<customer>")))


async def thread_of(post: Post, address: str) -> dict[str, Any]:
    stored = [dict(record) for record in await post.acme.database.fetch(MESSAGES, address)]
    shown = [(await post.call("GET", f"/v1/messages/{each['id']}"))["message"] for each in stored]
    for each in stored:
        each["details"] = json.loads(each["details"] or "{}")
        each["attachments"] = [json.loads(item) for item in each["attachments"]]
    conversation = await post.acme.database.fetchrow(CONVERSATION, address)
    found = {"conversation": dict(conversation or {}), "stored": stored, "shown": shown}
    return dict(normal(found))


@pytest.mark.parametrize("name", ROWS)
async def test_a_row_is_stored_and_shown_as_written_down(seen: dict[str, Any], name: str) -> None:
    assert seen[name] == golden(GOLDEN / f"{name}.json", seen[name])


def test_every_file_is_of_a_row() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(ROWS)
