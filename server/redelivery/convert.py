"""Deliveries as the contract shows them."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import delivery_pb2

from server.kit import pb
from server.messages.convert import error

STATE = pb.Words(delivery_pb2.DeliveryState, "DELIVERY_STATE_")


def delivery(record: Any) -> delivery_pb2.Delivery:
    """A delivery; record: a row of deliveries with message_id and part of its part."""
    to_go = record["state"] in ("waiting", "queued")
    return delivery_pb2.Delivery(
        id=str(record["id"]),
        message_id=str(record["message_id"]),
        part=record["part"],
        conversation_id=str(record["conversation_id"]),
        channel_id=str(record["channel_id"]),
        state=STATE.number(record["state"]),
        attempt=record["attempt"] - record["uncounted"],
        due_time=pb.timestamp(record["due_time"]) if to_go else None,
        hold_expire_time=pb.timestamp(record["hold_until"]),
        error=None if record["state"] == "accepted" else error(record["error_code"], record["error_message"]),
        create_time=pb.timestamp(record["create_time"]),
    )
