from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from intake_post import Post

from server.embedded.stack import Stack


@pytest.fixture
async def post(stack: Stack, dev: dict[str, Any]) -> AsyncIterator[Post]:
    """Meta's side of the stack's one public port."""
    async with aiohttp.ClientSession() as session, Post.open(session, dev) as opened:
        yield opened
