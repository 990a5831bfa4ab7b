"""A conversation's row as rules change it and statements write it."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.agents.loads import Holding
from server.log.event import Routing


@dataclass(slots=True)
class ConversationRow:
    """The columns of the table. my_read_count is the calling agent's position, None when it has none."""

    id: uuid.UUID
    channel_id: uuid.UUID
    provider: str
    contact_id: uuid.UUID
    contact_name: str
    identity_id: uuid.UUID
    status: str
    last_message_time: datetime
    create_time: datetime
    update_time: datetime
    assignee_id: uuid.UUID | None = None
    team_id: uuid.UUID | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    priority: int = 1
    subject: str | None = None
    attributes: str | None = None
    message_count: int = 0
    inbound_count: int = 0
    team_read_count: int = 0
    last_inbound_arrival: int = 0
    last_outbound_arrival: int = 0
    last_outbound_author_id: uuid.UUID | None = None
    last_inbound_provider_id: str | None = None
    last_sequence: int = 0
    last_message_id: uuid.UUID | None = None
    last_message_preview: str = ""
    waiting_since: datetime | None = None
    snooze_until: datetime | None = None
    snooze_generation: int = 0
    reply_window_expire_time: datetime | None = None
    previous_conversation_id: uuid.UUID | None = None
    version: int = 1
    resolve_time: datetime | None = None
    delete_time: datetime | None = None
    weight: int = 100
    waiting_weight: int = 50
    contact_blocked: bool = False
    # When an advertisement led the customer here, until that is answered; and until when messages are free after it was.
    referral_time: datetime | None = None
    free_entry_expire_time: datetime | None = None
    # Of the message that last_inbound_provider_id names.
    last_inbound_sequence: int = 0
    my_read_count: int | None = None
    # Who is known to hold it, and what it weighs there; `save` tells the counters of agents what became of that.
    counted: Holding = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.counted = self.holding

    @property
    def unread_count(self) -> int:
        """Inbound messages since anybody of the team marked it read."""
        return self.inbound_count - self.team_read_count

    @property
    def my_unread_count(self) -> int:
        """Inbound messages since the calling agent marked it read; without a position of its own, the team's."""
        read = self.team_read_count if self.my_read_count is None else max(self.my_read_count, 0)
        return self.inbound_count - read

    @property
    def live(self) -> bool:
        """Whether messages of the customer land here."""
        return self.status in ("new", "open", "pending", "snoozed") and self.delete_time is None

    @property
    def holding(self) -> Holding:
        """Its agent while it is live, and what it weighs for that one: less while it waits for the customer."""
        if self.assignee_id is None or not self.live:
            return None, 0
        return self.assignee_id, self.weight if self.status in ("new", "open") else self.waiting_weight

    @property
    def routing(self) -> Routing:
        """Who can see it."""
        return Routing(channel_id=self.channel_id, team_id=self.team_id, assignee_id=self.assignee_id)

    @property
    def attributes_object(self) -> dict[str, Any] | None:
        """The attributes as a JSON object."""
        return None if self.attributes is None else json.loads(self.attributes)


COLUMNS = tuple(
    field.name for field in dataclasses.fields(ConversationRow) if field.name not in ("my_read_count", "counted")
)


WIDTH = len(COLUMNS)


def from_columns(values: Sequence[Any]) -> ConversationRow:
    """Reads a row that was selected as COLUMNS, in their order: a third of what reading it by name takes."""
    return ConversationRow(*values)


def from_record(record: Any) -> ConversationRow:
    """Reads a row; columns that are not the table's are ignored."""
    row = ConversationRow(**{name: record[name] for name in COLUMNS})
    row.my_read_count = record.get("my_read_count")
    return row
