"""Webhooks through the front door that are not to be believed, or have nothing in them."""

import hashlib
import json

import pytest
from intake_post import SIGNATURE, Post, body_of, text, until, word
from multidict import CIMultiDict

from server.simulator import payloads
from server.simulator.payloads import Number


async def journaled(post: Post, body: bytes) -> int:
    hashed = hashlib.sha256(body).digest()
    return sum(
        [await side.database.fetchval("SELECT count(*) FROM journal WHERE sha256 = $1", hashed) for side in post.sides]
    )


async def another_app(post: Post) -> str:
    """The secret of one more app of the installation."""
    secret = f"secret of {word()}"
    body = {"id": word(), "name": "Another", "appSecret": secret, "verifyToken": "verify token"}
    await post.call("POST", "/v1/meta-apps", key=post.dev["platform_key"], body=body)
    return secret


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
        "another prefix",
        "prefix in capitals",
        "no hex",
        "too long",
        "of another app's secret",
        "twice in one",
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
        "another prefix": {SIGNATURE: right.replace("sha256=", "sha512=")},
        "prefix in capitals": {SIGNATURE: right.replace("sha256=", "SHA256=")},
        "no hex": {SIGNATURE: f"{right[:-1]}g"},
        "too long": {SIGNATURE: f"{right}0"},
        "of another app's secret": {SIGNATURE: payloads.sign(body, await another_app(post))},
        "twice in one": {SIGNATURE: f"{right}, {right}"},
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


async def test_t24_who_has_no_signature_learns_nothing_of_who_is_here(post: Post) -> None:
    """The whole answer is the same for a number that is connected, one that nobody has, and an app that nobody has."""
    nobody = Number("102290129340397", "999999999999991", "15550783881")
    message = text(word())
    bodies = [body_of(post.acme, message), payloads.inbound_body(nobody, [message]), {"object": "page"}]
    signatures: list[dict[str, str]] = [{}, {SIGNATURE: payloads.sign(b"something else", "other")}]
    answers = [
        await whole(post, app, payloads.encode(body), signature)
        for app in (post.dev["meta_app"]["id"], "999999999999999")
        for body in bodies
        for signature in signatures
    ]
    assert answers[0][0] == 401
    assert answers == [answers[0]] * len(answers)


async def whole(post: Post, app: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers, but for the time of day and how long it took."""
    url = f"{post.dev['url']}/v1/webhooks/meta/{app}"
    sent = {"Content-Type": "application/json", "x-request-id": "one-id-for-all", **headers}
    async with post.session.post(url, data=body, headers=sent) as answer:
        kept = {name.lower(): value for name, value in answer.headers.items()}
        for name in ("date", "x-envoy-upstream-service-time"):
            kept.pop(name, None)
        return answer.status, await answer.read(), kept


async def test_t5_during_a_change_of_the_secret_both_sign(post: Post) -> None:
    """That the old one is none after it: tests/tenancy/test_meta_apps.py."""
    app, platform = word(), post.dev["platform_key"]
    made = {"id": app, "name": "Changing", "appSecret": "the old secret", "verifyToken": "verify token"}
    await post.call("POST", "/v1/meta-apps", key=platform, body=made)
    said = word()

    async def answers(secret: str) -> int:
        body = payloads.encode(body_of(post.acme, text(said)))
        return (await post.raw(body, {SIGNATURE: payloads.sign(body, secret)}, app=app)).status

    assert [await answers("the old secret"), await answers("the new secret")] == [200, 401]
    path = f"/v1/meta-apps/{app}"
    await post.call("PATCH", path, key=platform, body={"appSecret": "the new secret", "secretOverlap": "3600s"})
    assert [await answers("the new secret"), await answers("the old secret")] == [200, 200]
    rows = await post.acme.database.fetch("SELECT secret_index FROM journal WHERE meta_app_id = $1", app)
    assert sorted(row["secret_index"] for row in rows) in ([0, 0, 0], [0, 0, 1]), "which of the secrets it was is kept"


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
