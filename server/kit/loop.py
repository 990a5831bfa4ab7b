"""How late the event loop is: whatever holds it holds every call, stream and lease of the process."""

from __future__ import annotations

import asyncio
import time

import structlog
from prometheus_client import Histogram

EVERY_SECONDS = 0.05
LATE_SECONDS = 0.02
TOLD_SECONDS = 1.0
LAG = Histogram(
    "switchboard_loop_lag_seconds",
    "How much later than asked for the event loop woke a task that does nothing, twenty times a second.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
log = structlog.get_logger(__name__)


async def watch_loop() -> None:
    """Measures, and tells of the worst in each second that was 20 ms late or more. Runs until cancelled."""
    worst, told = 0.0, 0.0
    while True:
        began = time.perf_counter()
        await asyncio.sleep(EVERY_SECONDS)
        now = time.perf_counter()
        late = max(0.0, now - began - EVERY_SECONDS)
        LAG.observe(late)
        worst = max(worst, late)
        if worst >= LATE_SECONDS and now - told >= TOLD_SECONDS:
            log.warning("loop.late", milliseconds=round(worst * 1000))
            worst, told = 0.0, now
        elif worst < LATE_SECONDS:
            worst = 0.0
