"""What a run of the batch writer decides by."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from server.conversations.row import ConversationRow
from server.messages.row import MessageRow
from server.providers.content import AddressKind

Key = tuple[uuid.UUID, uuid.UUID]


@dataclass(slots=True)
class Locked:
    """Everything that decisions need, read after the conversations were locked."""

    rows: dict[uuid.UUID, ConversationRow]
    by_key: dict[Key, ConversationRow] = field(default_factory=dict)
    live: dict[Key, uuid.UUID] = field(default_factory=dict)
    stored: set[tuple[uuid.UUID, str]] = field(default_factory=set)
    repeated: dict[tuple[uuid.UUID | None, str | None] | uuid.UUID, MessageRow] = field(default_factory=dict)
    arrivals: dict[uuid.UUID, tuple[uuid.UUID, int]] = field(default_factory=dict)
    idle_channels: dict[uuid.UUID, str] = field(default_factory=dict)
    # What the tenant says of answers to what their authors have not seen; without locks it is not asked, and none goes out.
    fence: str = "refuse"
    newest: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    taken: dict[tuple[uuid.UUID, int], int] = field(default_factory=dict)
    # The messages that customers quote, by channel and the provider's id.
    quoted: dict[tuple[uuid.UUID, str], uuid.UUID] = field(default_factory=dict)
    # As what customers are written to, by their identities; of those alone to whom not everything can be sent.
    recipients: dict[uuid.UUID, AddressKind] = field(default_factory=dict)
    # Who is blocked: what they write goes no further than the journal.
    withheld: set[Key] = field(default_factory=set)

    def conversation_of(self, message_id: uuid.UUID) -> uuid.UUID | None:
        """The conversation of a message that a send names; None when there is no such message."""
        return self.arrivals.get(message_id, (None, 0))[0]
