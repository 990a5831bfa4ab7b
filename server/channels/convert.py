"""Channels as the contract shows them; never their tokens."""

from __future__ import annotations

from google.protobuf.json_format import ParseDict
from switchboard.v1 import channel_pb2

from server.kit import pb
from server.models.tenant import Channel
from server.providers.checks import Check

PROVIDER = pb.Words(channel_pb2.Provider, "PROVIDER_")
QUALITY = pb.Words(channel_pb2.ChannelQuality, "CHANNEL_QUALITY_")
STATE = pb.Words(channel_pb2.ChannelState, "CHANNEL_STATE_")
WEBHOOK_PACE = pb.Words(channel_pb2.ChannelWebhookPace, "CHANNEL_WEBHOOK_PACE_")
CHECK = pb.Words(channel_pb2.ChannelCheckKind, "CHANNEL_CHECK_KIND_")
CHECK_RESULT = pb.Words(channel_pb2.ChannelCheckResult, "CHANNEL_CHECK_RESULT_")


def channel(row: Channel) -> channel_pb2.Channel:
    """A channel. Its account is in the field that has the provider's name."""
    found = channel_pb2.Channel(
        id=str(row.id),
        name=row.name,
        provider=PROVIDER.number(row.provider),
        state=STATE.number(row.state),
        state_reason=row.state_reason,
        create_time=pb.timestamp(row.create_time),
        reopen_window=pb.duration(row.reopen_window),
        new_thread_each_time=row.new_thread_each_time,
        auto_resolve_after=pb.duration(row.auto_resolve_after),
    )
    ParseDict(row.account, getattr(found, row.provider))
    found.health.CopyFrom(health(row))
    return found


def health(row: Channel) -> channel_pb2.ChannelHealth:
    """How it does; rows have the names of the contract, and words for its enums."""
    told = dict(row.condition)
    made = channel_pb2.ChannelHealth(
        quality=QUALITY.number(told.pop("quality", "unspecified")),
        webhook_pace=WEBHOOK_PACE.number(told.pop("webhook_pace", "unspecified")),
        throughput_per_second=row.throughput_per_second,
    )
    # A worker of the next release may have written what this one does not know.
    ParseDict(told, made, ignore_unknown_fields=True)
    return made


def check(found: Check) -> channel_pb2.ChannelCheck:
    """A check that was made."""
    return channel_pb2.ChannelCheck(
        check=CHECK.number(found.name),
        result=CHECK_RESULT.number(found.result),
        message=found.message,
        remedy=found.remedy,
        code=found.code,
        trace_id=found.trace_id,
    )
