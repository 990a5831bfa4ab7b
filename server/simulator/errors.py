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
TOKEN_EXPIRED = ErrorKind(190, Wording.PLAIN, status=401, subcode=463)
CALLS = ErrorKind(80007, Wording.PARAMETER, "Rate limit issues")
NO_SUCH_OBJECT = ErrorKind(100, Wording.PLAIN, type="GraphMethodException", subcode=33)
NO_PERMISSION = ErrorKind(200, Wording.PARAMETER, status=403)
PARAMETER = ErrorKind(100, Wording.PARAMETER)
INVALID_PARAMETER = ErrorKind(100, Wording.TITLED, "Invalid parameter")
MISSING_PARAMETER = ErrorKind(131008, Wording.TITLED, "Required parameter is missing")
BAD_VALUE = ErrorKind(131009, Wording.TITLED, "Parameter value is not valid")
RECIPIENT_IS_SENDER = ErrorKind(131021, Wording.TITLED, "Recipient cannot be sender")
UNDELIVERABLE = ErrorKind(131026, Wording.TITLED, "Message undeliverable")
REENGAGEMENT = ErrorKind(131047, Wording.TITLED, "Re-engagement message")
NO_USER_ID = ErrorKind(131062, Wording.TITLED, "Business-scoped user ID recipients are not supported for this message")
MEDIA_REFUSED = ErrorKind(131053, Wording.TITLED, "Media upload error")
PARAMETER_COUNT = ErrorKind(132000, Wording.TITLED, "Number of parameters does not match the expected number of params")
TEMPLATE_MISSING = ErrorKind(132001, Wording.TITLED, "Template name does not exist in the translation", status=404)
TEXT_TOO_LONG = ErrorKind(132005, Wording.TITLED, "Translated text too long")
PARAMETER_VALUE = ErrorKind(132008, Wording.TITLED, "Template parameter format is not valid")
PARAMETER_FORMAT = ErrorKind(132012, Wording.TITLED, "Parameter format does not match format in the created template")
TEMPLATE_PAUSED = ErrorKind(132015, Wording.TITLED, "Template is paused")
TEMPLATE_DISABLED = ErrorKind(132016, Wording.TITLED, "Template is disabled")
PARAMETER_TEXT = ErrorKind(132018, Wording.TITLED, "Issues with the parameters in the template")
PIN_MISMATCH = ErrorKind(133005, Wording.TITLED, "Two step verification PIN mismatch")
NOT_REGISTERED = ErrorKind(133010, Wording.TITLED, "Phone number not registered")
REGISTERED_TOO_OFTEN = ErrorKind(133016, Wording.TITLED, "Account register deregister rate limit exceeded")
THROUGHPUT = ErrorKind(130429, Wording.TITLED, "Rate limit hit")
PAIR_RATE = ErrorKind(131056, Wording.TITLED, "(Business Account, Consumer Account) pair rate limit hit")

WINDOW_CLOSED = (
    "Message failed to send because more than 24 hours have passed since the customer last replied to this number."
)
HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"

# Subcodes of templates that are written.
TEMPLATES = range(2388000, 2389000)

# Code: title and HTTP status, from Meta's table of error codes; only what a sender of messages can meet.
TITLES: dict[int, tuple[str, int]] = {
    0: ("AuthException", 401),
    1: ("An unknown error occurred", 400),
    2: ("Service temporarily unavailable", 503),
    3: ("Application does not have the capability to make this API call.", 500),
    4: ("Application request limit reached", 400),
    10: ("Application does not have permission for this action", 403),
    33: ("Parameter value is not valid", 400),
    100: ("Invalid parameter", 400),
    190: ("Error validating access token: The session has been invalidated.", 401),
    200: ("You do not have the necessary permissions required to send messages", 403),
    368: ("Temporarily blocked for policies violations", 403),
    80007: ("Rate limit issues", 400),
    130403: ("User is blocked by the business", 400),
    130429: ("Rate limit hit", 400),
    130472: ("User's number is part of an experiment", 400),
    130497: ("Business account is restricted from messaging users in this country", 403),
    131000: ("Something went wrong", 500),
    131005: ("Access denied", 403),
    131008: ("Required parameter is missing", 400),
    131009: ("Parameter value is not valid", 400),
    131016: ("Service unavailable", 500),
    131021: ("Recipient cannot be sender", 400),
    131026: ("Message undeliverable", 400),
    131030: ("Recipient phone number not in allowed list", 400),
    131031: ("Account has been locked", 403),
    131037: ("Display name approval required", 400),
    131042: ("Business eligibility payment issue", 400),
    131045: ("Incorrect certificate", 500),
    131047: ("Re-engagement message", 400),
    131048: ("Spam rate limit hit", 400),
    131049: ("This message was not delivered to maintain healthy ecosystem engagement", 400),
    131050: ("User has stopped marketing messages from your business", 400),
    131051: ("Unsupported message type", 400),
    131052: ("Media download error", 400),
    131053: ("Media upload error", 400),
    131055: ("Method not allowed", 405),
    131056: ("(Business Account, Consumer Account) pair rate limit hit", 400),
    131057: ("Account in maintenance mode", 500),
    131062: ("Business-scoped user ID recipients are not supported for this message", 400),
    132000: ("Template parameter count mismatch", 400),
    132001: ("Template does not exist", 404),
    132005: ("Template hydrated text too long", 400),
    132007: ("Template format character policy violated", 400),
    132008: ("Template parameter format is not valid", 400),
    132012: ("Template parameter format mismatch", 400),
    132015: ("Template is paused", 400),
    132016: ("Template is disabled", 400),
    133004: ("Server temporarily unavailable", 503),
    133010: ("Phone number not registered", 400),
    135000: ("Generic user error", 400),
}


def any_kind(code: int, *, title: str | None, status: int | None, subcode: int | None) -> ErrorKind:
    """The error of any code; what is not given comes from Meta's table, and for a code that is not there from code 1."""
    usual, answered = TITLES.get(code, TITLES[1])
    wording = Wording.PLAIN if code == 190 else Wording.TITLED if code > 100_000 else Wording.PARAMETER
    return ErrorKind(code, wording, title=title or usual, status=status or answered, subcode=subcode)


def envelope(kind: ErrorKind, detail: str) -> Json:
    """The body of a refused request: `{"error": {...}}` with a fresh trace id."""
    error: Json = {"message": _message(kind, detail), "type": kind.type, "code": kind.code}
    if kind.wording is Wording.TITLED:
        error["error_data"] = {"messaging_product": "whatsapp", "details": detail}
    if kind.subcode is not None:
        error["error_subcode"] = kind.subcode
        # What Meta shows to users, it says of templates only.
        if kind.subcode in TEMPLATES:
            error |= {"is_transient": False, "error_user_title": kind.title, "error_user_msg": detail}
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
