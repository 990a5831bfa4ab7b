"""Channels as the contract shows them; never their tokens."""

from __future__ import annotations

from google.protobuf.json_format import ParseDict
from switchboard.v1 import channel_pb2

from server.kit import pb
from server.models.tenant import Channel

PROVIDER = pb.Words(channel_pb2.Provider, "PROVIDER_")
QUALITY = pb.Words(channel_pb2.ChannelQuality, "CHANNEL_QUALITY_")
STATE = pb.Words(channel_pb2.ChannelState, "CHANNEL_STATE_")


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
    """How it does; rows have the names of the contract, and a word for the quality."""
    told = row.condition
    quality = QUALITY.number(told.get("quality", "unspecified"))
    made = channel_pb2.ChannelHealth(quality=quality, throughput_per_second=row.throughput_per_second)
    ParseDict({name: value for name, value in told.items() if name != "quality"}, made)
    return made
