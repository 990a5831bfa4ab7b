"""An installation for tests of whole workers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from tests.installation import Installed, installed_on


@pytest.fixture
async def alone(desks: Installed) -> AsyncIterator[Installed]:
    """An installation of the test's own: a worker works for every tenant that other tests left with something to do."""
    async with installed_on(desks.server_dsn, f"control_{uuid.uuid4().hex[-8:]}") as made:
        yield made
