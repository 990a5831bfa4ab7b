"""Files that callers bring, as the contract shows them."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import media_pb2

from server.kit import pb

STATE = pb.Words(media_pb2.MediaState, "MEDIA_STATE_")


def media(record: Any, *, download_url: str | None) -> media_pb2.Media:
    """A file."""
    return media_pb2.Media(
        id=str(record["id"]),
        state=STATE.number(record["state"]),
        mime_type=record["mime_type"],
        file_name=record["file_name"],
        size_bytes=record["size_bytes"],
        sha256=record["sha256"],
        animated=record["animated"],
        error=record["error"],
        download_url=download_url,
        create_time=pb.timestamp(record["create_time"]),
        expire_time=pb.timestamp(record["due_time"]),
    )
