"""The control API, and the calls it shows."""

import asyncio

import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, Meta, Start, account, text

from server.simulator.payloads import sign
from server.simulator.wamid import new_wamid


async def test_health_answers(meta: Meta) -> None:
    assert await meta.control("GET", "health") == (200, {"status": "ok", "accounts": 1})


async def test_a_batch_of_many_customers_is_one_webhook(meta: Meta) -> None:
    batch = [{"from": f"1650555{number:04}", "name": f"C{number}", "text": f"t{number}"} for number in range(300)]

    status, answer = await meta.control("POST", "inbound", {"messages": batch})

    assert (status, answer["webhookStatus"]) == (200, 200)
    (webhook,) = meta.receiver.seen
    assert [message["id"] for message in webhook.value["messages"]] == answer["wamids"]
    assert [message["text"]["body"] for message in webhook.value["messages"]] == [f"t{n}" for n in range(300)]
    assert len(webhook.value["contacts"]) == 300


async def test_a_given_id_and_time_are_kept(meta: Meta) -> None:
    answer = await meta.inbound(wamid="wamid.same", timestamp=1_700_000_000)

    assert answer["wamids"] == ["wamid.same"]
    assert meta.receiver.seen[0].value["messages"][0]["id"] == "wamid.same"
    assert meta.receiver.seen[0].value["messages"][0]["timestamp"] == "1700000000"


async def test_requests_are_shown_oldest_first_refused_ones_too(meta: Meta) -> None:
    _, accepted = await meta.post(text())
    await meta.post(text(type="telegram"))

    _, answer = await meta.control("GET", "requests")

    first, second = answer["requests"]
    assert first["body"] == text()
    assert (first["phoneNumberId"], first["status"]) == (PHONE_NUMBER_ID, 200)
    assert first["wamid"] == accepted["messages"][0]["id"]
    assert (second["status"], second["wamid"]) == (400, None)
    assert first["time"] < second["time"]
    _, later = await meta.control("GET", f"requests?since={first['time']}")
    assert later["requests"] == [second]


async def test_requests_can_be_forgotten(meta: Meta) -> None:
    await meta.post(text())

    await meta.control("DELETE", "requests")

    assert await meta.control("GET", "requests") == (200, {"requests": []})


async def test_only_the_newest_requests_are_kept(start: Start) -> None:
    meta = await start(requests_kept=2)
    for turn in range(3):
        await meta.post(text(biz_opaque_callback_data=f"{turn}"))

    _, answer = await meta.control("GET", "requests")

    assert [request["body"]["biz_opaque_callback_data"] for request in answer["requests"]] == ["1", "2"]


async def test_a_message_received_can_be_marked_read(meta: Meta) -> None:
    answer = await meta.inbound()
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": answer["wamids"][0]}

    assert await meta.post(read) == (200, {"success": True})
    assert await meta.post(read | {"typing_indicator": {"type": "text"}}) == (200, {"success": True})


async def test_one_status_is_sent_as_given(meta: Meta) -> None:
    await meta.inbound()
    _, accepted = await meta.post(text(biz_opaque_callback_data="our id"))
    wamid = accepted["messages"][0]["id"]

    status, answer = await meta.control("POST", "statuses", {"wamid": wamid, "status": "read", "timestamp": 7})

    assert (status, answer) == (200, {"webhookStatus": 200})
    (read,) = meta.receiver.statuses()
    assert (read["id"], read["timestamp"], read["recipient_id"]) == (wamid, "7", CUSTOMER)
    assert read["biz_opaque_callback_data"] == "our id"


@pytest.mark.parametrize(("errors", "codes"), [(None, [131026]), ([], []), ([{"code": 131049}], [131049])])
async def test_a_failed_status_carries_the_errors_given(
    errors: list[object] | None, codes: list[int], meta: Meta
) -> None:
    wamid = new_wamid(peer=CUSTOMER, direction="outbound")

    await meta.control("POST", "statuses", {"wamid": wamid, "status": "failed", "errors": errors})

    (failed,) = meta.receiver.statuses()
    assert failed["recipient_id"] == CUSTOMER
    assert [error["code"] for error in failed["errors"]] == codes


async def test_an_account_can_be_added_and_changed_while_running(meta: Meta) -> None:
    second = account(meta.receiver.url, phone_number_id="2", access_token="EAAJsecond", app_secret="s2")

    assert (await meta.control("POST", "accounts", second))[0] == 201
    await meta.inbound(phoneNumberId="2")
    assert meta.receiver.seen[0].headers["X-Hub-Signature-256"] == sign(meta.receiver.seen[0].raw, "s2")
    assert (await meta.post(text(), path="/v26.0/2/messages", token="EAAJsecond"))[0] == 200

    assert (await meta.control("POST", "accounts", second | {"access_token": "EAAJnew"}))[0] == 200
    assert (await meta.post(text(), path="/v26.0/2/messages", token="EAAJsecond"))[0] == 401
    assert (await meta.post(text(), path="/v26.0/2/messages", token="EAAJnew"))[0] == 200


async def test_the_receipt_plan_can_be_changed_while_running(meta: Meta) -> None:
    await meta.inbound()

    await meta.control("PUT", "receipts", {"sent_ms": 0, "delivered_ms": None})
    await meta.post(text())
    await meta.receiver.wait(2)
    await meta.control("PUT", "receipts", None)
    await meta.post(text())
    await asyncio.sleep(0.05)

    assert [status["status"] for status in meta.receiver.statuses()] == ["sent"]


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "inbound", {"text": "hi"}, "from: Field required"),
        ("POST", "inbound", {"from": "0049", "text": "hi"}, "from: Value error, a phone number"),
        ("POST", "inbound", {"from": CUSTOMER, "text": ""}, "text: String should have at least 1 character"),
        ("POST", "inbound", {"from": CUSTOMER, "text": "x" * 4097}, "text: String should have at most 4096"),
        ("POST", "inbound", {"from": CUSTOMER, "text": "x", "color": 1}, "color: Extra inputs"),
        ("POST", "inbound", {"from": CUSTOMER, "text": "x", "phoneNumberId": "9"}, "there is no such account"),
        ("POST", "inbound", {"messages": []}, "messages: Tuple should have at least 1 item"),
        ("POST", "inbound", {"messages": [{"from": CUSTOMER}]}, "messages.0: Value error, either text"),
        ("POST", "inbound", {"from": CUSTOMER, "text": "x", "type": "image"}, "either text, or a type other than text"),
        (
            "POST",
            "inbound",
            {"from": CUSTOMER, "text": "x", "content": {}},
            "content belongs to a type other than text",
        ),
        ("POST", "customers/4915112345678", {"phone": "+49"}, "phone: String should match"),
        ("POST", "fields", {"value": {}}, "field: Field required"),
        ("POST", "inbound", [], "body: "),
        ("POST", "statuses", {"wamid": "wamid.A"}, "status: Field required"),
        ("POST", "statuses", {"wamid": "wamid.A", "status": "READ"}, "status: String should match"),
        ("POST", "accounts", {"phone_number_id": "x"}, "phone_number_id: String should match"),
        ("PUT", "receipts", {"sent_ms": -1}, "sent_ms: Input should be greater"),
        ("GET", "requests?since=yesterday", None, "since: "),
    ],
)
async def test_bad_input_is_refused_by_name(method: str, path: str, body: object, says: str, meta: Meta) -> None:
    status, answer = await meta.control(method, path, body)

    assert status == 400
    assert says in answer["error"]
    assert meta.receiver.seen == []


async def test_input_that_is_not_json_is_refused(meta: Meta) -> None:
    async with meta.session.post(f"{meta.url}/_control/inbound", data=b"{") as response:
        assert response.status == 400
        assert await response.json() == {"error": "the body is not JSON"}


async def test_an_unknown_control_call_is_not_found(meta: Meta) -> None:
    assert (await meta.control("GET", "nothing"))[0] == 404
