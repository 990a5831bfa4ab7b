"""Statistics are counted anew as far as the log reaches, and what is older stays."""

from datetime import timedelta
from typing import Any

import pytest

from server.conversations.statistics import follow
from server.kit.clock import CLOCK, utc_now
from server.log.read import LogBroken
from tests.desk import Desk, agent
from tests.installation import Installed, connection_to

BUCKETS = "SELECT * FROM statistics_buckets WHERE bucket_time >= coalesce($1::timestamptz, '-infinity') ORDER BY 1, 2, 3, 4, 5, 6"
COUNTS = "SELECT * FROM conversation_counts WHERE count > 0 ORDER BY 1, 2, 3, 4"
SPOILED = ("UPDATE statistics_buckets SET count = count + 7", "DELETE FROM conversation_counts")


async def caught_up(desk: Desk) -> None:
    while await desk.database.write(lambda write: follow.follow(write, limit=3)):
        pass


async def told(desk: Desk, since: Any = None) -> tuple[list[Any], list[Any]]:
    return await desk.rows(BUCKETS, since), await desk.rows(COUNTS)


async def lived(desk: Desk) -> None:
    """Two conversations: one answered, resolved, and, a day later, reopened; one that nobody ever touches again."""
    channel, by = await desk.new_channel(), agent(await desk.new_agent())
    row = await desk.started(channel, "4915100000001")
    await desk.started(channel)
    await desk.writer().submit(desk.send(row.id, by=by))
    CLOCK.move(timedelta(hours=2))
    await desk.move(row.id, "resolved")
    CLOCK.move(timedelta(days=1))
    await desk.writer().submit(desk.receive(channel, "4915100000001", at=utc_now().timestamp()))
    CLOCK.move(timedelta(days=1, hours=1))
    await desk.writer().submit(desk.send(row.id, by=by))
    await desk.move(row.id, "resolved")


@pytest.fixture
async def lived_desk(own_desk: Desk) -> Any:
    await lived(own_desk)
    yield own_desk
    CLOCK.move(timedelta(0))


async def test_with_the_whole_log_everything_is_counted_anew(lived_desk: Desk) -> None:
    await caught_up(lived_desk)
    right = await told(lived_desk)
    for statement in SPOILED:
        await lived_desk.execute(statement)
    assert await lived_desk.database.write(follow.rebuild) is None
    await caught_up(lived_desk)
    assert await told(lived_desk) == right


async def test_a_rebuild_before_the_first_look_does_no_harm(lived_desk: Desk) -> None:
    assert await lived_desk.database.write(follow.rebuild) is None
    await caught_up(lived_desk)
    right = await told(lived_desk)
    assert right[0]
    await lived_desk.database.write(follow.rebuild)
    await caught_up(lived_desk)
    assert await told(lived_desk) == right


async def test_what_the_log_no_longer_has_stays_and_is_not_counted_twice(lived_desk: Desk) -> None:
    await caught_up(lived_desk)
    before, counts = await told(lived_desk)
    # Only what happened a day later is kept.
    floor = await lived_desk.value("SELECT min(seq) FROM stream_event WHERE create_time > now() + interval '12 hours'")
    await lived_desk.execute("UPDATE stream_head SET floor = $1", floor)
    await lived_desk.execute("DELETE FROM stream_event WHERE seq < $1", floor)
    since = await lived_desk.database.write(follow.rebuild)
    assert since is not None
    await caught_up(lived_desk)
    after, counts_after = await told(lived_desk)
    # The reply of the second day came after the log's beginning, but nobody remembers since when the customer waited.
    assert counts_after == counts
    assert [row for row in after if row["bucket_time"] < since] == [row for row in before if row["bucket_time"] < since]
    assert [row for row in after if row["bucket_time"] >= since] == [
        row for row in before if row["bucket_time"] >= since
    ]
    assert await lived_desk.value("SELECT since FROM statistics_starts") == since


async def test_a_follower_that_was_given_up_counts_again_after_a_rebuild(lived_desk: Desk) -> None:
    await caught_up(lived_desk)
    right = await told(lived_desk)
    await lived_desk.execute("UPDATE consumers SET broken_time = now(), seq = seq - 1")
    assert await lived_desk.database.write(follow.follow) == 0
    await lived_desk.database.write(follow.rebuild)
    await caught_up(lived_desk)
    assert await told(lived_desk) == right


async def test_a_hole_is_not_counted_over(lived_desk: Desk, desks: Installed) -> None:
    await lived_desk.database.write(lambda write: follow.follow(write, limit=2))
    async with connection_to(desks.owned(lived_desk.dsn)) as owner:
        await owner.execute("DELETE FROM stream_event WHERE seq = 3")
    with pytest.raises(LogBroken):
        await lived_desk.database.write(follow.follow)
