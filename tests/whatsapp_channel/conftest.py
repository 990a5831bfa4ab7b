"""Numbers of an account nobody else's tests know."""

from __future__ import annotations

import pytest

from server.embedded.stack import Stack
from tests.whatsapp_channel.number import Numbers


@pytest.fixture
def numbers(stack: Stack) -> Numbers:
    return Numbers(stack)
