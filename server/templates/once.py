"""A call that asks the provider for something is carried out once for all who repeat it, also while it is under way."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

from google.protobuf.message import Message

from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.requests import service as requests
from server.rpc.call import Call
from server.templates.row import TemplateRow

LOOK_SECONDS = 0.1
# Longer than any call takes: whoever began it is gone.
LOST = timedelta(seconds=90)


async def once(
    call: Call,
    request: Message,
    *,
    known: Callable[[uuid.UUID], Awaitable[TemplateRow | None]],
    work: Callable[[], Awaitable[TemplateRow]],
) -> TemplateRow:
    """What an earlier call with this request id wrote, which is waited for; else what `work` writes, which settles the id.

    known: the template of an id. A call that fails does not use up its id. RequestIdReused.
    """
    mine = new_id()

    async def claim(write: Write) -> uuid.UUID | None:
        return await requests.claim(write, call, request, resource_id=mine)

    while (earlier := await call.database.write(claim)) is not None:
        if (row := await known(earlier)) is not None:
            return row
        async with call.database.connection() as connection:
            since = await requests.claimed_time(connection, call, request)
        if since is not None and since < utc_now() - LOST:
            break
        await asyncio.sleep(LOOK_SECONDS)
    done = False
    try:
        row = await work()
        done = True
        return row
    finally:
        if not done:
            await call.database.write(lambda write: requests.drop(write, call, request, resource_id=mine))
