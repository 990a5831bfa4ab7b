"""docs/metrics.md against the metrics themselves, and what it says of them against what processes show."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

from tests.docs import metrics_page

NAMES = re.compile(r"`(switchboard_[a-z_]+)`")


def test_every_metric_is_documented_and_nothing_else() -> None:
    told = metrics_page.PAGE.read_text().partition(metrics_page.HEADING)[2].strip()
    assert told == metrics_page.table().strip(), "run: python -m tests.docs.metrics_page"


def test_what_the_page_speaks_of_is_in_its_table() -> None:
    before, _, table = metrics_page.PAGE.read_text().partition(metrics_page.HEADING)
    assert set(NAMES.findall(before)) <= set(NAMES.findall(table))


def test_every_process_shows_its_page_where_dev_json_says(dev: dict[str, Any]) -> None:
    pages = {each["name"]: each["metrics"] for each in dev["processes"] if "metrics" in each}
    assert {name.partition("-")[0] for name in pages} == {"serve", "work"}
    known = set(NAMES.findall(metrics_page.PAGE.read_text()))
    for name, url in pages.items():
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        shown = set(re.findall(r"^# HELP (switchboard_\w+) ", text, re.MULTILINE))
        assert shown <= known, name
        assert f'process="{name.partition("-")[0]}"' in text
        assert re.search(r'^switchboard_pool_connections\{pool="control",state="open"\} [1-9]', text, re.MULTILINE)
        assert re.search(r"^switchboard_loop_lag_seconds_count [1-9]", text, re.MULTILINE)
