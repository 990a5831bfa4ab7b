"""Quarters of an hour, and the hours, days, weeks and months of a time zone that are made of them.

Every time zone's offset has been a multiple of 15 minutes since 1986, so a local hour or day is a whole number of quarters.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from switchboard.v1 import statistics_pb2

from server.kit.errors import FieldViolation, InvalidFields, Refusal

QUARTER = timedelta(minutes=15)
LONGEST, MOST = timedelta(days=1100), 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Interval = statistics_pb2.StatisticsInterval


class ExportNeeded(Refusal):
    """More than statistics are kept for: what asks for it wants the events or the rows."""

    status = "INVALID_ARGUMENT"
    reason = "EXPORT_NEEDED"


def quarter_of(time: datetime) -> datetime:
    """The beginning of the quarter of an hour."""
    return time - (time - EPOCH) % QUARTER


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name; empty means UTC. INVALID_FIELDS."""
    if name and name not in _names():
        raise InvalidFields(FieldViolation("time_zone", "is not a name of the IANA time zone database"))
    return ZoneInfo(name or "UTC")


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


def periods(start: datetime, end: datetime, *, interval: int, local: ZoneInfo) -> list[datetime]:
    """The beginnings of the intervals of a range, in UTC; the first is the range's. InvalidFields, ExportNeeded."""
    if start != quarter_of(start) or end != quarter_of(end):
        raise InvalidFields(FieldViolation("start_time", "start_time and end_time must be whole quarters of an hour"))
    if start >= end:
        raise InvalidFields(FieldViolation("end_time", "must be later than start_time"))
    if end - start > LONGEST:
        raise ExportNeeded(f"a range of more than {LONGEST.days} days is an export")
    found, time = [start], start
    while (time := _next(time, interval, local)) < end:
        found.append(time)
        if len(found) > MOST:
            raise ExportNeeded(f"more than {MOST} intervals are an export; ask for longer ones or a shorter range")
    return found


def _next(time: datetime, interval: int, local: ZoneInfo) -> datetime:
    """The beginning of the interval after the one that a time is in."""
    if interval == Interval.STATISTICS_INTERVAL_UNSPECIFIED:
        return datetime.max.replace(tzinfo=UTC)
    if interval == Interval.STATISTICS_INTERVAL_QUARTER_HOUR:
        return time + QUARTER
    if interval == Interval.STATISTICS_INTERVAL_HOUR:
        return _next_hour(time, local)
    return _next_date(time.astimezone(local), interval).astimezone(UTC)


def _next_hour(time: datetime, local: ZoneInfo) -> datetime:
    """An hour that the clocks repeat is two; one that they cut short ends where they do."""
    here, following = time.astimezone(local), time + QUARTER
    while _same_hour(here, following.astimezone(local)):
        following += QUARTER
    return following


def _same_hour(one: datetime, other: datetime) -> bool:
    return (one.date(), one.hour, one.utcoffset()) == (other.date(), other.hour, other.utcoffset())


def _next_date(here: datetime, interval: int) -> datetime:
    """Local midnight of the next day, Monday or first of a month. Where clocks skip midnight, the moment at which they do."""
    day = here.date()
    if interval == Interval.STATISTICS_INTERVAL_DAY:
        day += timedelta(days=1)
    elif interval == Interval.STATISTICS_INTERVAL_WEEK:
        day += timedelta(days=7 - day.weekday())
    else:
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=here.tzinfo)
