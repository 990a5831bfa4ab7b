"""Settings as the contract shows them."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import tenant_settings_pb2

from server.kit import pb

FENCE = pb.Words(tenant_settings_pb2.ReplyFencePolicy, "REPLY_FENCE_POLICY_")


def settings(record: Any) -> tenant_settings_pb2.TenantSettings:
    """The settings."""
    return tenant_settings_pb2.TenantSettings(
        conversation_retention=pb.duration(record["conversation_retention"]),
        reply_fence_policy=FENCE.number(record["reply_fence_policy"]),
        read_receipts=record["read_receipts"],
        reply_window_closing_before=pb.duration(record["reply_window_closing_before"]),
    )
