"""The worker is killed again and again while it erases; another one goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.embedded.stack import Options, Stack
from server.simulator.payloads import InboundText, inbound_body
from tests.erasures.test_erasures_stack import Bird, applied, everything, holding, places

MESSAGES, POSTS = 100, 30


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("erasures")
    with Stack(Options(home=folder / "home")) as running:
        yield running


@pytest.mark.faults
async def test_an_erasure_outlives_its_workers(own: Stack) -> None:
    canary, control = Bird(own), Bird(own)
    cursor = canary.rest("GET", "/v1/inbox/events?pageSize=1")["nextCursor"]
    for bird in (canary, control):
        bird.contact = bird.answered(bird.writes())
        for number in range(POSTS):
            texts = [
                InboundText(text=bird.says(f"{number} {n}"), timestamp=int(time.time()), phone=bird.phone)
                for n in range(MESSAGES)
            ]
            bird.post(inbound_body(bird.number, texts))
    await applied(own)
    asked = canary.rest("POST", f"/v1/contacts/{canary.contact}/erase", {})["erasure"]["id"]
    seen, kills, began = set(), 0, time.monotonic()
    while time.monotonic() - began < 120:
        found = canary.rest("GET", f"/v1/erasures/{asked}")["erasure"]
        seen.add((found.get("step"), found["counts"]["messages"]))
        if found["state"] == "ERASURE_STATE_DONE":
            break
        if kills < 4 and len(seen) > kills + 1:
            own.kill("work")
            own.restart("work")
            kills += 1
    assert found["state"] == "ERASURE_STATE_DONE", found
    assert kills >= 3, seen
    # Each batch counts once, however often it was begun.
    assert found["counts"]["messages"] >= MESSAGES * POSTS
    whole = await everything(own, cursor)
    assert places(whole, canary.words) == {}
    assert places(whole, control.words) == dict.fromkeys(holding(control), control.words)
