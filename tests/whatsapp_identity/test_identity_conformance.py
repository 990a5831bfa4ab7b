"""Who somebody is after all that Meta told, in the order it came: golden JSON of contacts, threads and conflicts.

`GOLDEN=write pytest tests/whatsapp_identity` writes the files anew; they are read by eye before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from identity_rows import ROWS, Who

from server.embedded.stack import Stack
from tests.golden import golden, normal
from tests.intake.intake_post import Post, until

GOLDEN = Path(__file__).parent / "golden"
CONTACTS = """
SELECT DISTINCT i.contact_id::text AS id FROM identities i JOIN identity_aliases a ON a.identity_id = i.id
WHERE a.value = ANY($1::text[])
"""
THREADS = """
SELECT c.id, c.contact_name AS name, c.message_count, c.inbound_count, c.reply_window_expire_time IS NOT NULL AS windowed
FROM conversations c WHERE c.contact_id = ANY($1::uuid[]) ORDER BY c.create_time
"""
CONFLICTS = """
SELECT x.kind FROM identity_conflicts x JOIN identities i ON i.id = x.identity_id WHERE i.contact_id = ANY($1::uuid[])
"""
FAILED = "SELECT kind, result FROM journal_items WHERE state = 'failed' AND create_time >= $1"
# What is told of nobody waits for a week.
WAITING = "SELECT count(*) FROM timers WHERE kind = 'identity_change' AND NOT payload::text LIKE '%' || $1 || '%'"


@pytest.fixture(scope="module")
async def seen(stack: Stack) -> dict[str, Any]:
    """The steps of all rows, the first ones in one webhook, then the second ones; and what became of each customer."""
    people = {name: Who() for name in ROWS}
    steps = {name: make(people[name]) for name, make in ROWS.items()}
    nobody = people["number_changed_of_nobody"].old
    async with aiohttp.ClientSession() as session, Post.open(session, stack.dev()) as post:
        began = await post.acme.database.fetchval("SELECT now()")
        number = post.acme.number
        about = {"display_phone_number": number.display_phone_number, "phone_number_id": number.phone_number_id}
        for index in range(max(map(len, steps.values()))):
            values = [given[index] for given in steps.values() if index < len(given)]
            changes = [
                {
                    "field": next(
                        field for field in ("user_id_update", "user_preferences", "messages") if field in value
                    ),
                    "value": {"messaging_product": "whatsapp", "metadata": about, **value},
                }
                for value in values
            ]
            body = {"object": "whatsapp_business_account", "entry": [{"id": number.waba_id, "changes": changes}]}
            assert (await post.signed(body)).status == 200
            await until(lambda: settled(post))

        async def nobody_waits() -> bool:
            return bool(await post.acme.database.fetchval(WAITING, nobody) == 0)

        await until(nobody_waits)
        assert await post.acme.database.fetch(FAILED, began) == []
        return {name: await came(post, who) for name, who in people.items()}


async def settled(post: Post) -> bool:
    return bool(await post.acme.database.fetchval("SELECT count(*) FROM journal WHERE state = 'received'") == 0)


async def came(post: Post, who: Who) -> dict[str, Any]:
    contacts = [row["id"] for row in await post.acme.database.fetch(CONTACTS, list(who.names))]
    shown = [(await post.call("GET", f"/v1/contacts/{contact_id}"))["contact"] for contact_id in contacts]
    for contact in shown:
        for identity in contact["identities"]:
            identity["aliases"].sort(key=lambda alias: who.names.get(alias["value"], ""))
    found = {
        "contacts": sorted(shown, key=lambda contact: contact["createTime"]),
        "threads": [dict(row) | {"id": ""} for row in await post.acme.database.fetch(THREADS, contacts)],
        "conflicts": [row["kind"] for row in await post.acme.database.fetch(CONFLICTS, contacts)],
    }
    text = json.dumps(normal(found), ensure_ascii=False)
    for value, name in who.names.items():
        text = text.replace(value, name)
    return dict(json.loads(text))


@pytest.mark.parametrize("name", ROWS)
async def test_a_customer_is_whom_it_is_written_down(seen: dict[str, Any], name: str) -> None:
    assert seen[name] == golden(GOLDEN / f"{name}.json", seen[name])


def test_every_file_is_of_a_row() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(ROWS)
