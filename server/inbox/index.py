"""Which streams an event may concern, so that the others need not look at it.

A stream stands under the keys of which every event that it shows has one: the narrowest of what its rights, its filter and its
event types say. A key that is too wide costs time; whether an event is shown is decided by the stream's matcher alone.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterator

from server.inbox.ring import START
from server.inbox.wire import Outgoing


class By(enum.IntEnum):
    """What a key names; the number says how many events share one, roughly."""

    PRINCIPAL = 0
    ASSIGNEE = 1
    TEAM = 10
    CHANNEL = 11
    KIND = 50


Key = tuple[By, uuid.UUID | int | None]
# None: nothing narrower than "every event".
Keys = frozenset[Key] | None


class Reader:
    """A stream as its tail sees it.

    due: whether something that may concern it came since it was last done. clean: with due, the place up to which nothing does.
    A new reader is due from the first event on.
    """

    __slots__ = ("clean", "due", "keys", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.keys: frozenset[Key] = frozenset()
        self.due = True
        self.clean = START


class Index:
    """The readers of one tail by their keys."""

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self._everything: set[Reader] = set()
        self._by_key: dict[Key, set[Reader]] = {}

    def put(self, reader: Reader, keys: Keys, principal_id: uuid.UUID | None) -> None:
        """Adds a reader, or gives one that is there other keys: it must look at everything from where it stands.

        principal_id: whose rights it has; a change of them concerns it whatever its keys are.
        """
        self.remove(reader)
        self.readers.add(reader)
        reader.due, reader.clean = True, START
        if keys is None:
            self._everything.add(reader)
        reader.keys = frozenset(keys or ()) | {(By.PRINCIPAL, principal_id)}
        for key in reader.keys:
            self._by_key.setdefault(key, set()).add(reader)

    def remove(self, reader: Reader) -> None:
        """The end of put."""
        self.readers.discard(reader)
        self._everything.discard(reader)
        for key in reader.keys:
            held = self._by_key.get(key)
            if held is not None:
                held.discard(reader)
                if not held:
                    del self._by_key[key]

    def concerned(self, outgoing: Outgoing) -> Iterator[Reader]:
        """Readers that the event may concern; some of them twice."""
        if not outgoing.is_control:
            yield from self._everything
        for key in keys_of(outgoing):
            yield from self._by_key.get(key, ())


def keys_of(outgoing: Outgoing) -> list[Key]:
    """The keys that an event has."""
    event = outgoing.event
    if outgoing.is_control:
        return [(By.PRINCIPAL, outgoing.subject)]
    found: list[Key] = [(By.KIND, event.kind), (By.CHANNEL, event.channel_id)]
    if event.conversation_id is not None:
        found += [(By.TEAM, event.team_after), (By.ASSIGNEE, event.assignee_after)]
        if event.team_before != event.team_after:
            found.append((By.TEAM, event.team_before))
        if event.assignee_before != event.assignee_after:
            found.append((By.ASSIGNEE, event.assignee_before))
    return found


def narrower(first: Keys, second: Keys) -> Keys:
    """Of two conditions that both must hold, the one that fewer events meet."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second, key=lambda keys: sum(by for by, _ in keys))


def either(all_keys: list[Keys]) -> Keys:
    """Of conditions of which one must hold."""
    joined: set[Key] = set()
    for keys in all_keys:
        if keys is None:
            return None
        joined |= keys
    return frozenset(joined)
