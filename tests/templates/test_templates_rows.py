"""What a template becomes by what its provider tells, whatever the order: pure functions."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.providers.template import ListedTemplate, TemplateChange
from server.templates import row as rows
from server.templates.row import TemplateRow, changed_fields

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def found(**more: Any) -> ListedTemplate:
    body = {"type": "BODY", "text": "Hello {{1}}", "places": ["1"]}
    fields = {"name": "order", "language": "en", "status": "APPROVED", "category": "UTILITY", "components": (body,)}
    return ListedTemplate(**{"provider_id": "7", **fields, **more})


def change(seconds: int, **more: Any) -> tuple[TemplateChange, datetime]:
    fields = {"aspect": "status", "name": "order", "language": "en", "discriminator": str(seconds)}
    at = NOON + timedelta(seconds=seconds)
    made = TemplateChange(**{"business_account_id": "1", "provider_id": "7", "provider_time": at, **fields, **more})
    return made, at


def status(seconds: int, word: str) -> tuple[TemplateChange, datetime]:
    return change(seconds, values={"status": word, "reason": None})


def new() -> TemplateRow:
    return rows.new_row(uuid.UUID(int=1), provider="whatsapp", business_account_id="1", of=found(), now=NOON)


def listed(row: TemplateRow, seconds: int = 0, **more: Any) -> TemplateRow:
    return rows.listed(row, found(**more), at=NOON + timedelta(seconds=seconds))


def after(row: TemplateRow, *changes: tuple[TemplateChange, datetime]) -> TemplateRow:
    for told, at in changes:
        row = rows.told(row, told, at=at)
    return row


def test_what_is_listed_is_known_whole() -> None:
    assert new().stale
    row = listed(new())
    assert (row.status, row.category, row.stale, row.sendable) == ("APPROVED", "UTILITY", False, True)
    assert row.components[0]["places"] == ["1"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_newest_status_stays_whatever_comes_when(order: tuple[int, ...]) -> None:
    told = [status(1, "PAUSED"), status(2, "APPROVED"), status(3, "DISABLED")]
    row = after(listed(new(), -600), *(told[index] for index in order), *told)
    assert row.status == "DISABLED"


def test_an_old_status_does_not_hold_up_a_new_quality() -> None:
    row = after(listed(new(), -600), status(9, "PAUSED"), change(3, aspect="quality", values={"quality": "RED"}))
    assert (row.status, row.quality) == ("PAUSED", "RED")


def test_a_list_beats_what_was_told_before_it_and_nothing_later() -> None:
    row = after(listed(new(), -600), status(10, "PAUSED"))
    assert listed(row, 11).status == "APPROVED"
    assert listed(row, 9).status == "PAUSED"
    assert listed(row, 9, quality="GREEN").quality == "GREEN"


def test_the_providers_clock_may_be_a_minute_behind_ours() -> None:
    assert after(listed(new(), 0), status(-50, "PAUSED")).status == "PAUSED"
    assert after(listed(new(), 0), status(-70, "PAUSED")).status == "APPROVED"


def test_what_was_not_told_whole_is_read_again() -> None:
    row = after(listed(new(), -600), change(1, stale=True))
    assert (row.status, row.stale) == ("APPROVED", True)
    assert not listed(row, 2).stale
    # The list was asked for before it happened.
    assert listed(row, 0).stale


def test_new_texts_stand_in_the_components_they_belong_to() -> None:
    button = {"type": "URL", "text": "See", "url": "https://shop.example/"}
    told = change(1, aspect="components", texts={"BODY": "Hi {{1}}", "FOOTER": "Bye"}, buttons=(button,), stale=True)
    row = after(listed(new(), -600), told)
    assert row.components == [
        {"type": "BODY", "text": "Hi {{1}}", "places": ["1"]},
        {"type": "FOOTER", "text": "Bye"},
        {"type": "BUTTONS", "buttons": [button]},
    ]


def test_an_announced_category_stands_until_it_is_there() -> None:
    coming = {
        "category": "UTILITY",
        "upcoming_category": "MARKETING",
        "upcoming_category_time": NOON + timedelta(days=1),
    }
    row = after(listed(new(), -600), change(1, aspect="category", values=coming))
    assert row.upcoming_category == "MARKETING"
    assert listed(row, 2).upcoming_category == "MARKETING"
    assert listed(row, 2, category="MARKETING").upcoming_category is None
    assert listed(row, 86_500).upcoming_category is None


def test_names_of_what_changed_are_those_of_the_contract() -> None:
    before = listed(new(), -600)
    assert changed_fields(before, listed(before, -500)) == []
    assert changed_fields(before, after(before, status(1, "PAUSED"))) == ["status"]
