"""How long webhooks are under way, as this process sees it."""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from prometheus_client import Histogram

LAG = Histogram(
    "switchboard_webhook_lag_seconds",
    "From a message's time at its provider to the arrival of its webhook.",
    ["provider"],
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400, 604_800),
)
TIMELY, SLOW = timedelta(seconds=30), timedelta(minutes=5)
# One that was tried again for hours says nothing of its siblings: the middle of a few counts, and none of long ago.
SAMPLES, SAMPLES_LEAST, SAMPLE_SECONDS = 5, 3, 600.0
WRITE_SECONDS = 60.0
CHANNELS_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What is worth storing. pace: as of the contract's ChannelWebhookPace; None where too few came to say."""

    time: datetime
    lag: timedelta
    pace: str | None


@dataclass(slots=True)
class _Channel:
    lags: deque[tuple[float, timedelta]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    pace: str | None = None
    written: float = float("-inf")


class Paces:
    """Of the channels that this process hears of."""

    def __init__(self) -> None:
        self._channels: dict[uuid.UUID, _Channel] = {}

    def note(self, channel_id: uuid.UUID, *, provider: str, sent: datetime, received: datetime) -> Heard | None:
        """Notes a message; what to store of its channel, None where that was stored within the last minute and nothing is different."""
        if len(self._channels) >= CHANNELS_MOST:
            self._channels.clear()
        channel, now = self._channels.setdefault(channel_id, _Channel()), time.monotonic()
        lag = max(received - sent, timedelta(0))
        LAG.labels(provider).observe(lag.total_seconds())
        channel.lags.append((now, lag))
        recent = [each for at, each in channel.lags if at > now - SAMPLE_SECONDS]
        pace = (
            pace_of(timedelta(seconds=median(each.total_seconds() for each in recent)))
            if len(recent) >= SAMPLES_LEAST
            else channel.pace
        )
        if pace == channel.pace and now - channel.written < WRITE_SECONDS:
            return None
        channel.pace, channel.written = pace, now
        return Heard(received, lag, pace)


def pace_of(lag: timedelta) -> str:
    """The word for a lag."""
    return "timely" if lag <= TIMELY else "slow" if lag <= SLOW else "late"
