"""The simulator's time: the machine's, moved as the control API asks. Everything that waits, waits by it."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """A call that is planned; `cancel` takes it back."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Nothing will be called; harmless when it has been."""
        self._call = None

    def run(self) -> None:
        """Calls, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Clock:
    """Wall time, a time that never goes back, and calls planned by the latter. Moving it makes due calls at once."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._skipped = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def offset(self) -> float:
        """Seconds this clock is ahead of the machine's."""
        return self._offset

    def wall(self) -> float:
        """Unix seconds: of the windows, of tokens' ends, of the timestamps in webhooks."""
        return time.time() + self._offset

    def steady(self) -> float:
        """Seconds that never go back: of the limits, the receipts, the retries."""
        return time.monotonic() + self._skipped

    def move(self, offset: float) -> None:
        """Sets the clock to `offset` seconds before or after the machine's. What has become due is called soon, in order."""
        self._skipped += max(0.0, offset - self._offset)
        self._offset = offset
        self._arm()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Plans a call in so many seconds of this clock; must run in the loop that will call."""
        timer = Timer(call)
        heapq.heappush(self._due, (self.steady() + seconds, next(self._numbers), timer))
        if self._due[0][2] is timer:
            self._arm()
        return timer

    async def sleep(self, seconds: float) -> None:
        """Waits for so many seconds of this clock."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def close(self) -> None:
        """Forgets what is planned."""
        self._due.clear()
        self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._due:
            wait = max(0.0, self._due[0][0] - self.steady())
            self._alarm = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self.steady()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2].run()
        self._arm()
