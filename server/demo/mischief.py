"""What `--faults` adds: a provider on its worst day, and processes that are killed while everybody works."""

import asyncio
import random

from server.demo.cast import Phones
from server.demo.stage import Stage
from server.demo.world import Ledger

PROVIDER_FAULTS: tuple[dict[str, object], ...] = (
    {"kind": "delay", "delayMs": 50, "jitterMs": 400, "probability": 0.3},
    {"kind": "error", "code": 131016, "probability": 0.06},
    {"kind": "error", "status": 503, "body": "html", "probability": 0.03},
    {"kind": "timeout_after_accept", "then": "close", "afterMs": 200, "probability": 0.05},
    {"kind": "reset", "when": "after_accept", "probability": 0.02},
    {"kind": "receipts_first", "statuses": ["sent"], "probability": 0.2},
    {"kind": "duplicate", "times": 2, "withinMs": 3000, "probability": 0.2},
    {"kind": "reorder", "windowMs": 400, "probability": 0.15, "of": "statuses"},
)
LATE_RETRY: dict[str, object] = {"kind": "late_retry", "afterSeconds": 3600, "of": "messages"}
"""Of what was written hours ago: the clock's jump brings each webhook once more."""
VICTIMS = ("serve", "work", "envoy", "valkey", "postgres")
KILL_EVERY = (4.0, 8.0)
FIRST_KILL_AFTER = 2.0


async def arm(phones: Phones, *, seed: int) -> None:
    """Spoils the provider from now on, repeatably."""
    faults = [{**fault, "seed": seed + place} for place, fault in enumerate(PROVIDER_FAULTS)]
    await phones.call("POST", "faults", {"faults": faults})


async def arm_late(phones: Phones, *, messages: int) -> None:
    """Lets the next so many messages of customers come a second time, by the simulator's clock."""
    await phones.call("POST", "faults", {**LATE_RETRY, "count": messages})


async def fired(phones: Phones) -> dict[str, int]:
    """How often each kind of fault hit something."""
    counts: dict[str, int] = (await phones.call("GET", "faults"))["fired"]
    return {kind: count for kind, count in counts.items() if count}


async def kill(stage: Stage, ledger: Ledger, *, seed: int) -> None:
    """Kills one process after the other, until cancelled; the simulator lives, since Meta does not die with us."""
    rng = random.Random(seed)
    await asyncio.sleep(FIRST_KILL_AFTER)
    while True:
        kind = rng.choice(VICTIMS)
        name = rng.choice([name for name in stage.processes() if name.partition("-")[0] == kind])
        stage.kill(name)
        ledger.kills[name] += 1
        await asyncio.sleep(rng.uniform(*KILL_EVERY))
