"""Numbers about what belongs to another team or tenant are those of what nobody has, also when there are some."""

from typing import Any

import pytest
from contract_kinds import CALLERS, Cast, foreign
from contract_outcome import normal
from contract_requests import of_now
from contract_world import World, eventually, unknown
from switchboard.v1 import options_pb2, statistics_pb2
from switchboard.v1 import statistics_service_pb2 as statistics
from switchboard.v1.conversation_filter_pb2 import ConversationFilter
from switchboard.v1.conversation_service_pb2 import (
    GetConversationStatisticsRequest,
    GetConversationStatisticsResponse,
)

from server.agents.roles import PERMISSIONS, SEES_ALL

BY_CHANNEL = statistics_pb2.STATISTICS_DIMENSION_CHANNEL
OF_A_TEAM = [
    role for role in PERMISSIONS if role not in SEES_ALL and options_pb2.PERMISSION_STATISTICS_READ in CALLERS[role]
]


@pytest.fixture(scope="module")
def cast(world: World) -> Cast:
    """Two teams, of each of which a conversation is counted."""
    made = Cast(world)
    for side in (made.ours, made.theirs):
        channel_id = side.channel_id
        eventually(lambda channel_id=channel_id: present(world, world.tokens["owner"], channel_id).unattended_count)
        eventually(lambda channel_id=channel_id: lately(world, world.tokens["owner"], channel_id).statistics)
    return made


def present(world: World, token: str, *channel_ids: str) -> GetConversationStatisticsResponse:
    wanted = GetConversationStatisticsRequest(filter=ConversationFilter(channel_id=channel_ids))
    found: GetConversationStatisticsResponse = world.call(wanted, token=token)
    return found


def lately(world: World, token: str, *channel_ids: str) -> statistics.GetStatisticsResponse:
    wanted = of_now(dimensions=[BY_CHANNEL], channel_ids=channel_ids)
    found: statistics.GetStatisticsResponse = world.call(wanted, token=token)
    return found


def told(found: Any, asked: str) -> str:
    """The answer but for where the log stands, which moves on."""
    return str(normal(found)).replace(asked, "<asked>")


def test_somebody_sees_the_numbers_of_his_team_alone() -> None:
    assert OF_A_TEAM


@pytest.mark.parametrize("role", OF_A_TEAM)
@pytest.mark.parametrize("numbers", [present, lately], ids=["present", "lately"])
def test_numbers_of_others_are_those_of_nobody(world: World, cast: Cast, role: str, numbers: Any) -> None:
    strange = (cast.theirs.channel_id, foreign(world, "channel"), unknown())
    answers = {told(numbers(world, cast.tokens[role], channel_id), channel_id) for channel_id in strange}
    assert len(answers) == 1
    own = cast.ours.channel_id
    assert told(numbers(world, cast.tokens[role], own), own) not in answers


@pytest.mark.parametrize("role", OF_A_TEAM)
def test_who_asks_for_all_gets_his_own(world: World, cast: Cast, role: str) -> None:
    found = present(world, cast.tokens[role])
    assert [item.channel_id for item in found.by_channel] == [cast.ours.channel_id]
    assert sum(item.count for item in found.by_team) == found.by_channel[0].count
    seen = {item.channel_id for item in lately(world, cast.tokens[role]).statistics}
    assert seen == {cast.ours.channel_id}
