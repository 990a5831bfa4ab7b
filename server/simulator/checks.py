"""Everything Meta refuses a message (or a read mark) for: one table, tried from top to bottom.

The first row that finds something decides the answer. `source` quotes the rule of Meta's Cloud API documentation the
row stands for; what a message that is no text carries is looked at by `contents`. Rules that cannot meet these messages
(templates, media, management calls) have no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property

from server.simulator import contents, errors, template_sends, uploads
from server.simulator.accounts import Account, Person
from server.simulator.addresses import is_bsuid, is_phone
from server.simulator.errors import ErrorKind
from server.simulator.media import Media

TEXT_MOST = 4096
OPAQUE_MOST = 512
TYPES = (
    "audio", "contacts", "document", "image", "interactive", "location", "reaction", "sticker", "template", "text",
    "video",
)  # fmt: skip
MESSAGE_KEYS = frozenset(
    {"messaging_product", "recipient_type", "to", "recipient", "type", "text", "context", "biz_opaque_callback_data"}
    | contents.SHAPES.keys()
)
READ_KEYS = frozenset({"messaging_product", "status", "message_id", "typing_indicator"})


@dataclass(frozen=True)
class Attempt:
    """One request: the path, the bearer token, the JSON object (None when there was none), and what it meets.

    `account` is the number of the path, if it exists; `templates` are those of its business account;
    `tokens` says when each ends; `media` finds a file;
    `wall` is Unix time, `steady` a clock that never goes back.
    """

    version: str
    phone_number_id: str
    token: str | None
    body: Mapping[str, object] | None
    account: Account | None
    versions: tuple[str, ...]
    tokens: Mapping[str, float]
    media: Callable[[str], Media | None]
    templates: Sequence[errors.Json]
    wall: float
    steady: float

    @property
    def marks_read(self) -> bool:
        """Whether the body is a read mark and not a message."""
        return self.body is not None and "status" in self.body

    @property
    def carries(self) -> object:
        """What kind of message it is, "text" when it does not say."""
        word = self.value("type")
        return "text" if word is None else word

    @cached_property
    def problem(self) -> contents.Problem | None:
        """What is wrong with what it carries, if that is no text."""
        return None if self.body is None else contents.problem(self.body)

    @cached_property
    def template_problem(self) -> contents.Problem | None:
        """What is wrong with the template it is made from, if it is; for the rows after those of its shape."""
        sent = self.value("template")
        if not isinstance(sent, Mapping):
            return None
        return template_sends.problem(sent, self.templates, to_user_id=self.value("to") is None)

    @cached_property
    def file_problem(self) -> contents.Problem | None:
        """What is wrong with the files that it names, for the rows after those of its shape."""
        return uploads.refused(self.body or {}, phone_number_id=self.phone_number_id, media=self.media)

    @cached_property
    def number(self) -> Account:
        """The account, for the rows after the one that refuses unknown numbers."""
        if self.account is None:
            raise LookupError("no account stands behind this request")
        return self.account

    @cached_property
    def person(self) -> Person:
        """The customer addressed; `to` wins over `recipient`. For the rows after those that check both."""
        to = self.value("to")
        if isinstance(to, str):
            digits = to.removeprefix("+")
            return self.number.person(phone=self.number.config.wa_ids.get(digits, digits))
        return self.number.person(phone=None, bsuid=str(self.value("recipient")))

    @property
    def window_closed(self) -> bool:
        """Whether the customer has not written for 24 hours, and this is no template, which Meta delivers all the same."""
        return (
            self.carries != "template" and self.number.config.window != "off" and self.wall >= self.person.window_until
        )

    def value(self, path: str) -> object:
        """The value at a dotted path of the body; None when it, or anything above it, is missing or null."""
        found: object = self.body
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


class Of(Enum):
    """Which requests a row looks at."""

    ANY = "any"
    MESSAGE = "message"
    TEXT = "text"
    READ = "read"


# Answers what is wrong, in Meta's words, or None.
Check = Callable[[Attempt], str | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: its name, the sentence it comes from, the check, the error it answers with."""

    name: str
    source: str
    check: Check
    error: ErrorKind
    of: Of = Of.MESSAGE

    def applies(self, attempt: Attempt) -> bool:
        """Whether the row looks at this kind of request."""
        if self.of is Of.TEXT:
            return not attempt.marks_read and attempt.carries == "text"
        return self.of is Of.ANY or (self.of is Of.READ) == attempt.marks_read


def refusal(attempt: Attempt) -> tuple[Row, str] | None:
    """The first row of the table that refuses the attempt, and its detail."""
    for row in CHECKS:
        detail = row.check(attempt) if row.applies(attempt) else None
        if detail is not None:
            return row, detail
    return None


def _version(attempt: Attempt) -> str | None:
    if attempt.version in attempt.versions:
        return None
    return f"Unknown path components: /{attempt.phone_number_id}/messages"


def _token_given(attempt: Attempt) -> str | None:
    return None if attempt.token else "An access token is required to request this resource."


def _token_known(attempt: Attempt) -> str | None:
    return None if attempt.token in attempt.tokens else "Invalid OAuth access token - Cannot parse access token"


def _token_alive(attempt: Attempt) -> str | None:
    end = attempt.tokens[attempt.token or ""]
    if attempt.wall < end:
        return None
    form = "%A, %d-%b-%y %H:%M:%S UTC"
    return (
        f"Error validating access token: Session has expired on {datetime.fromtimestamp(end, UTC):{form}}. "
        f"The current time is {datetime.fromtimestamp(attempt.wall, UTC):{form}}."
    )


def _number_known(attempt: Attempt) -> str | None:
    return None if attempt.account else _no_object(attempt)


def _number_allowed(attempt: Attempt) -> str | None:
    allowed = attempt.number.config.access_token.get_secret_value()
    return None if attempt.token == allowed else _no_object(attempt)


def _may_send(attempt: Attempt) -> str | None:
    if "whatsapp_business_messaging" in attempt.number.config.scopes:
        return None
    return "You do not have the necessary permissions to send messages on behalf of this WhatsApp Business Account"


def _registered(attempt: Attempt) -> str | None:
    registered = attempt.number.config.status == "CONNECTED"
    return None if registered else "The phone number is not registered on the WhatsApp Business Platform."


def _no_object(attempt: Attempt) -> str:
    return (
        f"Unsupported post request. Object with ID '{attempt.phone_number_id}' does not exist, cannot be loaded due to "
        "missing permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api"
    )


def _required(path: str) -> Check:
    def check(attempt: Attempt) -> str | None:
        return f"The parameter {path} is required." if attempt.value(path) in (None, "") else None

    return check


def _one_of(path: str, *words: str) -> Check:
    def check(attempt: Attempt) -> str | None:
        value = attempt.value(path)
        if value is None or value in words:
            return None
        allowed = ", ".join(word.upper() for word in words)
        return f'Param {path} must be one of {{{allowed}}} - got "{value}".'

    return check


def _string(path: str) -> Check:
    def check(attempt: Attempt) -> str | None:
        value = attempt.value(path)
        return None if value is None or isinstance(value, str) else f"Param {path} must be a string."

    return check


def _object(path: str) -> Check:
    def check(attempt: Attempt) -> str | None:
        value = attempt.value(path)
        return None if value is None or isinstance(value, Mapping) else f"Param {path} must be a JSON object."

    return check


def _at_most(path: str, characters: int) -> Check:
    def check(attempt: Attempt) -> str | None:
        value = attempt.value(path)
        too_long = isinstance(value, str) and len(value) > characters
        return f"Param {path} must be at most {characters} characters long." if too_long else None

    return check


def _known_keys(path: str, *known: str) -> Check:
    def check(attempt: Attempt) -> str | None:
        value = attempt.value(path)
        unknown = next((key for key in value if key not in known), None) if isinstance(value, Mapping) else None
        return None if unknown is None else f'Unexpected key "{unknown}" on param "{path}".'

    return check


def _body_keys(known: frozenset[str]) -> Check:
    def check(attempt: Attempt) -> str | None:
        unknown = next((key for key in attempt.body or () if key not in known), None)
        return None if unknown is None else f'Unexpected key "{unknown}" on param.'

    return check


def _json_object(attempt: Attempt) -> str | None:
    """Meta reads any other body as an empty form, and misses the first parameter it needs."""
    return "The parameter messaging_product is required." if attempt.body is None else None


def _recipient_given(attempt: Attempt) -> str | None:
    missing = all(attempt.value(path) in (None, "") for path in ("to", "recipient"))
    return "The parameter to is required." if missing else None


def _to_format(attempt: Attempt) -> str | None:
    to = attempt.value("to")
    if not isinstance(to, str) or attempt.value("recipient_type") == "group" or is_phone(to):
        return None
    return "The phone number is malformed: Please use the format: +1234567890."


def _recipient_format(attempt: Attempt) -> str | None:
    recipient = attempt.value("recipient")
    fits = not isinstance(recipient, str) or is_bsuid(recipient)
    return None if fits else "The recipient is not a business-scoped user ID."


def _group_known(attempt: Attempt) -> str | None:
    return "The group does not exist." if attempt.value("recipient_type") == "group" else None


def _content_given(attempt: Attempt) -> str | None:
    word = attempt.carries
    return None if attempt.value(str(word)) is not None else f"Parameter '{word}' is mandatory for type '{word}'."


def _content(error: ErrorKind) -> Check:
    def check(attempt: Attempt) -> str | None:
        problem = attempt.problem
        return problem.detail if problem is not None and problem.error is error else None

    return check


def _template(error: ErrorKind) -> Check:
    def check(attempt: Attempt) -> str | None:
        problem = attempt.template_problem
        return problem.detail if problem is not None and problem.error is error else None

    return check


def _file(error: ErrorKind) -> Check:
    def check(attempt: Attempt) -> str | None:
        problem = attempt.file_problem
        return problem.detail if problem is not None and problem.error is error else None

    return check


def _preview_flag(attempt: Attempt) -> str | None:
    flag = attempt.value("text.preview_url")
    return None if flag is None or isinstance(flag, bool) else "Param text.preview_url must be a boolean."


def _context_message(attempt: Attempt) -> str | None:
    if attempt.value("context") is None:
        return None
    message_id = attempt.value("context.message_id")
    given = isinstance(message_id, str) and message_id != ""
    return None if given else "The parameter context.message_id is required."


def _not_oneself(attempt: Attempt) -> str | None:
    itself = attempt.person.phone == attempt.number.config.display_phone_number
    return "Sender and recipient phone number is the same." if itself else None


def _throughput(attempt: Attempt) -> str | None:
    return "Cloud API message throughput has been reached." if attempt.number.throughput.full(attempt.steady) else None


def _pair_rate(attempt: Attempt) -> str | None:
    if not attempt.number.pairs.full(attempt.person.address, attempt.steady):
        return None
    return (
        "Message failed to send because there were too many messages sent from this phone number to the same phone "
        "number in a short period of time."
    )


def _window(attempt: Attempt) -> str | None:
    refused = attempt.number.config.window == "sync" and attempt.window_closed
    return errors.WINDOW_CLOSED if refused else None


def _message_received(attempt: Attempt) -> str | None:
    known = attempt.number.received(str(attempt.value("message_id")))
    return None if known else "The message ID does not belong to a message this phone number received."


def _reaction_message(attempt: Attempt) -> str | None:
    wamid = attempt.value("reaction.message_id")
    known = attempt.carries != "reaction" or attempt.number.reacts_to(str(wamid), attempt.wall)
    return None if known else "Reaction failed to send: the message is unknown, too old, or a reaction itself."


CHECKS: tuple[Row, ...] = (
    # The path and who asks.
    Row("version", "POST /{version}/{phone_number_id}/messages: version", _version, errors.UNKNOWN_PATH, Of.ANY),
    Row("token_given", "Authorization: Bearer <token>", _token_given, errors.BAD_TOKEN, Of.ANY),
    Row("token_known", "190: token invalid or expired", _token_known, errors.BAD_TOKEN, Of.ANY),
    Row("token_alive", "190/463: token expired", _token_alive, errors.TOKEN_EXPIRED, Of.ANY),
    Row("number_known", "100/33: the phone number id does not exist", _number_known, errors.NO_SUCH_OBJECT, Of.ANY),
    Row("number_allowed", "100/33: or is not the token's", _number_allowed, errors.NO_SUCH_OBJECT, Of.ANY),
    Row("token_may_send", "200: whatsapp_business_messaging is missing", _may_send, errors.NO_PERMISSION, Of.ANY),
    Row("registered", "133010: the number is not registered", _registered, errors.NOT_REGISTERED, Of.ANY),
    # The body, whatever it asks for.
    Row("json_object", "Content-Type: application/json, an object", _json_object, errors.PARAMETER, Of.ANY),
    Row("product_given", "messaging_product: required", _required("messaging_product"), errors.PARAMETER, Of.ANY),
    Row("product", "messaging_product: whatsapp", _one_of("messaging_product", "whatsapp"), errors.PARAMETER, Of.ANY),
    # To whom.
    Row("recipient_type", "recipient_type: individual or group",
        _one_of("recipient_type", "individual", "group"), errors.PARAMETER),
    Row("to_string", "to: string", _string("to"), errors.PARAMETER),
    Row("recipient_string", "recipient: string", _string("recipient"), errors.PARAMETER),
    Row("recipient_given", "to or recipient: one is required", _recipient_given, errors.PARAMETER),
    Row("to_format", "to: number with country code", _to_format, errors.BAD_VALUE),
    Row("recipient_format", "recipient: business-scoped user id", _recipient_format, errors.BAD_VALUE),
    Row("group_known", "to: group id, when recipient_type is group", _group_known, errors.BAD_VALUE),
    # What.
    Row("type", "type: one of the message types, text when absent", _one_of("type", *TYPES), errors.PARAMETER),
    Row("message_keys", "100: unsupported or misspelled parameter",
        _body_keys(MESSAGE_KEYS), errors.INVALID_PARAMETER),
    Row("content_given", "one object named after the type", _content_given, errors.MISSING_PARAMETER),
    Row("text_object", "text: object", _object("text"), errors.PARAMETER, Of.TEXT),
    Row("text_keys", "text: body and preview_url only",
        _known_keys("text", "body", "preview_url"), errors.INVALID_PARAMETER, Of.TEXT),
    Row("body_given", "text.body: required", _required("text.body"), errors.PARAMETER, Of.TEXT),
    Row("body_string", "text.body: string", _string("text.body"), errors.PARAMETER, Of.TEXT),
    Row("body_length", "text.body: at most 4096 characters", _at_most("text.body", TEXT_MOST), errors.PARAMETER, Of.TEXT),
    Row("preview_flag", "text.preview_url: boolean", _preview_flag, errors.PARAMETER, Of.TEXT),
    Row("content_missing", "131008: required parameter of the content",
        _content(errors.MISSING_PARAMETER), errors.MISSING_PARAMETER),
    Row("content_keys", "100: unsupported parameter of the content",
        _content(errors.INVALID_PARAMETER), errors.INVALID_PARAMETER),
    Row("content_values", "131009: lengths, numbers and shapes of the content",
        _content(errors.BAD_VALUE), errors.BAD_VALUE),
    Row("media_known", "100: an id of a file of this number, no older than 30 days", _file(errors.PARAMETER), errors.PARAMETER),
    Row("media_fits", "131053: type and size of a file of the kind", _file(errors.MEDIA_REFUSED), errors.MEDIA_REFUSED),
    Row("reaction_message", "131009: reaction.message_id: of a message, 30 days old at most, no reaction",
        _reaction_message, errors.BAD_VALUE),
    Row("context_object", "context: object", _object("context"), errors.PARAMETER),
    Row("context_keys", "context: message_id only",
        _known_keys("context", "message_id"), errors.INVALID_PARAMETER),
    # A message that is unknown or too old is no error: the quote is left out.
    Row("context_message", "context.message_id: required", _context_message, errors.PARAMETER),
    Row("opaque_string", "biz_opaque_callback_data: string", _string("biz_opaque_callback_data"), errors.PARAMETER),
    Row("opaque_length", "biz_opaque_callback_data: at most 512 characters",
        _at_most("biz_opaque_callback_data", OPAQUE_MOST), errors.PARAMETER),
    # The template that it is made from.
    Row("template_missing", "132001: not there in this language, or not approved",
        _template(errors.TEMPLATE_MISSING), errors.TEMPLATE_MISSING),
    Row("template_paused", "132015: paused for its quality", _template(errors.TEMPLATE_PAUSED), errors.TEMPLATE_PAUSED),
    Row("template_disabled", "132016: paused too often",
        _template(errors.TEMPLATE_DISABLED), errors.TEMPLATE_DISABLED),
    Row("template_recipient", "131062: codes to sign in with go to phone numbers",
        _template(errors.NO_USER_ID), errors.NO_USER_ID),
    Row("template_count", "132000: as many parameters as places",
        _template(errors.PARAMETER_COUNT), errors.PARAMETER_COUNT),
    Row("template_value", "132008: a value of its form",
        _template(errors.PARAMETER_VALUE), errors.PARAMETER_VALUE),
    Row("template_format", "132012: of the kind, and named as, the place asks",
        _template(errors.PARAMETER_FORMAT), errors.PARAMETER_FORMAT),
    Row("template_text", "132018: no line breaks, tabs, five spaces",
        _template(errors.PARAMETER_TEXT), errors.PARAMETER_TEXT),
    Row("template_length", "132005: at most 1024 characters in all",
        _template(errors.TEXT_TOO_LONG), errors.TEXT_TOO_LONG),
    Row("template_button", "131008: what a button needs",
        _template(errors.MISSING_PARAMETER), errors.MISSING_PARAMETER),
    # Whether it may go now.
    Row("not_oneself", "131021: recipient is the sender", _not_oneself, errors.RECIPIENT_IS_SENDER),
    Row("throughput", "130429: 80 messages a second, in and out", _throughput, errors.THROUGHPUT),
    Row("pair_rate", "131056: one in 6 s to one user, bursts of 45", _pair_rate, errors.PAIR_RATE),
    Row("window", "131047: free text within 24 h of the user's last message", _window, errors.REENGAGEMENT),
    # Read marks and the typing indicator.
    Row("read_status", "status: read", _one_of("status", "read"), errors.PARAMETER, Of.READ),
    Row("read_message_given", "message_id: required", _required("message_id"), errors.PARAMETER, Of.READ),
    Row("read_keys", "100: unsupported or misspelled parameter",
        _body_keys(READ_KEYS), errors.INVALID_PARAMETER, Of.READ),
    Row("typing_type", "typing_indicator: {type: text}", _one_of("typing_indicator.type", "text"),
        errors.PARAMETER, Of.READ),
    Row("read_message", "message_id: of a message received", _message_received, errors.INVALID_PARAMETER, Of.READ),
)  # fmt: skip
