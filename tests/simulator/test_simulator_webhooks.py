"""What the receiver of the webhooks sees: signatures, receipts, retries."""

import asyncio

from simulator_bench import CUSTOMER, SECRET, Start, account, text

from server.simulator.payloads import sign


async def test_an_inbound_webhook_is_signed_and_comes_from_meta(start: Start) -> None:
    meta = await start()

    answer = await meta.inbound(text="Grüße / 😀", name="Ann")

    webhook = meta.receiver.seen[0]
    assert answer["webhookStatus"] == 200
    assert webhook.headers["X-Hub-Signature-256"] == sign(webhook.raw, SECRET)
    assert webhook.headers["X-Hub-Signature"].startswith("sha1=")
    assert webhook.headers["User-Agent"] == "facebookexternalua"
    assert webhook.headers["Content-Type"] == "application/json"
    assert rb"Gr\u00fc\u00dfe \/ \ud83d\ude00" in webhook.raw
    assert webhook.value["messages"][0] | {"timestamp": ""} == {
        "from": CUSTOMER,
        "from_user_id": webhook.value["contacts"][0]["user_id"],
        "id": answer["wamids"][0],
        "timestamp": "",
        "text": {"body": "Grüße / 😀"},
        "type": "text",
    }


async def test_a_message_gets_its_receipts_in_order_and_in_metas_shape(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 1, "delivered_ms": 30, "read_ms": 60})
    await meta.inbound(name="Ann")

    _, answer = await meta.post(text(biz_opaque_callback_data="our id"))
    await meta.receiver.wait(4)

    sent, delivered, read = meta.receiver.statuses()
    assert [sent["status"], delivered["status"], read["status"]] == ["sent", "delivered", "read"]
    for status in (sent, delivered, read):
        assert status["id"] == answer["messages"][0]["id"]
        assert status["recipient_id"] == CUSTOMER
        assert status["recipient_user_id"].startswith("US.")
        assert status["biz_opaque_callback_data"] == "our id"
        assert status["timestamp"].isdigit()
        assert "conversation" not in status
    assert sent["pricing"]["pricing_model"] == delivered["pricing"]["pricing_model"] == "PMP"
    assert "pricing" not in read
    assert meta.receiver.seen[-1].value["contacts"] == [
        {"profile": {"name": "Ann"}, "wa_id": CUSTOMER, "user_id": sent["recipient_user_id"]}
    ]


async def test_read_is_only_sent_when_planned(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": 0})
    await meta.inbound()

    await meta.post(text())
    await meta.receiver.wait(3)
    await asyncio.sleep(0.05)

    assert {status["status"] for status in meta.receiver.statuses()} == {"sent", "delivered"}


async def test_text_outside_the_window_is_accepted_and_fails_by_webhook(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0})

    status, answer = await meta.post(text(biz_opaque_callback_data="our id"))
    await meta.receiver.wait(1)

    assert status == 200
    (failed,) = meta.receiver.statuses()
    assert failed["id"] == answer["messages"][0]["id"]
    assert failed["status"] == "failed"
    assert failed["biz_opaque_callback_data"] == "our id"
    assert failed["errors"][0]["code"] == 131047
    assert failed["errors"][0]["title"] == failed["errors"][0]["message"] == "Re-engagement message"
    assert "24 hours" in failed["errors"][0]["error_data"]["details"]
    assert "contacts" not in meta.receiver.seen[0].value


async def test_a_customer_without_number_is_reached_by_user_id(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0})
    await meta.inbound(**{"from": "US.13491208655302741918"})

    _, answer = await meta.post(text(to=None, recipient="US.13491208655302741918"))
    await meta.receiver.wait(2)

    inbound = meta.receiver.seen[0].value
    assert "from" not in inbound["messages"][0]
    assert "wa_id" not in inbound["contacts"][0]
    assert answer["contacts"] == [{"input": "US.13491208655302741918", "user_id": "US.13491208655302741918"}]
    (sent,) = meta.receiver.statuses()
    assert sent["recipient_user_id"] == "US.13491208655302741918"
    assert "recipient_id" not in sent


async def test_the_user_id_of_an_inbound_message_reaches_the_same_customer(start: Start) -> None:
    meta = await start(account_fields={"window": "sync"})
    await meta.inbound()

    user_id = meta.receiver.seen[0].value["contacts"][0]["user_id"]
    status, _ = await meta.post(text(to=None, recipient=user_id))

    assert status == 200


async def test_the_answer_tells_the_number_whatsapp_knows(start: Start) -> None:
    meta = await start(account_fields={"wa_ids": {"5215512345678": "525512345678"}})

    _, answer = await meta.post(text(to="+5215512345678"))

    assert answer["contacts"] == [{"input": "+5215512345678", "wa_id": "525512345678"}]


async def test_a_refused_webhook_is_sent_again_until_it_is_taken(start: Start) -> None:
    meta = await start(webhooks={"retry_first_ms": 5, "retry_longest_ms": 10})
    meta.receiver.answers = [503, 302, 404, 201]

    answer = await meta.inbound()
    await meta.receiver.wait(5)
    await asyncio.sleep(0.05)

    assert answer["webhookStatus"] == 503
    assert len(meta.receiver.seen) == 5
    assert len({webhook.raw for webhook in meta.receiver.seen}) == 1


async def test_a_webhook_nobody_takes_is_given_up_in_the_end(start: Start) -> None:
    meta = await start(webhooks={"retry_first_ms": 100, "give_up_after_seconds": 0.5})
    meta.receiver.answers = [500] * 50

    await meta.inbound()
    await asyncio.sleep(1.2)

    assert 2 <= len(meta.receiver.seen) <= 4


async def test_nobody_listening_is_no_answer(start: Start) -> None:
    meta = await start()
    await meta.control("POST", "accounts", account("http://127.0.0.1:9/"))

    assert (await meta.inbound())["webhookStatus"] is None


async def test_no_more_webhooks_than_planned_go_at_once(start: Start) -> None:
    meta = await start(webhooks={"concurrency": 3})
    meta.receiver.pause = 0.01

    await asyncio.gather(*(meta.inbound() for _ in range(12)))

    assert meta.receiver.most_at_once == 3
