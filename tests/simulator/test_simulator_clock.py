"""The simulator's time, moved: timestamps, windows, limits, tokens and what is planned go by it."""

import asyncio
import time
from datetime import datetime

import pytest
from simulator_bench import Meta, Start, text

from server.simulator.clock import Clock

DAY = 86_400


async def test_the_clock_is_shown_and_moved(meta: Meta) -> None:
    _, shown = await meta.control("GET", "clock")
    _, ahead = await meta.control("POST", "clock", {"offset": 3600})
    _, further = await meta.control("POST", "clock", {"advance": 60.5})
    _, back = await meta.control("POST", "clock", {"offset": -DAY})

    assert [each["offset"] for each in (shown, ahead, further, back)] == [0, 3600, 3660.5, -DAY]
    assert abs(datetime.fromisoformat(back["time"]).timestamp() - (time.time() - DAY)) < 5


@pytest.mark.parametrize(
    "body", [None, {}, {"offset": 1, "advance": 1}, {"advance": -1}, {"offset": "soon"}, {"offset": 1e12}, {"to": 1}]
)
async def test_a_move_that_makes_no_sense_is_refused(body: object, meta: Meta) -> None:
    assert (await meta.control("POST", "clock", body))[0] == 400
    assert (await meta.control("GET", "clock"))[1]["offset"] == 0


async def test_timestamps_go_by_the_clock(start: Start) -> None:
    meta = await start(receipts={"sent_ms": 0, "delivered_ms": None})
    await meta.control("POST", "clock", {"offset": -DAY})

    await meta.inbound()
    await meta.post(text())
    await meta.receiver.wait(2)

    times = [meta.receiver.seen[0].value["messages"][0]["timestamp"], meta.receiver.statuses()[0]["timestamp"]]
    assert [abs(int(given) - (time.time() - DAY)) < 5 for given in times] == [True, True]


async def test_the_window_closes_when_the_clock_has_moved_a_day(start: Start) -> None:
    meta = await start(account_fields={"window": "sync"})
    await meta.inbound()

    answers = []
    for hours in (0, 23, 1.1):
        await meta.control("POST", "clock", {"advance": hours * 3600})
        answers.append((await meta.post(text()))[0])

    assert answers == [200, 200, 400]


async def test_the_pair_limit_is_waited_off_by_the_clock(start: Start) -> None:
    meta = await start(account_fields={"limits": {"pair_burst": 1}})
    await meta.inbound()

    first = await meta.post(text())
    second = await meta.post(text())
    await meta.control("POST", "clock", {"advance": 6.1})
    third = await meta.post(text())

    assert [first[0], second[0], third[0]] == [200, 400, 200]
    assert second[1]["error"]["code"] == 131056


async def test_a_token_ends_by_the_clock(start: Start) -> None:
    meta = await start(account_fields={"token_until": time.time() + 60 * DAY})

    before = await meta.post(text())
    await meta.control("POST", "clock", {"advance": 61 * DAY})
    after = await meta.post(text())

    assert (before[0], after[0]) == (200, 401)
    assert (after[1]["error"]["code"], after[1]["error"]["error_subcode"]) == (190, 463)


async def test_planned_calls_come_in_order_at_once_when_the_clock_moves_past_them() -> None:
    clock = Clock()
    called: list[str] = []
    clock.call_later(20, lambda: called.append("second"))
    clock.call_later(10, lambda: called.append("first"))
    clock.call_later(15, lambda: called.append("never")).cancel()
    clock.call_later(40, lambda: called.append("later"))

    clock.move(30)
    await asyncio.sleep(0.01)
    clock.move(-1000)
    await asyncio.sleep(0.01)
    once = list(called)
    clock.move(-989)
    await asyncio.sleep(0.01)
    clock.close()

    assert once == ["first", "second"]
    assert called == ["first", "second", "later"]


async def test_sleep_ends_early_when_the_clock_moves() -> None:
    clock = Clock()
    sleeping = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(0)

    clock.move(3600)
    async with asyncio.timeout(30):
        await sleeping
