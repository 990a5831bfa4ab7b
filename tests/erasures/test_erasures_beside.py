"""An erasure beside everything else that happens to the contact at that moment."""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import timedelta

import pytest

from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.simulator.payloads import encode
from server.tenancy.quarantine import Part, Quarantine
from tests.desk import Desk, phone
from tests.erasures.erasures_desk import Eraser, traces
from tests.installation import Installed


@pytest.fixture
async def eraser(desks: Installed, desk: Desk) -> Eraser:
    return await Eraser.open(desks, desk)


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_writes_meanwhile_is_erased_with_it_or_new_and_whole(eraser: Eraser, seed: int) -> None:
    """Webhooks through two processes and answers of agents, while the erasure begins and goes on."""
    chance, sender, desk = random.Random(seed), phone(), eraser.desk
    await eraser.inlet.taken(eraser.inlet.texts("first", sender=sender))
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    conversation_id = await desk.value("SELECT id FROM conversations WHERE contact_id = $1", contact_id)
    appliers = [eraser.inlet.applier, eraser.inlet.applier_of(eraser.installed, desk.providers)]
    texts = [f"text {number} of {sender}" for number in range(20)]

    async def write(text: str) -> None:
        await asyncio.sleep(chance.random() / 10)
        body = eraser.inlet.texts(text, sender=sender)
        for _ in range(chance.choice((1, 2))):
            await eraser.inlet.taken(body, by=chance.choice(appliers))

    async def answer(number: int) -> None:
        await asyncio.sleep(chance.random() / 10)
        await desk.writer(chance.choice((desk.database, desk.beside))).submit(
            desk.send(conversation_id, f"answer {number} to {sender}")
        )

    async def erase() -> uuid.UUID:
        await asyncio.sleep(0.03)
        return await eraser.begin(contact_id)

    outcomes = await asyncio.gather(erase(), *map(write, texts), *map(answer, range(10)), return_exceptions=True)
    erasure_id = outcomes[0]
    assert isinstance(erasure_id, uuid.UUID), erasure_id
    assert not [each for each in outcomes[1:21] if isinstance(each, BaseException)]
    await eraser.finish(erasure_id)
    said = await eraser.inlet.said()
    new = await eraser.contact_of(sender)
    assert new != contact_id
    assert len(said) == len(set(said))
    assert set(said) <= set(texts)
    gone = set(texts) - set(said)
    kept = {str(row["text"]) for row in await desk.rows("SELECT text FROM messages WHERE author_id = $1", new)}
    assert kept == set(said)
    whole = await eraser.whole()
    assert traces(whole, sorted(gone)) == []
    assert traces(whole, [f"answer {number} to {sender}" for number in range(10)]) == []
    assert set(traces(whole, sorted(said))) == set(said)
    found = await eraser.inlet.replayed(apply=True)
    assert found.errors == {}
    assert await eraser.inlet.said() == said
    await desk.check_log()


async def test_what_waits_in_the_quarantine_for_the_tenant_loses_it_too(eraser: Eraser) -> None:
    sender, other = phone(), phone()
    await eraser.inlet.taken(eraser.inlet.texts("hello", sender=sender))
    quarantine = Quarantine(eraser.installed.control.database)
    bodies = {who: encode(eraser.inlet.texts(f"late {who}", sender=who)) for who in (sender, other)}
    parts = [
        Part(
            id=new_id(),
            provider="whatsapp",
            app_id="app",
            external_id=None,
            tenant_id=eraser.desk.tenant.id,
            reason="tenant_unavailable",
            body=body,
            split=False,
            content_hash=b"",
            secret_index=0,
            receive_time=utc_now() - timedelta(minutes=1),
        )
        for body in bodies.values()
    ]
    await quarantine.store(parts)
    await eraser.erased(sender)
    assert traces(await eraser.whole(), [sender, f"late {sender}"]) == []
    assert traces(await eraser.whole(), [other, f"late {other}"]) == [other, f"late {other}"]
    await quarantine.done([part.id for part in parts])
