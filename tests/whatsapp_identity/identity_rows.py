"""Who somebody is, told in every way and order that Meta documents: one customer each, in steps that come one after the other."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Who:
    """A customer with an old and a new number and user id. names: what stands for them in the golden files."""

    old: str = field(default_factory=lambda: f"49{uuid.uuid4().int % 10**10:010}")
    new: str = field(default_factory=lambda: f"49{uuid.uuid4().int % 10**10:010}")
    old_id: str = field(default_factory=lambda: f"DE.{uuid.uuid4().int % 10**20:020}")
    new_id: str = field(default_factory=lambda: f"DE.{uuid.uuid4().int % 10**20:020}")
    began: int = field(default_factory=lambda: int(time.time()) - 600)

    @property
    def names(self) -> Mapping[str, str]:
        return {self.old: "<old>", self.new: "<new>", self.old_id: "<old id>", self.new_id: "<new id>"}


Step = dict[str, Any]


def wrote(who: Who, at: int, *, phone: str = "", user_id: str = "", name: str | None = "Ana", **profile: str) -> Step:
    """A text of somebody, with the contact that Meta puts beside it."""
    item = {"id": f"wamid.{uuid.uuid4().hex}", "timestamp": str(who.began + at), "type": "text"}
    sender = {**({"from": phone} if phone else {}), **({"from_user_id": user_id} if user_id else {})}
    addresses = {**({"wa_id": phone} if phone else {}), **({"user_id": user_id} if user_id else {})}
    shown = {**profile, **({} if name is None else {"name": name})}
    message = {**item, **sender, "text": {"body": f"at {at}"}}
    return {"messages": [message], "contacts": [{"profile": shown, **addresses}]}


def moved(who: Who, at: int, type_: str = "user_changed_number", **system: str) -> Step:
    """A message of the system; no contact stands beside it."""
    item = {"from": who.old, "id": f"wamid.{uuid.uuid4().hex}", "timestamp": str(who.began + at), "type": "system"}
    return {"messages": [{**item, "system": {"type": type_, "body": "moved", **system}}]}


def renumbered(who: Who, at: int) -> Step:
    """The field user_id_update."""
    ids = {"previous": who.old_id, "current": who.new_id}
    return {"user_id_update": [{"detail": "updated", "user_id": ids, "timestamp": str(who.began + at)}]}


def told(who: Who, at: int, value: str, *, whole: type = int, **more: Any) -> Step:
    """The field user_preferences. whole: of the timestamp, which Meta writes as a number."""
    word = {"wa_id": who.old, "detail": "User requested it", "category": "marketing_messages", "value": value}
    return {"user_preferences": [{**word, "timestamp": whole(who.began + at), **more}]}


def odd(name: str | None) -> Any:
    return lambda who: [wrote(who, 0, phone=who.old, name=name)]


ROWS: Mapping[str, Any] = {
    "phone": lambda who: [wrote(who, 0, phone=who.old)],
    "user_id_only": lambda who: [wrote(who, 0, user_id=who.old_id, username="ana.s")],
    "both_then_user_id_then_phone": lambda who: [
        wrote(who, 0, phone=who.old, user_id=who.old_id),
        wrote(who, 1, user_id=who.old_id),
        wrote(who, 2, phone=who.old),
    ],
    "user_id_then_both": lambda who: [
        wrote(who, 0, user_id=who.old_id),
        wrote(who, 1, phone=who.old, user_id=who.old_id),
    ],
    "both_of_two_people": lambda who: [
        wrote(who, 0, user_id=who.old_id),
        wrote(who, 1, phone=who.old),
        wrote(who, 2, phone=who.old, user_id=who.old_id),
    ],
    "name_missing": odd(None),
    "name_dot": odd("."),
    "name_emoji": odd("🎉"),
    "name_long": odd("x" * 500),
    "name_url": odd("https://example.com/<b>"),
    "name_changed": lambda who: [wrote(who, 0, phone=who.old), wrote(who, 1, phone=who.old, name="Ana Silva")],
    "name_changed_out_of_order": lambda who: [
        wrote(who, 5, phone=who.old, name="Ana Silva"),
        wrote(who, 1, phone=who.old),
    ],
    "name_told_again_then_an_older_one": lambda who: [
        wrote(who, 1, phone=who.old),
        wrote(who, 5, phone=who.old),
        wrote(who, 3, phone=who.old, name="Bo"),
    ],
    "username_changed": lambda who: [
        wrote(who, 0, user_id=who.old_id, username="ana.s"),
        wrote(who, 1, user_id=who.old_id, username="ana.silva"),
    ],
    "username_changed_out_of_order": lambda who: [
        wrote(who, 1, user_id=who.old_id, username="ana.silva"),
        wrote(who, 0, user_id=who.old_id, username="ana.s"),
    ],
    "username_of_two_people": lambda who: [
        wrote(who, 0, user_id=who.old_id, username="ana.s"),
        wrote(who, 1, user_id=who.new_id, name="Bo", username="ana.s"),
    ],
    "number_changed": lambda who: [
        wrote(who, 0, phone=who.old),
        moved(who, 1, wa_id=who.new),
        wrote(who, 2, phone=who.new),
    ],
    "number_changed_old_word": lambda who: [
        wrote(who, 0, phone=who.old),
        moved(who, 1, "customer_changed_number", wa_id=who.new),
    ],
    "number_changed_twice_told": lambda who: [
        wrote(who, 0, phone=who.old),
        moved(who, 1, wa_id=who.new),
        moved(who, 1, wa_id=who.new),
    ],
    "number_changed_before_anybody": lambda who: [moved(who, 1, wa_id=who.new), wrote(who, 0, phone=who.old)],
    "number_changed_of_nobody": lambda who: [moved(who, 1, wa_id=who.new)],
    "number_changed_to_anothers": lambda who: [
        wrote(who, 0, phone=who.old),
        wrote(who, 1, phone=who.new, name="Bo"),
        moved(who, 2, wa_id=who.new),
        wrote(who, 3, phone=who.new, name="Bo"),
    ],
    "number_changed_and_back": lambda who: [
        wrote(who, 0, phone=who.old),
        moved(who, 1, wa_id=who.new),
        {"messages": [{**moved(who, 2, wa_id=who.old)["messages"][0], "from": who.new}]},
    ],
    "number_changed_and_back_out_of_order": lambda who: [
        wrote(who, 0, phone=who.old),
        {"messages": [{**moved(who, 2, wa_id=who.old)["messages"][0], "from": who.new}]},
        moved(who, 1, wa_id=who.new),
    ],
    "user_id_changed_by_field": lambda who: [
        wrote(who, 0, phone=who.old, user_id=who.old_id),
        renumbered(who, 1),
        wrote(who, 2, user_id=who.new_id),
    ],
    "user_id_changed_by_message": lambda who: [
        wrote(who, 0, phone=who.old, user_id=who.old_id),
        moved(who, 1, "user_changed_user_id", user_id=who.new_id, previous_user_id=who.old_id),
        wrote(who, 2, user_id=who.new_id),
    ],
    "user_id_changed_by_both": lambda who: [
        wrote(who, 0, phone=who.old, user_id=who.old_id),
        moved(who, 1, "user_changed_number", wa_id=who.new, user_id=who.new_id, previous_user_id=who.old_id),
        renumbered(who, 1),
        wrote(who, 2, phone=who.new, user_id=who.new_id),
    ],
    "user_id_changed_after_its_first_message": lambda who: [
        wrote(who, 2, user_id=who.new_id),
        renumbered(who, 1),
        wrote(who, 0, user_id=who.old_id),
    ],
    "marketing_stopped": lambda who: [wrote(who, 0, phone=who.old), told(who, 1, "stop")],
    "marketing_resumed": lambda who: [wrote(who, 0, phone=who.old), told(who, 1, "stop"), told(who, 2, "resume")],
    "marketing_resumed_out_of_order": lambda who: [
        wrote(who, 0, phone=who.old),
        told(who, 2, "resume"),
        told(who, 1, "stop"),
    ],
    "marketing_signed_up": lambda who: [wrote(who, 0, phone=who.old), told(who, 1, "signup")],
    "marketing_stopped_twice_told": lambda who: [
        wrote(who, 0, phone=who.old),
        told(who, 1, "stop"),
        told(who, 1, "stop", whole=str),
    ],
    "marketing_both_in_one_second": lambda who: [
        wrote(who, 0, phone=who.old),
        told(who, 1, "stop"),
        told(who, 1, "resume"),
    ],
    "marketing_stopped_before_anybody": lambda who: [told(who, 1, "stop"), wrote(who, 2, phone=who.old)],
    "marketing_stopped_by_two_addresses": lambda who: [
        wrote(who, 0, phone=who.old, user_id=who.old_id),
        told(who, 2, "resume", user_id=who.old_id),
        told(who, 1, "stop"),
    ],
    "marketing_stopped_then_another_number": lambda who: [
        wrote(who, 0, phone=who.old),
        told(who, 1, "stop"),
        moved(who, 2, wa_id=who.new),
    ],
    "preference_of_tomorrow": lambda who: [
        wrote(who, 0, phone=who.old),
        told(who, 1, "stop", category="utility_messages"),
        told(who, 1, "perhaps"),
    ],
    "identity_changed": lambda who: [
        wrote(who, 0, phone=who.old),
        moved(who, 1, "customer_identity_changed", identity="x"),
    ],
}
