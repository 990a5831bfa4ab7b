"""Reading the journal anew: what differs is shown, applied once, and nothing is ever sent."""

import asyncio
import time
from datetime import timedelta
from typing import Any

from journal_inlet import Inlet
from switchboard.v1 import actor_pb2, message_pb2

from server.deliveries import claiming
from server.intake.replay import Report
from server.kit.clock import utc_now
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.contract import Accepted
from server.providers.whatsapp import parse
from server.simulator import payloads
from tests.desk import phone
from tests.installation import connection_to

PLACE = {"latitude": 52.5, "longitude": 13.4, "name": "Berlin"}
ORDER = {"catalog_id": "1", "text": "two of these", "product_items": [{"product_retailer_id": "a", "quantity": 2}]}


def found(report: Report) -> dict[tuple[str, str], int]:
    return {key: tally.count for key, tally in report.differs.items()}


async def deliveries(inlet: Inlet) -> int:
    return int(await inlet.desk.value("SELECT count(*) FROM deliveries"))


async def causes(inlet: Inlet, *, after: int) -> set[tuple[int, str]]:
    rows = await inlet.desk.rows("SELECT cause_kind, cause_id FROM stream_event WHERE seq > $1", after)
    return {(row["cause_kind"], row["cause_id"]) for row in rows}


async def test_nothing_differs_after_live_intake(inlet: Inlet) -> None:
    await inlet.taken(inlet.texts("one", "two"))
    await inlet.taken(inlet.of_type("location", PLACE))
    await inlet.taken(inlet.of_type("reaction", {"message_id": "wamid.x", "emoji": "x"}))
    await inlet.taken(inlet.receipts(("wamid.unknown", "read")))
    broken = inlet.texts("broken")
    broken["entry"][0]["changes"][0]["value"]["messages"][0]["timestamp"] = "yesterday"
    await inlet.taken(broken)
    await inlet.taken(b'{"object":"page","entry":[{"id":"1"}]}')
    head = await inlet.desk.head()
    for apply in (False, True):
        report = await inlet.replayed(apply=apply)
        assert (found(report), report.payloads, report.items) == ({}, 6, 6)
    assert await inlet.desk.head() == head


async def test_a_kind_that_the_older_parser_missed_is_applied_once_in_its_place(inlet: Inlet) -> None:
    now, sender = time.time(), phone()
    await inlet.taken(inlet.texts("before", sender=sender, at=now - 300))
    payload = await inlet.taken(inlet.of_type("location", PLACE, sender=sender, at=now - 200), by=inlet.older())
    await inlet.taken(inlet.texts("after", sender=sender, at=now - 100))
    assert await inlet.items(payload.id) == [("location", "ignored")]
    head = (await inlet.desk.head())[1]
    shown = await inlet.replayed()
    assert found(shown) == {("missed", "message"): 1, ("superseded", "location"): 1}
    assert shown.differs[("missed", "message")].payloads == [payload.id]
    assert (await inlet.desk.head())[1] == head, "looking changes nothing"
    assert found(await inlet.replayed(apply=True)) == found(shown)
    rows = await inlet.desk.rows("SELECT type, text, arrival FROM messages ORDER BY sequence")
    assert [tuple(row) for row in rows] == [("text", "before", 1), ("location", None, 3), ("text", "after", 2)]
    assert await inlet.items(payload.id) == [("location", "superseded"), ("message", "applied")]
    item = await inlet.desk.value("SELECT id FROM journal_items WHERE journal_id = $1 AND kind = 'message'", payload.id)
    assert await inlet.desk.kinds(after=head) == ["message_received"]
    assert await causes(inlet, after=head) == {(actor_pb2.CAUSE_KIND_JOURNAL_ITEM, str(item))}
    await nothing_more(inlet)


async def nothing_more(inlet: Inlet) -> None:
    """A second time changes nothing at all, and nothing was handed to anybody."""
    head = await inlet.desk.head()
    assert found(await inlet.replayed(apply=True)) == {}
    assert await inlet.desk.head() == head
    assert await deliveries(inlet) == 0
    await inlet.desk.check()


async def test_a_placeholder_becomes_what_the_customer_sent(inlet: Inlet) -> None:
    payload = await inlet.taken(inlet.of_type("order", ORDER), by=inlet.older())
    before = (
        await inlet.desk.rows(
            "SELECT m.id, type, sequence, arrival, m.create_time, c.version FROM messages m JOIN conversations c ON c.id = conversation_id"
        )
    )[0]
    assert before["type"] == "unsupported"
    head = (await inlet.desk.head())[1]
    assert found(await inlet.replayed(apply=True)) == {("changed", "message"): 1}
    after = (await inlet.desk.rows("SELECT id, type, sequence, arrival, create_time, text FROM messages"))[0]
    assert (after["type"], after["text"]) == ("order", "two of these")
    assert [after[name] for name in ("id", "sequence", "arrival", "create_time")] == [
        before[name] for name in ("id", "sequence", "arrival", "create_time")
    ]
    ((_, event),) = await inlet.desk.events(after=head)
    assert event.message_updated.message.type == message_pb2.MESSAGE_TYPE_ORDER
    assert list(event.message_updated.changed_fields) == ["type", "text"]
    assert event.message_updated.message.text.body == "two of these"
    row = event.message_updated.conversation
    assert (row.last_message_preview, row.unread_count, row.version) == ("two of these", 1, before["version"] + 1)
    item = await inlet.desk.value("SELECT id FROM journal_items WHERE journal_id = $1", payload.id)
    assert await causes(inlet, after=head) == {(actor_pb2.CAUSE_KIND_JOURNAL_ITEM, str(item))}
    await nothing_more(inlet)


async def test_an_older_parser_does_not_undo_what_a_newer_one_read(inlet: Inlet) -> None:
    await inlet.taken(inlet.of_type("order", ORDER))
    providers, head = inlet.desk.providers, await inlet.desk.head()
    inlet.desk.providers = {"whatsapp": inlet.older()._providers["whatsapp"]}
    try:
        assert found(await inlet.replayed(apply=True)) == {}
    finally:
        inlet.desk.providers = providers
    assert await inlet.desk.head() == head


async def test_what_failed_is_tried_again_and_what_fails_still_is_said(inlet: Inlet) -> None:
    async with inlet.poisoned():
        payload = await inlet.taken(inlet.texts("one", "poison"))
        report = await inlet.replayed(apply=True)
        assert found(report) == {("failed", "message"): 1}
        assert {name: tally.payloads for name, tally in report.errors.items()} == {"RaiseError": [payload.id]}
        assert await inlet.said() == ["one"]
    report = await inlet.replayed(apply=True)
    assert (found(report), report.errors) == ({("failed", "message"): 1}, {})
    assert sorted(await inlet.said()) == ["one", "poison"]
    assert await inlet.items(payload.id) == [("message", "applied"), ("message", "applied")]
    await nothing_more(inlet)


async def test_a_payload_that_was_set_apart_is_applied(inlet: Inlet) -> None:
    payload = await inlet.store(inlet.texts("late"))
    await inlet.desk.execute("UPDATE journal SET state = 'failed', error = 'Broken', attempts = 8")
    assert found(await inlet.replayed(apply=True)) == {("missed", "message"): 1}
    row = await inlet.payload(payload.id)
    assert (row["state"], row["error"], row["parser_version"]) == ("applied", None, parse.VERSION)
    assert await inlet.said() == ["late"]
    await nothing_more(inlet)


async def test_what_came_for_a_number_before_it_was_connected_is_applied(inlet: Inlet) -> None:
    body = inlet.texts("early")
    body["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "99999999999"
    payload = await inlet.taken(body, at=utc_now() - timedelta(hours=1))
    assert await inlet.items(payload.id) == [("message", "ignored")]
    await inlet.desk.execute("UPDATE channels SET account_id = '99999999999' WHERE id = $1", inlet.channel.id)
    assert found(await inlet.replayed(apply=True)) == {("missed", "message"): 1, ("superseded", "message"): 1}
    assert await inlet.said() == ["early"]
    await nothing_more(inlet)


async def test_a_receipt_that_failed_moves_its_message_and_sends_nothing(inlet: Inlet) -> None:
    desk = inlet.desk
    row = await desk.started(inlet.channel)
    item = desk.send(row.id)
    stored = await desk.writer().submit(item)
    assert isinstance(stored, Stored)
    await accept(inlet, item.part_id, "wamid.ours")
    body = inlet.receipts(("wamid.ours", "delivered"), ("wamid.ours", "read"))
    statuses = body["entry"][0]["changes"][0]["value"]["statuses"]
    statuses[1]["timestamp"] = "never"
    payload = await inlet.taken(body)
    assert await inlet.items(payload.id) == [("broken", "failed"), ("receipt", "applied")]
    before = await deliveries(inlet)
    # The parser learns to read it: here by reading other bytes, as they should have been.
    statuses[1]["timestamp"] = statuses[0]["timestamp"]
    async with connection_to(inlet.installed.owned(desk.dsn)) as owner:
        await owner.execute("UPDATE journal SET body = $2 WHERE id = $1", payload.id, payloads.encode(body))
    assert found(await inlet.replayed(apply=True)) == {("missed", "receipt"): 1, ("superseded", "broken"): 1}
    assert await desk.value("SELECT status FROM messages WHERE id = $1", stored.message.id) == "read"
    assert await inlet.items(payload.id) == [("broken", "superseded"), ("receipt", "applied"), ("receipt", "applied")]
    assert await deliveries(inlet) == before == 1
    head = await desk.head()
    assert found(await inlet.replayed(apply=True)) == {}
    assert await desk.head() == head


async def accept(inlet: Inlet, part_id: Any, wamid: str) -> None:
    """The provider took the send."""
    desk = inlet.desk
    async with desk.database.connection() as connection:
        taken = await claiming.claim(connection, worker="w", limit=10, providers=desk.providers)
    (claimed,) = taken.claimed
    assert claimed.part_id == part_id
    await Sender(desk.database, desk.tenant.secrets, desk.providers).settle(claimed, Accepted(provider_id=wamid))


async def test_two_replays_and_live_intake_at_once_apply_everything_once(inlet: Inlet) -> None:
    old, sender = inlet.older(), phone()
    for number in range(6):
        await inlet.taken(inlet.of_type("location", PLACE, sender=sender, at=time.time() - number), by=old)
        await inlet.taken(inlet.of_type("order", ORDER, sender=sender, at=time.time() - number), by=old)
    live = [await inlet.store(inlet.texts(f"live {number}", sender=sender)) for number in range(5)]
    await asyncio.gather(
        inlet.replayed(apply=True), inlet.replayed(apply=True), *(inlet.apply(payload) for payload in live)
    )
    counts = await inlet.desk.rows("SELECT type, count(*) AS n FROM messages GROUP BY type ORDER BY type")
    assert [tuple(row) for row in counts] == [("location", 6), ("order", 6), ("text", 5)]
    updated = [kind for kind in await inlet.desk.kinds() if kind == "message_updated"]
    assert len(updated) == 6
    await nothing_more(inlet)


async def test_payloads_can_be_named(inlet: Inlet) -> None:
    old = inlet.older()
    first, second = [await inlet.taken(inlet.of_type("location", PLACE), by=old) for _ in range(2)]
    assert (await inlet.replayed(apply=True, ids=[second.id])).payloads == 1
    assert await inlet.items(first.id) == [("location", "ignored")]
    assert ("message", "applied") in await inlet.items(second.id)
