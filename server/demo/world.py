"""What the demo knows of the inbox: only what came over the public stream, and what cast and agents did themselves."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import betterproto2
from switchboard_client.switchboard.v1 import (
    ActorKind,
    Conversation,
    ConversationStatus,
    InboxEvent,
    Message,
    MessageDirection,
    MessageStatus,
)
from switchboard_sdk import WatchState

RATE_OVER = 5.0
"""Seconds that throughput is averaged over."""
SETTLED = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.FAILED)


@dataclass
class Row:
    """A line of the conversations' table. `sent` is the state of our newest message in it."""

    id: str
    name: str = ""
    status: ConversationStatus = ConversationStatus.UNSPECIFIED
    assignee_id: str = ""
    unread: int = 0
    waiting_since: datetime | None = None
    preview: str = ""
    ours: bool = False
    last_message_id: str = ""
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the ticker."""

    seq: int
    time: datetime
    what: str
    who: str
    about: str


@dataclass
class Ledger:
    """What was done, by those who did it: to be held against what the API and the simulator say."""

    written: dict[str, str] = field(default_factory=dict)
    """Messages of customers: id at the provider, and whose."""
    sent: dict[str, str] = field(default_factory=dict)
    """Replies the API acknowledged: message id, and conversation."""
    refused: Counter[str] = field(default_factory=Counter)
    """Replies the API refused, by reason."""
    repeated: int = 0
    """Calls made again with the same request id."""
    accepted: dict[str, list[str]] = field(default_factory=dict)
    """Messages the provider accepted: what we called them, and the provider's ids, in the order of acceptance."""
    order: dict[str, list[str]] = field(default_factory=dict)
    """By customer's address: the provider's ids of what was accepted for it, in that order."""
    shown: dict[str, bool] = field(default_factory=dict)
    """Episodes that were played, and whether each came out as it should."""
    kills: Counter[str] = field(default_factory=Counter)
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    """Lines of the supervisor."""


class World:
    """The inbox as the stream tells it."""

    def __init__(self, names: dict[str, str]) -> None:
        """names: of the agents, by id."""
        self.names = names
        self.ledger = Ledger()
        self.rows: dict[str, Row] = {}
        self.ticker: deque[Tick] = deque(maxlen=200)
        self.latencies: deque[float] = deque(maxlen=1000)
        self.statuses: dict[str, MessageStatus] = {}
        self.streamed: Counter[str] = Counter()
        self.received: dict[str, Message] = {}
        self.messages: dict[str, Message] = {}
        self.events: list[tuple[int, str]] = []
        self.state = WatchState.OFFLINE
        self.connections = 0
        self.began = time.monotonic()
        self._recent: deque[float] = deque(maxlen=10_000)

    def enter(self, state: WatchState) -> None:
        """The watch changed its state."""
        self.connections += state is WatchState.LIVE
        self.state = state

    def take(self, event: InboxEvent) -> Tick:
        """One event of the stream."""
        now = datetime.now(UTC)
        self.events.append((event.seq, event.id))
        self._recent.append(time.monotonic())
        if self.state is WatchState.LIVE and event.create_time:
            self.latencies.append((now - event.create_time).total_seconds())
        kind, body = betterproto2.which_one_of(event, "body")
        conversation: Conversation | None = getattr(body, "conversation", None)
        message: Message | None = getattr(body, "message", None)
        if conversation is not None:
            self._show(conversation)
        if message is not None:
            self._note(message, new=event.message_updated is None)
        if (update := event.message_status_updated) is not None:
            self._advance(update.message_id, update.status)
        tick = Tick(event.seq, now.astimezone(), kind.replace("_", " "), self._who(event), self._about(body, message))
        self.ticker.append(tick)
        return tick

    def rate(self) -> float:
        """Events a second, lately."""
        since = time.monotonic() - RATE_OVER
        recent = sum(1 for moment in reversed(self._recent) if moment >= since)
        return recent / min(RATE_OVER, max(0.5, time.monotonic() - self.began))

    def latency(self, share: float) -> float | None:
        """Seconds from commit to here that this share of the latest events stayed within."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def deliveries(self) -> Counter[MessageStatus]:
        """Our messages by state."""
        return Counter(self.statuses.values())

    def missing(self) -> int:
        """Messages customers have written and the stream has not shown yet."""
        return sum(1 for wamid in self.ledger.written if wamid not in self.streamed)

    def unsettled(self, *, settled: Collection[MessageStatus] = SETTLED) -> int:
        """Replies of which we do not know yet what became of them."""
        return sum(1 for message in self.ledger.sent if self.statuses.get(message) not in settled)

    def _show(self, conversation: Conversation) -> None:
        row = self.rows.setdefault(conversation.id, Row(conversation.id))
        row.name = conversation.contact.name if conversation.contact else row.name
        row.status = conversation.status
        row.assignee_id = conversation.assignee_id or ""
        row.unread = conversation.unread_count
        row.waiting_since = conversation.waiting_since
        row.preview = conversation.last_message_preview
        row.last_message_id = conversation.last_message_id or ""
        row.changed_at = time.monotonic()

    def _note(self, message: Message, *, new: bool) -> None:
        self.messages[message.id] = message
        if message.direction is MessageDirection.INBOUND:
            self.streamed[message.external_id or ""] += new
            self.received[message.external_id or ""] = message
        else:
            self._advance(message.id, message.status)
        self.rows[message.conversation_id].ours = message.direction is MessageDirection.OUTBOUND

    def _advance(self, message_id: str, status: MessageStatus) -> None:
        self.statuses[message_id] = status

    def _who(self, event: InboxEvent) -> str:
        row = self.rows.get(event.conversation_id or "")
        actor = event.actor
        if actor is not None and actor.kind is ActorKind.AGENT:
            return self.names.get(actor.id or "", "an agent")
        return row.name if row is not None else ""

    def _about(self, body: Any, message: Message | None) -> str:
        if message is not None:
            return " ".join(message.text.body.split()) if message.text else f"({_word(message.type)})"
        if isinstance(getattr(body, "from_", None), ConversationStatus):
            return f"{_word(body.from_)} → {_word(body.to)}"
        if isinstance(getattr(body, "status", None), MessageStatus):
            return _word(body.status)
        assignment = getattr(body, "assignment", None)
        if assignment is not None:
            return f"to {self.names.get(assignment.agent_id or '', 'somebody')}"
        named = getattr(body, "contact", None) or getattr(body, "channel", None)
        return str(named.name) if named else ", ".join(getattr(body, "changed_fields", []))


def _word(value: betterproto2.Enum) -> str:
    return (value.name or "").lower().replace("_", " ")


def first_disorder(numbers: Iterable[int]) -> int:
    """How many of these are not exactly one more than the one before."""
    return sum(1 for before, after in itertools.pairwise(numbers) if after != before + 1)
