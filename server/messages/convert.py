"""Messages and receipts as the contract shows them; a leaf, for answers and event snapshots alike."""

from __future__ import annotations

from typing import Any

from switchboard.v1 import message_pb2, status_update_pb2

from server.kit import pb
from server.messages import content
from server.messages.row import AttachmentRow, MessageRow

DIRECTION = pb.Words(message_pb2.MessageDirection, "MESSAGE_DIRECTION_")
TYPE = pb.Words(message_pb2.MessageType, "MESSAGE_TYPE_")
STATUS = pb.Words(message_pb2.MessageStatus, "MESSAGE_STATUS_")
ATTACHMENT_KIND = pb.Words(message_pb2.AttachmentKind, "ATTACHMENT_KIND_")
ATTACHMENT_STATE = pb.Words(message_pb2.AttachmentState, "ATTACHMENT_STATE_")
SOURCE = pb.Words(status_update_pb2.StatusUpdateSource, "STATUS_UPDATE_SOURCE_")
# A voice message that was played was read; the contract's status has no word of its own for it.
SHOWN = {"played": "read"}


def message(row: MessageRow) -> message_pb2.Message:
    """A message."""
    return message_pb2.Message(**fields(row))


def fields(row: MessageRow) -> dict[str, Any]:
    """The fields of `message`, for an event that holds it and is made as a whole."""
    return {
        "id": str(row.id),
        "conversation_id": str(row.conversation_id),
        "direction": DIRECTION.number(row.direction),
        "type": TYPE.number(row.type),
        "status": STATUS.number(row.status),
        "sequence": row.sequence,
        "arrival": row.arrival,
        "text": None if row.text is None else {"body": row.text},
        "attachments": [attachment(item) for item in row.attachments],
        "external_id": row.provider_message_id,
        "author": {"kind": row.author_kind, "id": None if row.author_id is None else str(row.author_id)},
        "error": error(row.error_code, row.error_message) if row.status == "failed" else None,
        "create_time": pb.time_fields(row.create_time),
        "provider_time": pb.time_fields(row.provider_time),
        "request_id": row.request_id,
        **content.shown(row.details),
    }


def attachment(row: AttachmentRow) -> message_pb2.Attachment:
    """A file."""
    return message_pb2.Attachment(
        id=str(row.id),
        kind=ATTACHMENT_KIND.number(row.kind),
        mime_type=row.mime_type,
        file_name=row.file_name,
        size_bytes=row.size_bytes,
        state=ATTACHMENT_STATE.number(row.state),
        voice=row.voice,
        animated=row.animated,
        stored_mime_type=row.stored_type,
        sha256=row.stored_sha256,
        sha256_differs=row.sha256_differs,
        error=row.error,
        caption=row.caption,
        media_id=None if row.media_id is None else str(row.media_id),
    )


def error(code: str | None, text: str | None) -> message_pb2.MessageError | None:
    """Why a message failed; None when nobody said."""
    return None if code is None and text is None else message_pb2.MessageError(code=code or "", message=text or "")


def status_update(record: Any) -> status_update_pb2.StatusUpdate:
    """A step of the audit trail."""
    return status_update_pb2.StatusUpdate(
        id=str(record["id"]),
        message_id=str(record["message_id"]),
        part=record["position"],
        status=STATUS.number(SHOWN.get(record["status"], record["status"])),
        source=SOURCE.number(record["source"]),
        applied=record["applied"],
        error=error(record["error_code"], record["error_message"]),
        provider_time=pb.timestamp(record["provider_time"]),
        create_time=pb.timestamp(record["create_time"]),
        note=record["note"],
        member=record["member"],
    )
