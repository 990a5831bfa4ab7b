"""Webhooks through the front door: each item once, each tenant's own, and nothing lost."""

import asyncio
import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from intake_post import Post, Side, body_of, phone, receipt_of, text, until, word
from switchboard.v1 import event_pb2

from server.simulator import payloads
from server.simulator.payloads import Number
from tests.known_number import know

PAYLOADS = Path(__file__).parents[1] / "providers" / "payloads"


async def applied(side: Side, said: str, count: int, *, within: float = 40) -> list[str]:
    async def there() -> list[str]:
        found = await side.texts(f"{said}%")
        return found if len(found) >= count else []

    return list(await until(there, within=within))


def captured(name: str, side: Side, **replaced: str) -> dict[str, Any]:
    """A captured payload as if it were for this number."""
    raw = (PAYLOADS / f"{name}.json").read_text()
    for old, new in replaced.items():
        raw = raw.replace(old, new)
    body: dict[str, Any] = json.loads(raw)
    for entry in body["entry"]:
        for change in entry["changes"]:
            change["value"].get("metadata", {})["phone_number_id"] = side.number.phone_number_id
    return body


async def test_an_escaped_body_is_hashed_as_it_came_and_read_as_what_it_says(post: Post) -> None:
    body = body_of(post.acme, text(f"{(said := word())} grüße / <b> & 日本 🎉"))
    data = payloads.encode(body)
    assert b"\\u00fc" in data
    assert b"\\/" in data
    assert (await post.signed(data)).status == 200
    assert await applied(post.acme, said, 1) == [f"{said} grüße / <b> & 日本 🎉"]
    row = await post.acme.database.fetchrow(
        "SELECT body, split, secret_index FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
    )
    assert tuple(row) == (data, False, 0)


async def test_t3_what_is_escaped_in_the_body_is_the_character_itself_in_the_row(post: Post) -> None:
    said = word()
    data = payloads.encode(body_of(post.acme, text(f"{said} SAID")))
    escaped = b'\\u00e4\\u00C4 \\/ \\u003Cb\\u003e \\u0026 \\u0040 \\u0025 \\ud83c\\udf89 \\u65e5 \\" \\\\ \\n|'
    data = data.replace(b"SAID", escaped)
    assert (await post.signed(data)).status == 200
    assert await applied(post.acme, said, 1) == [f'{said} äÄ / <b> & @ % 🎉 日 " \\ \n|']
    stored = "SELECT body FROM journal WHERE sha256 = $1"
    assert await post.acme.database.fetchval(stored, hashlib.sha256(data).digest()) == data


async def test_a_hundred_messages_of_twenty_customers_appear_once_in_lists_and_stream(post: Post, stack: Any) -> None:
    said, senders = word(), [phone() for _ in range(20)]
    messages = [text(f"{said} {index:03}", senders[index % 20]) for index in range(100)]
    data = payloads.encode(body_of(post.acme, *messages))
    seen: list[Any] = []
    url, headers = post.dev["url"] + "/v1/inbox/watch", {"Authorization": f"Bearer {post.acme.key}"}
    async with post.session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=40)) as stream:
        assert stream.status == 200
        hello = await stream.content.readline()
        assert b"hello" in hello
        assert (await post.signed(data)).status == 200
        async for line in stream.content:
            for event in json.loads(line).get("result", json.loads(line)).get("events", []):
                body = event.get("messageReceived", {}).get("message", {}).get("text", {}).get("body", "")
                if body.startswith(said):
                    seen.append((int(event["seq"]), body))
            if len(seen) >= 100:
                break
    again = await asyncio.gather(*(post.signed(data) for _ in range(10)))
    assert {answer.status for answer in again} == {200}

    async def journal_done() -> bool:
        states = await post.acme.database.fetch(
            "SELECT state FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
        )
        return len(states) == 11 and {row["state"] for row in states} == {"applied"}

    await until(journal_done)
    assert sorted(body for _, body in seen) == [message.text for message in messages]
    assert len({seq for seq, _ in seen}) == 100
    assert sorted(await post.acme.texts(f"{said}%")) == [message.text for message in messages]
    counts = await post.acme.database.fetch(
        "SELECT c.id, c.message_count, c.inbound_count FROM conversations c JOIN identity_aliases a ON a.identity_id = c.identity_id"
        " WHERE a.value = ANY($1::text[])",
        senders,
    )
    assert sorted(tuple(row)[1:] for row in counts) == [(5, 5)] * 20
    received = event_pb2.InboxEvent.DESCRIPTOR.fields_by_name["message_received"].number
    events = "SELECT count(*) FROM stream_event WHERE kind = $1 AND conversation_id = ANY($2::uuid[])"
    assert await post.acme.database.fetchval(events, received, [row["id"] for row in counts]) == 100
    listed: list[Any] = []
    query: dict[str, str] = {"pageSize": "50"}
    while len(listed) < 500:
        page = await post.call("GET", "/v1/conversations", **query)
        listed += page["conversations"]
        if not page.get("nextPageToken"):
            break
        query["pageToken"] = page["nextPageToken"]
    ours = {str(row["id"]) for row in counts}
    found = [item for item in listed if item["id"] in ours]
    assert sorted(item["id"] for item in found) == sorted(ours)
    assert {item["unreadCount"] for item in found} == {5}


async def test_the_same_post_ten_times_at_once_before_anything_was_applied(post: Post) -> None:
    said, sender = word(), phone()
    data = payloads.encode(body_of(post.acme, *(text(f"{said} {index}", sender) for index in range(10))))
    answers = await asyncio.gather(*(post.signed(data) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}

    async def done() -> bool:
        rows = await post.acme.database.fetch(
            "SELECT state FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
        )
        return len(rows) == 10 and all(row["state"] == "applied" for row in rows)

    await until(done)
    assert sorted(await post.acme.texts(f"{said}%")) == [f"{said} {index}" for index in range(10)]
    people = await post.acme.database.fetchval("SELECT count(*) FROM identity_aliases WHERE value = $1", sender)
    assert people == 1


async def test_a_post_for_two_tenants_gives_each_its_own_and_nothing_of_the_other(post: Post) -> None:
    said, sender = word(), phone()
    body = payloads.merge(*(body_of(side, text(f"{said} {index}", sender)) for index, side in enumerate(post.sides)))
    data = payloads.encode(body)
    assert (await post.signed(data)).status == 200
    for index, side in enumerate(post.sides):
        assert await applied(side, said, 1) == [f"{said} {index}"]
        row = await side.database.fetchrow(
            "SELECT body, split FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
        )
        assert row["split"]
        assert f"{said} {index}".encode() in row["body"]
        assert f"{said} {1 - index}".encode() not in row["body"]
        assert json.loads(row["body"])["object"] == "whatsapp_business_account"
    contacts = [
        await side.database.fetchval("SELECT identity_id FROM identity_aliases WHERE value = $1", sender)
        for side in post.sides
    ]
    assert contacts[0] != contacts[1]


async def test_a_broken_item_does_not_hold_up_its_siblings(post: Post) -> None:
    said = word()
    body = body_of(post.acme, text(f"{said} 1"), text(f"{said} 2"), text(f"{said} 3"))
    messages = body["entry"][0]["changes"][0]["value"]["messages"]
    broken = {**messages[1], "timestamp": "yesterday"}
    messages[1:2] = [broken, 17, None, {}, {**messages[1], "id": None}]
    body["entry"][0]["changes"].append({"field": "messages", "value": "not an object"})
    data = payloads.encode(body)
    assert (await post.signed(data)).status == 200
    assert await applied(post.acme, said, 2) == [f"{said} 1", f"{said} 3"]

    async def recorded() -> bool:
        rows = await post.acme.database.fetch(
            "SELECT i.state FROM journal_items i JOIN journal j ON j.id = i.journal_id WHERE j.sha256 = $1",
            hashlib.sha256(data).digest(),
        )
        states = [row["state"] for row in rows]
        return states.count("applied") == 2 and states.count("failed") >= 5

    async def elsewhere() -> bool:
        return await recorded() or bool(await post.quarantined(data))

    await until(elsewhere)


async def test_an_unknown_type_is_a_visible_placeholder(post: Post) -> None:
    sender = phone()
    body = captured("type_of_tomorrow", post.acme)
    value = body["entry"][0]["changes"][0]["value"]
    value["messages"][0] |= {"from": sender, "id": f"wamid.{word()}", "timestamp": str(int(time.time()))}
    value["messages"][0].pop("from_user_id", None)
    value["contacts"] = [{"profile": {"name": "Maria"}, "wa_id": sender}]
    assert (await post.signed(body)).status == 200

    async def shown() -> Any:
        return await post.acme.database.fetchrow(
            "SELECT m.type, c.last_message_preview, c.inbound_count, c.id, m.details IS NOT NULL AS kept FROM messages m"
            " JOIN conversations c ON c.id = m.conversation_id"
            " JOIN identity_aliases a ON a.identity_id = c.identity_id WHERE a.value = $1",
            sender,
        )

    row = await until(shown)
    assert (row["type"], row["last_message_preview"], row["inbound_count"], row["kept"]) == (
        "unsupported",
        "[unsupported]",
        1,
        True,
    )
    listed = await post.call("GET", f"/v1/conversations/{row['id']}/messages")
    assert [item["type"] for item in listed["messages"]] == ["MESSAGE_TYPE_UNSUPPORTED"]


@pytest.mark.parametrize(
    "name", ["reaction", "account_update", "field_of_tomorrow", "status_of_tomorrow", "request_welcome", "edit"]
)
async def test_what_is_no_message_makes_none(post: Post, name: str) -> None:
    body = captured(name, post.acme)
    counts = (
        "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM conversations), (SELECT count(*) FROM contacts)"
    )
    before = tuple(await post.acme.database.fetchrow(counts))
    data = payloads.encode(body)
    assert (await post.signed(data)).status == 200
    said = word()
    await post.signed(body_of(post.acme, text(said)))
    await applied(post.acme, said, 1)
    after = tuple(await post.acme.database.fetchrow(counts))
    assert tuple(new - old for new, old in zip(after, before, strict=True)) == (1, 1, 1)


async def test_receipts_of_nobodys_message_wait_those_of_each_group_member_too(post: Post) -> None:
    stranger = f"wamid.{word()}"
    assert (await post.signed(receipt_of(post.acme, stranger, "read"))).status == 200
    group = captured("status_group", post.acme)
    member = f"wamid.{word()}"
    for status in group["entry"][0]["changes"][0]["value"]["statuses"]:
        status["id"] = member
    assert (await post.signed(group)).status == 200

    async def states() -> Any:
        rows = await post.acme.database.fetch(
            "SELECT provider_id, state, result FROM journal_items WHERE provider_id = ANY($1::text[])",
            [stranger, member],
        )
        # Two members are two items of one id: both ids must be there.
        by_id = {row["provider_id"]: (row["state"], row["result"]) for row in rows}
        return by_id if len(by_id) == 2 else None

    found = await until(states)
    assert (found[stranger][0], found[member][0]) == ("parked", "parked")
    assert (
        await post.acme.database.fetchval("SELECT count(*) FROM parked_receipts WHERE provider_message_id = $1", member)
        == 2
    )


async def connect_number(post: Post, number: Number) -> None:
    know(post.dev, number.phone_number_id, number.waba_id, "EAAJtoken")
    await post.call(
        "POST",
        "/v1/channels:connectWhatsapp",
        body={
            "name": "Another number",
            "phoneNumberId": number.phone_number_id,
            "wabaId": number.waba_id,
            "accessToken": "EAAJtoken",
            "displayPhoneNumber": number.display_phone_number,
        },
    )


async def test_a_number_that_nobody_connected_waits_in_quarantine_and_is_applied_once_it_is(post: Post) -> None:
    said, number = word(), Number("102290129340399", f"9{uuid.uuid4().int % 10**13:013}", "15550783882")
    data = payloads.encode(payloads.inbound_body(number, [text(said)]))
    assert (await post.signed(data)).status == 200
    (part,) = await post.quarantined(data)
    assert (part["reason"], part["external_id"]) == ("unrouted", number.phone_number_id)
    for side in post.sides:
        assert (
            await side.database.fetchval(
                "SELECT count(*) FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
            )
            == 0
        )
    await connect_number(post, number)
    assert await applied(post.acme, said, 1) == [said]
    assert await post.quarantined(data) == []


async def test_a_message_between_the_route_and_the_channel_is_not_lost(post: Post) -> None:
    said, number = word(), Number("102290129340399", f"8{uuid.uuid4().int % 10**13:013}", "15550783883")
    channel_id = uuid.uuid4()
    await post.control.execute(
        "INSERT INTO routes (provider, external_id, tenant_id, channel_id, create_time) VALUES ('whatsapp', $1, $2, $3, now())",
        *(number.phone_number_id, uuid.UUID(post.acme.tenant_id), channel_id),
    )
    assert (await post.signed(payloads.inbound_body(number, [text(said)]))).status == 200
    await asyncio.sleep(1)
    assert await post.acme.texts(said) == []
    await post.acme.database.execute(
        "INSERT INTO channels (id, provider, name, state, account_id, access_token, create_time)"
        " VALUES ($1, 'whatsapp', 'Late', 'active', $2, '', now())",
        *(channel_id, number.phone_number_id),
    )
    assert await applied(post.acme, said, 1) == [said]


async def test_a_disabled_tenants_messages_are_kept_and_applied_once_it_is_enabled(post: Post) -> None:
    side, said = post.sides[1], word()
    path = f"/v1/tenants/{side.tenant_id}"
    await post.call("POST", f"{path}/disable", key=post.dev["platform_key"], body={})
    try:
        # Every process follows: the edge asks one after the other.
        while any([await post.refusal(side) != "TENANT_DISABLED" for _ in range(8)]):
            await asyncio.sleep(0.05)
        data = payloads.encode(body_of(side, text(said)))
        assert (await post.signed(data)).status == 200
        stored = await side.database.fetchrow(
            "SELECT state FROM journal WHERE sha256 = $1", hashlib.sha256(data).digest()
        )
        assert stored is not None
    finally:
        await post.call("POST", f"{path}/enable", key=post.dev["platform_key"], body={})
    while any([await post.refusal(side) for _ in range(8)]):
        await asyncio.sleep(0.05)
    assert await applied(side, said, 1, within=60) == [said]
