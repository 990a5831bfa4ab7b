"""Meta's two sending limits. Times are seconds of a clock that never goes back."""

from collections import OrderedDict, deque
from dataclasses import dataclass

PAIRS_KEPT = 100_000


class Throughput:
    """At most `per_second` messages, in and out together, in any one second; `None` is no limit."""

    def __init__(self, per_second: int | None) -> None:
        self._recent: deque[float] | None = None if per_second is None else deque(maxlen=per_second)

    def full(self, now: float) -> bool:
        """Whether a message at `now` would be one too many."""
        recent = self._recent
        return recent is not None and len(recent) == recent.maxlen and now - recent[0] < 1.0

    def spend(self, now: float) -> None:
        """Counts a message."""
        if self._recent is not None:
            self._recent.append(now)


@dataclass(slots=True)
class _Burst:
    start: float
    count: int
    free_at: float


class PairRate:
    """One message per `seconds` to one customer, or a burst that must be waited off before the next message.

    Meta: a burst of 20 within 6 seconds keeps that customer closed until 20 x 6 seconds after it began.
    """

    def __init__(self, *, seconds: float | None, burst: int) -> None:
        self._seconds = seconds
        self._burst = burst
        self._pairs: OrderedDict[str, _Burst] = OrderedDict()

    def full(self, peer: str, now: float) -> bool:
        """Whether a message to `peer` at `now` would be one too many."""
        pair = self._pairs.get(peer)
        if self._seconds is None or pair is None or now >= pair.free_at:
            return False
        return pair.count >= self._burst or now >= pair.start + self._seconds

    def spend(self, peer: str, now: float) -> None:
        """Counts a message to `peer`."""
        if self._seconds is None:
            return
        pair = self._pairs.get(peer)
        if pair is None or now >= pair.free_at:
            self._pairs[peer] = _Burst(start=now, count=1, free_at=now + self._seconds)
        else:
            pair.count += 1
            pair.free_at += self._seconds
        self._pairs.move_to_end(peer)
        if len(self._pairs) > PAIRS_KEPT:
            self._pairs.popitem(last=False)
