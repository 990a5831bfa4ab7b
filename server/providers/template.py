"""Messages that a provider approves beforehand, as it lists them and as its webhooks tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

# What one webhook tells of a template; each is of a time of its own, since they overtake each other.
Aspect = Literal["status", "quality", "category", "components"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTemplate:
    """A template as the provider lists it: all that is known of it.

    Ids are text, languages have underscores, enums are in upper case whatever they are. components: each with the names of the
    contract's TemplateComponent. parameter_format: "positional" or "named". reason: of a refusal, None for none.
    """

    provider_id: str
    name: str
    language: str
    status: str
    category: str = ""
    quality: str = "UNKNOWN"
    parameter_format: str = "positional"
    components: tuple[Mapping[str, Any], ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplatePage:
    """A page of a list. after: where the next one begins, None at the end. unreadable: entries that are none of ours to know."""

    templates: tuple[ListedTemplate, ...]
    after: str | None = None
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateChange:
    """That something of a template is different now.

    business_account_id: whose it is. values: columns of a template by name, as of ListedTemplate, and `upcoming_category` with
    `upcoming_category_time`. texts: new texts by the type of their component; buttons: all of them, None for no word of them.
    stale: there is more to it than was told.
    """

    business_account_id: str
    provider_id: str
    name: str
    language: str
    aspect: Aspect
    values: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    buttons: tuple[Mapping[str, Any], ...] | None = None
    stale: bool = False
    discriminator: str
    provider_time: datetime | None = None
    account_id: None = None
    kind: Literal["template"] = "template"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateAccount:
    """Whose templates are asked for. token: a secret of one of its channels; settings: what that was connected with."""

    business_account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDraft:
    """A template to create. Fields as of ListedTemplate; components have what is only written too."""

    name: str
    language: str
    category: str
    parameter_format: str
    components: tuple[Mapping[str, Any], ...]
    allow_category_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateEdit:
    """A template to write anew, all components of it. category: None for the same as before."""

    provider_id: str
    parameter_format: str
    components: tuple[Mapping[str, Any], ...]
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDeletion:
    """A template to delete. provider_id: None for all languages of the name."""

    name: str
    provider_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateUnpause:
    """A template whose pause is to end."""

    provider_id: str


TemplateWrite = TemplateDraft | TemplateEdit | TemplateDeletion | TemplateUnpause


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateWritten:
    """That a template was written. status, category: empty where the provider did not say them; provider_id: of a new one."""

    provider_id: str = ""
    status: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSample:
    """A sample of a header's file."""

    content: bytes = field(repr=False)
    mime_type: str
    file_name: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What one place is filled with. kind: as the contract's TemplateParameter has it; value: its text, or its fields by name."""

    kind: str
    value: Any
    name: str | None = None

    @property
    def shown(self) -> str:
        """What the customer reads; empty for a file."""
        if isinstance(self.value, str):
            return self.value
        return str(self.value.get("fallback", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonParameter:
    """What a button is given. kind: as the contract's TemplateButtonParameter has it; value: its text, or its fields by name."""

    index: int
    kind: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What the places of a template are filled with."""

    header: tuple[Parameter, ...] = ()
    body: tuple[Parameter, ...] = ()
    buttons: tuple[ButtonParameter, ...] = ()
