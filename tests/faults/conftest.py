"""A stack of its own: these tests kill what others would miss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults_stack import Faults

from server.embedded.stack import Options, Stack


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with Stack(Options(home=tmp_path_factory.mktemp("faults") / "home", receipts=None)) as stack:
        yield Faults(stack)
