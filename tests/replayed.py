"""A tenant as a reader knows it who was shown nothing but events, and as its tables have it: everything that events carry."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from switchboard.v1 import conversation_pb2, event_pb2

from server.conversations import convert, repository

SNAPSHOTS = frozenset(
    name
    for name, item in event_pb2.InboxEvent.DESCRIPTOR.fields_by_name.items()
    if item.message_type is not None and "conversation" in item.message_type.fields_by_name
)
LOG = "SELECT payload FROM stream_event ORDER BY seq"
CONVERSATIONS = "SELECT * FROM conversations WHERE $1::uuid[] IS NULL OR id = ANY($1)"
OF = "$1::uuid[] IS NULL OR conversation_id = ANY($1)"
NOTES = f"SELECT * FROM conversation_notes WHERE {OF}"
OPEN = f"SELECT * FROM conversation_assignments WHERE end_time IS NULL AND ({OF})"
PARTICIPANTS = f"SELECT conversation_id, agent_id, joined FROM conversation_participants WHERE {OF}"
TAGGED = f"""
SELECT ct.conversation_id, array_agg(t.name) AS names FROM conversation_tags ct JOIN tags t ON t.id = ct.tag_id
WHERE {OF} GROUP BY 1
"""
QUEUE = """
SELECT id FROM conversations
WHERE status IN ('new', 'open', 'pending', 'snoozed') AND assignee_id IS NULL AND delete_time IS NULL
    AND ($1::uuid[] IS NULL OR id = ANY($1))
ORDER BY coalesce(waiting_since, create_time), id
"""
LIVE = [
    conversation_pb2.ConversationStatus.Value(f"CONVERSATION_STATUS_{word}")
    for word in ("NEW", "OPEN", "PENDING", "SNOOZED")
]
Fetch = Callable[..., Awaitable[Iterable[Any]]]
Facts = dict[str, Any]
"""What is known, by a name such as "conversation 0190… subject"."""


@dataclass
class Replayed:
    """What events tell, one after the other. Of a conversation the snapshot with the highest version counts, as for any client."""

    conversations: dict[str, conversation_pb2.Conversation] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    assignments: dict[str, Any] = field(default_factory=dict)
    participants: dict[str, dict[str, bool]] = field(default_factory=dict)

    def apply(self, event: event_pb2.InboxEvent) -> None:
        """The next event."""
        name = str(event.WhichOneof("body"))
        body = getattr(event, name)
        if name == "conversation_purged":
            self._forget(body.conversation_id)
        elif name in SNAPSHOTS:
            shown = body.conversation
            held = self.conversations.get(shown.id)
            if held is None or shown.version > held.version:
                self.conversations[shown.id] = shown
            self._beside(name, body)

    def facts(self) -> Facts:
        """Everything as one mapping."""
        tags = {some: shown.tags for some, shown in self.conversations.items()}
        waiting = [shown for shown in self.conversations.values() if _waits(shown)]
        waiting.sort(key=lambda shown: (_moment(shown), shown.id))
        joined = {
            f"{some} {agent}": word for some, agents in self.participants.items() for agent, word in agents.items()
        }
        return _facts(
            self.conversations.values(), self.notes, self.assignments, joined, tags, [row.id for row in waiting]
        )

    def _beside(self, name: str, body: Any) -> None:
        conversation_id = body.conversation.id
        if name in ("note_added", "note_updated"):
            self.notes[body.note.id] = body.note
        elif name == "note_deleted":
            self.notes.pop(body.note_id)
        elif name == "conversation_assigned":
            self.assignments[conversation_id] = body.assignment
        elif name == "conversation_unassigned":
            self.assignments.pop(conversation_id, None)
        elif name in ("participant_added", "participant_removed"):
            self.participants.setdefault(conversation_id, {})[body.agent_id] = name == "participant_added"

    def _forget(self, conversation_id: str) -> None:
        # One that was erased is told of by nothing else any more.
        self.conversations.pop(conversation_id, None)
        self.assignments.pop(conversation_id, None)
        self.participants.pop(conversation_id, None)
        self.notes = {some: note for some, note in self.notes.items() if note.conversation_id != conversation_id}


async def replayed(fetch: Fetch) -> Facts:
    """What the whole log tells."""
    reader = Replayed()
    for row in await fetch(LOG):
        reader.apply(event_pb2.InboxEvent.FromString(row["payload"]))
    return reader.facts()


async def stored(fetch: Fetch, only: Sequence[uuid.UUID] | None = None) -> Facts:
    """What the tables have. only: of these conversations."""
    rows = [repository.from_record(row) for row in await fetch(CONVERSATIONS, only)]
    return _facts(
        [convert.conversation(row) for row in rows],
        {str(row["id"]): convert.note(row) for row in await fetch(NOTES, only)},
        {str(row["conversation_id"]): convert.assignment(row) for row in await fetch(OPEN, only)},
        {f"{row['conversation_id']} {row['agent_id']}": row["joined"] for row in await fetch(PARTICIPANTS, only)},
        {str(row.id): [] for row in rows}
        | {str(row["conversation_id"]): row["names"] for row in await fetch(TAGGED, only)},
        [str(row["id"]) for row in await fetch(QUEUE, only)],
    )


def differences(told: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Where the two are not the same, as sentences."""
    names = [name for name in {**told, **found} if told.get(name) != found.get(name)]
    return [f"{name} is {found.get(name)}, events show {told.get(name)}" for name in names]


def _facts(
    conversations: Iterable[conversation_pb2.Conversation],
    notes: Mapping[str, Any],
    assignments: Mapping[str, Any],
    participants: Mapping[str, bool],
    tags: Mapping[str, Iterable[str]],
    queue: list[str],
) -> Facts:
    found: Facts = {"queue": queue}
    for shown in conversations:
        found |= _fields(f"conversation {shown.id}", shown)
    for some, note in notes.items():
        found |= _fields(f"note {some}", note)
    for some, assignment in assignments.items():
        found |= _fields(f"assignment of {some}", assignment)
    found |= {f"participant {some}": joined for some, joined in participants.items()}
    return found | {f"tags of {some}": sorted(names) for some, names in tags.items()}


def _fields(name: str, message: Any) -> Facts:
    """A message's fields, without the state of the reply window, which changes by itself."""
    told = json_format.MessageToDict(message)
    told.get("replyWindow", {}).pop("state", None)
    return {name: True} | {f"{name} {key}": value for key, value in told.items()}


def _waits(shown: conversation_pb2.Conversation) -> bool:
    return shown.status in LIVE and not shown.HasField("assignee_id") and not shown.HasField("delete_time")


def _moment(shown: conversation_pb2.Conversation) -> tuple[int, int]:
    time = shown.waiting_since if shown.HasField("waiting_since") else shown.create_time
    return time.seconds, time.nanos
