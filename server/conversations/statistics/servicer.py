"""StatisticsService: what happened, as the contract shows it."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta

from google.protobuf import duration_pb2
from switchboard.v1 import conversation_service_pb2, statistics_pb2
from switchboard.v1 import statistics_service_pb2 as rpc
from switchboard.v1.statistics_service_pb2_grpc import StatisticsServiceServicer

from server.conversations.convert import PROVIDER, STATUS
from server.conversations.statistics import history, present
from server.conversations.statistics.history import Measure, Row
from server.conversations.statistics.periods import ExportNeeded, periods, zone
from server.conversations.statistics.present import Counts
from server.conversations.statistics.sketch import quantile
from server.kit import pb
from server.log.cursor import Cursors
from server.rpc.call import Call

DIMENSION = pb.Words(statistics_pb2.StatisticsDimension, "STATISTICS_DIMENSION_")
COUNTS = {
    "new": "new_count",
    "resolved": "resolved_count",
    "reopened": "reopened_count",
    "inbound": "inbound_count",
    "outbound": "outbound_count",
    "assigned": "assigned_count",
    "sent": "sent_count",
    "delivered": "delivered_count",
    "read": "read_count",
    "failed": "failed_count",
    "unknown": "unknown_count",
}
DURATIONS = ("first_response", "next_response", "resolution", "assignment")
VALUES = {"channel": "channel_id", "team": "team_id", "agent": "agent_id", "tag": "tag", "priority": "priority"}


class StatisticsServicer(StatisticsServiceServicer):
    """What happened in a range of time."""

    def __init__(self, *, cursors: Cursors) -> None:
        self._cursors = cursors

    async def GetStatistics(self, request: rpc.GetStatisticsRequest, call: Call) -> rpc.GetStatisticsResponse:
        """Rows by interval and value, all of one moment."""
        if len(request.dimensions) > 1:
            names = ", ".join(DIMENSION.word(item) for item in request.dimensions)
            raise ExportNeeded(f"statistics are kept for one dimension at a time; {names} together are an export")
        dimension = DIMENSION.word(request.dimensions[0]) if request.dimensions else None
        end = pb.utc(request.end_time, field="end_time")
        starts = periods(
            pb.utc(request.start_time, field="start_time"),
            end,
            interval=request.interval,
            local=zone(request.time_zone),
        )
        async with call.database.snapshot() as connection:
            head = await present.stands(connection)
            since = await history.complete_since(connection)
            channel_ids = [uuid.UUID(item) for item in request.channel_ids]
            rows = await history.happened(
                connection, call.scope, starts=starts, end=end, dimension=dimension, channel_ids=channel_ids
            )
        return rpc.GetStatisticsResponse(
            statistics=[_row(row, dimension) for row in rows],
            as_of=self._cursors.at(call.tenant_id, head),
            complete_since_time=pb.timestamp(since),
        )


def now(counts: list[Counts], *, as_of: str) -> conversation_service_pb2.GetConversationStatisticsResponse:
    """The counts of now as the contract shows them."""
    service = conversation_service_pb2
    agents = present.live(counts, "agent")
    unread = present.live(counts, "agent", lambda item: item.unread)
    unattended = present.live(counts, "agent", lambda item: item.unattended)
    providers = {str(item.channel_id): item.provider for item in counts}
    return service.GetConversationStatisticsResponse(
        by_status=sorted(
            (
                service.StatusCount(status=STATUS.number(status), count=count)
                for status, count in present.by_status(counts).items()
            ),
            key=lambda item: item.status,
        ),
        by_channel=[
            service.ChannelCount(channel_id=value, provider=PROVIDER.number(providers[value]), count=count)
            for value, count in _sorted(present.live(counts, "channel"))
        ],
        unassigned_count=present.live(counts, "channel", lambda item: item.unassigned).total(),
        unread_count=present.live(counts, "channel", lambda item: item.unread).total(),
        unattended_count=present.live(counts, "channel", lambda item: item.unattended).total(),
        by_priority=[
            service.PriorityCount(priority=int(value), count=count)  # type: ignore[arg-type]  # the contract's number
            for value, count in _sorted(present.live(counts, "priority"))
        ],
        by_tag=[service.TagCount(tag=value, count=count) for value, count in _sorted(present.live(counts, "tag"))],
        by_team=[
            service.TeamCount(team_id=value or None, count=count)
            for value, count in _sorted(present.live(counts, "team"))
        ],
        by_agent=[
            service.AgentCount(
                agent_id=value or None, count=count, unread_count=unread[value], unattended_count=unattended[value]
            )
            for value, count in _sorted(agents)
        ],
        as_of=as_of,
    )


def _sorted(found: Counter[str]) -> list[tuple[str, int]]:
    return sorted((value, count) for value, count in found.items() if count)


def _row(row: Row, dimension: str | None) -> statistics_pb2.Statistics:
    result = statistics_pb2.Statistics(start_time=pb.timestamp(row.start), end_time=pb.timestamp(row.end))
    if dimension is not None and row.value:
        setattr(result, VALUES[dimension], int(row.value) if dimension == "priority" else row.value)
    for measure, found in row.measures.items():
        if measure in COUNTS:
            setattr(result, COUNTS[measure], found.count)
    for measure in DURATIONS:
        getattr(result, measure).CopyFrom(_durations(row.measures[measure]))
    return result


def _durations(found: Measure) -> statistics_pb2.DurationStatistics:
    """Without mean, median and p90 where there are none."""
    if not found.count:
        return statistics_pb2.DurationStatistics()
    return statistics_pb2.DurationStatistics(
        count=found.count,
        mean=_duration(found.total / found.count / 1e6),
        median=_duration(quantile(found.bins, 0.5)),
        p90=_duration(quantile(found.bins, 0.9)),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    result = duration_pb2.Duration()
    result.FromTimedelta(timedelta(seconds=seconds))
    return result
