"""Who is somebody to another tenant too, and who never wrote."""

from __future__ import annotations

import time
import uuid

import pytest

from server.contacts import service as contacts
from server.kit.db import Write
from server.log.append import append
from server.simulator import payloads
from tests.desk import ALL, Desk, nobody, phone
from tests.erasures.erasures_desk import Eraser, traces
from tests.installation import Installed
from tests.seeing.canaries import dumped

CONSENTS = "SELECT kind, state FROM marketing_consents WHERE value = $1"


@pytest.fixture
async def eraser(desks: Installed, desk: Desk) -> Eraser:
    return await Eraser.open(desks, desk)


async def wish(eraser: Eraser, sender: str) -> None:
    """A customer's word of marketing messages, who may never have written."""
    number, now = eraser.desk.numbers[eraser.inlet.channel.id], int(time.time())
    told = {"wa_id": sender, "category": "marketing_messages", "value": "stop", "timestamp": now, "detail": sender}
    value = payloads.numbered(number) | {"user_preferences": [told]}
    await eraser.inlet.taken(payloads.field_body(number, "user_preferences", value, time=now))


async def known(eraser: Eraser, sender: str) -> uuid.UUID:
    """A contact that the team makes of a number."""

    async def unit(write: Write) -> uuid.UUID:
        contact_id, events = await contacts.create(
            write.connection,
            ALL,
            eraser.inlet.channel.id,
            name="Somebody",
            phone_number=f"+{sender}",
            providers=eraser.desk.providers,
            origin=nobody(),
            attributes={},
        )
        await append(write, events)
        return contact_id

    return await eraser.desk.database.write(unit)


async def test_i11_the_same_customer_of_another_tenant_keeps_everything(
    eraser: Eraser, desks: Installed, own_desk: Desk
) -> None:
    other, sender = await Eraser.open(desks, own_desk), phone()
    for each in (eraser, other):
        await each.inlet.taken(each.inlet.texts(f"Said{sender}", sender=sender))
        await wish(each, sender)
    before = await dumped(desks.owned(own_desk.dsn))
    row = await eraser.erased(sender)
    assert row["state"] == "done"
    assert traces(await dumped(desks.owned(eraser.desk.dsn)), [sender]) == []
    assert await dumped(desks.owned(own_desk.dsn)) == before
    assert traces(before, [sender, f"Said{sender}"]) == [sender, f"Said{sender}"]


async def test_the_word_of_somebody_who_never_wrote_goes_once_there_is_a_contact_to_erase(eraser: Eraser) -> None:
    sender, other = phone(), phone()
    for each in (sender, other):
        await wish(eraser, each)
    assert await eraser.contact_of(sender) is None
    assert [tuple(row) for row in await eraser.desk.rows(CONSENTS, sender)] == [("wa_id", "stopped")]
    row = await eraser.finish(await eraser.begin(await known(eraser, sender)))
    assert row["state"] == "done"
    assert traces(await eraser.whole(), [sender]) == []
    assert [tuple(row) for row in await eraser.desk.rows(CONSENTS, other)] == [("wa_id", "stopped")]
