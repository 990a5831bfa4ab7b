"""What can be sent beside plain text, in no provider's words.

The fields are called as in the contract's SendMessageRequest, so that a path here ("sections[0].rows[1].title") is the path that a
caller knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from server.providers.template import Filling

ContentKind = Literal[
    "media", "buttons", "list", "link", "location_request", "location", "contacts", "template",
    "product", "product_list", "catalog", "flow", "contact_request",
]  # fmt: skip
AddressKind = Literal["wa_id", "bsuid", "parent_bsuid", "group", "user_ref"]
FileKind = Literal["image", "video", "audio", "document", "sticker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to send. media_id: ours; provider_id: what the provider calls it, once it is there. voice: shown as a recorded note."""

    media_id: str
    type: FileKind
    caption: str | None = None
    file_name: str | None = None
    voice: bool = False
    provider_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Files; each is a part of the message. What is handed to a provider has one."""

    items: tuple[File, ...]
    kind: Literal["media"] = "media"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickReply:
    """An answer to press; `id` comes back with it."""

    id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Buttons:
    """A question with buttons."""

    body: str
    buttons: tuple[QuickReply, ...]
    header: str | None = None
    header_media: File | None = None
    footer: str | None = None
    kind: Literal["buttons"] = "buttons"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """A choice of a list; `id` comes back with it."""

    id: str
    title: str
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSection:
    """Rows under a title."""

    rows: tuple[ListRow, ...]
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    """A question with a list to choose from; `label` stands on the button that opens it."""

    body: str
    label: str
    sections: tuple[ListSection, ...]
    header: str | None = None
    footer: str | None = None
    kind: Literal["list"] = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickReplies:
    """A question with answers to choose from, in whatever form a channel has for them; nothing is stored or sent so."""

    body: str
    quick_replies: tuple[QuickReply, ...]
    kind: Literal["quick_replies"] = "quick_replies"

    def as_buttons(self) -> Buttons:
        """A button for each."""
        return Buttons(body=self.body, buttons=self.quick_replies)

    def as_list(self, *, label: str) -> List:
        """A row for each, in one section."""
        rows = tuple(ListRow(id=reply.id, title=reply.title) for reply in self.quick_replies)
        return List(body=self.body, label=label, sections=(ListSection(rows=rows),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Text with a button, called `label`, that leads to `url`."""

    body: str
    label: str
    url: str
    header: str | None = None
    header_media: File | None = None
    footer: str | None = None
    kind: Literal["link"] = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationRequest:
    """A question where the customer is."""

    body: str
    kind: Literal["location_request"] = "location_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product of a catalogue."""

    catalog_id: str
    product_retailer_id: str
    body: str | None = None
    footer: str | None = None
    kind: Literal["product"] = "product"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductSection:
    """Products under a title, by their ids in the catalogue."""

    product_retailer_ids: tuple[str, ...]
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductList:
    """Products of a catalogue to choose from."""

    body: str
    header: str
    catalog_id: str
    product_sections: tuple[ProductSection, ...]
    footer: str | None = None
    kind: Literal["product_list"] = "product_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Text with a button that leads to the catalogue, shown with the picture of a product."""

    body: str
    footer: str | None = None
    product_retailer_id: str | None = None
    kind: Literal["catalog"] = "catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of the provider's, by its id or its name. token: comes back with the answer; data: what `screen` is given."""

    flow_id: str | None = None
    flow_name: str | None = None
    token: str | None = None
    screen: str | None = None
    data: Mapping[str, Any] | None = None
    data_exchange: bool = False
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Text with a button, called `label`, that opens a form."""

    body: str
    label: str
    flow: Form
    header: str | None = None
    header_media: File | None = None
    footer: str | None = None
    kind: Literal["flow"] = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRequest:
    """A question for the customer's phone number."""

    body: str
    kind: Literal["contact_request"] = "contact_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place, in degrees."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    kind: Literal["location"] = "location"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardName:
    """What somebody is called."""

    formatted_name: str
    first_name: str | None = None
    last_name: str | None = None
    middle_name: str | None = None
    prefix: str | None = None
    suffix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPhone:
    """A number as people write it; `type` is a word such as WORK, `wa_id` the number at WhatsApp."""

    phone: str
    type: str | None = None
    wa_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEmail:
    """An address of mail."""

    email: str
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardUrl:
    """A page."""

    url: str
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAddress:
    """Where somebody lives or works."""

    street: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOrganization:
    """Where somebody works."""

    company: str | None = None
    department: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card of somebody. birthday: YYYY-MM-DD."""

    name: CardName
    phones: tuple[CardPhone, ...] = ()
    emails: tuple[CardEmail, ...] = ()
    addresses: tuple[CardAddress, ...] = ()
    urls: tuple[CardUrl, ...] = ()
    organization: CardOrganization | None = None
    birthday: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Cards of people."""

    contacts: tuple[Card, ...]
    kind: Literal["contacts"] = "contacts"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledButton:
    """A button of a template as the customer gets it; type is the provider's word, in upper case."""

    type: str
    text: str = ""
    url: str = ""
    phone_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledTemplate:
    """A message from a template. body, header, footer, buttons: what the customer reads; filling: what its places were given."""

    body: str
    template_id: str
    name: str
    language: str
    category: str
    filling: Filling
    header: str | None = None
    footer: str | None = None
    buttons: tuple[FilledButton, ...] = ()
    kind: Literal["template"] = "template"


# These have a text, their body, which a product may go without; the others have none.
Interactive = Buttons | List | Link | LocationRequest | Product | ProductList | Catalog | Flow | ContactRequest
Content = Interactive | Location | Contacts | FilledTemplate | Media


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentLimits:
    """How much of a kind of content a provider takes, as data; the keys are paths without indexes, such as "sections.rows.title".

    characters: longest text, in code points. most: most items, those of all lists together that have the key. unique: texts that
    must differ. worded: texts without emoji. titled: lists whose items need a title where there is more than one. needs: a member
    that another one beside it cannot do without. any_of: members of an object of which one at least must be there. files: as what a
    file may be shown that is no part of its own. outside_window: whether it may be sent after the end of the reply window.
    not_to: kinds of addresses it cannot be sent to, by the category of a template, by "" of what has none.
    """

    characters: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    unique: frozenset[str] = frozenset()
    worded: frozenset[str] = frozenset()
    titled: frozenset[str] = frozenset()
    needs: Mapping[str, str] = field(default_factory=dict)
    any_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, tuple[FileKind, ...]] = field(default_factory=dict)
    outside_window: bool = False
    not_to: Mapping[str, frozenset[AddressKind]] = field(default_factory=dict)
