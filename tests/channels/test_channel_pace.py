"""How webhooks' time on the way becomes the pace of a channel, and which changes of its health are worth an event."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from server.channels import health, told
from server.channels.pace import Heard, Paces, pace_of
from server.kit.db import Write
from server.log.append import append
from server.models.tenant import Channel
from server.providers.checks import Check, CheckReport
from tests.desk import Desk, nobody

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CHANNEL = uuid.UUID(int=1)


def noted(paces: Paces, *lags: float) -> list[Heard | None]:
    return [paces.note(CHANNEL, provider="whatsapp", sent=NOW - timedelta(seconds=lag), received=NOW) for lag in lags]


def test_a_pace_is_that_of_the_middle_of_some_and_one_straggler_changes_nothing() -> None:
    paces = Paces()
    first, *rest = noted(paces, 1, 1)
    assert first is not None
    assert (first.pace, rest) == (None, [None]), "two say nothing yet, and are not stored one by one"
    (third,) = noted(paces, 1)
    assert third is not None
    assert third.pace == "timely"
    assert noted(paces, 7200, 1, 1) == [None] * 3
    late = [each.pace for each in noted(paces, 7200, 7200, 7200, 7200) if each is not None]
    assert late == ["late"]


def test_a_clock_that_goes_after_the_providers_makes_no_negative_lag() -> None:
    (heard,) = noted(Paces(), -5)
    assert heard is not None
    assert heard.lag == timedelta(0)


def test_the_words_of_a_pace() -> None:
    assert [pace_of(timedelta(seconds=seconds)) for seconds in (0, 30, 31, 300, 301)] == [
        "timely",
        "timely",
        "slow",
        "slow",
        "late",
    ]


async def test_only_another_pace_makes_an_event(desk: Desk) -> None:
    channel = await desk.new_channel()

    async def heard(pace: str | None, lag: float, minute: int) -> int:
        found = Heard(NOW + timedelta(minutes=minute), timedelta(seconds=lag), pace)

        async def unit(write: Write) -> int:
            events = await health.heard(write, channel.id, found, origin=nobody())
            await append(write, events)
            return len(events)

        return await desk.database.write(unit)

    made = [await heard(None, 1, 0), await heard("timely", 2, 1), await heard("late", 900, 2)]
    made += [await heard("late", 901, 3), await heard("timely", 1, 4), await heard("late", 900, 1)]
    assert made == [0, 0, 1, 0, 1, 0], "the last one is older than what is known"
    stored = await desk.value("SELECT health ->> 'webhook_lag' FROM channels WHERE id = $1", channel.id)
    assert stored == "1.000s"


def row(**health: object) -> Channel:
    return Channel(id=CHANNEL, state="active", state_reason=None, details={}, health=health, health_times={})


def test_a_webhook_of_the_very_second_of_a_check_is_the_later_one() -> None:
    channel = row()
    report = CheckReport(checks=(Check(name="token", result="passed"),), values={"quality": "green"})
    told.take_report(channel, report, at=NOW + timedelta(milliseconds=700))
    assert told.take(channel, {"quality": "red"}, at=NOW)
    assert channel.condition["quality"] == "red"
    assert not told.take(channel, {"quality": "yellow"}, at=NOW - timedelta(seconds=1))


def test_the_next_look_is_within_seconds_where_something_is_open_and_when_a_restriction_ends_else_in_a_day() -> None:
    plain, stale, ending = row(), row(stale=True), row(restrictions=[{"expire_time": "2026-11-23T13:00:00+00:00"}])
    for channel in (plain, stale, ending):
        told.plan(channel, now=NOW)
    day, soon, hour = (channel.check_due_time for channel in (plain, stale, ending))
    assert day is not None
    assert soon is not None
    assert timedelta(hours=22) <= day - NOW <= timedelta(hours=26)
    assert timedelta(seconds=5) <= soon - NOW <= timedelta(seconds=15)
    assert hour == NOW + timedelta(hours=1, seconds=5)


def test_restrictions_that_ended_are_forgotten_and_those_without_an_end_stay() -> None:
    open_end = {"type": "RESTRICTED_ADD_PHONE_NUMBER_ACTION"}
    ended = {"type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expire_time": "2026-11-23T11:59:59+00:00"}
    channel = row(restriction="ACCOUNT_RESTRICTION", restrictions=[open_end, ended])
    told.expire(channel, now=NOW)
    assert channel.condition == {"restriction": "ACCOUNT_RESTRICTION", "restrictions": [open_end]}
    channel = row(restriction="ACCOUNT_RESTRICTION", restrictions=[ended])
    told.expire(channel, now=NOW)
    assert channel.condition == {"restriction": "", "restrictions": []}
