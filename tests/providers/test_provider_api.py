"""Channels of one's own: what is handed in is read, and callbacks are signed, repeatable and go nowhere they should not."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
from provider_bench import OPAQUE, SECRET, Connect, answer, outgoing_by, saying, wire

from server.providers.api import signature
from server.providers.api.callback import DELAYS
from server.providers.api.provider import Api
from server.providers.contract import (
    Accepted,
    Broken,
    ErrorClass,
    InboundMessage,
    Item,
    Provider,
    Receipt,
    Refused,
    SettingInvalid,
)
from server.providers.registry import FACTORIES, ProviderSettings

TIME = "2026-11-23T09:30:00.123456789Z"
MESSAGE = {"id": "m-1", "user_ref": "user-1", "text": "Hello", "create_time": TIME}
RECEIPT = {
    "id": OPAQUE,
    "status": "MESSAGE_STATUS_FAILED",
    "create_time": "2026-11-23T09:30:00Z",
    "error_message": "No",
}


def read(provider: Provider, body: object) -> Sequence[Item]:
    return [item for change in provider.changes(json.dumps(body).encode()) for item in provider.parse(change)]


def test_a_message_and_a_receipt_are_read(connect: Connect) -> None:
    message, receipt = read(connect("", name="api"), {"account_id": "c", "messages": [MESSAGE], "receipts": [RECEIPT]})
    assert isinstance(message, InboundMessage)
    assert (message.provider_id, message.text, message.addresses[0].value) == ("m-1", "Hello", "user-1")
    assert message.provider_time.isoformat() == "2026-11-23T09:30:00.123456+00:00"
    assert isinstance(receipt, Receipt)
    assert (receipt.status, receipt.opaque, receipt.errors[0].message) == ("failed", OPAQUE, "No")


@pytest.mark.parametrize("entry", [None, 1, {}, {"id": "m-1"}, MESSAGE | {"text": 1}, MESSAGE | {"create_time": "now"}])
def test_one_that_cannot_be_read_leaves_its_siblings_alone(connect: Connect, entry: object) -> None:
    broken, whole = read(connect("", name="api"), {"account_id": "c", "messages": [entry, MESSAGE]})
    assert isinstance(broken, Broken)
    assert isinstance(whole, InboundMessage)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its specification."""
    key = signature.key_of(SECRET)
    assert key is not None
    signed = signature.headers(
        key, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", seconds=1614265330, body=b'{"test": 2432232314}'
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_account_has_a_secret_of_its_own(connect: Connect) -> None:
    provider = connect("", name="api")
    made = [provider.account({"callback_url": "https://a.example/"}, channel_id=name) for name in ("c", "d")]
    assert [account.account_id for account in made] == ["c", "d"]
    assert all(account.made_here and signature.key_of(account.token) for account in made)
    assert made[0].token != made[1].token


@pytest.mark.parametrize(
    "url", ["", "a.example", "ftp://a.example/", "https:///x", "https://u:p@a.example/", "http://a:0/"]
)
def test_what_is_no_address_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(SettingInvalid, match="callback_url"):
        connect("", name="api").account({"callback_url": url}, channel_id="c")


async def test_a_callback_can_be_verified_and_its_repeat_has_the_same_id_and_body(connect: Connect) -> None:
    async with wire(saying(*[answer(503, b"")] * 3)) as server:
        provider = connect(server.url, name="api")
        refused = await provider.send(outgoing_by("api", server.url))
        assert isinstance(refused, Refused)
        again = await provider.send(outgoing_by("api", server.url, attempt=2))
        assert isinstance(again, Refused)
        sent = [request.split(b"\r\n\r\n", 1) for request in server.received]
    assert len(sent) == 2
    assert sent[0][1] == sent[1][1]
    assert json.loads(sent[0][1])["data"] == {
        "id": OPAQUE,
        "channel_id": outgoing_by("api", "").account_id,
        "user_ref": "user-1",
        "text": "good morning",
    }
    for head, body in sent:
        lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
        headers = {name.lower().decode(): value.decode() for name, value in lines}
        assert headers["webhook-id"] == OPAQUE
        signed = f"{OPAQUE}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (200, "", Accepted(provider_id=OPAQUE)),
        (204, "", Accepted(provider_id=OPAQUE)),
        (302, "Location: http://127.0.0.1:1/", ErrorClass.PERMANENT),
        (400, "", ErrorClass.PERMANENT),
        (410, "", ErrorClass.PERMANENT),
        (408, "", DELAYS[0]),
        (429, "Retry-After: 60", timedelta(seconds=60)),
        (503, "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT", timedelta(days=1)),
        (503, "Retry-After: soon", DELAYS[0]),
        (500, "", DELAYS[0]),
    ],
)
async def test_what_answers_mean(connect: Connect, status: int, header: str, expected: object) -> None:
    async with wire(saying(answer(status, b"", *([header] if header else [])))) as server:
        outcome = await connect(server.url, name="api").send(outgoing_by("api", server.url))
        assert server.connections == 1, "a redirect is not followed"
    if isinstance(outcome, Refused):
        assert expected == (outcome.retry_after or outcome.error_class)
    else:
        assert outcome == expected


async def test_no_answer_is_asked_again_and_the_last_attempt_is_the_end(connect: Connect) -> None:
    async with wire(saying()) as server:
        provider = connect(server.url, name="api")
        first = await provider.send(outgoing_by("api", server.url))
        last = await provider.send(outgoing_by("api", server.url, attempt=len(DELAYS) + 1))
    assert isinstance(first, Refused)
    assert (first.error_class, first.code) == (ErrorClass.RETRY, "connection_lost")
    assert isinstance(last, Refused)
    assert last.error_class is ErrorClass.PERMANENT


async def test_nothing_goes_inside_unless_its_network_is_allowed() -> None:
    """Names are resolved before they are looked at, so a name of an inner address is no way around."""
    provider = FACTORIES["api"](ProviderSettings(meta_graph_url=""))
    assert isinstance(provider, Api)
    async with wire(saying(answer(200, b""))) as server:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0"):
            outcome = await provider.send(outgoing_by("api", f"http://{host}:{server.port}"))
            assert isinstance(outcome, Refused), host
            assert (outcome.error_class, outcome.code) == (ErrorClass.PERMANENT, "address_not_public"), host
        assert server.connections == 0
