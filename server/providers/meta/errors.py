"""Meta's error codes, and what to do about each.

Decisions go by `code` (and subcode), never by title, message or HTTP status. Codes and meanings are Meta's, from the
Cloud API's "Error codes" page and the Graph API's "Handling errors" page as of September 2026; the class is our
judgement. Errors that stop only marketing, calls, flows or payments are PERMANENT here: they must not pause replies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from server.providers.contract import ErrorClass, Holds, Json, ProviderError, Refused
from server.providers.meta.text import clean_text

_MESSAGE_MOST = 1024


@dataclass(frozen=True, slots=True)
class RetryRule:
    """The pause after the n-th failed attempt is `first` * `factor`^(n-1), at most `longest`; `attempts` in all."""

    first: timedelta
    factor: int
    longest: timedelta
    attempts: int

    def pause(self, attempt: int) -> timedelta:
        """After attempt number `attempt`, counted from 1; without jitter."""
        # Past the twentieth step every pause is the longest one, and later ones would overflow a timedelta.
        growth: int = self.factor ** min(max(attempt, 1) - 1, 20)
        return min(self.first * growth, self.longest)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. `retry` stands with RETRY and WAIT, and with nothing else."""

    error_class: ErrorClass
    retry: RetryRule | None = None
    holds: Holds = Holds.MESSAGE
    closes_reply_window: bool = False
    stops_marketing: bool = False
    obeys_usage: bool = False
    of_template: bool = False


def _retry(first: timedelta, factor: int, longest: timedelta, attempts: int, holds: Holds = Holds.MESSAGE) -> Rule:
    return Rule(ErrorClass.RETRY, RetryRule(first, factor, longest, attempts), holds)


def _wait(first: timedelta, factor: int, attempts: int, holds: Holds = Holds.MESSAGE) -> Rule:
    return Rule(ErrorClass.WAIT, RetryRule(first, factor, timedelta(days=7), attempts), holds)


def _seconds(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


# About an hour: nine doublings to five minutes, then every five minutes.
_TEMPORARY = _retry(_seconds(1), 2, _seconds(300), 20)
_FEW = _retry(_seconds(1), 2, _seconds(60), 5)
_CALLS = replace(_retry(_seconds(60), 2, _seconds(3600), 24, Holds.ACCOUNT), obeys_usage=True)
# A code that nobody knows may be of something that passes.
_UNKNOWN = _retry(_seconds(5), 4, _seconds(60), 3)
_PERMANENT = Rule(ErrorClass.PERMANENT)
_STOP = Rule(ErrorClass.STOP_CHANNEL, holds=Holds.ACCOUNT)
_BUG = Rule(ErrorClass.BUG)
_STALE = replace(_PERMANENT, of_template=True)

# Of templates that are written; Meta gives them as subcodes of 100, or alone.
TEMPLATE_PROBLEMS: Mapping[int, str] = {
    2388019: "LIMIT_REACHED",
    2388023: "NAME_BLOCKED",
    2388024: "NAME_EXISTS",
    2388039: "NOT_EDITABLE",
    2388040: "TOO_LONG",
    2388047: "HEADER_FORMAT",
    2388072: "BODY_FORMAT",
    2388073: "FOOTER_FORMAT",
    2388293: "TOO_MANY_PLACES",
    2388299: "PLACE_AT_EDGE",
}

RULES: Mapping[int, Rule] = {
    0: _STOP,  # the token cannot be used
    190: _STOP,  # the token is invalid or has expired
    3: _STOP,  # the app lacks the capability
    10: _STOP,  # the permission is missing or was taken away
    33: _STOP,  # the number is gone, or the id is wrong
    368: _STOP,  # blocked for a time for breaking a policy
    2500: _STOP,  # no such path: the Graph API's version has ended
    1: _TEMPORARY,  # unknown
    2: _TEMPORARY,  # down or overloaded
    4: _CALLS,  # the app's limit of calls
    80007: _CALLS,  # the WABA's limit of calls
    100: _BUG,  # a parameter is not supported or misspelled
    130429: _retry(_seconds(1), 2, _seconds(60), 60, Holds.ACCOUNT),  # the number's throughput
    # Meta asks for 4^n seconds; twelve attempts are some two hours.
    131056: _retry(_seconds(1), 4, _seconds(1024), 12, Holds.RECIPIENT),  # one business, one user: too many
    130472: _PERMANENT,  # the user takes part in an experiment
    130497: _PERMANENT,  # not to this country
    130403: _PERMANENT,  # the business blocked the user
    131000: _FEW,  # something went wrong
    131005: _STOP,  # access denied
    131008: _BUG,  # a required parameter is missing
    131009: _BUG,  # a parameter's value is not valid
    131016: _TEMPORARY,  # the service is not available
    131021: _PERMANENT,  # the recipient is the sender
    131026: _PERMANENT,  # undeliverable
    131030: _PERMANENT,  # not in the test number's list
    131031: _STOP,  # the account is locked
    131037: _STOP,  # the display name is not approved
    131042: _STOP,  # the payment method
    131044: _PERMANENT,  # payment for calls
    131045: _STOP,  # the number's certificate
    131047: replace(_PERMANENT, closes_reply_window=True),  # more than 24 hours since the customer wrote
    131048: _wait(timedelta(hours=1), 2, 6, Holds.TEMPLATES),  # the number's limit for spam
    131049: _wait(timedelta(hours=24), 2, 3),  # held back to keep the ecosystem healthy
    131050: replace(_PERMANENT, stops_marketing=True),  # the user stopped marketing
    131051: _PERMANENT,  # the type is not supported
    131052: _PERMANENT,  # the user's media could not be fetched
    131053: _PERMANENT,  # our media was refused
    131055: _BUG,  # the method is not allowed
    # An upgrade of the number takes a minute at most, and what is held goes as soon as it is over.
    131057: _retry(_seconds(5), 2, _seconds(300), 30, Holds.ACCOUNT),  # the number is in maintenance
    131060: _PERMANENT,  # the message is not available
    131062: _PERMANENT,  # not to a user id, the phone number is needed
    131063: _PERMANENT,  # marketing templates are off for this account
    131064: _wait(timedelta(hours=1), 2, 6),  # too many templates of the wrong category
    132000: _STALE,  # another number of parameters than the template has
    132001: _STALE,  # no such template in this language
    132005: _PERMANENT,  # the rendered text is too long
    132007: _PERMANENT,  # the template breaks a policy
    132008: _PERMANENT,  # a parameter's format
    132012: _PERMANENT,  # a parameter's format
    132015: replace(_wait(timedelta(hours=3), 2, 4), of_template=True),  # the template is paused: 3 hours, then 6
    132016: _STALE,  # the template is disabled
    132018: _PERMANENT,  # the template's parameters
    132068: _PERMANENT,  # the flow is blocked
    132069: _retry(_seconds(360), 2, _seconds(3600), 6),  # the flow may be sent 10 times an hour
    133000: _TEMPORARY,  # deregistration is not complete
    133004: _TEMPORARY,  # the server is not available
    133005: _STOP,  # the PIN is wrong
    133006: _STOP,  # the number needs to be verified
    133008: _STOP,  # too many PINs tried
    133009: _STOP,  # PINs tried too fast
    133010: _STOP,  # the number is not registered
    133015: _retry(_seconds(300), 1, _seconds(300), 12, Holds.ACCOUNT),  # just deleted: wait
    133016: _wait(timedelta(hours=72), 1, 3, Holds.ACCOUNT),  # registered too often
    134011: _PERMANENT,  # the terms of payments are not accepted
    134100: _PERMANENT,  # marketing messages only
    134101: _retry(_seconds(600), 1, _seconds(600), 6),  # the template is being copied
    134102: _PERMANENT,  # not a template for marketing messages
    135000: _BUG,  # parameters that Meta could not name
    137000: _PERMANENT,  # the recipient's identity key changed
} | {
    **dict.fromkeys(range(200, 300), _STOP),  # permissions of all kinds
    **dict.fromkeys(TEMPLATE_PROBLEMS, _PERMANENT),
    2593109: _PERMANENT,  # the user shares no history
}

# Of the errors that stop a channel, those that a new token ends.
TOKEN_CODES = frozenset({0, 190})

SUBCODES: Mapping[tuple[int, int], Rule] = {
    (100, 33): _STOP,  # the number does not exist, or is not this token's
    **{(100, subcode): _PERMANENT for subcode in TEMPLATE_PROBLEMS},
}


def rule_for(code: int | None, *, subcode: int | None = None, transient: bool = False, status: int = 400) -> Rule:
    """The rule for an error. An unknown code is retried, for long when Meta calls it transient or answered 5xx."""
    found = SUBCODES.get((code, subcode)) if code is not None and subcode is not None else None
    found = found or (RULES.get(code) if code is not None else None)
    if found is not None:
        return found
    if status == 429:
        return _CALLS
    if transient or status >= 500:
        return _TEMPORARY
    return _PERMANENT if code is None else _UNKNOWN


def refusal(body: Json, *, status: int, attempt: int, usage: str | None = None) -> Refused:
    """What a complete answer with an error means.

    body: the answer's JSON, None when it was none. status: its HTTP status. attempt: as of Outgoing. usage: the
    header X-Business-Use-Case-Usage.
    """
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    code = number(error.get("code"))
    trace, subcode, advice = error.get("fbtrace_id"), number(error.get("error_subcode")), error.get("error_user_msg")
    problem = TEMPLATE_PROBLEMS.get(subcode or 0) or TEMPLATE_PROBLEMS.get(code or 0)
    rule = rule_for(
        code,
        subcode=subcode,
        transient=error.get("is_transient") is True,
        status=status,
    )
    spent = rule.retry is not None and attempt >= rule.retry.attempts
    return Refused(
        error_class=ErrorClass.PERMANENT if spent else rule.error_class,
        code=f"http_{status}" if code is None else str(code),
        message=words(error) or f"HTTP {status}",
        retry_after=None if spent else _pause(rule, attempt, usage),
        holds=Holds.MESSAGE if spent else rule.holds,
        closes_reply_window=rule.closes_reply_window,
        stops_marketing=rule.stops_marketing,
        ends_token=code in TOKEN_CODES,
        trace_id=clean_text(trace)[:128] if isinstance(trace, str) else None,
        of_template=rule.of_template,
        subcode=None if subcode is None else str(subcode),
        problem=problem,
        advice=clean_text(advice)[:_MESSAGE_MOST] if isinstance(advice, str) and advice else None,
    )


def provider_errors(listed: Json) -> tuple[ProviderError, ...]:
    """The `errors` of a status or a message; what is not an error with a code is left out."""
    items = listed if isinstance(listed, list) else []
    return tuple(
        _provider_error(item) for item in items if isinstance(item, dict) and number(item.get("code")) is not None
    )


def number(given: Json) -> int | None:
    """A code: an integer, or the digits of one; anything else is none."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 12:
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10**12 else None


def words(error: Mapping[str, Json]) -> str:
    """Meta's message or title, and its details, at most 1,024 characters."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    message = error.get("message") or error.get("title")
    parts = [part for part in (message, details) if isinstance(part, str) and part]
    return clean_text(": ".join(dict.fromkeys(parts)))[:_MESSAGE_MOST]


def _provider_error(item: Mapping[str, Json]) -> ProviderError:
    code = number(item.get("code"))
    rule = rule_for(code)
    return ProviderError(str(code), words(item), rule.error_class, rule.closes_reply_window, rule.stops_marketing)


def _pause(rule: Rule, attempt: int, usage: str | None) -> timedelta | None:
    if rule.retry is None:
        return None
    told = _regain(usage) if rule.obeys_usage else timedelta()
    return max(rule.retry.pause(attempt), told)


def _regain(usage: str | None) -> timedelta:
    """The longest `estimated_time_to_regain_access` (minutes) in the usage header, at most a day; zero without one."""
    try:
        told: Json = json.loads(usage or "{}")
    except (ValueError, RecursionError):
        return timedelta()
    lists = told.values() if isinstance(told, dict) else ()
    rows = [row for rows in lists if isinstance(rows, list) for row in rows if isinstance(row, dict)]
    minutes = [number(row.get("estimated_time_to_regain_access")) or 0 for row in rows]
    return timedelta(minutes=min(max(minutes, default=0), 24 * 60))
