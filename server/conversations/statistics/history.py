"""What happened in a range of time, by interval and by the values of one dimension."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.conversations.statistics.periods import ExportNeeded
from server.kit.db import Connection
from server.rpc.call import Scope

MOST = 2000
READ = """
SELECT width_bucket(bucket_time, $1::timestamptz[]) - 1 AS period, CASE WHEN $3 THEN value ELSE '' END AS value, measure, bin,
    sum(count)::bigint AS count, sum(total) AS total
FROM statistics_buckets
WHERE dimension = $4 AND bucket_time >= ($1::timestamptz[])[1] AND bucket_time < $2
    AND ($5::uuid[] IS NULL OR channel_id = ANY($5)) AND ($6::uuid[] IS NULL OR channel_id = ANY($6))
GROUP BY 1, 2, 3, 4
"""
SINCE = "SELECT since FROM statistics_starts"


@dataclass(slots=True)
class Measure:
    """How often something happened; of durations, their sum in microseconds and how many lie in each bin."""

    count: int = 0
    total: int = 0
    bins: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """What happened in an interval to what has a value of the dimension. value: empty for nobody, none, or no dimension."""

    start: datetime
    end: datetime
    value: str
    measures: defaultdict[str, Measure] = field(default_factory=lambda: defaultdict(Measure))


async def happened(
    connection: Connection,
    scope: Scope,
    *,
    starts: Sequence[datetime],
    end: datetime,
    dimension: str | None,
    channel_ids: Sequence[uuid.UUID],
) -> list[Row]:
    """The rows that have anything, by interval and value. starts: of the intervals. ExportNeeded above MOST rows."""
    records = await connection.fetch(
        READ,
        list(starts),
        end,
        dimension is not None,
        # Each conversation has one channel, so that dimension counts each once.
        dimension or "channel",
        list(channel_ids) or None,
        None if scope.all else list(scope.channel_ids),
    )
    ends = [*starts[1:], end]
    rows: dict[tuple[int, str], Row] = {}
    for record in records:
        period, value = record["period"], record["value"]
        row = rows.setdefault((period, value), Row(starts[period], ends[period], value))
        measure = row.measures[record["measure"]]
        measure.count += record["count"]
        measure.total += int(record["total"])
        measure.bins[record["bin"]] = measure.bins.get(record["bin"], 0) + record["count"]
    if len(rows) > MOST:
        raise ExportNeeded(f"more than {MOST} rows are an export; ask for longer intervals or a shorter range")
    return [rows[key] for key in sorted(rows)]


async def complete_since(connection: Connection) -> datetime | None:
    """Since when everything is counted; None: from the tenant's beginning."""
    since: datetime | None = await connection.fetchval(SINCE)
    return since
