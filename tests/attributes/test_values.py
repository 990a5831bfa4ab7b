"""What values attributes may hold."""

from __future__ import annotations

from typing import Any

import pytest

from server.attributes.values import Definition, check
from server.kit.errors import InvalidFields

DEFINED = {
    "text": Definition("key", "text"),
    "number": Definition("key", "number"),
    "boolean": Definition("key", "boolean"),
    "date": Definition("key", "date"),
    "option": Definition("key", "option", ("gold", "silver")),
}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", ""),
        ("text", "x" * 1000),
        ("number", 0),
        ("number", -1.5),
        ("boolean", False),
        ("date", "2024-02-29"),
        ("option", "silver"),
    ],
)
def test_a_value_of_its_type_is_taken(kind: str, value: Any) -> None:
    check([DEFINED[kind]], {"key": value}, held={})


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", 1, "key must be text of at most 1000 characters"),
        ("text", "x" * 1001, "key must be text of at most 1000 characters"),
        ("text", None, "key must be text of at most 1000 characters"),
        ("number", "1", "key must be a number"),
        ("number", True, "key must be a number"),
        ("boolean", 1, "key must be true or false"),
        ("boolean", "true", "key must be true or false"),
        ("date", "2023-02-29", "key must be a date such as 2026-11-23"),
        ("date", "20260101", "key must be a date such as 2026-11-23"),
        ("date", "2026-01-01T00:00:00Z", "key must be a date such as 2026-11-23"),
        ("date", "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661", "key must be a date such as 2026-11-23"),
        ("option", "bronze", "key must be one of: gold, silver"),
        ("option", ["gold"], "key must be one of: gold, silver"),
    ],
)
def test_another_value_is_refused_by_key_and_expected_type(kind: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        check([DEFINED[kind]], {"key": value, "free": value}, held={})
    assert [(item.field, item.description) for item in refused.value.violations] == [("attributes", expected)]


def test_every_wrong_value_is_named_at_once() -> None:
    definitions = [Definition("a", "number"), Definition("b", "date")]
    with pytest.raises(InvalidFields) as refused:
        check(definitions, {"a": "x", "b": "y", "c": "z"}, held={})
    assert len(refused.value.violations) == 2


def test_what_was_there_before_its_definition_stays() -> None:
    check([DEFINED["number"]], {"key": "old", "new": 1}, held={"key": "old"})
    with pytest.raises(InvalidFields):
        check([DEFINED["number"]], {"key": "other"}, held={"key": "old"})
    with pytest.raises(InvalidFields):
        check([DEFINED["number"]], {"key": True}, held={"key": 1})
