from collections.abc import AsyncIterator

import pytest
from journal_inlet import Inlet

from tests.desk import Desk
from tests.installation import Installed


@pytest.fixture
async def inlet(desks: Installed, own_desk: Desk) -> AsyncIterator[Inlet]:
    """A tenant of the test's own with one WhatsApp number, and what applies its payloads."""
    opened = await Inlet.open(desks, own_desk)
    yield opened
    await opened.applier.drain()
