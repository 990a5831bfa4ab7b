"""The process's clock. Due times are compared with the tenant database's now(); this one stamps what we create."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present time, timezone-aware, UTC."""
    return datetime.now(UTC)
