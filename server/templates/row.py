"""A template as it is stored, and what it becomes by what its provider tells: pure functions."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from server.providers.template import ListedTemplate, TemplateChange

# Between the provider's clock and ours. A list read now does not beat a webhook that was sent within so long after.
APART = timedelta(minutes=1)
LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
# A template that only a webhook has named so far.
UNKNOWN = "UNKNOWN"
SENDABLE = "APPROVED"


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """The columns of templates, in their order."""

    id: uuid.UUID
    provider: str
    business_account_id: str
    provider_template_id: str
    name: str
    language: str
    status: str
    category: str
    quality: str
    parameter_format: str
    components: list[Any]
    reason: str | None
    upcoming_category: str | None
    upcoming_category_time: datetime | None
    stale: bool
    status_time: datetime
    quality_time: datetime
    category_time: datetime
    components_time: datetime
    gone_time: datetime | None
    made_time: datetime | None
    edit_times: list[datetime]
    name_free_time: datetime | None
    create_time: datetime
    update_time: datetime

    @property
    def sendable(self) -> bool:
        """Whether the provider takes it now, as far as we know."""
        return self.status == SENDABLE and self.gone_time is None


NAMES = tuple(field.name for field in fields(TemplateRow))
# What the contract shows and can change.
SHOWN = (
    "name",
    "language",
    "status",
    "category",
    "quality",
    "parameter_format",
    "components",
    "reason",
    "upcoming_category",
    "upcoming_category_time",
    "stale",
    "gone_time",
)
ASPECTS = ("status_time", "quality_time", "category_time", "components_time")


def row_of(record: Any) -> TemplateRow:
    """A row of the table."""
    values = dict(record)
    return TemplateRow(**values | {"components": json.loads(values["components"])})


def new_row(
    template_id: uuid.UUID,
    *,
    provider: str,
    business_account_id: str,
    of: ListedTemplate | TemplateChange,
    now: datetime,
) -> TemplateRow:
    """A template that was not known, before anything is told of it."""
    return TemplateRow(
        id=template_id,
        provider=provider,
        business_account_id=business_account_id,
        provider_template_id=of.provider_id,
        name=of.name,
        language=of.language,
        status=UNKNOWN,
        category="",
        quality=UNKNOWN,
        parameter_format="positional",
        components=[],
        reason=None,
        upcoming_category=None,
        upcoming_category_time=None,
        stale=True,
        status_time=LONG_AGO,
        quality_time=LONG_AGO,
        category_time=LONG_AGO,
        components_time=LONG_AGO,
        gone_time=None,
        made_time=None,
        edit_times=[],
        name_free_time=None,
        create_time=now,
        update_time=now,
    )


def listed(row: TemplateRow, found: ListedTemplate, *, at: datetime) -> TemplateRow:
    """The row after a list that was asked for at a time: all of it, but for what a webhook told later."""
    aspects: dict[str, dict[str, Any]] = {
        "status_time": {"status": found.status, "reason": found.reason},
        "quality_time": {"quality": found.quality},
        "category_time": {"category": found.category},
        "components_time": {"components": list(found.components), "parameter_format": found.parameter_format},
    }
    if row.category != found.category or (row.upcoming_category_time or at) < at:
        aspects["category_time"] |= {"upcoming_category": None, "upcoming_category_time": None}
    changes: dict[str, Any] = {"name": found.name, "language": found.language, "stale": False, "gone_time": None}
    for aspect, values in aspects.items():
        if getattr(row, aspect) <= at:
            changes |= values | {aspect: max(getattr(row, aspect), at - APART)}
        else:
            changes["stale"] = row.stale
    return replace(row, **changes)


def told(row: TemplateRow, change: TemplateChange, *, at: datetime) -> TemplateRow:
    """The row after a webhook that was sent at a time; as it was, where something newer is known of the same aspect."""
    aspect = f"{change.aspect}_time"
    if at < getattr(row, aspect):
        return row
    changes: dict[str, Any] = {"stale": row.stale or change.stale, aspect: at, **change.values}
    if change.texts or change.buttons is not None:
        changes["components"] = _components(row.components, change)
    return replace(row, **changes)


def _components(known: list[Any], change: TemplateChange) -> list[Any]:
    """The components with new texts. What is not there yet is added in the order of the change, with the buttons last."""
    made = [dict(part) for part in known]
    new: dict[str, dict[str, Any]] = {part: {"text": text} for part, text in change.texts.items()}
    if change.buttons is not None:
        new["BUTTONS"] = {"buttons": [dict(button) for button in change.buttons]}
    for kind, values in new.items():
        held = next((part for part in made if part.get("type") == kind), None)
        if held is None:
            made.append({"type": kind, **values})
        else:
            held.update(values)
    return made


def changed_fields(before: TemplateRow, after: TemplateRow) -> list[str]:
    """Names of what the contract shows differently."""
    return [name for name in SHOWN if getattr(before, name) != getattr(after, name)]
