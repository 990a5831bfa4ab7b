"""Channels of one's own: what is handed in is read, and callbacks are signed, repeatable and go nowhere they should not."""

import asyncio
import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from provider_bench import OPAQUE, SECRET, Connect, Wire, answer, outgoing_by, saying, wire

from server.kit.clock import utc_now
from server.providers.api import callback, keyring, signature
from server.providers.api.callback import DELAYS, outcome
from server.providers.api.provider import Api
from server.providers.contract import (
    Accepted,
    Broken,
    ErrorClass,
    InboundMessage,
    Item,
    Outcome,
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


def test_an_id_of_theirs_that_is_one_of_ours_is_another_message(connect: Connect) -> None:
    provider = connect("", name="api")
    message, receipt = read(
        provider, {"account_id": "c", "messages": [MESSAGE | {"id": OPAQUE}], "receipts": [RECEIPT]}
    )
    assert isinstance(receipt, Receipt)
    assert receipt.opaque == message.provider_id == OPAQUE
    assert Accepted(provider_id=receipt.provider_id) == outcome(204, None, OPAQUE, attempt=1)
    assert receipt.provider_id != message.provider_id


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
        [key], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", seconds=1614265330, body=b'{"test": 2432232314}'
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_account_has_a_secret_of_its_own(connect: Connect) -> None:
    provider = connect("", name="api")
    made = [provider.account({"callback_url": "https://a.example/"}, channel_id=name) for name in ("c", "d")]
    assert [account.account_id for account in made] == ["c", "d"]
    assert all(provider.secret(account.token, made_by="") == account.token for account in made)
    assert all(signature.key_of(account.token) for account in made)
    assert made[0].token != made[1].token


def test_a_secret_that_was_replaced_signs_for_its_overlap_and_the_newest_signs_first() -> None:
    tokens, keys = [SECRET], [signature.key_of(SECRET)]
    for number, until in enumerate((100, 500, 60, 0), 1):
        tokens.append(keyring.rotated(tokens[-1], made_by=f"{number}", seconds=10, until=until))
        keys.append(signature.key_of(keyring.made_by(tokens[-1], f"{number}") or ""))
    assert None not in keys
    assert keyring.keys(tokens[1], seconds=99) == [keys[1], keys[0]]
    assert keyring.keys(tokens[1], seconds=100) == [keys[1]]
    assert keyring.keys(tokens[2], seconds=99) == [keys[2], keys[1], keys[0]]
    assert keyring.keys(tokens[2], seconds=100) == [keys[2], keys[1]], "no rotation lengthens what was told"
    assert keyring.keys(tokens[3], seconds=59) == [keys[3], keys[2], keys[1]], "two that were replaced sign, not three"
    assert keyring.keys(tokens[3], seconds=60) == [keys[3]], "a shorter overlap is theirs too"
    assert keyring.keys(tokens[4], seconds=10) == [keys[4]]


def test_a_secret_is_told_to_the_call_that_made_it_until_another_was_made() -> None:
    first = keyring.rotated(SECRET, made_by="1", seconds=10, until=100)
    second = keyring.rotated(first, made_by="2", seconds=10, until=100)
    assert keyring.made_by(SECRET, "") == SECRET
    assert keyring.made_by(first, "1") not in (None, SECRET)
    assert [keyring.made_by(first, ""), keyring.made_by(second, "1"), keyring.made_by(second, "")] == [None] * 3


@pytest.mark.parametrize("token", ["", "no-secret", f"{SECRET} ", f"{SECRET},,soon", f"{SECRET} no-secret"])
def test_a_malformed_token_signs_nothing_and_a_rotation_mends_it(token: str) -> None:
    assert keyring.keys(token, seconds=10) == []
    assert len(keyring.keys(keyring.rotated(token, made_by="1", seconds=10, until=100), seconds=10)) == 1


async def test_while_two_secrets_sign_a_callback_carries_a_signature_by_each(connect: Connect) -> None:
    async with wire(saying(answer(204, b""))) as server:
        provider = connect(server.url, name="api")
        rotated = provider.rotated(SECRET, made_by="1", now=utc_now(), overlap=timedelta(hours=24))
        assert rotated is not None
        await provider.send(outgoing_by("api", server.url, token=rotated.token))
        (head, body) = server.received[0].split(b"\r\n\r\n", 1)
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    headers = {name.lower(): value for name, value in lines}
    new = provider.secret(rotated.token, made_by="1")
    for secret, signed in zip((new, SECRET), headers["webhook-signature"].split(" "), strict=True):
        key = signature.key_of(secret or "")
        assert key is not None
        seconds = int(headers["webhook-timestamp"])
        alone = signature.headers([key], message_id=OPAQUE, seconds=seconds, body=body)
        assert alone["webhook-signature"] == signed


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


class Receiver:
    """The receiver of docs/api-channel.md: what it shows its user, and what it answers."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._seen: set[str] = set()
        self.shown: list[str] = []

    def take(self, raw: bytes) -> int:
        head, body = raw.split(b"\r\n\r\n", 1)
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
        headers = {name.lower(): value for name, value in lines}
        name, sent = headers["webhook-id"], headers["webhook-timestamp"]
        digest = hmac.new(self._key, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        if expected not in headers["webhook-signature"].split():
            return 401
        if name not in self._seen:
            self._seen.add(name)
            self.shown.append(json.loads(body)["data"]["text"])
        return 204


async def exchanged(connect: Connect) -> list[str]:
    """What is wrong with a message whose first callback the receiver took, though its answer was lost, and whose second it accepts."""
    answers, wrong = iter((503, 204, 204)), []

    async def answering(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer(next(answers), b""))
        await writer.drain()

    async with wire(answering) as server:
        provider, receiver = connect(server.url, name="api"), Receiver(SECRET)
        for attempt in (1, 2, 3):
            if isinstance(await provider.send(outgoing_by("api", server.url, attempt=attempt)), Accepted):
                break
        if any(receiver.take(raw) != 204 for raw in server.received):
            wrong.append("not signed")
        if len(receiver.shown) > 1:
            wrong.append("shown twice")
        if len(server.received) != 2:
            wrong.append("sent after it was accepted")
    return wrong


def _signed_by(key: bytes) -> Callable[..., list[bytes]]:
    return lambda token, *, seconds: [key]


def _half_signed(keys: Sequence[bytes], *, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    return HEADERS(keys, message_id=message_id, seconds=seconds, body=body[:-1])


def _another_id(keys: Sequence[bytes], *, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    return HEADERS(keys, message_id=uuid.uuid4().hex, seconds=seconds, body=body)


def _accepted_never(status: int, retry_after: str | None, message_id: str, *, attempt: int) -> Outcome:
    return OUTCOME(503 if status == 204 else status, retry_after, message_id, attempt=attempt)


HEADERS, OUTCOME = signature.headers, callback.outcome
# What is planted in place of what, and what the receiver says of it.
PLANTED: dict[str, tuple[object, str, object, str]] = {
    "the signature is not of the body": (signature, "headers", _half_signed, "not signed"),
    "the secret is another channel's": (keyring, "keys", _signed_by(bytes(24)), "not signed"),
    "each attempt has another id": (signature, "headers", _another_id, "shown twice"),
    "an accepted callback is sent again": (callback, "outcome", _accepted_never, "sent after it was accepted"),
}


async def test_a_message_whose_answer_was_lost_is_shown_once(connect: Connect) -> None:
    assert await exchanged(connect) == []


@pytest.mark.parametrize("bug", PLANTED)
async def test_a_planted_bug_of_callbacks_is_seen_by_the_receiver(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    module, name, planted, seen = PLANTED[bug]
    monkeypatch.setattr(module, name, planted)
    assert await exchanged(connect) == [seen]


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (200, "", Accepted(provider_id=f"sent {OPAQUE}")),
        (204, "", Accepted(provider_id=f"sent {OPAQUE}")),
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
        found = await connect(server.url, name="api").send(outgoing_by("api", server.url))
        assert server.connections == 1, "a redirect is not followed"
    if isinstance(found, Refused):
        assert expected == (found.retry_after or found.error_class)
    else:
        assert found == expected


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
            found = await provider.send(outgoing_by("api", f"http://{host}:{server.port}"))
            assert isinstance(found, Refused), host
            assert (found.error_class, found.code) == (ErrorClass.PERMANENT, "address_not_public"), host
        assert server.connections == 0
