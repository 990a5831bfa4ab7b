"""What every provider gives the rest of the server, and takes from it.

A provider does two things: it reads one change of a webhook into items, and it sends one message. Both are typed here
and nowhere else; no provider's payload is seen above this module. Reading is pure and never raises, whatever the JSON
holds.

Sources: Meta's Cloud API documentation (webhooks, messages, error codes) as of November 2026.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal, Protocol, TypeAlias

from server.providers.checks import CheckedAccount, CheckReport
from server.providers.content import AddressKind, Content, ContentKind, ContentLimits
from server.providers.health import AccountChange
from server.providers.media import (
    FileLimits,
    MediaBrought,
    MediaFailed,
    MediaFetched,
    MediaSink,
    MediaToBring,
    WantedMedia,
)
from server.providers.template import (
    TemplateAccount,
    TemplateChange,
    TemplatePage,
    TemplateSample,
    TemplateWrite,
    TemplateWritten,
)

# What json.loads gives. A name of its own, because Change has a field called object.
Json: TypeAlias = object

MarkKind = Literal["read", "typing", "reaction"]

MessageKind = Literal[
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "interactive",
    "order",
    "unsupported",
]
AttachmentKind = Literal["image", "video", "audio", "document", "sticker"]
MessageChangeKind = Literal["reaction", "edit", "revoke"]
MessageOrigin = Literal["phone_app", "history"]
ConsentState = Literal["stopped", "resumed", "signed_up"]
ReceiptStatus = Literal["sent", "delivered", "read", "failed", "played"]


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a person (or a group) at a provider; opaque, case-sensitive, compared whole.

    `wa_id` is a phone number in digits without a plus, `bsuid` and `parent_bsuid` are business-scoped user ids,
    `group` is a WhatsApp group, `user_ref` is what a system of the user's own calls somebody. Personal data.
    """

    kind: AddressKind
    value: str


class ErrorClass(Enum):
    """What to do about a provider's error."""

    RETRY = "retry"
    """Passes by itself: send again after `retry_after`."""
    WAIT = "wait"
    """Passes by itself, but late or after somebody acts: send again not before `retry_after` (hours)."""
    PERMANENT = "permanent"
    """This message will never be accepted: fail it."""
    STOP_CHANNEL = "stop_channel"
    """Token, number or account is out of order: pause the channel, keep its queue."""
    BUG = "bug"
    """We sent something malformed: fail the message and tell the operator."""


class Holds(Enum):
    """How far an error reaches while it lasts."""

    MESSAGE = "message"
    RECIPIENT = "recipient"
    TEMPLATES = "templates"
    """What the account begins; its answers go on."""
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class ProviderError:
    """One error as a webhook tells it: the provider's code as text, its words, and what we make of them.

    `closes_reply_window`: the provider says the reply window is closed (131047); its word beats our own reckoning.
    `stops_marketing`: it says that the customer wants no marketing messages (131050).
    """

    code: str
    message: str
    error_class: ErrorClass = ErrorClass.PERMANENT
    closes_reply_window: bool = False
    stops_marketing: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a webhook, the unit of routing and of parsing.

    object: the webhook's object word, such as "whatsapp_business_account". entry_index, change_index: where it stood
    in the body; change_index is None when the entry has no list of changes, and `value` is then the whole entry.
    entry_id: the entry's id (WhatsApp: the WABA id), None when it has none that could be one. field: what the change
    is about, "" when the provider named nothing. value: what changed, any JSON. account_id: the account it belongs to
    (WhatsApp: the phone_number_id), None when it names none; a management field then belongs to everybody under
    `entry_id`. time: when the entry was sent, None when it does not tell.
    """

    object: str
    entry_index: int
    change_index: int | None
    entry_id: str | None
    field: str
    value: Json
    account_id: str | None
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundAttachment:
    """A file of a message as the webhook describes it.

    `size_bytes` is None where the provider does not tell (WhatsApp never does), `provider_media_id` is None when the
    file could not be fetched by the provider, `sha256` is base64 as WhatsApp writes it. voice: spoken into the phone; animated: of
    stickers.
    """

    kind: AttachmentKind
    mime_type: str
    file_name: str | None = None
    size_bytes: int | None = None
    provider_media_id: str | None = None
    sha256: str | None = None
    voice: bool = False
    animated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """A message a customer wrote.

    provider_id: the message's id at the provider (personal data: a wamid holds the phone number). provider_time: UTC,
    whole seconds at WhatsApp. account_id: the phone_number_id it was written to. addresses: never empty, the best
    thread key first. type: lower-case word of the contract's MessageType. text: body, caption, or the title of the
    button pressed. details: JSON of what has no field here: location, contacts, interactive, order, unsupported, referral,
    referred_product as the messages of the contract with these names (enums as lower-case words, times in ISO 8601), forwarding
    "once" or "often", username, and sender, the member of a group who wrote. reply_to_id: the provider id of the message quoted.
    opens_reply_window: False for the few placeholders that stand for something other than a message.

    No string holds U+0000 or a lone surrogate; both were replaced with U+FFFD.
    """

    provider_id: str
    provider_time: datetime
    account_id: str
    addresses: tuple[Address, ...]
    type: MessageKind
    profile_name: str | None = None
    text: str | None = field(default=None, repr=False)
    attachments: tuple[InboundAttachment, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict, repr=False)
    reply_to_id: str | None = None
    opens_reply_window: bool = True
    kind: Literal["message"] = "message"
    discriminator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChange:
    """What somebody does to a message that was there before, of either side; no message of its own.

    provider_id: its own id; discriminator: its kind. addresses: the customer's, as of InboundMessage. member: who of a group did
    it, None outside of groups. by: which side did it. target_id: the provider's id of the message, which may be another form of the
    one known here. emoji: of a reaction, None to take it away. text: of an edit, the new one, None for what has none.
    """

    provider_id: str
    discriminator: MessageChangeKind
    provider_time: datetime
    account_id: str
    addresses: tuple[Address, ...]
    target_id: str
    member: str | None = None
    emoji: str | None = None
    text: str | None = field(default=None, repr=False)
    by: Literal["customer", "business"] = "customer"
    kind: Literal["message_change"] = "message_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageCopy:
    """A message that was not sent from here, told of afterwards.

    origin: "phone_app" of what the business writes on its phone, "history" of what either side wrote before the account was
    connected. addresses: the customer's, whoever wrote. status: how far one of the business had come. opaque: as of Receipt, where it
    was sent from here after all. The rest as of InboundMessage.
    """

    provider_id: str
    provider_time: datetime
    account_id: str
    addresses: tuple[Address, ...]
    origin: MessageOrigin
    direction: Literal["inbound", "outbound"]
    type: MessageKind
    status: ReceiptStatus = "sent"
    profile_name: str | None = None
    text: str | None = field(default=None, repr=False)
    attachments: tuple[InboundAttachment, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict, repr=False)
    reply_to_id: str | None = None
    opaque: str | None = None
    discriminator: str = ""
    kind: Literal["message_copy"] = "message_copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityChange:
    """That a customer has other addresses now. previous: those that ended; current: those that began, or go on."""

    provider_id: str
    discriminator: str
    provider_time: datetime
    account_id: str
    previous: tuple[Address, ...]
    current: tuple[Address, ...]
    kind: Literal["identity_change"] = "identity_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentChange:
    """Whether a customer wants marketing messages. provider_id: the hash of its JSON. addresses: whose word it is, never empty."""

    provider_id: str
    provider_time: datetime
    account_id: str
    addresses: tuple[Address, ...]
    state: ConsentState
    discriminator: str = ""
    kind: Literal["consent"] = "consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Who answers a customer is another one now, or what an agent of the provider's has to tell of what was said before.

    provider_id: the hash of its JSON. addresses: the customer, never empty. change: passed (it is ours to answer), taken (it is not),
    told (a summary alone). previous, current: the provider's words for who had it and who has it. summary: in words, of that agent.
    """

    provider_id: str
    provider_time: datetime
    account_id: str
    addresses: tuple[Address, ...]
    change: Literal["passed", "taken", "told"]
    previous: str | None = None
    current: str | None = None
    summary: str | None = field(default=None, repr=False)
    discriminator: str = ""
    kind: Literal["handover"] = "handover"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How far a message of ours came.

    provider_id: the message's id at the provider. discriminator: the status word, and in groups "/" and the
    participant. opaque: what we gave with the message as Outgoing.opaque, None when the provider does not return it.
    errors: of a failed message, may be empty; the first one decides. addresses: who it was for, may be empty.
    participant: the member of a group this receipt is about; such a receipt says nothing about the other members.
    """

    provider_id: str
    discriminator: str
    provider_time: datetime
    account_id: str
    status: ReceiptStatus
    opaque: str | None = None
    errors: tuple[ProviderError, ...] = ()
    addresses: tuple[Address, ...] = ()
    participant: Address | None = None
    kind: Literal["receipt"] = "receipt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Something this version does not apply, known or not; it is journaled once like everything else.

    kind: what it is, such as "reaction", "payment", "field:account_update". provider_id: its own id, or "sha256:" and
    the hash of its JSON when it has none. reason: a short fixed phrase without customer data.
    """

    kind: str
    provider_id: str
    reason: str
    discriminator: str = ""
    provider_time: datetime | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One item that cannot be read, such as a message without an id; its siblings are not affected.

    provider_id: as of Ignored. discriminator: a hash of the item, so that two broken items with one id are two.
    error: what is wrong, by path, without customer data.
    """

    provider_id: str
    error: str
    discriminator: str = ""
    provider_time: datetime | None = None
    account_id: str | None = None
    kind: Literal["broken"] = "broken"


# (channel, kind, provider_id, discriminator, provider_time) tells items apart: the same item again has the same five, and
# a provider_time of None is a value like any other (NULLS NOT DISTINCT).
Item = (
    InboundMessage
    | MessageChange
    | MessageCopy
    | IdentityChange
    | ConsentChange
    | Handover
    | Receipt
    | TemplateChange
    | AccountChange
    | Ignored
    | Broken
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """Somebody who is erased: whose addresses these are, and provider ids of what was said to or by him; kept: ids of what stays all the
    same, since somebody else has the address by now. changes: entry_index and change_index of changes that are about nobody else.
    """

    addresses: Collection[str] = frozenset()
    ids: Collection[str] = frozenset()
    kept: Collection[str] = frozenset()
    changes: Collection[tuple[int, int | None]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to send.

    account_id: the account to send from. token: its secret. settings: the details it was connected with. text: at
    most Capabilities.text_characters. opaque: comes back in receipts, at most Capabilities.opaque_characters (our
    part id). attempt: 1 for the first try; retry delays and budgets go by it. reply_to_id: provider id of the message
    to quote. content: what it carries if it is no plain text, within Capabilities.contents; its body is the text.
    """

    account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, Json]
    to: Address = field(repr=False)
    text: str = field(repr=False)
    opaque: str
    attempt: int = 1
    reply_to_id: str | None = field(default=None, repr=False)
    content: Content | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is told of a message, and may be told again: that it and all before it in its thread were read, that somebody writes an
    answer too, or a reaction to it.

    account_id, token, settings: as of Outgoing. provider_message_id: the message's id at the provider. to: whose thread a reaction is
    in; emoji: the reaction, None to take it away. attempt: 1 for the first try.
    """

    kind: MarkKind
    account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, Json]
    provider_message_id: str = field(repr=False)
    to: Address | None = field(default=None, repr=False)
    emoji: str | None = field(default=None, repr=False)
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider answered that it has the message, or marked the one of this id read.

    canonical: the recipient's address in the provider's own form (never the one we wrote). addresses: all it named.
    note: the provider's word when it accepted but holds it back ("held_for_quality_assessment", "paused").
    """

    provider_id: str
    canonical: Address | None = None
    addresses: tuple[Address, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider answered that it does not take the message; it does not have it.

    code: the provider's code as text; "http_429" and the like when the answer carried none. message: its words.
    retry_after: set for RETRY and WAIT; add jitter. When the attempts a code is worth are used up the class is
    PERMANENT instead. holds: who else should wait meanwhile. ends_token: the token is not accepted any more.
    closes_reply_window, stops_marketing: as of ProviderError. trace_id: what the provider's support asks for. of_file: a file of it
    is not there, or not as it should be: bringing it anew may help. of_template: what is known here of its template is wrong by now.
    subcode: its second number. problem: what it does not like of a template, a word of the contract's TEMPLATE_REFUSED. advice: what
    it says to users.
    """

    error_class: ErrorClass
    code: str
    message: str
    retry_after: timedelta | None = None
    holds: Holds = Holds.MESSAGE
    closes_reply_window: bool = False
    stops_marketing: bool = False
    ends_token: bool = False
    trace_id: str | None = None
    of_file: bool = False
    of_template: bool = False
    subcode: str | None = None
    problem: str | None = None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The request was written, at least its first byte, and no complete answer came: never send again by yourself."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request was written: safe to send again."""

    reason: str


Outcome = Accepted | Refused | Ambiguous | NotSent


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often something may be sent to one recipient: once in `every`, and at once as many as `ahead` has room for beside the first.

    `ahead` is borrowed: all of it goes within one `every`, and then nothing until the time of what went has passed.
    """

    every: timedelta
    ahead: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeEntry:
    """Messages to whom an advertisement led here are free for so long after the first answer, if that comes within `answer_within`."""

    answer_within: timedelta
    lasts: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do, as data, checked before sending.

    text_characters: longest text, in code points. opaque_characters: longest Outgoing.opaque. reply_window: how long
    after the customer's last message free text is allowed, None for always. reply_window_margin: taken off it, for
    clocks and transport. human_agent_window: longer window for answers written by people, None for none. contents:
    what it can send beside plain text, and how much of it. address_kinds: kinds of Outgoing.to it can send to. sends_per_second:
    of one account in any second, where the account has no number of its own. recipient_pace: from one account to one recipient.
    marks: what can be told of messages. reaction_age: of the oldest message that takes a reaction. shared_account: the detail
    that names the account which channels share, whose webhooks name no channel; None for none. templates: whether such an
    account has templates. free_entry: of customers who come by an advertisement; None where nothing is free. files: kinds of
    files it can send.
    """

    text_characters: int
    opaque_characters: int
    reply_window: timedelta | None
    reply_window_margin: timedelta
    sends_per_second: int
    recipient_pace: Pace
    human_agent_window: timedelta | None = None
    contents: Mapping[ContentKind, ContentLimits] = field(default_factory=dict)
    address_kinds: frozenset[AddressKind] = frozenset()
    marks: frozenset[MarkKind] = frozenset()
    reaction_age: timedelta | None = None
    shared_account: str | None = None
    templates: bool = False
    free_entry: FreeEntry | None = None
    files: Mapping[AttachmentKind, FileLimits] = field(default_factory=dict)


class SettingInvalid(Exception):
    """A setting of an account that cannot be connected so. name: of the setting; problem: a sentence's end, such as "is needed"."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name, self.problem = name, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of a provider as it is stored.

    account_id: what its webhooks name, one channel of the installation has it. token: what is sealed. details: the fields of the
    message of the contract that shows it, by their names in the contract; no secrets.
    """

    account_id: str
    token: str = field(repr=False)
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """An account with a new secret. token: what is sealed now; details: fields of Account.details that changed with it."""

    token: str = field(repr=False)
    details: Mapping[str, str]


class Provider(Protocol):
    """One network. Safe for use by many tasks of one event loop."""

    @property
    def name(self) -> str:
        """Lower-case word of the contract's Provider enum, such as "whatsapp"."""

    @property
    def webhook_objects(self) -> frozenset[str]:
        """The values of Change.object it reads."""

    @property
    def parser_version(self) -> int:
        """Rises with every change of what `parse` returns for the same JSON; kept with each journaled item."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def takes_calls(self) -> bool:
        """Whether what customers wrote comes by calls instead of webhooks."""

    def account(self, settings: Mapping[str, str], *, channel_id: str) -> Account:
        """What to store of an account with these settings. Connects to nothing. SettingInvalid."""

    def moved(self, callback_url: str) -> Mapping[str, str]:
        """Fields of Account.details that change with another callback address. Connects to nothing. SettingInvalid."""

    @property
    def makes_secrets(self) -> bool:
        """Whether we make the secrets of its accounts; whoever connects or rotates must be told them."""

    def rotated(self, token: str, *, made_by: str, now: datetime, overlap: timedelta) -> Rotated | None:
        """A new secret in place of the one in this token, which still serves for the overlap. None where the provider makes them.

        made_by: the call that asks, 32 hexadecimal digits.
        """

    def secret(self, token: str, *, made_by: str) -> str | None:
        """The secret to show to the call that made it; "" stands for connecting. None when another was made since, or not here."""

    def changes(self, raw: bytes) -> Sequence[Change]:
        """The changes of a journaled body; none of a body that is not its own. Pure; never raises."""

    def parse(self, change: Change) -> Sequence[Item]:
        """Reads one change, in the order it has things in. Pure; never raises; empty when there is nothing in it."""

    def without(self, raw: bytes, erased: Erased) -> bytes | None:
        """A journaled body without what it has of somebody; None when it has nothing. What is left of others reads as before. Pure;
        never raises.
        """

    def telling(self, addresses: Collection[str]) -> Sequence[str]:
        """How ids of this provider begin in which one of these addresses stands."""

    async def send(self, outgoing: Outgoing) -> Outcome:
        """Sends one message, once; never raises but for cancellation.

        Cancelled after the first byte the outcome is unknown, so callers shield it or treat their cancellation as
        Ambiguous.
        """

    async def mark(self, mark: Mark) -> Outcome:
        """Tells something of a message, which may be repeated; never raises but for cancellation. Only what Capabilities.marks has."""

    async def templates(
        self, account: TemplateAccount, *, after: str | None, name: str | None = None
    ) -> TemplatePage | Refused | NotSent | Ambiguous:
        """A page of an account's templates, which may be asked for again; never raises but for cancellation. Asked only where
        Capabilities.templates, as the two below are. name: those whose names are like it are enough.
        """

    async def write_template(
        self, account: TemplateAccount, write: TemplateWrite
    ) -> TemplateWritten | Refused | NotSent | Ambiguous:
        """Writes a template, once; never raises but for cancellation. What it refuses of templates has a `problem`."""

    async def upload_sample(
        self, account: TemplateAccount, sample: TemplateSample
    ) -> str | Refused | NotSent | Ambiguous:
        """Uploads a sample, which may be repeated; its handle. Never raises but for cancellation."""

    async def check(self, account: CheckedAccount) -> CheckReport | Refused | NotSent | Ambiguous:
        """Asks whether an account can be used, and how it does; may be repeated. No checks where there is nobody to ask. What the provider
        answered where it could not be asked to the end; never raises but for cancellation.
        """

    async def leave(self, account: CheckedAccount) -> Accepted | Refused | NotSent | Ambiguous:
        """Ends the webhooks of what an account shares with others; may be repeated. Asked only where Capabilities.shared_account is set;
        never raises but for cancellation.
        """

    async def fetch_media(self, wanted: WantedMedia, sink: MediaSink) -> MediaFetched | MediaFailed:
        """Fetches a file that a customer sent, which may be repeated; never raises but for cancellation and errors of the sink. Asked
        only for what InboundAttachment.provider_media_id named.
        """

    async def bring_media(self, media: MediaToBring) -> MediaBrought | Refused | NotSent | Ambiguous:
        """Brings a file to the provider, to be named by messages of the same account; it may be repeated. Never raises but for
        cancellation and errors of the chunks. Asked only where Capabilities.files.
        """

    async def close(self) -> None:
        """Closes its connections; no send may be under way."""
