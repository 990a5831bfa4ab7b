"""Fields of webhooks that nothing is made of, and some messages that are many: what is left of them in the tables."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from server.kit.logging import configure_command
from tests.desk import Desk
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet

# Meta's, as of November 2026, that are kept in the journal and nowhere else; and one that it has yet to invent.
FIELDS = (
    *("account_settings_update", "automatic_events", "calls", "flows", "partner_solutions"),
    *("group_lifecycle_update", "group_participants_update", "group_settings_update", "group_status_update"),
    *("payment_configuration_update", "smb_app_state_sync", "standby", "hologram_update"),
)
ITEMS = "SELECT kind, state, result FROM journal_items WHERE journal_id = $1 ORDER BY kind"
LEFT = """
SELECT (SELECT count(*) FROM conversations WHERE channel_id = $1) + (SELECT count(*) FROM messages WHERE channel_id = $1)
    + (SELECT count(*) FROM identity_aliases WHERE channel_id = $1)
"""
SAID = "SELECT text, sequence, arrival FROM messages WHERE channel_id = $1 AND conversation_id = $2 ORDER BY sequence"
CARDS = """
SELECT jsonb_array_length(m.details -> 'contacts' -> 'contacts') AS cards, (SELECT count(*) FROM contacts) AS people
FROM messages m WHERE m.channel_id = $1
"""


def counted(field: str) -> float:
    """Items of a kind that were ignored, as this process counts them."""
    labels = {"kind": field.partition(":")[0], "state": "ignored"}
    return REGISTRY.get_sample_value("switchboard_journal_items_total", labels) or 0


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", ["whole", "nothing"])
async def test_a_field_that_nothing_is_made_of_is_kept_and_counted(
    desks: Installed, desk: Desk, field: str, shape: str
) -> None:
    inlet = await Inlet.open(desks, desk)
    body = inlet.texts("-")
    (change,) = body["entry"][0]["changes"]
    about = change["value"]["metadata"]
    told = {"groups": [{"group_id": "Y2Fw", "type": "group_create", "timestamp": "1795478400"}], "event": "SOMETHING"}
    change |= {"field": field, "value": {"metadata": about, **told} if shape == "whole" else {"metadata": about}}
    before = counted(f"field:{field}")
    payload = await inlet.taken(body)
    assert [tuple(row) for row in await desk.rows(ITEMS, payload.id)] == [
        (f"field:{field}", "ignored", "field_not_applied")
    ]
    assert counted(f"field:{field}") == before + 1
    assert (await inlet.payload(payload.id))["body"] == payload.body, "its raw form is kept"
    assert await desk.value(LEFT, inlet.channel.id) == 0


async def test_w32_many_messages_of_one_customer_keep_their_order_and_keep_nobody_waiting(
    desks: Installed, desk: Desk
) -> None:
    inlet = await Inlet.open(desks, desk)
    others = [Inlet.applier_of(desks, desk.providers) for _ in range(3)]
    began, quick, slow = time.time() - 60, "4915100000032", "4915100000033"
    # Nine webhooks of five messages each, a second apart; they are taken by three processes, the last ones first.
    posts = [
        await inlet.store(inlet.texts(*(f"{post}.{each}" for each in range(5)), sender=quick, at=began + post))
        for post in range(9)
    ]
    alone = await inlet.store(inlet.texts("only one", sender=slow, at=began))
    mixed = [*posts[::-1][:4], alone, *posts[:5]]
    await asyncio.gather(
        *(inlet.apply(payload, by=others[number % 3]) for number, payload in enumerate(mixed)),
    )
    rows = await desk.rows(
        "SELECT conversation_id, count(*) AS number FROM messages WHERE channel_id = $1 GROUP BY 1 ORDER BY 2",
        inlet.channel.id,
    )
    assert [row["number"] for row in rows] == [1, 45], "one thread each"
    said = await desk.rows(SAID, inlet.channel.id, rows[1]["conversation_id"])
    assert [row["text"] for row in said] == [f"{post}.{each}" for post in range(9) for each in range(5)]
    assert sorted(row["arrival"] for row in said) == list(range(1, 46))
    assert len({row["sequence"] for row in said}) == 45


@pytest.mark.parametrize("number", [50, 257])
async def test_w16_many_cards_are_kept_and_make_nobody_a_contact(desks: Installed, desk: Desk, number: int) -> None:
    inlet = await Inlet.open(desks, desk)
    people = await desk.value("SELECT count(*) FROM contacts")
    cards: list[Any] = [
        {"name": {"formatted_name": f"Nr {each}"}, "vcard": f"BEGIN:VCARD\nTEL:+49301{each}\nEND:VCARD"}
        for each in range(number)
    ]
    payload = await inlet.taken(inlet.of_type("contacts", cards, sender=f"49151000{number:05}"))
    assert await inlet.items(payload.id) == [("message", "applied")]
    assert [tuple(row) for row in await desk.rows(CARDS, inlet.channel.id)] == [(number, people + 1)]


async def test_w30_who_blocked_the_business_and_writes_again_is_as_before(desks: Installed, desk: Desk) -> None:
    inlet = await Inlet.open(desks, desk)
    await inlet.taken(inlet.texts("hello", at=time.time() - 3600))
    conversation_id = await desk.value("SELECT id FROM conversations WHERE channel_id = $1", inlet.channel.id)
    sent = (await desk.writer().submit(desk.send(conversation_id))).message.id  # type: ignore[union-attr]
    part = "UPDATE message_parts SET provider_message_id = 'wamid.w30' WHERE message_id = $1 RETURNING id"
    assert await desk.value(part, sent) is not None
    undeliverable = {"code": 131026, "title": "Message undeliverable"}
    await inlet.taken(inlet.receipts(("wamid.w30", "failed"), errors=[undeliverable]))
    assert await desk.value("SELECT status FROM messages WHERE id = $1", sent) == "failed"
    await inlet.taken(inlet.texts("again"))
    row = (await desk.rows("SELECT * FROM conversations WHERE channel_id = $1", inlet.channel.id))[0]
    assert (row["id"], row["message_count"], row["contact_blocked"]) == (conversation_id, 3, False)
    await desk.writer().submit(desk.send(conversation_id))
    states = "SELECT state FROM deliveries WHERE conversation_id = $1 AND state IN ('queued', 'waiting')"
    assert len(await desk.rows(states, conversation_id)) == 1


@pytest.mark.parametrize("shown", ["553189654321", "+55 31 98965-4321", "", None, 7])
async def test_i13_a_number_is_known_by_its_id_however_it_is_shown(desks: Installed, desk: Desk, shown: Any) -> None:
    inlet = await Inlet.open(desks, desk)
    body = inlet.texts("hello")
    body["entry"][0]["changes"][0]["value"]["metadata"]["display_phone_number"] = shown
    await inlet.taken(body)
    assert await inlet.said() == ["hello"]


async def test_w12_nothing_of_what_a_customer_wrote_is_in_the_log(
    desks: Installed, desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    inlet = await Inlet.open(desks, desk)
    evil = "\x1b[2J${jndi:ldap://x}{{7*7}}%s<script>stranger"
    body = inlet.texts(evil, sender="4915100000012")
    value = body["entry"][0]["changes"][0]["value"]
    value["contacts"] = [{"profile": {"name": evil}, "wa_id": "4915100000012"}]
    (text,) = value["messages"]
    value["messages"] += [
        {**text, "id": "wamid.file", "type": "document", "document": {"id": "1", "filename": evil, "mime_type": evil}},
        {**text, "id": "wamid.broken", "text": {"body": [evil]}},
        {**text, "id": "wamid.edit", "type": "edit", "edit": {"original_message_id": evil, "message": evil}},
        {**text, "id": "wamid.type", "type": evil, evil: evil},
        {**text, "id": "wamid.time", "timestamp": evil},
    ]
    value["statuses"] = [{"id": evil, "status": evil, "timestamp": text["timestamp"], "errors": [{"title": evil}]}]
    value["errors"] = [{"code": evil, "title": evil}]
    before = structlog.get_config()
    configure_command()
    try:
        async with inlet.poisoned():
            await inlet.taken(body)
            await inlet.taken(inlet.texts(f"poison {evil}", sender="4915100000012"))
    finally:
        structlog.configure(**before)
    said = await inlet.said()
    assert evil in said, "it is stored as it came"
    logged = "".join(capfd.readouterr())
    assert "intake.failed" in logged, "the log is what is looked at"
    assert "stranger" not in logged
    assert "jndi" not in logged
    assert "4915100000012" not in logged
