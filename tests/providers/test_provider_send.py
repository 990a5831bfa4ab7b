"""Sending to the simulator, over HTTP, with every kind of answer."""

import time
from datetime import timedelta

import pytest
from provider_bench import BSUID, CUSTOMER, OPAQUE, Connect, Simulate, answer, error_body, outgoing, saying, wire

from server.providers.contract import Accepted, Address, Ambiguous, ErrorClass, Holds, Refused


async def test_a_text_is_accepted_and_has_the_shape_meta_asks_for(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate()
    outcome = await connect(meta.url).send(outgoing(text="Grüße \U0001f600\nagain"))
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id.startswith("wamid.")
    assert outcome.canonical == Address("wa_id", CUSTOMER)
    assert outcome.note is None
    assert await meta.bodies() == [
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": f"+{CUSTOMER}",
            "type": "text",
            "text": {"body": "Grüße \U0001f600\nagain"},
            "biz_opaque_callback_data": OPAQUE,
        }
    ]


async def test_a_reply_quotes(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate()
    assert isinstance(await connect(meta.url).send(outgoing(reply_to_id="wamid.x")), Accepted)
    assert (await meta.bodies())[0]["context"] == {"message_id": "wamid.x"}


async def test_a_user_id_is_addressed_by_its_own_field(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate()
    outcome = await connect(meta.url).send(outgoing(to=Address("bsuid", BSUID)))
    assert isinstance(outcome, Accepted)
    assert outcome.canonical == Address("bsuid", BSUID)
    (body,) = await meta.bodies()
    assert (body["recipient"], "to" in body) == (BSUID, False)


async def test_the_number_as_whatsapp_knows_it_is_reported(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate(wa_ids={"5531989654321": "553189654321"})
    outcome = await connect(meta.url).send(outgoing(to=Address("wa_id", "5531989654321")))
    assert isinstance(outcome, Accepted)
    assert outcome.canonical == Address("wa_id", "553189654321")


async def test_a_group_is_addressed_as_a_group(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate()
    refused = await connect(meta.url).send(outgoing(to=Address("group", "Y2FwaV9ncm91cA")))
    assert isinstance(refused, Refused)
    assert refused.code == "131009"
    assert (await meta.bodies())[0]["recipient_type"] == "group"


@pytest.mark.parametrize(
    ("fields", "code", "error_class"),
    [
        ({"token": "EAAJother"}, "190", ErrorClass.STOP_CHANNEL),
        ({"account_id": "999"}, "100", ErrorClass.STOP_CHANNEL),
        ({"settings": {"graph_version": "v1.0"}}, "2500", ErrorClass.STOP_CHANNEL),
        ({"text": ""}, "100", ErrorClass.BUG),
        ({"text": "x" * 4097}, "100", ErrorClass.BUG),
        ({"to": Address("wa_id", "12")}, "131009", ErrorClass.BUG),
        ({"to": Address("wa_id", "15550783881")}, "131021", ErrorClass.PERMANENT),
        ({"to": Address("bsuid", "nobody")}, "131009", ErrorClass.BUG),
        ({"opaque": "x" * 513}, "100", ErrorClass.BUG),
    ],
)
async def test_what_meta_refuses_is_refused(
    fields: dict[str, object], code: str, error_class: ErrorClass, connect: Connect, simulate: Simulate
) -> None:
    meta = await simulate()
    refused = await connect(meta.url).send(outgoing(**fields))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.error_class, refused.retry_after) == (code, error_class, None)
    assert refused.message
    assert refused.trace_id is not None


async def test_a_closed_window_is_refused_and_says_so(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate(window="sync")
    refused = await connect(meta.url).send(outgoing())
    assert isinstance(refused, Refused)
    assert (refused.code, refused.closes_reply_window) == ("131047", True)
    await meta.control("POST", "inbound", {"from": CUSTOMER, "text": "hello", "timestamp": int(time.time())})
    assert isinstance(await connect(meta.url).send(outgoing()), Accepted)


async def test_limits_are_tried_again_later_and_say_who_waits(connect: Connect, simulate: Simulate) -> None:
    meta = await simulate(limits={"pair_burst": 1, "pair_seconds": 60})
    provider = connect(meta.url)
    assert isinstance(await provider.send(outgoing()), Accepted)
    pair = await provider.send(outgoing(attempt=3))
    assert isinstance(pair, Refused)
    assert (pair.code, pair.error_class, pair.holds) == ("131056", ErrorClass.RETRY, Holds.RECIPIENT)
    assert pair.retry_after == timedelta(seconds=16)
    assert isinstance(await provider.send(outgoing(to=Address("wa_id", "13557825698"))), Accepted)
    slow = await simulate(limits={"throughput_per_second": 1})
    provider = connect(slow.url)
    await provider.send(outgoing())
    throughput = await provider.send(outgoing(to=Address("wa_id", "13557825698")))
    assert isinstance(throughput, Refused)
    assert (throughput.code, throughput.holds) == ("130429", Holds.ACCOUNT)


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (500, error_body(131000), ErrorClass.RETRY),
        (503, error_body(2, is_transient=True), ErrorClass.RETRY),
        (400, error_body(131049), ErrorClass.WAIT),
        (400, error_body(131042), ErrorClass.STOP_CHANNEL),
        (403, error_body(10), ErrorClass.STOP_CHANNEL),
        (400, error_body(131026), ErrorClass.PERMANENT),
        (400, error_body(135000), ErrorClass.BUG),
        (500, error_body(555555), ErrorClass.RETRY),
        (400, error_body(555555), ErrorClass.RETRY),
        (200, error_body(131026), ErrorClass.PERMANENT),
        (400, error_body(), ErrorClass.PERMANENT),
        (404, b"<html>not Meta</html>", ErrorClass.PERMANENT),
        (429, b"", ErrorClass.RETRY),
        (302, b"", ErrorClass.PERMANENT),
    ],
)
async def test_a_complete_answer_with_an_error_is_a_refusal(
    status: int, body: bytes, error_class: ErrorClass, connect: Connect
) -> None:
    async with wire(saying(answer(status, body, "Location: /elsewhere"))) as server:
        refused = await connect(server.url).send(outgoing())
    assert isinstance(refused, Refused)
    assert refused.error_class is error_class
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>hello</html>"),
        (200, b"{}"),
        (200, b'{"messages":[]}'),
        (200, b'{"messages":[{"id":""}]}'),
        (200, b'{"messages":[{"id":7}]}'),
        (500, b"<html>Bad Gateway</html>"),
        (502, b""),
        (504, b'{"message":"upstream timed out"}'),
    ],
)
async def test_an_answer_that_tells_neither_is_ambiguous(status: int, body: bytes, connect: Connect) -> None:
    """A gateway in front of Meta may have passed the request on before it gave up."""
    async with wire(saying(answer(status, body))) as server:
        assert isinstance(await connect(server.url).send(outgoing()), Ambiguous)


@pytest.mark.parametrize("word", ["held_for_quality_assessment", "paused"])
async def test_a_message_held_back_is_accepted_with_a_note(word: str, connect: Connect) -> None:
    body = b'{"messages":[{"id":"wamid.x","message_status":"%s"}]}' % word.encode()
    async with wire(saying(answer(200, body))) as server:
        assert await connect(server.url).send(outgoing()) == Accepted(provider_id="wamid.x", note=word)


async def test_the_token_goes_in_the_header_and_proxies_of_the_environment_are_not_asked(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with wire(saying(answer(200, b'{"messages":[{"id":"wamid.x"}]}'))) as server:
        assert isinstance(await connect(server.url).send(outgoing()), Accepted)
    (request,) = server.received
    assert b"Authorization: Bearer EAAJtoken\r\n" in request
    assert request.startswith(b"POST /v26.0/106540352242922/messages HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\n" in request
