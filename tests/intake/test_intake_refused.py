"""Webhooks through the front door that are not to be believed, or have nothing in them."""

import hashlib
import json

import pytest
from intake_post import SIGNATURE, Post, body_of, text, until, word
from multidict import CIMultiDict

from server.simulator import payloads


async def journaled(post: Post, body: bytes) -> int:
    hashed = hashlib.sha256(body).digest()
    return sum(
        [await side.database.fetchval("SELECT count(*) FROM journal WHERE sha256 = $1", hashed) for side in post.sides]
    )


@pytest.mark.parametrize(
    "way",
    [
        "missing",
        "empty",
        "sha1 only",
        "wrong",
        "of another secret",
        "no prefix",
        "too short",
        "sha1 under the new name",
    ],
)
async def test_a_bad_signature_is_refused_before_anything_is_stored(post: Post, way: str) -> None:
    body = payloads.encode(body_of(post.acme, text(word())))
    right, legacy = payloads.sign(body, post.secret), payloads.sign_legacy(body, post.secret)
    headers = {
        "missing": {},
        "empty": {SIGNATURE: ""},
        "sha1 only": {"X-Hub-Signature": legacy},
        "wrong": {SIGNATURE: payloads.sign(body + b" ", post.secret)},
        "of another secret": {SIGNATURE: payloads.sign(body, "other"), "X-Hub-Signature": legacy},
        "no prefix": {SIGNATURE: right.removeprefix("sha256=")},
        "too short": {SIGNATURE: right[:-2]},
        "sha1 under the new name": {SIGNATURE: legacy},
    }[way]
    answer = await post.raw(body, headers)
    assert (answer.status, answer.reason) == (401, "SIGNATURE_INVALID")
    assert await journaled(post, body) == 0
    assert await post.quarantined(body) == []


async def test_two_signatures_are_none(post: Post) -> None:
    body = payloads.encode(body_of(post.acme, text(word())))
    right, wrong = payloads.sign(body, post.secret), payloads.sign(body, "other")
    for pair in ((right, wrong), (wrong, right)):
        answer = await post.raw(body, CIMultiDict((SIGNATURE, value) for value in pair))
        assert (answer.status, answer.reason) == (401, "SIGNATURE_INVALID")
    assert await journaled(post, body) == 0


async def test_an_unknown_app_is_answered_like_a_wrong_signature(post: Post) -> None:
    body = payloads.encode(body_of(post.acme, text(word())))
    # Answers differ by the id of the call, so both have one.
    same = {"x-request-id": "one-id-for-both"}
    wrong = await post.raw(body, {SIGNATURE: payloads.sign(body, "other"), **same})
    unknown = await post.raw(body, {SIGNATURE: payloads.sign(body, post.secret), **same}, app="999999999999999")
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body) == (401, wrong.body)


async def test_upper_case_hex_is_a_signature_too(post: Post) -> None:
    body = payloads.encode(body_of(post.acme, text(said := word())))
    signature = "sha256=" + payloads.sign(body, post.secret).removeprefix("sha256=").upper()
    assert (await post.raw(body, {SIGNATURE: signature})).status == 200
    await until(lambda: post.acme.texts(said))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json at all", "not_json"),
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"object":"whatsapp_business_account","entry":NaN}', "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"object":"page","entry":[{"id":"1"}]}', "unknown_object"),
        (b'{"entry":[]}', "unknown_object"),
        (b'{"object":"whatsapp_business_account"}', "empty_entry"),
        (b'{"object":"whatsapp_business_account","entry":[]}', "empty_entry"),
        (b'{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[]}]}', "no_changes"),
        (b'{"object":"whatsapp_business_account","entry":[{"id":"1"}]}', "no_changes"),
        (b"[" * 100_000, "too_deep"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else value,
)
async def test_what_cannot_be_applied_is_answered_200_and_kept(post: Post, body: bytes, reason: str) -> None:
    answer = await post.signed(body)
    assert answer.status == 200
    parts = await post.quarantined(body)
    assert [(part["reason"], part["body"]) for part in parts][:1] == [(reason, body)]


async def test_three_megabytes_are_taken(post: Post) -> None:
    # A Meta POST of a thousand updates: long texts, all in one body.
    said = word()
    messages = [text(f"{said} {index} " + "ä" * 400, "4915100000042") for index in range(1000)]
    body = body_of(post.acme, *messages)
    body["padding"] = "x" * (3_000_000 - len(payloads.encode(body)))
    data = payloads.encode(body)
    assert 3_000_000 < len(data) < 3_000_100
    assert (await post.signed(data)).status == 200

    async def all_there() -> bool:
        return len(await post.acme.texts(f"{said}%")) == 1000

    await until(all_there, within=30)
    shown = await post.acme.database.fetchval("SELECT text FROM messages WHERE text LIKE $1 LIMIT 1", f"{said} 7 %")
    assert shown.endswith("ä" * 400)


async def test_more_than_four_mebibytes_are_413(post: Post) -> None:
    body = b'{"object":"whatsapp_business_account","padding":"' + b"x" * (4 << 20) + b'"}'
    answer = await post.signed(body)
    assert answer.status == 413
    assert "reason" in json.dumps(json.loads(answer.body))
    assert await post.quarantined(body) == []
