"""Intervals by the clocks of a zone equal Postgres' own idea of them, on the days when clocks change as on others."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from switchboard.v1 import statistics_pb2

from server.conversations.statistics.periods import MOST, QUARTER, ExportNeeded, periods, quarter_of, zone
from server.conversations.statistics.sketch import ACCURACY, bin_of, quantile, value_of
from server.kit.errors import InvalidFields
from tests.desk import Desk

Interval = statistics_pb2.StatisticsInterval
HOUR, DAY = Interval.STATISTICS_INTERVAL_HOUR, Interval.STATISTICS_INTERVAL_DAY
WEEK, MONTH = Interval.STATISTICS_INTERVAL_WEEK, Interval.STATISTICS_INTERVAL_MONTH
WORDS = {HOUR: "hour", DAY: "day", WEEK: "week", MONTH: "month"}
# Changes of clocks: by an hour in spring and in autumn, at midnight, by half an hour; and zones of 30 and 45 minutes.
CHANGES = {
    "Europe/Berlin, spring": ("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC)),
    "Europe/Berlin, autumn": ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC)),
    "America/New_York, autumn": ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
    "America/Havana, at midnight": ("America/Havana", datetime(2026, 3, 7, tzinfo=UTC)),
    "Australia/Lord_Howe, half an hour": ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    "Asia/Kolkata": ("Asia/Kolkata", datetime(2026, 5, 1, tzinfo=UTC)),
    "Asia/Kathmandu": ("Asia/Kathmandu", datetime(2026, 5, 1, tzinfo=UTC)),
    "Asia/Kathmandu, another year": ("Asia/Kathmandu", datetime(2026, 12, 30, tzinfo=UTC)),
}
LOCAL = """
SELECT DISTINCT greatest(date_trunc($1, t, $2), $3)
FROM generate_series($3::timestamptz, $4::timestamptz - interval '15 minutes', '15 minutes') t ORDER BY 1
"""


@pytest.mark.parametrize("interval", WORDS, ids=WORDS.values())
@pytest.mark.parametrize("change", CHANGES)
async def test_intervals_are_those_of_postgres(desk: Desk, change: str, interval: int) -> None:
    name, start = CHANGES[change]
    days = 3 if interval == HOUR else 40
    end = start + timedelta(days=days, minutes=45)
    wanted = [row[0] for row in await desk.rows(LOCAL, WORDS[interval], name, start, end)]
    if (name, interval) == ("Australia/Lord_Howe", HOUR):
        # The clocks go back from 2:00 to 1:30, and Postgres begins the hour after that at 1:00: in the middle of the one before.
        wanted[wanted.index(datetime(2026, 4, 4, 14, 30, tzinfo=UTC))] = datetime(2026, 4, 4, 15, tzinfo=UTC)
    assert periods(start, end, interval=interval, local=zone(name)) == wanted


def test_a_day_has_23_24_or_25_hours() -> None:
    berlin = zone("Europe/Berlin")
    start = datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert periods(start, start + timedelta(days=2), interval=DAY, local=berlin)[1] - start == timedelta(hours=23)
    start = datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert periods(start, start + timedelta(days=2), interval=DAY, local=berlin)[1] - start == timedelta(hours=25)
    start = datetime(2026, 6, 1, 18, 15, tzinfo=UTC)
    kathmandu = periods(start, start + timedelta(days=2), interval=DAY, local=zone("Asia/Kathmandu"))
    assert kathmandu == [start, start + timedelta(days=1)]


def test_what_is_too_much_is_an_export_and_what_is_no_quarter_is_refused() -> None:
    start, utc = datetime(2026, 1, 1, tzinfo=UTC), zone("")
    quarter = Interval.STATISTICS_INTERVAL_QUARTER_HOUR
    assert len(periods(start, start + MOST * QUARTER, interval=quarter, local=utc)) == MOST
    with pytest.raises(ExportNeeded, match="export"):
        periods(start, start + (MOST + 1) * QUARTER, interval=quarter, local=utc)
    with pytest.raises(ExportNeeded, match="1100 days"):
        periods(start, start + timedelta(days=1101), interval=MONTH, local=utc)
    for wrong in (start + timedelta(minutes=5), start, start - QUARTER):
        with pytest.raises(InvalidFields):
            periods(start, wrong, interval=DAY, local=utc)
    for name in ("Mars/Phobos", "Europe", "../etc/passwd", "europe/berlin"):
        with pytest.raises(InvalidFields):
            zone(name)


@given(st.lists(st.floats(0.001, 10**8), min_size=1, max_size=200), st.sampled_from((0.01, 0.5, 0.9, 1.0)))
@settings(deadline=None, database=None, derandomize=True)
def test_a_quantile_is_as_exact_as_the_contract_says(durations: list[float], part: float) -> None:
    bins: dict[int, int] = {}
    for seconds in durations:
        bins[bin_of(seconds)] = bins.get(bin_of(seconds), 0) + 1
    ordered = sorted(durations)
    exact = next(value for n, value in enumerate(ordered, start=1) if n >= part * len(ordered))
    assert abs(quantile(bins, part) - exact) <= ACCURACY * exact * (1 + 1e-9)


def test_nothing_is_shorter_than_a_millisecond() -> None:
    assert bin_of(0) == bin_of(0.001)
    assert value_of(bin_of(0)) == pytest.approx(0.001, rel=ACCURACY)


def test_a_quarter_begins_where_all_clocks_have_one() -> None:
    assert quarter_of(datetime(2026, 1, 1, 12, 29, 59, 999999, tzinfo=UTC)) == datetime(2026, 1, 1, 12, 15, tzinfo=UTC)
