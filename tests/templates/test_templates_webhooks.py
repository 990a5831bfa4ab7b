"""Every webhook about a template, as Meta signs it, and what a template shows then.

Source: Meta's Cloud API documentation, webhook fields of templates.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server.providers.registry import ProviderSettings, create_providers
from server.providers.template import ListedTemplate, TemplateChange
from server.templates.row import SHOWN, TemplateRow, listed, new_row, told
from tests.golden import golden

GOLDEN = Path(__file__).parent / "golden" / "webhooks.json"
NAMED = {
    "message_template_id": 4711,
    "message_template_name": "order_ready",
    "message_template_language": "en-US",
}
EVENTS = (
    *("APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED", "FLAGGED", "IN_APPEAL", "REINSTATED"),
    *("LIMIT_EXCEEDED", "LOCKED", "ARCHIVED", "UNARCHIVED", "PENDING_DELETION", "DELETED", "OF_NEXT_YEAR"),
)
REASONS = (
    *("ABUSIVE_CONTENT", "CATEGORY_NOT_AVAILABLE", "INCORRECT_CATEGORY", "INVALID_FORMAT"),
    *("NONE", "PROMOTIONAL", "SCAM", "TAG_CONTENT_MISMATCH", None),
)
TITLES = {
    "FIRST_PAUSE": "PAUSED",
    "SECOND_PAUSE": "PAUSED",
    "RATE_LIMITING_PAUSE": "PAUSED",
    "UNPAUSE": "APPROVED",
    "DISABLED": "DISABLED",
}
STATUS, QUALITY = "message_template_status_update", "message_template_quality_update"
CATEGORY, COMPONENTS = "template_category_update", "message_template_components_update"
BUTTON = {
    "message_template_button_type": "URL",
    "message_template_button_text": "See",
    "message_template_button_url": "https://shop.example/a",
}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"event {word}": (STATUS, {"event": word, "reason": None}) for word in EVENTS},
    **{f"reason {word}": (STATUS, {"event": "REJECTED", "reason": word}) for word in REASONS},
    **{
        f"title {title}": (STATUS, {"event": event, "other_info": {"title": title, "description": "Told."}})
        for title, event in TITLES.items()
    },
    "without any reason": (STATUS, {"event": "PAUSED"}),
    "in lower case": (STATUS, {"event": "paused", "reason": "none"}),
    "disable info": (
        STATUS,
        {"event": "DISABLED", "reason": "SCAM", "disable_info": {"disable_date": "December 1, 2026"}},
    ),
    "rejection info": (
        STATUS,
        {"event": "REJECTED", "reason": "INVALID_FORMAT", "rejection_info": {"reason": "A place is at the end."}},
    ),
    **{
        f"quality {word}": (QUALITY, {"previous_quality_score": "GREEN", "new_quality_score": word})
        for word in ("GREEN", "YELLOW", "RED", "UNKNOWN")
    },
    "category announced": (
        CATEGORY,
        {"new_category": "UTILITY", "correct_category": "MARKETING", "category_update_timestamp": 1795564800},
    ),
    "category done": (CATEGORY, {"previous_category": "UTILITY", "new_category": "MARKETING"}),
    "texts": (
        COMPONENTS,
        {"message_template_title": "News", "message_template_element": "Hi {{1}}.", "message_template_footer": "Bye"},
    ),
    "buttons": (COMPONENTS, {"message_template_element": "Hi {{1}}.", "message_template_buttons": [BUTTON]}),
}


def shown(row: TemplateRow) -> dict[str, Any]:
    """What the contract shows of a row."""
    values = dataclasses.asdict(row)
    return {name: str(values[name]) if isinstance(values[name], datetime) else values[name] for name in SHOWN}


def after(field: str, value: dict[str, Any]) -> dict[str, Any]:
    """What is shown differently of an approved template after a webhook."""
    change = {"field": field, "value": NAMED | value}
    entry = {"id": "102290129340398", "time": 1795478400, "changes": [change]}
    provider = create_providers(ProviderSettings(meta_graph_url="http://127.0.0.1:9"))["whatsapp"]
    raw = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    ((item,),) = [provider.parse(each) for each in provider.changes(raw)]
    assert isinstance(item, TemplateChange), item
    assert (item.provider_id, item.name, item.language) == ("4711", "order_ready", "en_US")
    body = {"type": "BODY", "text": "Hello {{1}}.", "places": ["1"]}
    known = ListedTemplate(
        provider_id="4711",
        name="order_ready",
        language="en_US",
        status="APPROVED",
        category="UTILITY",
        quality="GREEN",
        components=(body,),
    )
    at = datetime(2026, 11, 1, tzinfo=UTC)
    made = new_row(uuid.UUID(int=1), provider="whatsapp", business_account_id="102290129340398", of=known, now=at)
    before = listed(made, known, at=at)
    assert item.provider_time is not None
    then, now = shown(before), shown(told(before, item, at=item.provider_time))
    return {name: now[name] for name in SHOWN if now[name] != then[name]}


@pytest.fixture(scope="module")
def wanted() -> Any:
    return golden(GOLDEN, {name: after(*row) for name, row in ROWS.items()})


@pytest.mark.parametrize("name", ROWS)
def test_a_webhook_changes_what_the_template_shows(wanted: Any, name: str) -> None:
    assert after(*ROWS[name]) == wanted[name]
