"""The Graph API's error envelope, and the errors a text message can meet.

Readers must decide on `code` (and `error_subcode`), never on the message or the HTTP status: sources give 400 and 429
for the throttling errors alike, Meta's current table says 400.
"""

import secrets
from dataclasses import dataclass
from enum import Enum

Json = dict[str, object]


class Wording(Enum):
    """The three ways Meta puts an error into words."""

    PLAIN = "the detail is the whole message"
    PARAMETER = "(#code) and the detail"
    TITLED = "(#code) and a fixed title; the detail stands in error_data"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """An error but for its detail; `status` is the HTTP status."""

    code: int
    wording: Wording
    title: str = ""
    status: int = 400
    type: str = "OAuthException"
    subcode: int | None = None


UNKNOWN_PATH = ErrorKind(2500, Wording.PLAIN)
BAD_TOKEN = ErrorKind(190, Wording.PLAIN, status=401)
NO_SUCH_OBJECT = ErrorKind(100, Wording.PLAIN, type="GraphMethodException", subcode=33)
PARAMETER = ErrorKind(100, Wording.PARAMETER)
INVALID_PARAMETER = ErrorKind(100, Wording.TITLED, "Invalid parameter")
MISSING_PARAMETER = ErrorKind(131008, Wording.TITLED, "Required parameter is missing")
BAD_VALUE = ErrorKind(131009, Wording.TITLED, "Parameter value is not valid")
RECIPIENT_IS_SENDER = ErrorKind(131021, Wording.TITLED, "Recipient cannot be sender")
UNDELIVERABLE = ErrorKind(131026, Wording.TITLED, "Message undeliverable")
REENGAGEMENT = ErrorKind(131047, Wording.TITLED, "Re-engagement message")
UNSUPPORTED_TYPE = ErrorKind(131051, Wording.TITLED, "Unsupported message type")
THROUGHPUT = ErrorKind(130429, Wording.TITLED, "Rate limit hit")
PAIR_RATE = ErrorKind(131056, Wording.TITLED, "(Business Account, Consumer Account) pair rate limit hit")

WINDOW_CLOSED = (
    "Message failed to send because more than 24 hours have passed since the customer last replied to this number."
)
HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


def envelope(kind: ErrorKind, detail: str) -> Json:
    """The body of a refused request: `{"error": {...}}` with a fresh trace id."""
    error: Json = {"message": _message(kind, detail), "type": kind.type, "code": kind.code}
    if kind.wording is Wording.TITLED:
        error["error_data"] = {"messaging_product": "whatsapp", "details": detail}
    if kind.subcode is not None:
        error["error_subcode"] = kind.subcode
    error["fbtrace_id"] = "A" + secrets.token_urlsafe(16)
    return {"error": error}


def status_error(kind: ErrorKind, detail: str) -> Json:
    """One entry of `errors` in a `failed` status; title and message are the same since v16."""
    return {
        "code": kind.code,
        "title": kind.title,
        "message": kind.title,
        "error_data": {"details": detail},
        "href": HREF,
    }


def _message(kind: ErrorKind, detail: str) -> str:
    if kind.wording is Wording.PLAIN:
        return detail
    return f"(#{kind.code}) {kind.title if kind.wording is Wording.TITLED else detail}"
