"""Numbers that people dial otherwise than WhatsApp knows them: what Meta's answer names belongs to the same customer."""

from __future__ import annotations

import uuid

import pytest

from tests.desk import Desk
from tests.whatsapp_send.sending import line

ALIASES = """
SELECT a.value, i.contact_id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id
WHERE a.channel_id = $1 ORDER BY a.create_time
"""
CONFLICTS = """
SELECT x.kind FROM identity_conflicts x JOIN conversations c ON c.identity_id = x.identity_id WHERE c.id = $1
"""


def dialled(form: str) -> str:
    """The number of a customer nobody has met, in this form."""
    return form.format(f"{uuid.uuid4().int % 10**8:08}")


@pytest.mark.parametrize(
    ("form", "known"),
    [
        ("55319{}", "5531{}"),
        ("5531{}", "55319{}"),
        ("5255{}", "52155{}"),
        ("52155{}", "5255{}"),
        ("5411{}", "54911{}"),
        ("54911{}", "5411{}"),
    ],
    ids=["brazil", "brazil without 9", "mexico", "mexico with 1", "argentina", "argentina with 9"],
)
async def test_the_number_that_whatsapp_knows_is_the_same_customers(desk: Desk, form: str, known: str) -> None:
    typed = dialled(form)
    canonical = known.format(typed[-8:])
    async with line(desk, customer=typed, wa_ids={typed: canonical}) as made:
        for text in ("one", "two", "three"):
            await made.settled(text)
        rows = [tuple(row) for row in await desk.rows(ALIASES, made.channel.id)]
        assert [value for value, _ in rows] == [typed, canonical], "each once, and the older one stays"
        assert len({contact_id for _, contact_id in rows}) == 1
        to = [request["body"]["to"] for request in await made.requests()]
        assert to == [f"+{typed}", f"+{canonical}", f"+{canonical}"]
        answer = await desk.started(made.channel, canonical)
        assert answer.id == made.conversation_id, "no second customer, and no second thread"


async def test_a_number_that_is_anothers_is_taken_from_nobody(desk: Desk) -> None:
    typed = dialled("55319{}")
    canonical = "5531" + typed[-8:]
    async with line(desk, customer=typed, wa_ids={typed: canonical}) as made:
        other = await desk.started(made.channel, canonical)
        _, found = await made.settled("one")
        assert found["message"] == "sent"
        await made.settled("two")
        rows = dict(await desk.rows(ALIASES, made.channel.id))
        assert (len(rows), len(set(rows.values()))) == (2, 2)
        conflicts = [tuple(row) for row in await desk.rows(CONFLICTS, made.conversation_id)]
        assert conflicts == [("wa_id",)], "said once"
        assert (await desk.started(made.channel, canonical)).id == other.id


async def test_an_answer_that_names_what_is_known_changes_nothing(desk: Desk) -> None:
    async with line(desk) as made:
        await made.settled("one")
        assert [row["value"] for row in await desk.rows(ALIASES, made.channel.id)] == [made.recipient]
