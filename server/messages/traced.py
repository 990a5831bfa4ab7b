"""The traces of what the batch writer writes: each item's goes on, although many of them share one transaction."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import time_ns

from server.kit import tracing
from server.kit.db import Database
from server.messages.items import Item, Send
from server.traces import service as traces


@asynccontextmanager
async def traced(database: Database, items: Sequence[Item]) -> AsyncIterator[None]:
    """Around a batch: a span for each item in its own trace, linked, where a send names it, to the message that it answers."""
    if not tracing.on():
        yield
        return
    # Before the commit: a worker may take a send at once.
    await traces.store(database, {_key(item): item.traceparent for item in items})
    seen = await traces.find(database, (item.last_seen_message_id for item in items if isinstance(item, Send)))
    began = time_ns()
    yield
    for item in items:
        if item.traceparent is not None:
            answered = (
                seen.get(item.last_seen_message_id) if isinstance(item, Send) and item.last_seen_message_id else None
            )
            links = [] if answered is None else [answered]
            tracing.record("batch.commit", parent=item.traceparent, began=began, links=links, items=len(items))


def _key(item: Item) -> uuid.UUID:
    """A send is asked for by its part when it is delivered, a customer's message by its id when it is answered."""
    return item.part_id if isinstance(item, Send) else item.message_id
