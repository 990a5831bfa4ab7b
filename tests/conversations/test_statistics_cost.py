"""What statistics cost does not depend on how old a tenant is, and they are never far behind."""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.conversations.statistics import history
from server.kit.ids import new_id
from tests.desk import Desk

DAYS = 400
OLD = """
INSERT INTO statistics_buckets (dimension, bucket_time, channel_id, value, measure, bin, count, total)
SELECT d, t, $1::uuid, ($1::uuid)::text, 'inbound', 0, 1, 0
FROM unnest(ARRAY['channel', 'tag']) d, generate_series($2::timestamptz, $3::timestamptz - interval '15 minutes', '15 minutes') t
"""
BEHIND_SECONDS = 2.0


def scanned(node: dict[str, Any]) -> int:
    """Rows that the leaves of a plan read."""
    inner = node.get("Plans", ())
    removed = int(node.get("Rows Removed by Filter", 0)) + int(node.get("Rows Removed by Index Recheck", 0))
    return removed + (sum(map(scanned, inner)) if inner else int(node["Actual Rows"]))


async def test_an_answer_reads_the_rows_of_its_range_alone(own_desk: Desk) -> None:
    end = datetime(2026, 11, 1, tzinfo=UTC)
    await own_desk.execute(OLD, new_id(), end - timedelta(days=DAYS), end)
    starts = [end - timedelta(days=1)]
    plan = await own_desk.value(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {history.READ}", starts, end, False, "channel", None, None
    )
    assert scanned(json.loads(plan)[0]["Plan"]) == 96


@pytest.mark.faults
def test_statistics_are_at_most_two_seconds_behind(dev: dict[str, Any], customer_writes: Any) -> None:
    def new() -> int:
        asked = urllib.request.Request(
            dev["url"] + "/v1/conversations/statistics", headers={"authorization": f"Bearer {dev['tenant_key']}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return sum(row["count"] for row in json.load(answer)["byStatus"])

    found = []
    for number in range(10):
        before = new()
        customer_writes(f"49151900001{number:02}", "how late")
        began = time.monotonic()
        while new() == before and time.monotonic() < began + 10:
            time.sleep(0.02)
        found.append(time.monotonic() - began)
    print(f"behind: {max(found):.2f} s at most, {sorted(found)[5]:.2f} s in the middle")
    assert max(found) <= BEHIND_SECONDS
