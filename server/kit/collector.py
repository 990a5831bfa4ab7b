"""The garbage collector of a process that serves for long: kept away from what never goes."""

from __future__ import annotations

import gc

# Every call leaves some hundreds of objects that reference counting frees by itself. At Python's own 700 the collector ran
# several times per send and, in the end, took half of the process's CPU time (docs/performance.md).
YOUNG, MIDDLE, OLD = 20_000, 20, 20


def settle() -> None:
    """Call it once everything is imported and made: what is there now is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
