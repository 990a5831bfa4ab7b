"""Where a worker catches everything: what one tenant, timer or delivery does must not keep the others from going on.

Beside the interceptor that answers calls, the intake's loop over items and the parser's, no other place does.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def attempt(work: Awaitable[T]) -> T | Exception:
    """What work returns, or the error that it ends in, for the caller to log, to count and to judge."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001
        return error
