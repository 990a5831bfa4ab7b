"""Faults of the Graph API's side: what a sender sees, what was accepted all the same, and what the control API tells."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, TOKEN, Meta, Start, text

from server.simulator.errors import TITLES

PATH = f"/v26.0/{PHONE_NUMBER_ID}/messages"
OTHER = "16505559999"


async def sent(meta: Meta, *, within: float = 5.0, body: object = None) -> tuple[int, str, bytes]:
    """A send as a client with a timeout of its own makes it: status, content type, body."""
    async with meta.session.post(
        meta.url + PATH,
        json=text() if body is None else body,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=aiohttp.ClientTimeout(total=within),
    ) as response:
        return response.status, response.content_type, await response.read()


async def test_an_answer_is_delayed_and_the_message_goes_out_before_it(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": None})
    await meta.inbound()
    await meta.fault("delay", delayMs=300)

    began = time.monotonic()
    sending = asyncio.create_task(sent(meta))
    await meta.receiver.wait(2)

    assert not sending.done()
    assert (await sending)[0] == 200
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("code", "status", "title"),
    [
        (130429, 400, "Rate limit hit"),
        (131056, 400, "(Business Account, Consumer Account) pair rate limit hit"),
        (131047, 400, "Re-engagement message"),
        (131000, 500, "Something went wrong"),
        (133004, 503, "Server temporarily unavailable"),
    ],
)
async def test_an_error_has_metas_shape(code: int, status: int, title: str, meta: Meta) -> None:
    await meta.fault("error", code=code, details="what happened", transient=True)

    answered, body = await meta.post(text())

    assert answered == status
    error = body["error"]
    assert error | {"fbtrace_id": ""} == {
        "message": f"(#{code}) {title}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": "what happened"},
        "fbtrace_id": "",
        "is_transient": True,
    }
    (request,) = await meta.requests()
    assert (request["status"], request["wamid"], request["faults"]) == (status, None, ["fault-1"])


async def test_an_error_of_the_token_has_a_subcode_and_tells_to_authenticate(meta: Meta) -> None:
    await meta.fault("error", code=190, subcode=460)

    async with meta.session.post(
        meta.url + PATH, json=text(), headers={"Authorization": f"Bearer {TOKEN}"}
    ) as response:
        body = await response.json()

    assert (response.status, body["error"]["code"], body["error"]["error_subcode"]) == (401, 190, 460)
    assert "invalid_token" in response.headers["WWW-Authenticate"]
    assert "error_data" not in body["error"]


async def test_an_error_of_usage_tells_when_to_come_back(meta: Meta) -> None:
    await meta.fault("error", code=80007, regainMinutes=7)

    async with meta.session.post(
        meta.url + PATH, json=text(), headers={"Authorization": f"Bearer {TOKEN}"}
    ) as response:
        usage = json.loads(response.headers["X-Business-Use-Case-Usage"])

    assert usage["102290129340398"][0]["estimated_time_to_regain_access"] == 7


async def test_a_code_that_is_in_no_table_is_answered_too(meta: Meta) -> None:
    assert 987654 not in TITLES
    await meta.fault("error", code=987654, status=418)

    status, body = await meta.post(text())

    assert (status, body["error"]["code"]) == (418, 987654)


async def test_a_page_of_html_is_an_error_too(meta: Meta) -> None:
    await meta.fault("error", status=503, body="html")

    status, kind, body = await sent(meta)

    assert (status, kind) == (503, "text/html")
    assert b"Sorry, something went wrong" in body


async def test_an_error_may_be_empty_or_end_in_the_middle(meta: Meta) -> None:
    await meta.fault("error", status=500, body="empty", count=1)
    await meta.fault("error", status=500, body="truncated", count=1)

    empty, truncated = await sent(meta), await sent(meta)

    assert empty == (500, "application/json", b"")
    assert truncated[2].startswith(b'{"error": {')
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(truncated[2])


async def test_a_cut_answer_ends_before_its_promised_length(meta: Meta) -> None:
    await meta.fault("error", status=500, body="cut")

    with pytest.raises(aiohttp.ClientPayloadError):
        await sent(meta)


async def test_an_accepted_message_may_be_answered_with_an_error(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": None})
    await meta.inbound()
    await meta.fault("error", code=131000, accepts=True)

    status, _ = await meta.post(text(biz_opaque_callback_data="ours"))
    await meta.receiver.wait(2)

    assert status == 500
    assert [each["biz_opaque_callback_data"] for each in meta.receiver.statuses()] == ["ours"]
    (request,) = await meta.requests()
    assert request["wamid"] == meta.receiver.statuses()[0]["id"]


async def test_a_success_may_be_truncated(meta: Meta) -> None:
    await meta.fault("error", status=200, body="truncated", accepts=True)

    status, _, body = await sent(meta)

    assert status == 200
    assert body.startswith(b'{"messaging_product"')
    assert b"error" not in body


async def test_an_error_may_come_by_webhook(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0})
    await meta.inbound()
    await meta.fault("error", code=131026, via="webhook")

    status, answer = await meta.post(text())
    await meta.receiver.wait(2)

    assert status == 200
    (failed,) = meta.receiver.statuses()
    assert (failed["id"], failed["status"]) == (answer["messages"][0]["id"], "failed")
    assert failed["errors"][0]["code"] == 131026


async def test_a_timeout_after_accept_never_answers_and_the_message_goes_out(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": None})
    await meta.inbound()
    await meta.fault("timeout_after_accept")

    with pytest.raises(TimeoutError):
        await sent(meta, within=0.3)

    (request,) = await meta.requests()
    assert (request["status"], request["faults"]) == (None, ["fault-1"])
    assert [status["id"] for status in meta.receiver.statuses()] == [request["wamid"]]


async def test_a_timeout_after_accept_may_close_the_connection(meta: Meta) -> None:
    await meta.fault("timeout_after_accept", then="close", afterMs=50)

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sent(meta)

    assert [request["wamid"] is not None for request in await meta.requests()] == [True]


async def test_a_timeout_after_accept_may_answer_too_late(meta: Meta) -> None:
    await meta.fault("timeout_after_accept", then="answer", afterMs=200)

    with pytest.raises(TimeoutError):
        await sent(meta, within=0.1)
    assert (await sent(meta, within=5))[0] == 200


@pytest.mark.parametrize(
    ("fields", "error"), [({}, TimeoutError), ({"then": "close"}, aiohttp.ServerDisconnectedError)]
)
async def test_a_timeout_before_accept_sends_nothing(
    fields: dict[str, str], error: type[Exception], start: Start
) -> None:
    meta = await start(receipts={"sent_ms": 0})
    await meta.inbound()
    await meta.fault("timeout_before_accept", **fields)

    with pytest.raises(error):
        await sent(meta, within=0.2)
    await asyncio.sleep(0.05)

    (request,) = await meta.requests()
    assert (request["status"], request["wamid"], request["body"]) == (None, None, text())
    assert meta.receiver.statuses() == []


@pytest.mark.parametrize(
    ("when", "read", "accepted"),
    [("before_reading", False, False), ("after_reading", True, False), ("after_accept", True, True)],
)
async def test_a_connection_is_reset(when: str, *, read: bool, accepted: bool, meta: Meta) -> None:
    await meta.fault("reset", when=when)

    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await sent(meta)

    (request,) = await meta.requests()
    assert (request["body"] is not None, request["wamid"] is not None) == (read, accepted)
    assert request["status"] is None


async def test_receipts_overtake_the_response(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": 0, "read_ms": 0})
    await meta.inbound()
    await meta.fault("receipts_first", statuses=["read", "delivered"])
    meta.receiver.pause = 0.1

    sending = asyncio.create_task(sent(meta))
    await meta.receiver.wait(2)
    answered_before_the_second = sending.done()
    _, _, body = await sending
    before = [status["status"] for status in meta.receiver.statuses()]
    await meta.receiver.wait(4)

    assert not answered_before_the_second
    assert before == ["read", "delivered"]
    assert [status["status"] for status in meta.receiver.statuses()] == ["read", "delivered", "sent"]
    assert {status["id"] for status in meta.receiver.statuses()} == {json.loads(body)["messages"][0]["id"]}


async def test_a_count_is_used_up(meta: Meta) -> None:
    await meta.fault("error", code=131016, count=2)

    answers = [(await meta.post(text(to=f"+1650555900{turn}")))[0] for turn in range(4)]

    assert answers == [500, 500, 200, 200]
    _, shown = await meta.control("GET", "faults")
    assert shown["fired"] == {"error": 2}
    assert [(each["fired"], each["left"]) for each in shown["faults"]] == [(2, 0)]


async def test_the_same_seed_hits_the_same_requests(start: Start) -> None:
    patterns = []
    for _ in range(2):
        meta = await start(account_fields={"limits": {"pair_seconds": None}})
        await meta.fault("error", code=131016, probability=0.5, seed=7)
        patterns.append([(await meta.post(text()))[0] for _ in range(20)])

    assert patterns[0] == patterns[1]
    assert set(patterns[0]) == {200, 500}


async def test_the_seed_of_a_fault_is_told_when_it_was_not_given(meta: Meta) -> None:
    _, answer = await meta.control("POST", "faults", {"kind": "delay", "delayMs": 0})

    assert answer["faults"][0]["seed"] >= 0


@pytest.mark.parametrize(
    ("where", "hit", "missed"),
    [
        ({"recipient": f"+{CUSTOMER}"}, text(), text(to=f"+{OTHER}")),
        ({"recipient": "US.1"}, text(to=None, recipient="US.1"), text(to=None, recipient="US.2")),
        ({"phoneNumberId": PHONE_NUMBER_ID}, text(), None),
        ({"path": "/v26.0/*/messages"}, text(), None),
    ],
)
async def test_a_filter_lets_the_others_pass(where: Any, hit: object, missed: object, meta: Meta) -> None:
    await meta.fault("error", code=131016, filter=where)

    assert (await meta.post(hit))[0] == 500
    if missed:
        assert (await meta.post(missed))[0] == 200


@pytest.mark.parametrize("where", [{"phoneNumberId": "1"}, {"path": "/v25.0/*"}])
async def test_a_filter_may_let_all_pass(where: Any, meta: Meta) -> None:
    await meta.fault("error", code=131016, filter=where)

    assert (await meta.post(text()))[0] == 200


async def test_a_customer_is_found_by_either_address(meta: Meta) -> None:
    await meta.inbound()
    user_id = meta.receiver.seen[0].value["contacts"][0]["user_id"]
    await meta.fault("error", code=131016, filter={"recipient": CUSTOMER})

    assert (await meta.post(text(to=None, recipient=user_id)))[0] == 500


async def test_read_marks_are_hit_too(meta: Meta) -> None:
    answer = await meta.inbound()
    await meta.fault("error", code=131016, count=1)
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": answer["wamids"][0]}

    assert (await meta.post(read))[0] == 500
    assert (await meta.post(read))[0] == 200


async def test_one_fault_or_all_can_be_taken_away(meta: Meta) -> None:
    first = await meta.fault("error", code=131016)
    await meta.fault("error", code=131000)

    assert (await meta.control("DELETE", f"faults/{first}"))[0] == 200
    assert (await meta.control("DELETE", f"faults/{first}"))[0] == 404
    assert (await meta.post(text()))[1]["error"]["code"] == 131000
    await meta.control("DELETE", "faults")

    assert (await meta.post(text()))[0] == 200
    assert await meta.control("GET", "faults") == (200, {"faults": [], "fired": {}})


async def test_several_are_armed_at_once_or_none(meta: Meta) -> None:
    good, bad = {"kind": "delay", "delayMs": 1}, {"kind": "delay", "delayMs": -1}

    assert (await meta.control("POST", "faults", {"faults": [good, bad]}))[0] == 400
    assert (await meta.control("GET", "faults"))[1]["faults"] == []
    assert (await meta.control("POST", "faults", {"faults": [good, good]}))[0] == 201
    assert len((await meta.control("GET", "faults"))[1]["faults"]) == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({}, "kind"),
        (None, "dictionary"),
        ({"kind": "explode"}, "does not match any of the expected tags"),
        ({"kind": "delay"}, "delayMs: Field required"),
        ({"kind": "delay", "delayMs": 1, "loud": True}, "loud: Extra inputs"),
        ({"kind": "delay", "delayMs": 1, "probability": 0}, "probability: Input should be greater than 0"),
        ({"kind": "delay", "delayMs": 1, "count": 0}, "count: Input should be greater"),
        ({"kind": "delay", "delayMs": 1, "filter": {"recipient": "you"}}, "filter.recipient: Value error, a phone"),
        ({"kind": "error", "status": 200}, "below 300 is for accepted messages"),
        ({"kind": "error", "via": "webhook", "body": "html"}, "belong to an error that is answered"),
        ({"kind": "reset", "when": "before_reading", "filter": {"recipient": CUSTOMER}}, "recipient is not known"),
        ({"kind": "receipts_first", "statuses": []}, "at least 1 item"),
    ],
)
async def test_a_fault_that_does_not_fit_is_refused_by_name(fault: object, says: str, meta: Meta) -> None:
    status, answer = await meta.control("POST", "faults", fault)

    assert status == 400
    assert says in answer["error"]


async def test_a_simulator_with_hanging_requests_ends_soon(start: Start) -> None:
    meta = await start()
    await meta.fault("timeout_before_accept")
    hanging = asyncio.create_task(sent(meta, within=30))
    while not await meta.requests():
        await asyncio.sleep(0.01)

    async with asyncio.timeout(25):
        await meta.stop()
    with pytest.raises(aiohttp.ClientError):
        await hanging
