"""A stack that traces, and what collects its traces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from collector import Collector, collecting

from server.embedded.stack import Options, Stack


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="session")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    home = tmp_path_factory.mktemp("traced") / "home"
    with Stack(Options(home=home, processes=1, environment=environment)) as stack:
        yield stack
