"""Signatures and handshakes."""

import hashlib
import hmac

import pytest

from server.providers.meta.signature import Handshake, check_handshake, matching_secret
from server.simulator.payloads import sign, sign_legacy

# As Meta sends it: escaped, which any second serialisation would change.
RAW = b'{"text":"gr\\u00fc\\u00dfe a\\/b \\u003C"}'
OLD, NEW = b"old-secret", b"new-secret"


def test_the_secret_that_signed_is_named() -> None:
    assert matching_secret(RAW, sign(RAW, "new-secret"), [NEW, OLD]) == 0
    assert matching_secret(RAW, sign(RAW, "old-secret"), [NEW, OLD]) == 1
    assert matching_secret(RAW, sign(RAW, "new-secret"), [NEW, NEW]) == 0


def test_upper_case_digits_are_the_same_digits() -> None:
    prefix, _, digits = sign(RAW, "new-secret").partition("=")
    assert matching_secret(RAW, f"{prefix}={digits.upper()}", [NEW]) == 0


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        sign(RAW, "new-secret").removeprefix("sha256="),
        sign(RAW, "new-secret").replace("sha256=", "SHA256="),
        sign(RAW, "new-secret").replace("sha256=", "sha1="),
        sign(RAW, "new-secret") + "0",
        sign(RAW, "new-secret")[:-1],
        f"{sign(RAW, 'new-secret')},{sign(RAW, 'new-secret')}",
        sign_legacy(RAW, "new-secret"),
        sign(RAW, "another-secret"),
        "sha256=" + "\u0660" * 64,
        "sha256=" + "\udcff" * 64,
    ],
)
def test_any_other_header_is_refused(header: str | None) -> None:
    assert matching_secret(RAW, header, [NEW, OLD]) is None


def test_one_byte_more_is_another_body() -> None:
    assert matching_secret(RAW + b"\n", sign(RAW, "new-secret"), [NEW]) is None


def test_an_app_without_secrets_and_an_empty_secret_match_nothing() -> None:
    unsecured = "sha256=" + hmac.new(b"", RAW, hashlib.sha256).hexdigest()
    assert matching_secret(RAW, unsecured, []) is None
    assert matching_secret(RAW, unsecured, [b""]) is None


def test_a_handshake_with_mode_and_token_is_answered() -> None:
    for challenge in ("1158201444", "a.B_c-9", "x" * 128):
        assert _handshake(challenge=challenge) is Handshake.ANSWER
    assert _handshake(verify_tokens=[b"older", b"meatyhamhock"]) is Handshake.ANSWER


@pytest.mark.parametrize("missing", ["mode", "token", "challenge"])
def test_a_handshake_lacking_a_parameter_is_malformed(missing: str) -> None:
    assert _handshake(**{missing: None}) is Handshake.MALFORMED
    assert _handshake(**{missing: ""}) is Handshake.MALFORMED


def test_a_wrong_mode_or_token_is_forbidden_and_an_unknown_app_too() -> None:
    assert _handshake(mode="unsubscribe") is Handshake.FORBIDDEN
    assert _handshake(token="meatyhamhocks") is Handshake.FORBIDDEN
    assert _handshake(token="\udcff") is Handshake.FORBIDDEN
    assert _handshake(verify_tokens=[]) is Handshake.FORBIDDEN
    assert _handshake(verify_tokens=[b""]) is Handshake.FORBIDDEN
    assert [Handshake.ANSWER.value, Handshake.MALFORMED.value, Handshake.FORBIDDEN.value] == [200, 400, 403]


@pytest.mark.parametrize("challenge", ["<script>", "a b", "x" * 129, "1\n", "\u0661", "a/b"])
def test_a_challenge_that_could_mean_something_is_not_echoed(challenge: str) -> None:
    assert _handshake(challenge=challenge) is Handshake.MALFORMED


def _handshake(**fields: object) -> Handshake:
    whole: dict[str, object] = {
        "mode": "subscribe",
        "token": "meatyhamhock",
        "challenge": "1158201444",
        "verify_tokens": [b"meatyhamhock"],
    }
    return check_handshake(**(whole | fields))  # type: ignore[arg-type]
