"""Durations as a sketch that merges by addition: DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019), one bin a row of the database.

A bin holds the durations between two powers of GAMMA, and stands for a value that is at most ACCURACY away from each of them. Two
sketches merge by adding their bins, which is what GROUP BY does: no blob is read, changed and written back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

ACCURACY = 0.01
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
# Below it all durations are alike: the clock of messages has no more to say.
SMALLEST_SECONDS = 0.001


def bin_of(seconds: float) -> int:
    """The bin of a duration."""
    return math.ceil(math.log(max(seconds, SMALLEST_SECONDS)) / math.log(GAMMA))


def value_of(number: int) -> float:
    """The duration that a bin stands for, in seconds."""
    return 2 * GAMMA**number / (GAMMA + 1)


def quantile(bins: Mapping[int, int], part: float) -> float:
    """The duration that this part of all are not longer than, in seconds, as SQL's percentile_disc has it. bins: how many in each."""
    wanted, found = part * sum(bins.values()), 0
    for number in sorted(bins):
        found += bins[number]
        if found >= wanted:
            return value_of(number)
    raise ValueError("a sketch without durations has no quantiles")
