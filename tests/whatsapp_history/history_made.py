"""A history of what customers of a WhatsApp number do, and Meta tells: valid, of every kind, with nobody's real name in it.

Addresses and ids stand in it as places (`@P0@`: the phone of customer 0, `@U0@` his user id, `@W3@` the id of item 3, `@V3@` the same
item's id as the other side has it, `@G@` what only this life has), so that one history can be lived by many tenants at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from server.simulator.payloads import Number
from server.simulator.wamid import Wamid

RENEWED = 5
"""Added to a customer's number: the user id after the first."""
PLACE = re.compile(r"@([PUWVX])(\d+)@")
MEDIA = {"id": "1479537139650973", "sha256": "ZDIyYjQ=", "mime_type": "image/jpeg"}
ASKED = {
    "button_reply": {"id": "yes", "title": "Yes"},
    "list_reply": {"id": "2", "title": "Two", "description": "of both"},
}

CONTENTS: Mapping[str, Any] = {
    "text": {"type": "text", "text": {"body": "hello"}},
    "markup": {"type": "text", "text": {"body": "<b>{{ 7 * 7 }}</b> \u0000 \ud800 é"}},
    "image": {"type": "image", "image": MEDIA | {"caption": "the wheel"}},
    "image, no caption": {"type": "image", "image": MEDIA},
    "video": {"type": "video", "video": MEDIA | {"mime_type": "video/mp4"}},
    "voice": {"type": "audio", "audio": MEDIA | {"mime_type": "audio/ogg; codecs=opus", "voice": True}},
    "document": {"type": "document", "document": MEDIA | {"filename": "../été.pdf", "mime_type": "application/pdf"}},
    "sticker": {"type": "sticker", "sticker": MEDIA | {"mime_type": "image/webp", "animated": True}},
    "file that never came": {
        "type": "video",
        "video": {},
        "errors": [{"code": 131052, "title": "Media download error"}],
    },
    "location": {"type": "location", "location": {"latitude": 52.5, "longitude": 13.4, "name": "Mill", "address": "1"}},
    "contacts": {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ada"}, "phones": [{"phone": "+1"}]}]},
    "card": {"type": "contacts", "contacts": [{"name": {"formatted_name": "A"}, "vcard": "BEGIN:VCARD"}]},
    "flow": {
        "type": "interactive",
        "interactive": {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{oops"}},
    },
    "interactive without body": {"type": "interactive"},
    "button": {"type": "button", "button": {"payload": "stop", "text": "Stop"}},
    "order": {
        "type": "order",
        "order": {
            "catalog_id": "7",
            "text": "",
            "product_items": [{"product_retailer_id": "a", "quantity": 2, "item_price": 30.5, "currency": "EUR"}],
        },
    },
    "unsupported": {"type": "unsupported", "errors": [{"code": 131051, "title": "Message type unknown"}]},
    "of tomorrow": {"type": "poll", "poll": {"question": "?"}},
}
FIELDS: Mapping[str, Any] = {
    "account_update": {"event": "ACCOUNT_RESTRICTION", "restriction_info": [{"restriction_type": "@G@"}]},
    "phone_number_quality_update": {"display_phone_number": "15550783881", "event": "ONBOARDING", "of": "@G@"},
    "field_of_tomorrow": {"anything": [1, None], "of": "@G@"},
    "message_template_status_update": {
        "event": "APPROVED",
        "message_template_id": 594425479261596,
        "message_template_name": "order_@G@",
        "message_template_language": "en-US",
        "reason": None,
    },
}
# Fields that name the number they are of.
NUMBERED = frozenset({"user_id_update", "user_preferences", "smb_message_echoes", "history"})
REFERRAL = {"source_url": "https://fb.me/1", "source_type": "ad", "source_id": "1", "headline": "Bikes"}


@dataclass(frozen=True)
class Customer:
    """Somebody. shows: which addresses each of the messages may show; one of them is in all, as it is with Meta."""

    number: int
    name: str | None
    shows: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """One item of a webhook. array: messages, statuses, or the name of a field; at: seconds since the history began."""

    array: str
    value: Mapping[str, Any]
    at: int
    contact: Mapping[str, Any] | None = None


@dataclass
class History:
    """What happened, oldest first. The first `opening` entries are what each customer began with, and come first of all where the
    business has written to somebody (`answered`): who writes first decides about the conversation. sends: of ours, by customer.
    """

    customers: list[Customer] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sends: list[int] = field(default_factory=list)
    opening: int = 0
    answered: bool = False


@dataclass
class Maker:
    """Makes a history, step by step."""

    chance: Random
    history: History = field(default_factory=History)
    theirs: dict[int, list[int]] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    renewed: set[int] = field(default_factory=set)

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.chance.choice(values)

    def person(self) -> None:
        number = len(self.history.customers)
        shows = self.one_of([("P",), ("U",), ("PU",), ("P", "PU"), ("U", "PU")])
        self.history.customers.append(Customer(number, self.one_of(["Ana", "😀", None]), shows))

    def sender(self, who: Customer, shown: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields of an item, and its contact."""
        name = None if who.name is None else self.one_of([who.name, who.name, f"{who.name} Silva"])
        message, contact = {}, {} if name is None else {"profile": {"name": name}}
        if "P" in shown:
            message["from"] = contact["wa_id"] = f"@P{who.number}@"
        if "U" in shown:
            user = who.number + (RENEWED if who.number in self.renewed else 0)
            message["from_user_id"] = contact["user_id"] = f"@U{user}@"
        return message, contact

    def item(self, who: Customer, content: Mapping[str, Any]) -> int:
        """A message, or what stands among them; its number."""
        number = len(self.history.entries)
        # Only messages tell new addresses: of a reaction nobody learns one, unless a message in the same webhook has that contact.
        shown = who.shows[0] if content["type"] in ("reaction", "edit", "revoke") else self.one_of(who.shows)
        sender, contact = self.sender(who, shown)
        value = {**sender, "id": f"@W{number}@", "timestamp": "@T@", **content}
        self.history.entries.append(Entry("messages", value, number, contact))
        return number

    def target(self, who: Customer) -> str | None:
        """A message of the thread that is still there, by either of its ids; or one that nobody has."""
        here = [f"@W{number}@" for number in self.theirs[who.number] if number not in self.revoked]
        here += [f"@V{number}@" for number in self.theirs[who.number] if number not in self.revoked]
        here += [f"@X{number}@" for number, to in enumerate(self.history.sends) if to == who.number]
        return self.one_of([*here, "wamid.nobody"]) if here else None

    def writes(self, who: Customer) -> None:
        name = self.one_of(sorted(CONTENTS))
        content = dict(CONTENTS[name])
        beside = self.one_of(["", "", "quote", "forwarded", "referral", "answer"])
        quoted = self.target(who) if beside in ("quote", "answer") else None
        if beside == "answer" and quoted is not None:
            word = self.one_of(sorted(ASKED))
            content = {"type": "interactive", "interactive": {"type": word, word: ASKED[word]}}
        if quoted is not None:
            content["context"] = {"from": "15550783881", "id": quoted}
        elif beside == "forwarded":
            content["context"] = {"forwarded": True}
        elif beside == "referral":
            content["referral"] = REFERRAL
        self.theirs[who.number].append(self.item(who, content))

    def reacts(self, who: Customer) -> None:
        target, emoji = self.target(who), self.one_of([{"emoji": "👍"}, {"emoji": "🎉"}, {}, {"emoji": ""}])
        self.item(who, {"type": "reaction", "reaction": {"message_id": target or "wamid.nobody", **emoji}})

    def changes(self, who: Customer) -> None:
        """An edit, or a message taken back."""
        here = [number for number in self.theirs[who.number] if number not in self.revoked]
        if not here:
            return
        number = self.one_of(here)
        target = self.one_of([f"@W{number}@", f"@V{number}@"])
        if self.chance.random() < 0.5:
            self.revoked.add(number)
            self.item(who, {"type": "revoke", "revoke": {"original_message_id": target}})
        else:
            message = {"type": "text", "text": {"body": f"edited {len(self.history.entries)}"}}
            self.item(who, {"type": "edit", "edit": {"original_message_id": target, "message": message}})

    def receipts(self, send: int | None) -> None:
        """How far a message of ours came; or one of somebody else's."""
        ways = [
            ("sent", "delivered", "read"),
            ("delivered", "read"),
            ("sent", "failed"),
            ("failed",),
            ("read",),
            ("sent",),
        ]
        told = self.chance.random() < 0.5
        for word in self.one_of(ways):
            number = len(self.history.entries)
            wamid = f"wamid.stranger.{number}" if send is None else f"@X{send}@"
            value: dict[str, Any] = {"id": wamid, "status": word, "timestamp": "@T@"}
            if send is not None:
                value["recipient_user_id"] = f"@U{self.history.sends[send]}@"
                value |= {"biz_opaque_callback_data": f"@O{send}@"} if told else {}
            if word == "failed":
                value["errors"] = [{"code": 131026, "title": "Message undeliverable"}]
            self.history.entries.append(Entry("statuses", value, number))

    def gets_another_user_id(self, who: Customer) -> None:
        """Told by a message of the system, by a field, or by both; the phone number stays, and is in every message of such a customer."""
        if tuple(who.shows) != ("PU",) or who.number in self.renewed:
            return
        self.renewed.add(who.number)
        before, after = f"@U{who.number}@", f"@U{who.number + RENEWED}@"
        ways = self.one_of([("system",), ("field",), ("system", "field")])
        number = len(self.history.entries)
        if "system" in ways:
            told = {"type": "user_changed_user_id", "user_id": after, "previous_user_id": before}
            sender = {"from": f"@P{who.number}@", "from_user_id": before}
            value = {**sender, "id": f"@W{number}@", "timestamp": "@T@", "type": "system", "system": told}
            self.history.entries.append(Entry("messages", value, number))
        if "field" in ways:
            ids = {"previous": before, "current": after}
            change = {"wa_id": f"@P{who.number}@", "detail": "-", "user_id": ids, "timestamp": "@T@"}
            self.history.entries.append(Entry("user_id_update", {"user_id_update": [change]}, number))

    def prefers(self, who: Customer) -> None:
        """Whether somebody wants marketing messages."""
        number = len(self.history.entries)
        whom = {"wa_id": f"@P{who.number}@"} if "P" in who.shows[0] else {"user_id": f"@U{who.number}@"}
        word = {"category": "marketing_messages", "value": self.one_of(["stop", "resume", "signup"])}
        value = {"user_preferences": [{**whom, **word, "timestamp": "@T@"}]}
        self.history.entries.append(Entry("user_preferences", value, number))

    def is_written_to_on_the_phone(self, who: Customer) -> None:
        """An echo; perhaps what it said is changed, or taken back, or it is read."""
        number = self.echo(who, {"type": "text", "text": {"body": "from the phone"}})
        then = self.one_of(["", "edit", "revoke", "read"])
        if then == "edit":
            message = {"type": "text", "text": {"body": "changed on the phone"}}
            self.echo(who, {"type": "edit", "edit": {"original_message_id": f"@W{number}@", "message": message}})
        elif then == "revoke":
            self.echo(who, {"type": "revoke", "revoke": {"original_message_id": f"@W{number}@"}})
        elif then == "read":
            at = len(self.history.entries)
            self.history.entries.append(
                Entry("statuses", {"id": f"@W{number}@", "status": "read", "timestamp": "@T@"}, at)
            )

    def echo(self, who: Customer, content: Mapping[str, Any]) -> int:
        """What the business did on its phone; its number."""
        number = len(self.history.entries)
        to = {"to": f"@P{who.number}@"} if "P" in who.shows[0] else {"to_user_id": f"@U{who.number}@"}
        item = {"from": "15550783881", **to, "id": f"@W{number}@", "timestamp": "@T@", **content}
        self.history.entries.append(Entry("smb_message_echoes", {"message_echoes": [item]}, number))
        return number

    def has_a_past(self, who: Customer) -> None:
        """A chunk of what was written before, of both sides; one of the messages may be live, too."""
        number = len(self.history.entries)
        phone = "P" in who.shows[0]
        customer = f"@P{who.number}@" if phone else f"@U{who.number}@"
        sides = [{"from" if phone else "from_user_id": customer}, {"from": "15550783881", "to": customer}]
        said = {"timestamp": "@T@", "type": "text", "text": {"body": "long ago"}}
        item = {**self.one_of(sides), "id": f"@W{number}@", **said}
        chunk = {"metadata": {"phase": 0, "chunk_order": 1}, "threads": [{"id": customer, "messages": [item]}]}
        self.history.entries.append(Entry("history", {"history": [chunk]}, number))

    def something_else(self, _who: Customer) -> None:
        name = self.one_of(sorted(FIELDS))
        self.history.entries.append(Entry(name, FIELDS[name], len(self.history.entries)))


def made(chance: Random, *, steps: int = 14) -> History:
    """A history of up to three customers, the same for the same chance."""
    maker = Maker(chance)
    for _ in range(chance.randint(1, 3)):
        maker.person()
    history = maker.history
    for who in history.customers:
        maker.theirs[who.number] = [maker.item(who, CONTENTS["text"])]
    history.opening = len(history.entries)
    history.sends = [chance.randrange(len(history.customers)) for _ in range(chance.randint(0, 2))]
    history.answered = bool(history.sends) or chance.random() < 0.5
    steps_of = [
        maker.writes,
        maker.writes,
        maker.writes,
        maker.reacts,
        maker.reacts,
        maker.changes,
        maker.gets_another_user_id,
        maker.prefers,
        maker.something_else,
        *([maker.is_written_to_on_the_phone, maker.has_a_past] if history.answered else []),
    ]
    for _ in range(chance.randint(2, steps)):
        maker.one_of(steps_of)(maker.one_of(history.customers))
    for send in range(len(history.sends)):
        maker.receipts(send)
    if chance.random() < 0.5:
        maker.receipts(None)
    return history


@dataclass
class Names:
    """What stands for the places of a history in one life of it. parts: ours, of the sends."""

    tag: str
    parts: list[str] = field(default_factory=list)

    def phone(self, number: int) -> str:
        return f"49151{self.tag}{number}"

    def user(self, number: int) -> str:
        return f"DE.{self.tag}{number}"

    def wamid(self, kind: str, number: int) -> str:
        """W: the customer's item as its own webhook names it. V: as another one does. X: ours."""
        peer, side = (
            (self.user(0), "inbound") if kind == "V" else (self.phone(0), "outbound" if kind == "X" else "inbound")
        )
        return str(Wamid(peer=peer, direction=side, token=f"3A{self.tag}{number:08X}{'EE' if kind == 'X' else 'AA'}"))  # type: ignore[arg-type]

    def put(self, value: Any, *, at: int) -> Any:
        """A value with what stands for its places."""
        text = json.dumps(value).replace("@T@", str(at)).replace("@G@", self.tag)
        text = PLACE.sub(lambda found: self._of(found[1], int(found[2])), text)
        for number, part in enumerate(self.parts):
            text = text.replace(f"@O{number}@", part)
        return json.loads(text)

    def _of(self, kind: str, number: int) -> str:
        if kind in "PU":
            return self.phone(number) if kind == "P" else self.user(number)
        return self.wamid(kind, number)

    def back(self, history: History) -> dict[str, str]:
        """What each name stands for, to be read in the tables."""
        found = {
            name(who.number): f"{kind}{who.number}"
            for who in history.customers
            for kind, name in (("P", self.phone), ("U", self.user))
        }
        found |= {self.user(each.number + RENEWED): f"U{each.number + RENEWED}" for each in history.customers}
        found |= {
            self.wamid(kind, number): f"{kind}{number}" for kind in "WV" for number in range(len(history.entries))
        }
        found[f"order_{self.tag}"] = "order"
        found |= {self.wamid("X", number): f"X{number}" for number in range(len(history.sends))}
        return found | {part: f"O{number}" for number, part in enumerate(self.parts)}


def renames(value: Mapping[str, Any], contact: Mapping[str, Any] | None) -> bool:
    """Whether a customer has another name in a change already: one change knows everybody by one name."""
    named = {} if contact is None else contact
    return any(
        each.get("profile") != named.get("profile")
        for each in value.get("contacts", [])
        if any(each.get(kind, "-") == named.get(kind) for kind in ("wa_id", "user_id"))
    )


def body(
    history: History, entries: Sequence[Entry], names: Names, number: Number, *, began: int, cuts: Sequence[bool]
) -> Any:
    """One POST with these entries. cuts: where a new change begins; fields have one of their own."""
    changes: list[dict[str, Any]] = []
    for entry, cut in zip(entries, cuts, strict=True):
        value = names.put(entry.value, at=began + entry.at)
        metadata = {"display_phone_number": number.display_phone_number, "phone_number_id": number.phone_number_id}
        if entry.array not in ("messages", "statuses"):
            value |= {"metadata": metadata} if entry.array in NUMBERED else {}
            changes.append({"time": began + entry.at, "change": {"field": entry.array, "value": value}})
            continue
        contact = None if entry.contact is None else names.put(entry.contact, at=0)
        if cut or not changes or "time" in changes[-1] or renames(changes[-1]["change"]["value"], contact):
            changes.append(
                {"change": {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata}}}
            )
        inside = changes[-1]["change"]["value"]
        inside.setdefault(entry.array, []).append(value)
        if contact is not None and contact not in inside.setdefault("contacts", []):
            inside["contacts"].append(contact)
    entries_of = [
        {"id": number.waba_id, **({"time": each["time"]} if "time" in each else {}), "changes": [each["change"]]}
        for each in changes
    ]
    return {"object": "whatsapp_business_account", "entry": entries_of}
