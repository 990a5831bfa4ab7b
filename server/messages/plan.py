"""What one run of the batch writer is going to write, gathered item by item."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from server.conversations import repository as conversations
from server.conversations.row import ConversationRow
from server.journal import items as journal_items
from server.journal.items import ItemRow
from server.log.append import columns as event_columns
from server.log.event import NewEvent
from server.messages.items import Receive, Send
from server.messages.repository import transposed
from server.messages.row import STORED, MessageRow
from server.messages.statement import compose


@dataclass(slots=True)
class Plan:
    """Rows and events of a run. Arrays are made of it once, for one statement."""

    now: datetime
    messages: list[MessageRow] = field(default_factory=list)
    parts: list[tuple[Any, ...]] = field(default_factory=list)
    sends: list[tuple[Any, ...]] = field(default_factory=list)
    more_parts: list[tuple[Any, ...]] = field(default_factory=list)
    with_files: list[MessageRow] = field(default_factory=list)
    reads: dict[tuple[uuid.UUID, uuid.UUID], tuple[int, int]] = field(default_factory=dict)
    read_marks: dict[uuid.UUID, tuple[uuid.UUID, str]] = field(default_factory=dict)
    journal_items: list[ItemRow] = field(default_factory=list)
    conversations: dict[uuid.UUID, ConversationRow] = field(default_factory=dict)
    answered: set[uuid.UUID] = field(default_factory=set)
    woken: list[uuid.UUID] = field(default_factory=list)
    windows: set[uuid.UUID] = field(default_factory=set)
    quoting: list[uuid.UUID] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)

    def add_message(self, message: MessageRow, part_id: uuid.UUID, row: ConversationRow) -> None:
        """A message of a customer, its one part, and its conversation as changed by it."""
        self.messages.append(message)
        part = (
            part_id,
            message.id,
            message.conversation_id,
            message.channel_id,
            message.provider_message_id,
            message.status,
        )
        self.parts.append(part)
        self.conversations[row.id] = row
        self.answered.discard(row.id)

    def add_send(self, send: Send, message: MessageRow, row: ConversationRow) -> None:
        """An answer, to hand to the provider, and its conversation as changed by it."""
        self.sends.append(
            (
                *(
                    message.id,
                    send.part_id,
                    send.delivery_id,
                    row.id,
                    row.channel_id,
                    message.sequence,
                    message.arrival,
                ),
                *(message.text, message.author_kind, message.author_id, message.request_id, message.request_hash),
                *(message.create_time, send.client_address, send.user_agent),
                # A column without a value is not sent: plain text costs nothing here.
                *(None if message.type == "text" else message.type, message.details, send.lane or None),
            )
        )
        if message.attachments:
            self.with_files.append(message)
        for position, (part_id, delivery_id) in enumerate(send.more_parts, start=1):
            keys = (part_id, delivery_id, message.id, row.id, row.channel_id, position)
            self.more_parts.append((*keys, message.sequence, message.create_time))
        if row.id not in self.conversations:
            self.conversations[row.id] = row
            self.answered.add(row.id)

    def newest_of(self, conversation_id: uuid.UUID) -> uuid.UUID | None:
        """The message of this run that arrived last in a conversation."""
        row = self.conversations.get(conversation_id)
        found = [message.id for message in self.messages if message.conversation_id == conversation_id]
        sent = [send[0] for send in self.sends if send[3] == conversation_id]
        return None if row is None else sent[-1] if row.last_outbound_arrival > row.last_inbound_arrival else found[-1]

    def add_journal_item(self, receive: Receive, state: str, result: str | None) -> None:
        """What became of an item of the journal."""
        item = receive.inbound
        self.journal_items.append(
            ItemRow(
                id=receive.journal_item_id,
                journal_id=receive.journal_id,
                channel_id=receive.channel.id,
                kind=item.kind,
                provider_id=item.provider_id,
                discriminator=item.discriminator,
                provider_time=item.provider_time,
                state=state,
                parser_version=receive.parser_version,
                result=result,
                create_time=self.now,
            )
        )

    def _windows(self) -> list[tuple[uuid.UUID, datetime]]:
        """Every reply window that this run opened or extended, for its two lazy timers; an answer must not set them again."""
        rows = [self.conversations[key] for key in sorted(self.windows)]
        found = [(row.id, row.reply_window_expire_time) for row in rows]
        return [(key, until) for key, until in found if until is not None and until > self.now]

    def statement(self, *, marks: Mapping[uuid.UUID, int] | None = None) -> tuple[str, list[Any]]:
        """The statement that writes the run, and its parameters.

        marks: of the conversations, when they were read without a lock; then the statement makes sure of them itself.
        """
        reads = [(*key, *value, self.now) for key, value in sorted(self.reads.items())]
        ids = sorted(self.conversations)
        parts = {
            "sends": transposed(self.sends, 18),
            "messages": message_columns(self.messages),
            "parts": transposed(self.parts, 6),
            "more_parts": transposed(self.more_parts, 8),
            "attachments": attachment_columns([*self.messages, *self.with_files]),
            "timers": transposed(self._windows(), 2),
            "reply_links": [self.quoting],
            "reads": transposed(reads, 5),
            "read_marks": transposed([(key, *value) for key, value in sorted(self.read_marks.items())], 3),
            "items": journal_items.columns(self.journal_items),
            "answered": conversations.ANSWERED.columns(
                [self.conversations[key] for key in ids if key in self.answered]
            ),
            "conversations": conversations.SAVED.columns(
                [self.conversations[key] for key in ids if key not in self.answered]
            ),
        }
        held: list[list[Any]] | None = None if marks is None else [list(ids), [marks[key] for key in ids]]
        return compose(parts, event_columns(self.events), held=held)

    def add_events(self, events: Sequence[NewEvent]) -> None:
        """Events in the order they happened."""
        self.events.extend(events)


def message_columns(rows: Sequence[MessageRow]) -> list[list[Any]]:
    """Messages as parallel arrays."""
    return [[getattr(row, name) for row in rows] for name in STORED]


def attachment_columns(rows: Sequence[MessageRow]) -> list[list[Any]]:
    """The attachments of messages as parallel arrays."""
    flat = [
        (
            *(a.id, row.id, a.position, a.kind, a.mime_type, a.file_name, a.size_bytes, a.state),
            *(a.provider_media_id, a.sha256, a.voice, a.animated, a.error),
            *(a.stored_type, a.stored_sha256, a.media_id, a.caption),
        )
        for row in rows
        for a in row.attachments
    ]
    return transposed(flat, 17)
