"""Meta's errors and what is done about them."""

import json
from datetime import timedelta
from typing import Any

import pytest

from server.providers.contract import ErrorClass, Holds, ProviderError
from server.providers.meta.errors import RULES, SUBCODES, provider_errors, refusal


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (0, ErrorClass.STOP_CHANNEL),
        (190, ErrorClass.STOP_CHANNEL),
        (200, ErrorClass.STOP_CHANNEL),
        (299, ErrorClass.STOP_CHANNEL),
        (368, ErrorClass.STOP_CHANNEL),
        (131031, ErrorClass.STOP_CHANNEL),
        (1, ErrorClass.RETRY),
        (4, ErrorClass.RETRY),
        (131000, ErrorClass.RETRY),
        (131056, ErrorClass.RETRY),
        (130429, ErrorClass.RETRY),
        (131048, ErrorClass.WAIT),
        (131049, ErrorClass.WAIT),
        (132015, ErrorClass.WAIT),
        (100, ErrorClass.BUG),
        (131009, ErrorClass.BUG),
        (131026, ErrorClass.PERMANENT),
        (131047, ErrorClass.PERMANENT),
    ],
)
def test_a_known_code_decides_alone(code: int, error_class: ErrorClass) -> None:
    for status in (400, 401, 429, 500):
        refused = refusal(_error(code), status=status, attempt=1)
        assert (refused.error_class, refused.code) == (error_class, str(code))
        assert (refused.retry_after is not None) == (error_class in (ErrorClass.RETRY, ErrorClass.WAIT))


def test_a_rule_has_a_pause_just_when_it_tries_again() -> None:
    for rule in [*RULES.values(), *SUBCODES.values()]:
        assert (rule.retry is not None) == (rule.error_class in (ErrorClass.RETRY, ErrorClass.WAIT))
        if rule.retry is not None:
            pauses = [rule.retry.pause(attempt) for attempt in range(1, 200)]
            assert pauses == sorted(pauses)
            assert timedelta(0) < pauses[0] <= pauses[-1] <= timedelta(days=7)
            assert rule.retry.attempts > 1


def test_a_subcode_can_change_the_meaning() -> None:
    assert refusal(_error(100, error_subcode=33), status=400, attempt=1).error_class is ErrorClass.STOP_CHANNEL
    assert refusal(_error(100, error_subcode=34), status=400, attempt=1).error_class is ErrorClass.BUG


def test_an_unknown_code_is_tried_again_a_little_and_for_long_when_meta_says_so() -> None:
    assert refusal(_error(987654), status=400, attempt=2).error_class is ErrorClass.RETRY
    assert refusal(_error(987654), status=400, attempt=3).error_class is ErrorClass.PERMANENT
    assert refusal(_error(987654), status=500, attempt=1).error_class is ErrorClass.RETRY
    assert refusal(_error(987654, is_transient=True), status=400, attempt=1).error_class is ErrorClass.RETRY
    assert refusal(_error(987654, is_transient="yes"), status=400, attempt=3).error_class is ErrorClass.PERMANENT


def test_an_answer_without_a_code_goes_by_its_status() -> None:
    for body in (None, [], {"error": "down"}, {"error": {"message": 5, "code": "x"}}):
        refused = refusal(body, status=404, attempt=1)
        assert (refused.error_class, refused.code, refused.message) == (ErrorClass.PERMANENT, "http_404", "HTTP 404")
    assert refusal(None, status=429, attempt=1).error_class is ErrorClass.RETRY


def test_pauses_grow_until_the_attempts_are_used_up() -> None:
    pauses = [refusal(_error(131056), status=400, attempt=attempt).retry_after for attempt in range(1, 7)]
    assert pauses == [timedelta(seconds=seconds) for seconds in (1, 4, 16, 64, 256, 1024)]
    assert refusal(_error(131056), status=400, attempt=11).error_class is ErrorClass.RETRY
    spent = refusal(_error(131056), status=400, attempt=12)
    assert (spent.error_class, spent.retry_after, spent.holds) == (ErrorClass.PERMANENT, None, Holds.MESSAGE)


def test_temporary_errors_are_worth_about_an_hour() -> None:
    pauses = [refusal(_error(2), status=503, attempt=attempt).retry_after for attempt in range(1, 20)]
    total = sum((pause for pause in pauses if pause is not None), timedelta())
    assert timedelta(minutes=50) < total < timedelta(minutes=70)


def test_an_error_says_who_else_should_wait() -> None:
    assert refusal(_error(131056), status=400, attempt=1).holds is Holds.RECIPIENT
    assert refusal(_error(130429), status=400, attempt=1).holds is Holds.ACCOUNT
    assert refusal(_error(131000), status=500, attempt=1).holds is Holds.MESSAGE


@pytest.mark.parametrize(
    ("usage", "pause"),
    [
        (None, timedelta(minutes=1)),
        ("broken", timedelta(minutes=1)),
        (json.dumps({"1": [{"type": "whatsapp", "estimated_time_to_regain_access": 0}]}), timedelta(minutes=1)),
        (json.dumps({"1": [{"estimated_time_to_regain_access": 19}], "2": "x"}), timedelta(minutes=19)),
        (json.dumps({"1": [{"estimated_time_to_regain_access": 10**9}]}), timedelta(days=1)),
    ],
)
def test_limits_of_calls_obey_the_usage_header(usage: str | None, pause: timedelta) -> None:
    assert refusal(_error(80007), status=400, attempt=1, usage=usage).retry_after == pause
    assert refusal(_error(131000), status=400, attempt=1, usage=usage).retry_after == timedelta(seconds=1)


def test_metas_words_are_kept_once_and_cut() -> None:
    refused = refusal(_error(131026, error_data={"details": "Undeliverable \x00"}), status=400, attempt=1)
    assert refused.message == "(#131026) Words: Undeliverable \ufffd"
    assert refused.trace_id == "Atrace"
    assert len(refusal(_error(1, message="x" * 9999), status=400, attempt=1).message) == 1024


def test_errors_of_a_status_are_all_kept_and_what_is_none_is_left_out() -> None:
    listed = [{"code": 131049, "title": "t", "message": "t"}, {"title": "no code"}, 7, {"code": "131047"}]
    assert provider_errors(listed) == (
        ProviderError("131049", "t", ErrorClass.WAIT),
        ProviderError("131047", "", ErrorClass.PERMANENT, closes_reply_window=True),
    )
    assert provider_errors(None) == ()


def _error(code: int, **fields: object) -> Any:
    error = {"message": f"(#{code}) Words", "type": "OAuthException", "code": code, "fbtrace_id": "Atrace"}
    return {"error": error | fields}
