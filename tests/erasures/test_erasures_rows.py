"""An erased contact is found nowhere in the databases, and everybody else as before."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from switchboard.v1 import event_pb2

from server.conversations import merging
from server.conversations import service as conversations
from server.kit.db import Write
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.log.append import append
from server.media import brought
from server.messages import attached
from server.messages.attached import Asked
from server.messages.items import Stored
from server.simulator import payloads
from server.simulator.wamid import new_wamid
from tests.desk import ALL, Desk, nobody, phone
from tests.erasures.erasures_desk import Eraser, traces
from tests.installation import Installed


@pytest.fixture
async def eraser(desks: Installed, desk: Desk) -> Eraser:
    return await Eraser.open(desks, desk)


WAITING = "SELECT id FROM deliveries WHERE conversation_id = $1"
MOVE = "UPDATE deliveries SET state = $2, lease_until = now() + interval '1 minute' WHERE conversation_id = $1"


def words(sender: str) -> list[str]:
    """What a customer of this number is known by in these tests."""
    return [sender, f"Said{sender}", f"Name{sender}"]


async def met(eraser: Eraser, sender: str) -> uuid.UUID:
    """A customer who wrote and was answered; its conversation."""
    body = eraser.inlet.texts(f"Said{sender} one", f"Said{sender} two", sender=sender)
    body["entry"][0]["changes"][0]["value"]["contacts"][0]["profile"] = {"name": f"Name{sender}"}
    await eraser.inlet.taken(body)
    conversation_id: uuid.UUID = await eraser.desk.value(
        "SELECT id FROM conversations WHERE contact_id = $1 AND delete_time IS NULL", await eraser.contact_of(sender)
    )
    sent = await eraser.desk.writer().submit(eraser.desk.send(conversation_id, f"Said{sender} back"))
    assert isinstance(sent, Stored)
    await eraser.inlet.taken(eraser.inlet.of_type("reaction", {"emoji": "x", "message_id": "wamid.x"}, sender=sender))
    return conversation_id


def elsewhere(eraser: Eraser, sender: str) -> list[Any]:
    """What fields beside `messages` tell of a customer: what it wants, what it was written on the phone, and before."""
    number, now = eraser.desk.numbers[eraser.inlet.channel.id], int(time.time())
    said = {"timestamp": str(now - 90), "type": "text", "text": {"body": f"Said{sender} elsewhere"}}
    echo = {"from": "1", "to": sender, "id": f"wamid.echo{uuid.uuid4().hex}", **said}
    past = {"from": sender, "id": f"wamid.past{uuid.uuid4().hex}", **said}
    summary = {"conversation_context": {"type": "summary", "summary": {"text": f"Said{sender} to an agent"}}}
    wish = {"wa_id": sender, "category": "marketing_messages", "value": "stop", "timestamp": now}
    fields: list[tuple[str, dict[str, Any]]] = [
        ("smb_message_echoes", {"message_echoes": [echo]}),
        ("history", {"history": [{"metadata": {"phase": 0}, "threads": [{"id": sender, "messages": [past]}]}]}),
        ("user_preferences", {"user_preferences": [wish]}),
        (
            "messaging_handovers",
            {"sender": {"phone_number": f"+{sender}"}, "type": "control_passed", "timestamp": str(now), **summary},
        ),
        ("messages", {"messages": [{**past, "id": f"wamid.next{uuid.uuid4().hex}"}], **summary}),
    ]
    return [payloads.field_body(number, name, payloads.numbered(number) | value, time=now) for name, value in fields]


async def test_nothing_of_a_contact_is_left_and_all_of_another_stays(eraser: Eraser) -> None:
    sender, other = phone(), phone()
    conversation_id, other_conversation = await met(eraser, sender), await met(eraser, other)
    for body in (*elsewhere(eraser, sender), *elsewhere(eraser, other)):
        await eraser.inlet.taken(body)
    async with eraser.desk.database.connection() as connection:
        await connection.execute(
            "UPDATE conversations SET subject = $2 WHERE id = $1", conversation_id, f"Said{sender}"
        )
    assert traces(await eraser.whole(), words(sender)) == words(sender)
    before = await eraser.desk.rows("SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id", other_conversation)
    row = await eraser.erased(sender)
    assert (row["state"], row["error"], row["addresses"]) == ("done", None, [])
    assert traces(await eraser.whole(), words(sender)) == []
    assert traces(await eraser.whole(), words(other)) == words(other)
    after = await eraser.desk.rows("SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id", other_conversation)
    assert after == before
    await eraser.desk.check_log()
    await eraser.desk.check_counters()


async def test_one_post_of_two_people_keeps_what_is_the_others(eraser: Eraser) -> None:
    sender, other = phone(), phone()
    mine, theirs = (eraser.inlet.texts(f"Said{who}", sender=who) for who in (sender, other))
    value = mine["entry"][0]["changes"][0]["value"]
    for name in ("messages", "contacts"):
        value[name] += theirs["entry"][0]["changes"][0]["value"][name]
    payload = await eraser.inlet.taken(mine)
    await eraser.erased(sender)
    left = bytes((await eraser.inlet.payload(payload.id))["body"])
    assert traces(left, [sender, f"Said{sender}"]) == []
    assert traces(left, [other, f"Said{other}"]) == [other, f"Said{other}"]
    report = await eraser.inlet.replayed(apply=True)
    assert (report.differs, report.errors) == ({}, {})
    assert await eraser.inlet.said() == [f"Said{other}"]


async def test_a_webhook_that_is_repeated_days_later_brings_nothing_back(eraser: Eraser) -> None:
    sender = phone()
    body = eraser.inlet.texts(f"Said{sender}", sender=sender)
    bodies = [body, *elsewhere(eraser, sender)]
    for each in bodies:
        await eraser.inlet.taken(each)
    await eraser.erased(sender)
    for each in reversed(bodies):
        again = await eraser.inlet.taken(each)
    assert await eraser.contact_of(sender) is None
    assert (await eraser.inlet.payload(again.id))["state"] == "applied"
    assert traces(await eraser.whole(), words(sender)) == []


async def test_receipts_of_an_erased_message_are_parked_nowhere(eraser: Eraser) -> None:
    sender = phone()
    conversation_id = await met(eraser, sender)
    part = await eraser.desk.value(
        "SELECT id FROM message_parts WHERE conversation_id = $1 AND provider_message_id IS NULL", conversation_id
    )
    await eraser.erased(sender)
    # Its answer was lost, so nobody here knew the provider's id; the receipt tells ours.
    body = eraser.inlet.receipts((new_wamid(peer=sender, direction="outbound"), "delivered"))
    (status,) = body["entry"][0]["changes"][0]["value"]["statuses"]
    status |= {"recipient_id": sender, "biz_opaque_callback_data": str(part)}
    await eraser.inlet.taken(body)
    assert await eraser.desk.value("SELECT count(*) FROM parked_receipts") == 0
    assert traces(await eraser.whole(), words(sender)) == []


async def test_who_writes_again_is_a_new_contact_without_a_link(eraser: Eraser) -> None:
    sender = phone()
    await met(eraser, sender)
    erased = await eraser.contact_of(sender)
    assert erased is not None
    erasure_id = await eraser.begin(erased)
    await eraser.inlet.taken(eraser.inlet.texts("hello again", sender=sender))
    contact_id = await eraser.contact_of(sender)
    assert contact_id not in (None, erased)
    await eraser.finish(erasure_id)
    assert await eraser.contact_of(sender) == contact_id
    rows = await eraser.desk.rows(
        "SELECT contact_id, previous_conversation_id FROM conversations WHERE channel_id = $1", eraser.inlet.channel.id
    )
    assert [tuple(row) for row in rows] == [(contact_id, None)]
    assert await eraser.inlet.said() == ["hello again"]
    found = await eraser.inlet.replayed(apply=True)
    assert (found.differs, found.errors) == ({}, {})
    assert traces(await eraser.whole(), ["hello again"]) == ["hello again"]


async def test_nobody_sees_or_writes_to_a_contact_once_its_erasure_was_asked_for(eraser: Eraser) -> None:
    sender = phone()
    conversation_id = await met(eraser, sender)
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    assert await eraser.desk.rows(WAITING, conversation_id)
    await eraser.begin(contact_id)
    assert not await eraser.desk.rows(WAITING, conversation_id)
    with pytest.raises(NotFound):
        await eraser.desk.writer().submit(eraser.desk.send(conversation_id, "still there?"))
    with pytest.raises(NotFound):
        await eraser.desk.do(lambda write: conversations.restore(write, ALL, conversation_id, origin=nobody()))


async def test_a_request_to_the_provider_that_has_begun_is_waited_for(eraser: Eraser) -> None:
    sender = phone()
    conversation_id = await met(eraser, sender)
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    await eraser.desk.execute(MOVE, conversation_id, "in_flight")
    erasure_id = await eraser.begin(contact_id)
    for _ in range(3):
        await eraser.batch()
    assert await eraser.desk.value("SELECT count(*) FROM messages WHERE conversation_id = $1", conversation_id) == 3
    # Refused for now, it would be made again.
    await eraser.desk.execute(MOVE, conversation_id, "queued")
    await eraser.finish(erasure_id)
    assert not await eraser.desk.rows(WAITING, conversation_id)


async def test_the_log_keeps_its_places_and_says_what_stood_there(eraser: Eraser) -> None:
    sender, head = phone(), (await eraser.desk.head())[1]
    await met(eraser, sender)
    before = await eraser.desk.events(after=head)
    ids = await eraser.desk.rows("SELECT seq, tx_last, event_id, create_time FROM stream_event ORDER BY seq")
    await eraser.erased(sender)
    after = dict(await eraser.desk.events())
    told = [(seq, event.WhichOneof("body")) for seq, event in before if "channel" not in str(event.WhichOneof("body"))]
    assert told
    for seq, body in told:
        expected = event_pb2.InboxEvent()
        expected.event_erased.type = event_pb2.InboxEvent.DESCRIPTOR.fields_by_name[str(body)].number  # type: ignore[assignment]
        assert after[seq] == expected
    kinds = await eraser.desk.rows(
        "SELECT kind FROM stream_event WHERE seq = ANY($1::bigint[])", [seq for seq, _ in told]
    )
    assert {row["kind"] for row in kinds} == {event_pb2.EVENT_TYPE_EVENT_ERASED}
    same = await eraser.desk.rows(
        "SELECT seq, tx_last, event_id, create_time FROM stream_event WHERE seq <= $1 ORDER BY seq", len(ids)
    )
    assert same == ids
    assert (await eraser.desk.kinds())[-2:] == ["conversation_purged", "contact_erased"]
    await eraser.desk.check()


async def test_merged_contacts_are_erased_together(eraser: Eraser) -> None:
    first, second = phone(), phone()
    await met(eraser, first)
    await met(eraser, second)
    one, two = await eraser.contact_of(first), await eraser.contact_of(second)
    assert one is not None
    assert two is not None

    async def merge(write: Write) -> None:
        await append(
            write, await merging.merge(write.connection, ALL, one, two, reason=f"Name{second}", origin=nobody())
        )

    await eraser.desk.database.write(merge)
    row = await eraser.erased(first)
    assert row["contact_ids"] == sorted([one, two])
    assert traces(await eraser.whole(), [*words(first), *words(second)]) == []


async def test_asking_twice_is_one_erasure(eraser: Eraser) -> None:
    sender = phone()
    await met(eraser, sender)
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    first = await eraser.begin(contact_id)
    assert await eraser.begin(contact_id) == first
    await eraser.finish(first)
    assert await eraser.begin(contact_id) == first
    with pytest.raises(NotFound):
        await eraser.begin(uuid.uuid4())


async def test_a_step_that_fails_is_given_up_in_the_end_and_goes_on_when_asked_again(eraser: Eraser) -> None:
    sender = phone()
    await met(eraser, sender)
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    await eraser.inlet.as_owner(
        "CREATE FUNCTION refused_now() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'"
    )
    await eraser.inlet.as_owner("CREATE TRIGGER refused_now BEFORE DELETE ON messages EXECUTE FUNCTION refused_now()")
    erasure_id = await eraser.begin(contact_id)
    for _ in range(3):
        await eraser.batch()
    # Nine times it failed before.
    await eraser.desk.execute("UPDATE erasures SET attempt = 9 WHERE id = $1", erasure_id)
    row = await eraser.finish(erasure_id)
    assert (row["state"], row["error"]) == ("failed", "RaiseError P0001")
    await eraser.inlet.as_owner("DROP TRIGGER refused_now ON messages")
    assert await eraser.begin(contact_id) == erasure_id
    row = await eraser.finish(erasure_id)
    assert row["state"] == "done"
    assert traces(await eraser.whole(), words(sender)) == []


async def test_a_number_that_was_given_up_is_erased_with_the_one_that_came_after_it(eraser: Eraser) -> None:
    old, new, unknown = phone(), phone(), phone()
    await met(eraser, old)
    for sender, other in ((old, new), (unknown, old)):
        words_of = f"Name{sender} changed from {sender} to {other}"
        moved = {"type": "user_changed_number", "wa_id": other, "body": words_of}
        await eraser.inlet.taken(eraser.inlet.of_type("system", moved, sender=sender))
    assert await eraser.contact_of(new) == await eraser.contact_of(old)
    # A change that waits for somebody, a reaction that waits for its message: both are timers with addresses.
    await eraser.inlet.taken(eraser.inlet.of_type("reaction", {"emoji": "x", "message_id": "wamid.never"}, sender=new))
    await eraser.erased(new)
    assert traces(await eraser.whole(), [*words(old), *words(new)]) == []


async def test_a_file_that_was_sent_goes_with_the_last_message_that_has_it(eraser: Eraser) -> None:
    """The row is gone at once, and the content is told to leave the store; what another customer got too stays."""
    sender, other = phone(), phone()
    conversation_id, other_conversation = await met(eraser, sender), await met(eraser, other)
    mine, shared = [await brought_file(eraser, f"Said{sender}.pdf"), await brought_file(eraser, "all.pdf")]
    await send_files(eraser, conversation_id, mine, shared)
    await send_files(eraser, other_conversation, shared)
    erasure_id = await eraser.begin(await known(eraser, sender))
    while not (
        gone := await eraser.desk.rows("DELETE FROM media_leavings RETURNING attachment_id, due_time <= now() AS due")
    ):
        await eraser.batch()
    assert [tuple(item) for item in gone] == [(mine, True)]
    assert (await eraser.finish(erasure_id))["state"] == "done"
    left = [item["id"] for item in await eraser.desk.rows("SELECT id FROM media WHERE id IN ($1, $2)", mine, shared)]
    assert left == [shared]
    assert traces(await eraser.whole(), words(sender)) == []


async def known(eraser: Eraser, sender: str) -> uuid.UUID:
    contact_id = await eraser.contact_of(sender)
    assert contact_id is not None
    return contact_id


async def brought_file(eraser: Eraser, name: str) -> uuid.UUID:
    """A file that was brought, whose content lies nowhere."""
    media_id = new_id()
    async with eraser.desk.database.connection() as connection:
        await brought.expect(connection, media_id, file_name=name)
        await connection.execute(brought.STORED, media_id, "application/pdf", 1, "00", False)
    return media_id


async def send_files(eraser: Eraser, conversation_id: uuid.UUID, *media_ids: uuid.UUID) -> None:
    desk = eraser.desk
    asked = [Asked(path="", media_id=str(media_id)) for media_id in media_ids]

    async def unit(write: Write) -> Any:
        return await attached.resolved(
            write, ALL, conversation_id, asked, capabilities=lambda name: desk.providers[name].capabilities
        )

    rows = await desk.database.write(unit)
    content = attached.media_of(rows)
    await desk.writer().submit(desk.send(conversation_id, "", content=content, files=rows))
