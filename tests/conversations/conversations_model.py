"""What the rules say of conversations, in plain Python: one thread is a list of messages and a few words.

It knows neither tables nor events. What only the product can say (ids, and when it stored a message) it is told.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEGAL = {
    "new": ("open", "pending", "snoozed", "resolved"),
    "open": ("pending", "snoozed", "resolved"),
    "pending": ("open", "snoozed", "resolved"),
    "snoozed": ("open", "pending", "snoozed", "resolved"),
    "resolved": ("open", "archived"),
    "archived": ("open",),
}
LIVE, ACTIVE = ("new", "open", "pending", "snoozed"), ("new", "open", "pending")
REOPEN, WINDOW, RETENTION = timedelta(hours=72), timedelta(hours=24, seconds=-60), timedelta(hours=74)
AUTO_RESOLVE = timedelta(hours=2)


class Refused(Exception):
    """The rules do not have it; the name of the refusal."""


@dataclass(frozen=True)
class Said:
    """A message: when it was written, as milliseconds and a number among those of the same one."""

    id: uuid.UUID
    place: tuple[int, int]
    text: str
    inbound: bool


@dataclass
class Thread:
    """A conversation. messages: in the order they arrived. read: of the team, as a number of the customer's messages.

    positions: of each agent, up to which message, and how many of the customer's those are. touched: when it last changed.
    """

    id: uuid.UUID
    channel: int
    customer: int
    touched: datetime
    previous: uuid.UUID | None = None
    status: str = "new"
    version: int = 1
    messages: list[Said] = field(default_factory=list)
    read: int = 0
    positions: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict)
    waiting_since: datetime | None = None
    snooze_until: datetime | None = None
    resolved: datetime | None = None
    deleted: datetime | None = None
    window: datetime | None = None
    priority: int = 1
    tags: set[str] = field(default_factory=set)
    holder: uuid.UUID | None = None
    joined: dict[uuid.UUID, bool] = field(default_factory=dict)
    gone: bool = False

    @property
    def live(self) -> bool:
        return self.status in LIVE and self.deleted is None and not self.gone

    @property
    def inbound(self) -> int:
        return sum(said.inbound for said in self.messages)

    @property
    def newest(self) -> Said:
        return max(self.messages, key=lambda said: said.place)

    def unread(self, agent_id: uuid.UUID | None = None) -> int:
        read = self.read if agent_id is None else self.positions.get(agent_id, (0, self.read))[1]
        return self.inbound - read

    def change(self, now: datetime) -> None:
        self.version += 1
        self.touched = now

    def go(self, status: str, now: datetime, until: datetime | None = None) -> None:
        self.status, self.snooze_until = status, until
        if status == "resolved":
            self.resolved, self.waiting_since = now, None


@dataclass
class Model:
    """Everything that customers and agents did. Channel 1 begins anew each time, and resolves what nobody touches."""

    threads: list[Thread] = field(default_factory=list)

    def live_of(self, thread: Thread) -> Thread | None:
        same = [item for item in self.threads if (item.channel, item.customer) == (thread.channel, thread.customer)]
        return next((item for item in same if item.live), None)

    def _seen(self, thread: Thread) -> None:
        if thread.gone or thread.deleted is not None:
            raise Refused("NotFound")

    def _writable(self, thread: Thread) -> None:
        self._seen(thread)
        if thread.status == "archived":
            raise Refused("ConversationArchived")

    def _alone(self, thread: Thread) -> None:
        if self.live_of(thread) not in (None, thread):
            raise Refused("ConversationSuperseded")

    def home(self, channel: int, customer: int, now: datetime) -> tuple[Thread | None, Thread | None]:
        """The thread that takes a customer's message; else None, and the one that a new thread continues."""
        mine = [item for item in self.threads if (item.channel, item.customer) == (channel, customer) and not item.gone]
        if not mine:
            return None, None
        best = next((item for item in mine if item.live), mine[-1])
        reopens = (
            *(best.status == "resolved", best.deleted is None, channel == 0),
            best.resolved is not None and now - best.resolved <= REOPEN,
        )
        return (best, None) if best.live or all(reopens) else (None, best)

    def customer_writes(
        self, *, channel: int, customer: int, now: datetime, at: datetime, found: uuid.UUID, said: tuple[uuid.UUID, str]
    ) -> None:
        thread, previous = self.home(channel, customer, now)
        if thread is None:
            thread = Thread(found, channel, customer, now, previous=previous.id if previous else None)
            self.threads.append(thread)
        assert thread.id == found, "the message is in another conversation"
        base = _milliseconds(at)
        number = sum(item.place[0] == base for item in thread.messages)
        thread.messages.append(Said(said[0], (base, number), said[1], inbound=True))
        thread.waiting_since = thread.waiting_since or now
        if thread.status in ("pending", "snoozed", "resolved"):
            thread.go("open", now)
        thread.window = max(at + WINDOW, thread.window or at + WINDOW)
        thread.change(now)

    def sends(
        self, thread: Thread, *, now: datetime, said: tuple[uuid.UUID, str], by: uuid.UUID | None, reply: bool
    ) -> None:
        """by: the agent, None for a service; reply: not of a campaign."""
        self._writable(thread)
        if reply and thread.status == "resolved":
            self._alone(thread)
        if thread.window is None or now >= thread.window:
            raise Refused("ReplyWindowClosed")
        newest = thread.newest.place
        place = max((_milliseconds(now), 0), (newest[0], newest[1] + 1))
        thread.messages.append(Said(said[0], place, said[1], inbound=False))
        if reply:
            thread.waiting_since, thread.read = None, thread.inbound
            if thread.status in ("new", "resolved"):
                thread.go("open", now)
            if by is not None:
                thread.positions[by] = (len(thread.messages), thread.inbound)
        thread.change(now)

    def sets(self, thread: Thread, status: str, *, now: datetime, until: datetime | None) -> None:
        self._seen(thread)
        if status == thread.status != "snoozed":
            return
        if status not in LEGAL[thread.status]:
            raise Refused("IllegalStatusMove")
        if status in LIVE and not thread.live:
            self._alone(thread)
        thread.go(status, now, until if status == "snoozed" else None)
        thread.change(now)

    def reads(self, thread: Thread, *, now: datetime, by: uuid.UUID | None, arrival: int | None) -> None:
        """arrival: the number of the message, from 1; None for all."""
        self._seen(thread)
        upto = len(thread.messages) if arrival is None else arrival
        read = sum(said.inbound for said in thread.messages[:upto])
        moved = by is not None and (by not in thread.positions or thread.positions[by][0] < upto)
        if read <= thread.read and not moved:
            return
        thread.read = max(thread.read, read)
        if by is not None and moved:
            thread.positions[by] = (upto, read)
        thread.change(now)

    def notes(self, thread: Thread, *, now: datetime) -> None:
        self._writable(thread)
        thread.change(now)

    def prioritises(self, thread: Thread, priority: int, *, now: datetime) -> None:
        self._writable(thread)
        if priority != thread.priority:
            thread.priority = priority
            thread.change(now)

    def tags_become(self, thread: Thread, names: set[str], *, now: datetime) -> None:
        self._writable(thread)
        if names != thread.tags:
            thread.tags = names
            thread.change(now)

    def gives(self, thread: Thread, holder: uuid.UUID | None, *, now: datetime) -> None:
        self._writable(thread)
        if holder != thread.holder:
            thread.holder = holder
            thread.change(now)

    def joins(self, thread: Thread, agent_id: uuid.UUID, *, now: datetime) -> None:
        """By being added; who has to do with it takes part anyway."""
        self._writable(thread)
        if not thread.joined.get(agent_id):
            thread.joined[agent_id] = True
            thread.change(now)

    def deletes(self, thread: Thread, *, now: datetime) -> None:
        if thread.gone:
            raise Refused("NotFound")
        if thread.deleted is None:
            if thread.status == "snoozed":
                thread.go("open", now)
            thread.deleted = now
            thread.change(now)

    def restores(self, thread: Thread, *, now: datetime) -> None:
        if thread.gone:
            raise Refused("NotFound")
        if thread.deleted is not None:
            if thread.status in LIVE:
                self._alone(thread)
            thread.deleted = None
            thread.change(now)

    def time_passes(self, now: datetime) -> None:
        """What is due by now happened."""
        self._purge(now)
        for thread in self.threads:
            if thread.deleted is not None:
                continue
            if thread.snooze_until is not None and thread.snooze_until <= now:
                thread.go("open", now)
                thread.change(now)
            elif thread.channel == 1 and thread.status in ACTIVE and thread.touched + AUTO_RESOLVE <= now:
                thread.go("resolved", now)
                thread.change(now)

    def _purge(self, now: datetime) -> None:
        """What continued a thread that is gone continues nothing."""
        for thread in self.threads:
            thread.gone = thread.gone or (thread.deleted is not None and thread.deleted + RETENTION <= now)
        gone = {thread.id for thread in self.threads if thread.gone}
        for thread in self.threads:
            if not thread.gone and thread.previous in gone:
                # Nobody's activity: it does not put off what ends for want of that.
                thread.previous, thread.version = None, thread.version + 1


def _milliseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(milliseconds=1)
