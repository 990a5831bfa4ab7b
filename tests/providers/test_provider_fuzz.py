"""Whatever the JSON holds, reading it returns, and what it returns can be stored."""

import copy
import json
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from provider_bench import OBJECTS, envelope, names, raw

from server.providers.contract import Broken, Change, Ignored, InboundMessage, Receipt
from server.providers.meta import errors
from server.providers.meta.envelope import Envelope, Unreadable, read_envelope
from server.providers.whatsapp.parse import parse

# Bounded, and the same in every run: a test that fails now and then helps nobody.
BOUNDED = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)

WORDS = st.sampled_from(
    [
        "messages", "statuses", "errors", "contacts", "metadata", "phone_number_id", "106540352242922", "id", "from",
        "from_user_id", "timestamp", "1749416383", "type", "text", "body", "image", "reaction", "status", "sent", "code",
        "interactive", "context", "profile", "name", "wa_id", "group_id", "recipient_type", "group", "payment", "unsupported",
    ]
)  # fmt: skip
STRINGS = WORDS | st.text(st.characters(codec=None), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4), max_leaves=20
)


@BOUNDED
@given(value=JSON, field=STRINGS)
def test_any_change_is_read(value: Any, field: str) -> None:
    for name in (field, "messages"):
        for account_id in ("106540352242922", None):
            _storable(parse(Change("whatsapp_business_account", 0, 0, None, name, value, account_id)))


@BOUNDED
@given(name=st.sampled_from(names()), data=st.data())
def test_any_real_payload_with_a_part_replaced_is_read(name: str, data: st.DataObject) -> None:
    body = copy.deepcopy(envelope(name).body)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(_places(body)))
        holder[key] = data.draw(JSON)
    found = read_envelope(json.dumps(body).encode(), objects=OBJECTS)
    if isinstance(found, Envelope):
        assert json.loads(found.subset(found.changes))["object"] == "whatsapp_business_account"
        for change in found.changes:
            _storable(parse(change))


@BOUNDED
@given(body=st.binary(max_size=64) | st.text(max_size=64).map(str.encode), name=st.sampled_from(names()))
def test_any_bytes_are_read(body: bytes, name: str) -> None:
    assert isinstance(read_envelope(body, objects=OBJECTS), Unreadable)
    whole = raw(name)
    assert isinstance(read_envelope(whole[: len(whole) // 2] + body, objects=OBJECTS), (Unreadable, Envelope))


@BOUNDED
@given(body=JSON, usage=st.none() | st.text(max_size=20) | JSON.map(json.dumps), status=st.integers(300, 599))
def test_any_error_is_read(body: Any, usage: str | None, status: int) -> None:
    for answer in (body, {"error": body}, {"error": {"code": 4, "error_data": body, "message": body}}):
        refused = errors.refusal(answer, status=status, attempt=1, usage=usage)
        assert refused.message
        _storable([refused])
    _storable(errors.provider_errors([body, {"code": 1, "title": body}]))


def test_what_is_too_deep_is_broken_and_not_a_crash() -> None:
    value: Any = []
    for _ in range(50_000):
        value = [value]
    for whole in (value, {"messages": [{"from": value}], "metadata": {}}, {"messages": value}):
        (item,) = parse(Change("whatsapp_business_account", 0, 0, None, "messages", whole, "1"))
        assert isinstance(item, Broken)
    (unread,) = parse(Change("whatsapp_business_account", 0, 0, "1", "security", value, None))
    assert isinstance(unread, Broken)
    (ignored,) = parse(Change("whatsapp_business_account", 0, 0, None, "flows", value, "1"))
    assert isinstance(ignored, Ignored)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in the JSON where something else could stand."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _storable(found: Any) -> None:
    for item in found:
        assert is_dataclass(item)
        if isinstance(item, (InboundMessage, Receipt, Ignored, Broken)):
            assert 0 < len(item.provider_id) <= 512
        json.dumps(asdict(item), default=_plain, allow_nan=False, ensure_ascii=False).encode("utf-8")
        assert "\\u0000" not in json.dumps(asdict(item), default=_plain)


def _plain(value: object) -> str:
    assert isinstance(value, (datetime, Enum)) or value.__class__.__name__ == "timedelta", value
    return str(value)


@pytest.mark.parametrize("number", [10**400, 1e308], ids=["huge", "1e308"])
@pytest.mark.parametrize("name", names())
def test_any_number_may_stand_anywhere(name: str, number: Any) -> None:
    body = envelope(name).body
    for place in range(len(_places(body))):
        changed = copy.deepcopy(body)
        holder, key = _places(changed)[place]
        holder[key] = number
        found = read_envelope(json.dumps(changed).encode(), objects=OBJECTS)
        for change in found.changes if isinstance(found, Envelope) else ():
            _storable(parse(change))
