"""The table of docs/metrics.md, made from the metrics themselves: python -m tests.docs.metrics_page writes it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

import server
from server.inbox.metrics import InboxMetrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
HEADING = "## All of them\n"
PREFIX = "switchboard_"


def modules() -> Iterator[str]:
    """Every module that serve and work are made of."""
    for found in pkgutil.walk_packages(server.__path__, "server."):
        if not re.search(r"\.(migrations|simulator|embedded|doctor|__main__)", found.name):
            yield found.name


def metrics() -> list[Any]:
    """Every metric that a process of ours may show, by name."""
    for name in modules():
        importlib.import_module(name)
    own = CollectorRegistry()
    InboxMetrics(own)
    found = {
        collector._name: collector
        for registry in (REGISTRY, own)
        for collector in set(registry._collector_to_names)
        if getattr(collector, "_name", "").startswith(PREFIX)
    }
    return [found[name] for name in sorted(found)]


def table() -> str:
    """One row a metric: name as the page shows it, kind, labels, meaning."""
    rows = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in metrics():
        name = metric._name + ("_total" if metric._type == "counter" else "")
        labels = ", ".join(metric._labelnames)
        rows.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    before = PAGE.read_text().partition(HEADING)[0]
    PAGE.write_text(f"{before}{HEADING}\n{table()}")
