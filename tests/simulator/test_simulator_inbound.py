"""What customers can send besides texts, what becomes of them, and the webhooks that are about nobody's message."""

import json
from typing import Any

import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, Meta, Start, account, hours_ago, text

REACTION = {"message_id": "wamid.ours", "emoji": "\U0001f44d"}
CHOSEN = {"type": "list_reply", "list_reply": {"id": "row-2", "title": "Tomorrow", "description": "from nine"}}
MOVED = "16505550000"


def change(meta: Meta, turn: int = -1) -> Any:
    (entry,) = json.loads(meta.receiver.seen[turn].raw)["entry"]
    assert entry["id"] == "102290129340398"
    return entry["changes"][0]


@pytest.mark.parametrize("word", ["image", "video", "audio", "document", "sticker", "location", "order", "button"])
async def test_a_type_has_a_usual_content(meta: Meta, word: str) -> None:
    answer = await meta.inbound(text=None, type=word, name="Ann")

    (message,) = meta.receiver.seen[0].value["messages"]
    assert (message["type"], message["id"], message["from"]) == (word, answer["wamids"][0], CUSTOMER)
    assert message[word]
    assert "text" not in message
    assert meta.receiver.seen[0].value["contacts"][0]["profile"] == {"name": "Ann"}


@pytest.mark.parametrize(
    ("word", "content"),
    [("reaction", REACTION), ("interactive", CHOSEN), ("contacts", [{"vcard": "BEGIN:VCARD"}]), ("poll", {"a": 1})],
)
async def test_a_content_stands_as_it_was_given(meta: Meta, word: str, content: Any) -> None:
    await meta.inbound(text=None, type=word, content=content, more={"group_id": "G1", "errors": []})

    (message,) = meta.receiver.seen[0].value["messages"]
    assert message[word] == content
    assert (message["group_id"], message["errors"]) == ("G1", [])


async def test_an_answer_names_the_message_and_who_wrote_it(meta: Meta) -> None:
    theirs = (await meta.inbound())["wamids"][0]
    ours = (await meta.post(text()))[1]["messages"][0]["id"]

    await meta.inbound(text=None, type="interactive", content=CHOSEN, replyTo=ours)
    await meta.inbound(replyTo=theirs)

    contexts = [webhook.value["messages"][0].get("context") for webhook in meta.receiver.seen]
    assert contexts == [None, {"from": "15550783881", "id": ours}, {"from": CUSTOMER, "id": theirs}]


@pytest.mark.parametrize("word", ["reaction", "edit", "revoke", "system", "request_welcome"])
async def test_what_is_no_message_opens_no_window(start: Start, word: str) -> None:
    meta = await start(account_fields={"window": "sync"})
    await meta.inbound(timestamp=hours_ago(30))

    answer = await meta.inbound(text=None, type=word, content={"a": 1})
    refused = await meta.post(text())

    assert refused[1]["error"]["code"] == 131047
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": answer["wamids"][0]}
    assert (await meta.post(read))[0] == 400


async def test_a_customer_with_a_new_number_is_the_same_to_the_simulator(meta: Meta) -> None:
    await meta.inbound(name="Ann")
    before = meta.receiver.seen[0].value["contacts"][0]["user_id"]

    status, answer = await meta.control("POST", f"customers/{CUSTOMER}", {"phone": MOVED})

    assert (status, answer["webhookStatuses"]) == (200, [200, 200])
    said = meta.receiver.seen[1].value
    assert "contacts" not in said
    (message,) = said["messages"]
    assert (message["type"], message["from"]) == ("system", CUSTOMER)
    assert message["system"] == {
        "type": "user_changed_number",
        "wa_id": MOVED,
        "body": f"Ann changed from {CUSTOMER} to {MOVED}",
        "user_id": answer["userId"],
        "previous_user_id": before,
    }
    assert change(meta)["field"] == "user_id_update"
    (update,) = change(meta)["value"]["user_id_update"]
    assert (update["wa_id"], update["user_id"]) == (MOVED, {"previous": before, "current": answer["userId"]})
    assert change(meta)["value"]["metadata"]["phone_number_id"] == PHONE_NUMBER_ID
    await meta.inbound(**{"from": MOVED})
    assert meta.receiver.seen[-1].value["contacts"][0]["user_id"] == answer["userId"]
    assert (await meta.control("POST", f"customers/{CUSTOMER}", {}))[0] == 404


async def test_a_new_user_id_alone_leaves_the_number(meta: Meta) -> None:
    await meta.inbound()

    _, answer = await meta.control("POST", f"customers/{CUSTOMER}", {"userId": "US.77"})

    assert answer["userId"] == "US.77"
    assert meta.receiver.seen[1].value["messages"][0]["system"]["type"] == "user_changed_user_id"
    assert change(meta)["value"]["user_id_update"][0]["wa_id"] == CUSTOMER


async def test_nobody_is_told_of_user_ids_where_there_are_none(start: Start) -> None:
    meta = await start(account_fields={"bsuid": False})
    await meta.inbound()

    _, answer = await meta.control("POST", f"customers/{CUSTOMER}", {"phone": MOVED})

    assert answer == {"userId": None, "webhookStatuses": [200]}
    assert "user_id" not in meta.receiver.seen[1].value["messages"][0]["system"]


@pytest.mark.parametrize(
    "field",
    [
        "account_alerts", "account_review_update", "account_update", "business_capability_update",
        "business_username_updates", "phone_number_name_update", "phone_number_quality_update", "security",
    ],
)  # fmt: skip
async def test_a_field_of_the_account_has_a_usual_value(meta: Meta, field: str) -> None:
    assert await meta.control("POST", "fields", {"field": field, "value": {"more": 1}}) == (200, {"webhookStatus": 200})

    sent = change(meta)
    assert (sent["field"], sent["value"]["more"]) == (field, 1)
    assert len(sent["value"]) > 1
    assert "metadata" not in sent["value"]
    assert json.loads(meta.receiver.seen[0].raw)["entry"][0]["time"] > 10**9


async def test_a_field_of_the_number_names_it_and_an_unknown_one_is_sent_too(meta: Meta) -> None:
    stop = {"user_preferences": [{"wa_id": CUSTOMER, "value": "stop"}]}
    await meta.control("POST", "fields", {"field": "user_preferences", "value": stop})
    await meta.control("POST", "fields", {"field": "messages", "value": {"errors": [{"code": 130429}]}})
    await meta.control("POST", "fields", {"field": "of_tomorrow"})

    first, second, third = (change(meta, turn) for turn in range(3))
    for sent in (first, second):
        assert sent["value"]["metadata"]["phone_number_id"] == PHONE_NUMBER_ID
    assert first["value"]["user_preferences"] == stop["user_preferences"]
    assert second["value"]["errors"] == [{"code": 130429}]
    assert third == {"field": "of_tomorrow", "value": {}}


async def test_an_upgrade_is_a_thousand_messages_a_second(start: Start) -> None:
    limits = {"throughput_per_second": 1, "pair_seconds": None}
    meta = await start(account_fields={"limits": limits, "window": "off"})
    refused = [(await meta.post(text()))[0] for _ in range(3)]

    await meta.control("POST", "fields", {"field": "phone_number_quality_update"})
    accepted = [(await meta.post(text()))[0] for _ in range(3)]

    assert 429 in refused or 400 in refused
    assert accepted == [200, 200, 200]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"raw": '{"object": '}, b'{"object": '),
        ({"raw": "\u0000\u00e4"}, "\u0000\u00e4".encode()),
        ({"body": [1, None]}, b"[1, null]"),
        ({}, b"null"),
    ],
)
async def test_anything_can_be_sent_and_is_signed(meta: Meta, given: Any, sent: bytes) -> None:
    assert await meta.control("POST", "webhooks", given) == (200, {"webhookStatus": 200})

    assert meta.receiver.seen[0].raw == sent
    assert meta.receiver.seen[0].headers["X-Hub-Signature-256"].startswith("sha256=")


async def test_a_receipt_has_more_beside_it(meta: Meta) -> None:
    more = {"recipient_type": "group", "recipient_participant_id": CUSTOMER}
    await meta.control("POST", "statuses", {"wamid": "wamid.A", "status": "read", "more": more})

    (status,) = meta.receiver.statuses()
    assert (status["recipient_type"], status["recipient_participant_id"]) == ("group", CUSTOMER)


async def test_garbage_adds_and_takes_nothing_away(start: Start) -> None:
    meta, clean = await start(), await start()
    await meta.fault("garbage", seed=4)
    for each in (meta, clean):
        await each.inbound(wamid="wamid.A", timestamp=1_700_000_000, name="Ann")
        await each.control("POST", "statuses", {"wamid": "wamid.B", "status": "read", "timestamp": 1_700_000_000})

    for turn, field in enumerate(("messages", "statuses")):
        littered, plain = (json.loads(each.receiver.seen[turn].raw) for each in (meta, clean))
        assert contains(littered, plain)
        assert "x_" in json.dumps(littered)
        changes = littered["entry"][0]["changes"]
        assert [each["field"].partition("_of_")[0] for each in changes] == ["messages", "field"]
        extra = changes[0]["value"][field][1:]
        assert [each["status"][:10] for each in extra] == (["status_of_"] if field == "statuses" else [])


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return all(contains(mine, theirs) for mine, theirs in zip(whole, part, strict=False)) and len(whole) >= len(
            part
        )
    return bool(whole == part)


async def test_a_number_keeps_its_own_limits(meta: Meta) -> None:
    second = account(meta.receiver.url, phone_number_id="2", access_token="EAAJsecond")
    assert (await meta.control("POST", "accounts", second))[0] == 201

    await meta.control("POST", "fields", {"field": "account_update", "phoneNumberId": "2"})

    assert change(meta)["value"]["event"] == "ACCOUNT_RESTRICTION"
