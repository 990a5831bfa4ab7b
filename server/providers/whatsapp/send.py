"""A message as the Cloud API wants it, and what its answer means.

Source: Meta's Cloud API documentation, "Messages" and "Text messages"; user ids: "Business-scoped user IDs".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from server.providers.contract import (
    Accepted,
    Address,
    Ambiguous,
    ErrorClass,
    Json,
    Mark,
    NotSent,
    Outcome,
    Outgoing,
    Refused,
)
from server.providers.meta import errors
from server.providers.meta.graph import GraphAnswer
from server.providers.meta.text import clean_text
from server.providers.whatsapp.contents import rendered

T = TypeVar("T")
_ID_MOST = 512
_LINK = re.compile(r"\bhttps?://\S", re.IGNORECASE)
_NOTES = frozenset({"held_for_quality_assessment", "paused"})


def message_body(outgoing: Outgoing) -> dict[str, Json]:
    """The body of POST /{phone_number_id}/messages. `opaque` comes back in every status of the message."""
    body: dict[str, Json] = {
        "messaging_product": "whatsapp",
        **_recipient(outgoing.to),
        **(_text(outgoing.text) if outgoing.content is None else rendered(outgoing.content)),
        "biz_opaque_callback_data": outgoing.opaque,
    }
    if outgoing.reply_to_id is not None:
        body["context"] = {"message_id": outgoing.reply_to_id}
    return body


def _text(body: str) -> dict[str, Json]:
    """Meta shows a preview of the first link of a text where it is asked to."""
    preview: dict[str, Json] = {"preview_url": True} if _LINK.search(body) else {}
    return {"type": "text", "text": {"body": body, **preview}}


def mark_body(mark: Mark) -> dict[str, Json]:
    """The body that marks a message, and those before it in its thread, read, with or without a typing indicator; or reacts to it."""
    if mark.kind == "reaction":
        assert mark.to is not None
        reaction = {"message_id": mark.provider_message_id, "emoji": mark.emoji or ""}
        return {"messaging_product": "whatsapp", **_recipient(mark.to), "type": "reaction", "reaction": reaction}
    read: dict[str, Json] = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": mark.provider_message_id,
    }
    return read if mark.kind == "read" else {**read, "typing_indicator": {"type": "text"}}


def outcome(
    answer: GraphAnswer | NotSent | Ambiguous, accept: Callable[[Json], Accepted | None], *, attempt: int
) -> Outcome:
    """What a request came to. accept: reads a good answer, None for one that says nothing, such as a message without an id.

    A 5xx without Meta's error object comes from something between us and Meta, which may or may not have passed the
    request on; a 4xx or 3xx without one did not.
    """
    if not isinstance(answer, GraphAnswer):
        return _unsendable(answer)
    if _has_error(answer.body):
        return errors.refusal(answer.body, status=answer.status, attempt=attempt, usage=answer.usage)
    if 200 <= answer.status < 300:
        return accept(answer.body) or Ambiguous("answer_without_id")
    if answer.status >= 500:
        return Ambiguous(f"http_{answer.status}")
    return errors.refusal(None, status=answer.status, attempt=attempt, usage=answer.usage)


def read(
    answer: GraphAnswer | NotSent | Ambiguous, take: Callable[[Json], T | None]
) -> T | Refused | NotSent | Ambiguous:
    """What a request that changes nothing came to. take: reads a good answer, None for one that says nothing."""
    if not isinstance(answer, GraphAnswer):
        return _unsendable(answer)
    if _has_error(answer.body) or not 200 <= answer.status < 300:
        return errors.refusal(answer.body, status=answer.status, attempt=1, usage=answer.usage)
    return take(answer.body) or Ambiguous("answer_unreadable")


def _unsendable(failure: NotSent | Ambiguous) -> Refused | NotSent | Ambiguous:
    """What will fail for ever is no matter of trying again."""
    if failure == NotSent("malformed_token"):
        return Refused(
            error_class=ErrorClass.STOP_CHANNEL,
            code="malformed_token",
            message="The access token is malformed.",
            ends_token=True,
        )
    if failure == NotSent("malformed_address"):
        return Refused(
            error_class=ErrorClass.BUG, code="malformed_address", message="Account id or version is malformed."
        )
    return failure


def _recipient(to: Address) -> dict[str, Json]:
    """With a plus: without one Meta may put the business's country code in front. A user id has a field of its own."""
    if to.kind == "group":
        return {"recipient_type": "group", "to": to.value}
    if to.kind == "wa_id":
        return {"recipient_type": "individual", "to": "+" + to.value.removeprefix("+")}
    return {"recipient_type": "individual", "recipient": to.value}


def _has_error(body: Json) -> bool:
    return isinstance(body, dict) and isinstance(body.get("error"), dict)


def marked(mark: Mark, body: Json) -> Accepted | None:
    """What a read mark is answered with."""
    success = isinstance(body, dict) and body.get("success") is True
    return Accepted(provider_id=mark.provider_message_id) if success else None


def accepted(body: Json) -> Accepted | None:
    """What a message is answered with; only an answer that names the message's id is an acceptance."""
    message = _first(body, "messages")
    provider_id = _id(message, "id")
    if provider_id is None:
        return None
    contact = _first(body, "contacts")
    wa_id, user_id = _id(contact, "wa_id"), _id(contact, "user_id")
    addresses = ((Address("wa_id", wa_id),) if wa_id else ()) + ((Address("bsuid", user_id),) if user_id else ())
    status = _id(message, "message_status")
    return Accepted(
        provider_id=provider_id,
        canonical=addresses[0] if addresses else None,
        addresses=addresses,
        note=status if status in _NOTES else None,
    )


def _first(body: Json, name: str) -> dict[str, Json]:
    listed = body.get(name) if isinstance(body, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    return first if isinstance(first, dict) else {}


def _id(fields: dict[str, Json], name: str) -> str | None:
    found = fields.get(name)
    return clean_text(found) if isinstance(found, str) and 0 < len(found) <= _ID_MOST else None
