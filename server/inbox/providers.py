"""Which provider a channel belongs to: the one thing a stream's filter asks that the routing columns do not say."""

from __future__ import annotations

import uuid

from server.conversations.convert import PROVIDER
from server.kit.db import Connection

_CHANNELS = "SELECT id, provider FROM channels"


async def load_providers(connection: Connection, into: dict[uuid.UUID, int]) -> None:
    """Adds every channel of the tenant. A channel never changes its provider."""
    for row in await connection.fetch(_CHANNELS):
        into[row["id"]] = PROVIDER.number(row["provider"])
