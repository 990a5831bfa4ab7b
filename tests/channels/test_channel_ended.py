"""What a channel had still to send when it is disconnected."""

from __future__ import annotations

from typing import Any

import pytest

from server.channels import service as channels
from server.channels.refusals import ChannelDisconnected
from server.deliveries import claiming
from server.deliveries.claiming import Claimed
from server.kit.db import Write
from server.kit.errors import DatabaseUnavailable
from server.log.append import append
from server.messages import ending
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.messages.marking import Marker
from server.messages.refusals import ChannelNotSending
from server.providers.contract import Account, ErrorClass, Refused
from server.redelivery import service as redelivery
from tests.desk import ALL, Desk, nobody

SENDS = """
SELECT m.text, m.status, d.state, d.error_code, p.error_code AS part_error, d.lease_until, d.worker FROM deliveries d
JOIN message_parts p ON p.id = d.part_id JOIN messages m ON m.id = p.message_id
WHERE d.channel_id = $1 ORDER BY m.text
"""
TOLD = """
SELECT count(*) FROM message_status_updates u JOIN message_parts p ON p.id = u.part_id
WHERE p.channel_id = $1 AND u.error_code = 'channel_disconnected'
"""
FAILED = ("failed", "failed", "channel_disconnected", "channel_disconnected", None, None)
PENDING = ("pending", "queued", None, None, None, None)


async def sends(desk: Desk, channel: Any) -> dict[str, tuple[Any, ...]]:
    return {record[0]: tuple(record)[1:] for record in await desk.rows(SENDS, channel.id)}


async def put(desk: Desk, conversation_id: Any, *texts: str) -> None:
    for text in texts:
        assert isinstance(await desk.writer().submit(desk.send(conversation_id, text)), Stored)


async def disconnect(desk: Desk, channel: Any) -> None:
    async def unit(write: Write) -> None:
        _, events = await channels.disconnect(write, ALL, desk.tenant.secrets, channel.id, origin=nobody())
        await append(write, events)

    await desk.database.write(unit)


async def reconnect(desk: Desk, channel: Any) -> None:
    number = desk.numbers[channel.id]
    details = {"phone_number_id": number.phone_number_id, "waba_id": number.waba_id, "graph_version": "v26.0"}
    account = Account(account_id=number.phone_number_id, token="EAAJnew", details=details)
    wanted = channels.Connect(id=channel.id, name="WhatsApp", provider="whatsapp", account=account)

    async def unit(write: Write) -> None:
        _, events = await channels.connect(write, desk.tenant.secrets, wanted, origin=nobody())
        await append(write, events)

    await desk.database.write(unit)


async def claim(desk: Desk, limit: int = 10) -> list[Claimed]:
    async with desk.database.connection() as connection:
        return (await claiming.claim(connection, worker="w", limit=limit, providers=desk.providers)).claimed


async def end_some(desk: Desk) -> None:
    """What a worker does for channels that were disconnected."""
    await ending.end_some(desk.database)
    await Marker(desk.database, desk.tenant.secrets, desk.providers).end_some()


async def ended(desk: Desk) -> bool:
    async with desk.database.connection() as connection:
        return (await claiming.upcoming(connection, desk.providers)).ended


async def test_what_a_disconnected_channel_had_to_send_fails_and_that_of_another_stays(own_desk: Desk) -> None:
    channel, other = await own_desk.new_channel(), await own_desk.new_channel()
    ours = [(await own_desk.started(channel)).id for _ in range(2)]
    theirs = (await own_desk.started(other)).id
    await put(own_desk, ours[0], "a1", "a2", "a3")
    await put(own_desk, ours[1], "b1")
    await put(own_desk, theirs, "c1")
    assert not await ended(own_desk)
    await disconnect(own_desk, channel)
    assert await ended(own_desk)
    await end_some(own_desk)
    assert not await ended(own_desk)
    assert await sends(own_desk, channel) == dict.fromkeys(("a1", "a2", "a3", "b1"), FAILED)
    assert await sends(own_desk, other) == {"c1": PENDING}
    assert await own_desk.value(TOLD, channel.id) == 4
    await end_some(own_desk)
    assert await own_desk.value(TOLD, channel.id) == 4, "twice does no more than once"


async def test_what_is_under_way_ends_as_it_will_and_is_not_tried_again(own_desk: Desk) -> None:
    channel = await own_desk.new_channel()
    await put(own_desk, (await own_desk.started(channel)).id, "a1", "a2")
    (claimed,) = await claim(own_desk)
    await disconnect(own_desk, channel)
    await end_some(own_desk)
    assert (await sends(own_desk, channel))["a1"][:2] == ("pending", "in_flight")
    with pytest.raises(DatabaseUnavailable):
        await reconnect(own_desk, channel)
    worker = Sender(own_desk.database, own_desk.tenant.secrets, own_desk.providers)
    await worker.settle(claimed, Refused(error_class=ErrorClass.RETRY, code="131000", message="something went wrong"))
    await end_some(own_desk)
    assert await sends(own_desk, channel) == {"a1": FAILED, "a2": FAILED}


async def test_an_account_comes_back_when_nothing_old_can_go_out_and_what_is_new_does(own_desk: Desk) -> None:
    channel = await own_desk.new_channel()
    conversation = (await own_desk.started(channel)).id
    await put(own_desk, conversation, "old")
    await disconnect(own_desk, channel)
    with pytest.raises(DatabaseUnavailable):
        await reconnect(own_desk, channel)
    with pytest.raises(ChannelNotSending) as refused:
        await put(own_desk, conversation, "to nobody")
    assert refused.value.metadata == {"state": "disconnected"}
    await end_some(own_desk)
    delivery = await own_desk.value("SELECT id FROM deliveries WHERE channel_id = $1", channel.id)
    with pytest.raises(ChannelDisconnected):
        await own_desk.do(lambda write: redelivery.retry(write, ALL, delivery, origin=nobody()))
    await reconnect(own_desk, channel)
    assert await claim(own_desk) == []
    await put(own_desk, conversation, "new")
    assert await own_desk.value("SELECT count(*) FROM channels WHERE id = $1", channel.id) == 1
    assert len(await claim(own_desk)) == 1
    assert (await sends(own_desk, channel))["new"][1] == "in_flight"
    # Whoever wants the old words said all the same asks for it.
    await own_desk.do(lambda write: redelivery.retry(write, ALL, delivery, origin=nobody()))
    assert (await sends(own_desk, channel))["old"][:2] == ("pending", "waiting")


async def test_a_long_queue_ends_in_pieces(own_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CONVERSATIONS", 2)
    monkeypatch.setattr(ending, "OF_EACH", 2)
    channel = await own_desk.new_channel()
    for name in "abc":
        await put(own_desk, (await own_desk.started(channel)).id, *(f"{name}{number}" for number in range(3)))
    await disconnect(own_desk, channel)
    pieces = 0
    while await ended(own_desk) and pieces < 9:
        await end_some(own_desk)
        pieces += 1
    assert pieces == 3
    assert set((await sends(own_desk, channel)).values()) == {FAILED}


async def test_what_would_be_told_of_a_disconnected_channel_is_let_go_and_a_reaction_nobody_saw_is_taken_back(
    own_desk: Desk,
) -> None:
    channel, other = await own_desk.new_channel(), await own_desk.new_channel()
    for each in (channel, other):
        conversation = await own_desk.started(each)
        want = "INSERT INTO marks (kind, key, conversation_id, channel_id, provider_message_id, emoji, due_time)"
        for kind, key, emoji in (("read", conversation.id, None), ("reaction", conversation.last_message_id, "x")):
            values = (kind, key, conversation.id, each.id, "wamid.x", emoji)
            await own_desk.execute(f"{want} VALUES ($1, $2, $3, $4, $5, $6, now())", *values)
    await disconnect(own_desk, channel)
    assert await ended(own_desk)
    with pytest.raises(DatabaseUnavailable):
        await reconnect(own_desk, channel)
    await end_some(own_desk)
    assert not await ended(own_desk)
    held = await own_desk.rows("SELECT DISTINCT channel_id FROM marks")
    assert [row["channel_id"] for row in held] == [other.id]
    await reconnect(own_desk, channel)
