"""The list holds what its filter says, in its order, page by page, whichever way a page is made."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as rpc

from server.conversations import counts, listing
from server.conversations.filter import check
from server.kit import pb
from server.kit.errors import InvalidFields
from server.rpc.call import Scope
from tests.conversations.listing_world import FIELDS, KEYS, LIVE, NOW, TAGS, Inbox, fill, meets, sees
from tests.desk import Desk

ORDERS = sorted(KEYS)


def test_every_field_of_the_filter_is_said_in_python_and_every_order_has_its_columns() -> None:
    names = {field.name for field in filters.ConversationFilter.DESCRIPTOR.fields}
    assert names == {*FIELDS, "and", "or", "not"}
    assert set(KEYS) == set(listing.ORDERS) == set(rpc.ConversationOrder.values()) - {0}


@pytest.fixture(scope="module")
async def inbox(desk: Desk) -> Inbox:
    return await fill(desk, seed=4)


Fields = dict[str, Any]
TIMES = st.integers(0, 13).map(lambda tens: pb.timestamp(NOW - timedelta(minutes=10 * tens)))
RANGES = st.one_of(
    st.builds(filters.TimeRange, start_time=TIMES),
    st.builds(filters.TimeRange, end_time=TIMES),
    st.builds(filters.TimeRange, start_time=TIMES, end_time=TIMES),
)
ATTRIBUTES = st.one_of(
    st.builds(filters.AttributeCondition, name=st.just("plan"), string_value=st.sampled_from(["gold", "1", ""])),
    st.builds(filters.AttributeCondition, name=st.just("plan"), number_value=st.sampled_from([1.0, 1.5, 2.0])),
    st.builds(filters.AttributeCondition, name=st.just("eu"), bool_value=st.booleans()),
)


def some(*values: object) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3)


# Ids are said by their place among the inbox's.
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "status": some(1, 2, 3, 4, 5, 6),
    "provider": some(1),
    "channel_id": some(0, 1),
    "assignee_id": some("me", "nobody", 0, 1),
    "team_id": some("none", 0, 1),
    "contact_id": some(0, 1, 2, 3, 4),
    **dict.fromkeys(("tags", "tags_all", "tags_none"), some(*TAGS, "VIP", "nothing")),
    "unread": st.sampled_from([filters.UNREAD_TEAM, filters.UNREAD_MINE]),
    "priority": some(1, 2, 3, 4, 5),
    "reply_window": some(1, 2, 3, 4),
    **dict.fromkeys(("create_time", "last_message_time", "waiting_since"), RANGES),
    "text": st.sampled_from(["parcel", "par", "LATE p", "退货", "货", "nothing"]),
    "attributes": st.lists(ATTRIBUTES, min_size=1, max_size=2),
}


def fields(depth: int) -> st.SearchStrategy[Fields]:
    """A filter of at most two fields, and perhaps others within it."""
    known = dict(LEAVES)
    if depth > 1:
        inner = fields(depth - 1)
        known |= {"and": st.lists(inner, max_size=2), "or": st.lists(inner, max_size=2), "not": inner}
    pairs = st.one_of(*(st.tuples(st.just(name), values) for name, values in known.items()))
    return st.lists(pairs, max_size=2).map(dict)


def filter_of(inbox: Inbox, said: Fields) -> filters.ConversationFilter:
    """The filter, with the inbox's ids."""
    ids: dict[str, list[uuid.UUID]] = {
        "channel_id": inbox.channels,
        "assignee_id": inbox.agents,
        "team_id": inbox.teams,
        "contact_id": inbox.contacts,
    }
    values = dict(said)
    for name in ids.keys() & said.keys():
        values[name] = [item if isinstance(item, str) else str(ids[name][item]) for item in said[name]]
    for name in {"and", "or"} & said.keys():
        values[name] = [filter_of(inbox, item) for item in said[name]]
    if "not" in said:
        values["not"] = filter_of(inbox, said["not"])
    return filters.ConversationFilter(**values)


def scopes(inbox: Inbox) -> list[Scope]:
    me = inbox.agents[0]
    return [
        Scope(all=True, agent_id=me),
        Scope(all=False, agent_id=me, channel_ids=frozenset(inbox.channels[:1])),
        Scope(all=False, agent_id=me, team_ids=frozenset(inbox.teams[:1])),
    ]


async def walk(
    desk: Desk, scope: Scope, wanted: filters.ConversationFilter, order: int, **more: Any
) -> list[uuid.UUID]:
    """The ids of all pages; a page may be short, and even empty, but the walk ends."""
    found: list[uuid.UUID] = []
    after, size = None, more.pop("size", 3)
    for _ in range(400):
        query = listing.Query(wanted, listing.ORDERS[order], after, size + 1, **more)
        async with desk.database.connection() as connection:
            page = await listing.page(connection, scope, query)
        rows = page.rows[:size]
        found += [row.id for row in rows]
        last = rows[-1] if len(page.rows) > size else page.edge
        if last is None:
            return found
        after = listing.keyset(last, query.order)
    raise AssertionError("the walk does not end")


def expected(
    inbox: Inbox, scope: Scope, wanted: filters.ConversationFilter, order: int, *, deleted: bool
) -> list[uuid.UUID]:
    rows = [row for row in inbox.rows if (row.delete_time is not None) is deleted and sees(scope, row)]
    rows = [row for row in rows if meets(inbox, wanted, row, scope.agent_id)]
    return [row.id for row in sorted(rows, key=KEYS[order], reverse=listing.ORDERS[order].descending)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=fields(depth=3),
    order=st.sampled_from(ORDERS),
    scope_number=st.integers(0, 2),
    deleted=st.sampled_from([False, False, False, True]),
    # What indexes are asked for, from never enough to always enough: both ways of making a page are gone.
    sought=st.sampled_from([0, 2, 6, 40]),
    size=st.sampled_from([1, 3, 50]),
)
async def test_a_walk_is_what_the_filter_means(
    desk: Desk, inbox: Inbox, said: Fields, order: int, scope_number: int, deleted: bool, sought: int, size: int
) -> None:
    wanted, scope = filter_of(inbox, said), scopes(inbox)[scope_number]
    deleted = deleted and listing.ORDERS[order].merges
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SOUGHT", sought)
        patch.setattr(listing, "SOUGHT_WORDS", sought)
        patch.setattr(listing, "WALKED_WORDS", sought)
        found = await walk(desk, scope, wanted, order, deleted=deleted, size=size)
    assert found == expected(inbox, scope, wanted, order, deleted=deleted)
    async with desk.database.connection() as connection:
        counted, _ = await counts.count(connection, scope, wanted)
    assert counted == counts.Limited(len(expected(inbox, scope, wanted, order, deleted=False)), False)


async def test_live_counts_are_those_that_the_caller_sees(desk: Desk, inbox: Inbox) -> None:
    for scope in [*scopes(inbox), Scope(all=True)]:
        live = [row for row in inbox.rows if row.delete_time is None and row.status in LIVE and sees(scope, row)]
        async with desk.database.connection() as connection:
            found = await counts.live(connection, scope)
        mine = sum(row.assignee_id == scope.agent_id for row in live) if scope.agent_id else 0
        nobodys = sum(row.assignee_id is None for row in live)
        assert (found.mine.count, found.unassigned.count, found.all.count) == (mine, nobodys, len(live))


async def test_keys_of_attributes_follow_every_change(desk: Desk, inbox: Inbox) -> None:
    row = next(row for row in inbox.rows if row.status != "archived")
    before = row.attributes
    keys: Callable[[], Any] = lambda: desk.rows(  # noqa: E731
        "SELECT key FROM conversation_attribute_keys WHERE conversation_id = $1", row.id
    )
    try:
        await desk.execute(
            'UPDATE conversations SET attributes = \'{"a": 1, "b": [1], "c": null}\' WHERE id = $1', row.id
        )
        assert [each["key"] for each in await keys()] == [await desk.value("SELECT attribute_key('a', '1.00')")]
        await desk.execute("UPDATE conversations SET attributes = NULL WHERE id = $1", row.id)
        assert await keys() == []
    finally:
        await desk.execute("UPDATE conversations SET attributes = $2::jsonb WHERE id = $1", row.id, before)


def test_a_time_that_is_none_is_named_by_its_path() -> None:
    wrong = filters.ConversationFilter(create_time={"end_time": {"seconds": 10**15}})
    with pytest.raises(InvalidFields) as refused:
        check(filters.ConversationFilter(**{"and": [{"not": wrong}]}), agent_id=None)
    assert [violation.field for violation in refused.value.violations] == ["filter.and[0].not.create_time.end_time"]
