"""Erasures as the contract shows them."""

from __future__ import annotations

import json
from typing import Any

from switchboard.v1 import erasure_pb2

from server.erasures.steps import STEPS
from server.kit import pb

STATE = pb.Words(erasure_pb2.ErasureState, "ERASURE_STATE_")


def erasure(record: Any) -> erasure_pb2.Erasure:
    """An erasure; record: a row of erasures."""
    return erasure_pb2.Erasure(
        id=str(record["id"]),
        contact_id=str(record["contact_id"]),
        reason=record["reason"],
        state=STATE.number(record["state"]),
        step="" if record["state"] == "done" else STEPS[record["step"]],
        counts=erasure_pb2.ErasureCounts(**json.loads(record["counts"])),
        error=record["error"],
        create_time=pb.timestamp(record["create_time"]),
        start_time=pb.timestamp(record["start_time"]),
        update_time=pb.timestamp(record["update_time"]),
        end_time=pb.timestamp(record["end_time"]),
    )
