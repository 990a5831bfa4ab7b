"""Templates as Meta lists them and as its webhooks tell of them, a golden item for each kind of webhook."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from provider_bench import OBJECTS

from server.providers.contract import Broken, Item
from server.providers.meta.envelope import Envelope, read_envelope
from server.providers.template import ListedTemplate, TemplateChange, TemplatePage
from server.providers.whatsapp.parse import parse
from server.providers.whatsapp.templates import places, read_page

WABA, SENT = "102290129340398", 1739321024
NAMED = {
    "message_template_id": 1689556908129832,
    "message_template_name": "order",
    "message_template_language": "en-US",
}
COMPONENTS = [
    {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}", "example": {"header_text": ["17"]}},
    {"type": "BODY", "text": "Hello {{1}}, {{2}} is ready, {{1}}.", "example": {"body_text": [["Mia", "it"]]}},
    {"type": "FOOTER", "text": "Bye"},
    {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"}]},
]


def read(field: str, value: Any, **entry: Any) -> list[Item]:
    """The items of a webhook of the account."""
    body = {"object": "whatsapp_business_account", "entry": [{"id": WABA, "time": SENT, **entry}]}
    body["entry"][0]["changes"] = [{"field": field, "value": value}]  # type: ignore[index]
    envelope = read_envelope(json.dumps(body).encode(), objects=OBJECTS)
    assert isinstance(envelope, Envelope)
    return [item for change in envelope.changes for item in parse(change)]


def change(field: str, **value: Any) -> TemplateChange:
    (found,) = read(field, NAMED | value)
    assert isinstance(found, TemplateChange)
    return found


STATUS, QUALITY = "message_template_status_update", "message_template_quality_update"
CATEGORY, PARTS = "template_category_update", "message_template_components_update"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (STATUS, {"event": "APPROVED", "reason": "NONE"}, {"values": {"status": "APPROVED", "reason": None}}),
        (STATUS, {"event": "approved", "reason": None}, {"values": {"status": "APPROVED", "reason": None}}),
        (STATUS, {"event": "PENDING"}, {"values": {"status": "PENDING", "reason": None}}),
        (
            STATUS,
            {"event": "REJECTED", "reason": "INVALID_FORMAT", "rejection_info": {"reason": "Ends with a place."}},
            {"values": {"status": "REJECTED", "reason": "Ends with a place."}},
        ),
        (
            STATUS,
            {"event": "REJECTED", "reason": "PROMOTIONAL"},
            {"values": {"status": "REJECTED", "reason": "PROMOTIONAL"}},
        ),
        (
            STATUS,
            {"event": "PAUSED", "other_info": {"title": "FIRST_PAUSE", "description": "For 3 hours."}},
            {"values": {"status": "PAUSED", "reason": "FIRST_PAUSE: For 3 hours."}},
        ),
        (
            STATUS,
            {"event": "DISABLED", "disable_info": {"disable_date": 1739321024}, "other_info": {"title": "DISABLED"}},
            {"values": {"status": "DISABLED", "reason": "DISABLED"}},
        ),
        *(
            (STATUS, {"event": word}, {"values": {"status": word, "reason": None}})
            for word in ("IN_APPEAL", "LIMIT_EXCEEDED", "LOCKED", "ARCHIVED", "PENDING_DELETION", "DELETED", "MOVED")
        ),
        # In which status these leave it they do not say: it is read, not guessed.
        *((STATUS, {"event": word}, {"stale": True}) for word in ("REINSTATED", "UNARCHIVED", "FLAGGED")),
        (
            QUALITY,
            {"previous_quality_score": "GREEN", "new_quality_score": "yellow"},
            {"aspect": "quality", "values": {"quality": "YELLOW"}},
        ),
        (
            CATEGORY,
            {"new_category": "UTILITY", "correct_category": "MARKETING", "category_update_timestamp": 1739400000},
            {
                "aspect": "category",
                "values": {
                    "category": "UTILITY",
                    "upcoming_category": "MARKETING",
                    "upcoming_category_time": datetime(2025, 2, 12, 22, 40, tzinfo=UTC),
                },
            },
        ),
        (
            CATEGORY,
            {"previous_category": "UTILITY", "new_category": "MARKETING"},
            {
                "aspect": "category",
                "values": {"category": "MARKETING", "upcoming_category": None, "upcoming_category_time": None},
            },
        ),
        (
            PARTS,
            {
                "message_template_title": "Order {{1}}",
                "message_template_element": "Hello {{1}}",
                "message_template_footer": "Bye",
                "message_template_buttons": [
                    {
                        "message_template_button_type": "url",
                        "message_template_button_text": "See",
                        "message_template_button_url": "https://shop.example/{{1}}",
                    }
                ],
            },
            {
                "aspect": "components",
                "texts": {"HEADER": "Order {{1}}", "BODY": "Hello {{1}}", "FOOTER": "Bye"},
                "buttons": ({"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"},),
                "stale": True,
            },
        ),
    ],
)
def test_each_webhook_is_one_change(field: str, value: Any, told: dict[str, Any]) -> None:
    found = asdict(change(field, **value))
    assert found.pop("discriminator").startswith(found["aspect"] + "/sha256:")
    assert found == {
        "business_account_id": WABA,
        "provider_id": "1689556908129832",
        "name": "order",
        "language": "en_US",
        "aspect": "status",
        "values": {},
        "texts": {},
        "buttons": None,
        "stale": False,
        "provider_time": datetime(2025, 2, 12, 0, 43, 44, tzinfo=UTC),
        "account_id": None,
        "kind": "template",
        **told,
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "value is not an object"),
        ({**NAMED, "message_template_id": None, "event": "APPROVED"}, "message_template_id is missing"),
        (NAMED, "event is missing"),
        ({**NAMED, "event": 7}, "event is not a string"),
        ({**NAMED, "event": "PAUSED", "other_info": []}, "other_info is not an object"),
    ],
)
def test_what_cannot_be_read_is_broken(value: Any, problem: str) -> None:
    (found,) = read(STATUS, value)
    assert isinstance(found, Broken)
    assert found.error == problem


def test_without_an_account_nobody_knows_whose_it_is() -> None:
    (found,) = read(STATUS, {**NAMED, "event": "APPROVED"}, id=None)
    assert isinstance(found, Broken)


@pytest.mark.parametrize(
    ("time", "read_as"), [(SENT, SENT), (str(SENT), SENT), (None, None), ("2025-02-12", None), (7, None)]
)
def test_a_time_that_is_none_is_left_out(time: Any, read_as: int | None) -> None:
    (found,) = read(STATUS, {**NAMED, "event": "APPROVED"}, time=time)
    assert isinstance(found, TemplateChange)
    assert found.provider_time == (None if read_as is None else datetime.fromtimestamp(read_as, UTC))


def listed(**more: Any) -> dict[str, Any]:
    given = {"id": "7", "name": "order", "language": "en_US", "status": "approved", "category": "utility"}
    return given | {"components": COMPONENTS} | more


def test_a_page_is_read_whole() -> None:
    page = read_page({"data": [listed(quality_score={"score": "GREEN"}, rejected_reason="NONE")]})
    assert page == TemplatePage(
        templates=(
            ListedTemplate(
                provider_id="7",
                name="order",
                language="en_US",
                status="APPROVED",
                category="UTILITY",
                quality="GREEN",
                components=(
                    {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}", "places": ["1"], "examples": ["17"]},
                    {
                        "type": "BODY",
                        "text": "Hello {{1}}, {{2}} is ready, {{1}}.",
                        "places": ["1", "2"],
                        "examples": ["Mia", "it"],
                    },
                    {"type": "FOOTER", "text": "Bye"},
                    {
                        "type": "BUTTONS",
                        "buttons": [{"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"}],
                    },
                ),
            ),
        )
    )


def test_an_entry_that_cannot_be_read_is_counted_and_its_siblings_are_read() -> None:
    page = read_page({"data": [listed(), 7, listed(id=None), listed(id=8, components=[{"cards": {}}])]})
    assert page is not None
    assert ([item.provider_id for item in page.templates], page.unreadable) == (["7"], 3)


@pytest.mark.parametrize(
    ("paging", "after"),
    [
        (None, None),
        ({"cursors": {"before": "a", "after": "b"}}, None),
        ({"cursors": {"before": "a", "after": "b"}, "next": "https://graph.facebook.com/"}, "b"),
    ],
)
def test_the_end_is_where_there_is_no_next(paging: Any, after: str | None) -> None:
    page = read_page({"data": [], "paging": paging})
    assert page is not None
    assert page.after == after


@pytest.mark.parametrize(
    "body", [None, [], {}, {"data": {}}, {"error": {}}, {"data": [], "paging": {"next": "https://graph.facebook.com/"}}]
)
def test_what_is_no_page_is_none(body: Any) -> None:
    assert read_page(body) is None


def test_places_are_named_once_in_their_order() -> None:
    assert places("{{2}} {{ 1 }} {{2}} {{first_name}} {{}} {x}") == ["2", "1", "first_name"]
