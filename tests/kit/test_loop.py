"""The event loop's lag is measured, and told when it is long."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from server.kit.loop import LAG, LATE_SECONDS, watch_loop


def measured() -> tuple[float, float]:
    """How many looks so far, and the seconds they were late together."""
    samples = {sample.name: sample.value for sample in next(iter(LAG.collect())).samples if "le" not in sample.labels}
    return samples["switchboard_loop_lag_seconds_count"], samples["switchboard_loop_lag_seconds_sum"]


async def test_what_holds_the_loop_is_seen_and_told() -> None:
    count, late = measured()
    with structlog.testing.capture_logs() as logs:
        watching = asyncio.create_task(watch_loop())
        await asyncio.sleep(0.06)
        time.sleep(0.3)
        await asyncio.sleep(0.06)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    after, later = measured()
    assert after > count
    assert later - late > 0.2
    assert [line["event"] for line in logs][:1] == ["loop.late"]
    assert logs[0]["milliseconds"] >= LATE_SECONDS * 1000
