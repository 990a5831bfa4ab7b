"""The process's clock. Due times are compared with the database's clock_now(); this one stamps what we create."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The machine's clock, which a test may move: then by as much as clock_now() of the databases."""

    def __init__(self) -> None:
        self._moved = timedelta(0)

    def now(self) -> datetime:
        """The present time, timezone-aware, UTC."""
        return datetime.now(UTC) + self._moved

    def move(self, by: timedelta) -> None:
        """Goes by so much before the machine's clock from now on. Only where SWITCHBOARD_ENV is "test"."""
        self._moved = by


CLOCK = Clock()


def utc_now() -> datetime:
    """The present time, timezone-aware, UTC."""
    return CLOCK.now()
