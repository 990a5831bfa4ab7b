"""How a provider's account and its numbers do, as its webhooks tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """That something of an account, or of one number of it, is different now.

    business_account_id: whose it is. account_id: the number itself where it is named, as of InboundMessage. number: the digits of the
    number it is about as the provider shows it, None for the whole account; most of these webhooks have no id of it. provider_id: of the
    account again; discriminator: the webhook's field and a hash. values: fields of the contract's ChannelHealth by name, each of a time
    of its own; enums as lower-case words, times in ISO 8601. blocks: the provider's word for why nothing may be sent any more; lifts:
    that is over. stale: there is more to it than was told.
    """

    business_account_id: str
    number: str | None = None
    provider_id: str
    discriminator: str
    provider_time: datetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    blocks: str | None = None
    lifts: bool = False
    stale: bool = False
    account_id: str | None = None
    kind: Literal["account"] = "account"
