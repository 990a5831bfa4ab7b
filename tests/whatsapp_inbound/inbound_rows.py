"""Messages of customers as Meta's webhooks have them: for each row of what is documented, the items that show it.

Each row begins with a customer who has never written. `wamid(step)` names the messages of a row among themselves.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MEDIA = {"id": "1003383421387256", "sha256": "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI="}
CARD = {
    "name": {"formatted_name": "Ana Silva", "first_name": "Ana", "last_name": "Silva"},
    "phones": [{"phone": "+55 11 91234-5678", "wa_id": "5511912345678", "type": "CELL"}],
    "emails": [{"email": "ana@example.com", "type": "WORK"}],
    "addresses": [
        {"street": "Rua A 1", "city": "São Paulo", "country": "Brazil", "country_code": "br", "type": "HOME"}
    ],
    "org": {"company": "Loja", "department": "Vendas", "title": "Chefe"},
    "urls": [{"url": "https://example.com/ana", "type": "WORK"}],
    "birthday": "1990-02-28",
    "origin": "other",
}
REFERRAL = {
    "source_url": "https://fb.me/3cr4Wqqkv",
    "source_id": "120226305854810726",
    "source_type": "ad",
    "headline": "Chat with us",
    "body": "Summer succulents are here!",
    "media_type": "image",
    "image_url": "https://scontent.xx.fbcdn.net/v/t45.1",
    "ctwa_clid": "Aff-n8ZTODiE79d22KtAwQKj9e",
    "welcome_message": {"text": "Hi there! Let us know how we can help!"},
}


@dataclass
class Row:
    """One customer, and what came of him. other_form: names a message as the other side does."""

    phone: str = field(default_factory=lambda: f"49{uuid.uuid4().int % 10**10:010}")
    began: int = field(default_factory=lambda: int(time.time()) - 600)
    items: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[int, str] = field(default_factory=dict)
    group: str = field(default_factory=lambda: f"Y2FwaV9ncm91cDo{uuid.uuid4().hex}")

    def wamid(self, step: int, *, other_form: bool = False) -> str:
        token = self.tokens.setdefault(step, uuid.uuid4().hex[:20].upper())
        who = b"US.13491208655302741918" if other_form else self.phone.encode()
        raw = b"\x1c\x18" + bytes([len(who)]) + who + b"\x15\x02\x00\x12\x18\x14" + token.encode() + b"\x00"
        return "wamid." + base64.b64encode(raw).decode()

    def wrote(self, type_: str, content: Any = None, **more: Any) -> Row:
        """The next message of the customer."""
        step = len(self.items)
        item = {"from": self.phone, "id": self.wamid(step), "timestamp": str(self.began + step), "type": type_}
        carried = {} if content is None else {type_: content}
        self.items.append({**item, **carried, **more})
        return self

    def said(self, body: str = "Hello", **more: Any) -> Row:
        return self.wrote("text", {"body": body}, **more)

    def reacted(self, step: int, **emoji: str) -> Row:
        return self.wrote("reaction", {"message_id": self.wamid(step), **emoji})

    def edited(self, step: int, body: str, **more: Any) -> Row:
        new = {"type": "text", "text": {"body": body}}
        return self.wrote("edit", {"original_message_id": self.wamid(step), "message": new}, **more)

    def revoked(self, step: int) -> Row:
        return self.wrote("revoke", {"original_message_id": self.wamid(step)})

    def quoting(self, step: int, *, other_form: bool = False) -> dict[str, Any]:
        return {"context": {"from": "15550783881", "id": self.wamid(step, other_form=other_form)}}

    def told(self, words: Mapping[str, str], **more: Any) -> Row:
        """A placeholder of each of these kinds, by Meta's code."""
        for word, code in words.items():
            errors = [{"code": int(code), "title": "x"}]
            self.wrote("unsupported", {"type": word}, errors=errors, **more)
        return self

    def in_group(self, body: str, *, member: str = "", **more: Any) -> Row:
        """A text in a group: of the row's customer, or of another member."""
        who = {"from": member} if member else {}
        return self.said(body, group_id=self.group, **who, **more)

    def answered(self, kind: str, content: Any) -> Row:
        return self.wrote("interactive", {"type": kind, kind: content}, **self.quoting(90))


# Whoever of a group is not the row's customer. No row is hers alone, so she has no conversation.
MEMBER = "4915199999999"
UNSUPPORTED = {
    **dict.fromkeys(
        ("edit", "gif", "group_invite", "hsm", "image", "interactive", "keep_in_chat", "link_preview"), "131051"
    ),
    **dict.fromkeys(
        ("list", "location", "media_placeholder", "order", "pin", "poll_creation", "poll_update"), "131051"
    ),
    **dict.fromkeys(("product", "reaction", "button", "errors", "of_tomorrow"), "131060"),
}
# A terminal clears its screen and is named anew, a text turns round, a page runs what it reads.
CONTROLS = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202eabc<script>alert(1)</script>{{ 7*7 }}"


def media(**more: Any) -> dict[str, Any]:
    return {**MEDIA, **more}


ROWS: Mapping[str, Callable[[Row], Row]] = {
    "text": lambda row: row.said("Does it come in another color? https://example.com"),
    "text_markup": lambda row: row.said("<b>{{1}}</b> *bold* ${jndi:ldap://x} {% raw %}"),
    "image": lambda row: row.wrote("image", media(mime_type="image/jpeg", caption="Taj Mahal")),
    "image_without_caption": lambda row: row.wrote("image", media(mime_type="image/jpeg", url="https://lookaside.x/1")),
    "video": lambda row: row.wrote("video", media(mime_type="video/mp4", caption="look")),
    "audio_voice": lambda row: row.wrote("audio", media(mime_type="audio/ogg; codecs=opus", voice=True)),
    "audio": lambda row: row.wrote("audio", media(mime_type="audio/mpeg", voice=False)),
    "document": lambda row: row.wrote("document", media(mime_type="application/pdf", filename="../Résumé 2025")),
    "sticker_animated": lambda row: row.wrote("sticker", media(mime_type="image/webp", animated=True)),
    "location_current": lambda row: row.wrote("location", {"latitude": 52.52, "longitude": 13}),
    "location_place": lambda row: row.wrote(
        "location",
        {"latitude": 40.7, "longitude": -73.9, "name": "Park", "address": "5th Ave", "url": "https://maps.example"},
    ),
    "contacts": lambda row: row.wrote("contacts", [CARD]),
    "contacts_vcard_only": lambda row: row.wrote(
        "contacts", [{"name": {"formatted_name": "Bo"}, "vcard": "BEGIN:VCARD\nEND:VCARD"}]
    ),
    "contacts_nameless": lambda row: row.wrote("contacts", [{"phones": [{"phone": "+49 30 1"}]}]),
    "contacts_requested": lambda row: row.wrote("contacts", [{**CARD, "origin": "contact_request"}]),
    "button_reply": lambda row: row.answered("button_reply", {"id": "cancel-17", "title": "Cancel"}),
    "list_reply": lambda row: row.answered(
        "list_reply", {"id": "express", "title": "Express", "description": "Next day"}
    ),
    "nfm_reply": lambda row: row.answered(
        "nfm_reply", {"name": "flow", "body": "Sent", "response_json": '{"flow_token":"t","name":"Ana"}'}
    ),
    "nfm_reply_invalid_json": lambda row: row.answered("nfm_reply", {"name": "flow", "response_json": '{"a":'}),
    "nfm_reply_without_response": lambda row: row.answered("nfm_reply", {"name": "address_message", "body": "Sent"}),
    "call_permission_reply": lambda row: row.answered(
        "call_permission_reply",
        {
            "response": "accept",
            "is_permanent": False,
            "expiration_timestamp": "1800000000",
            "response_source": "user_action",
        },
    ),
    "interactive_of_tomorrow": lambda row: row.answered("hologram_reply", {"depth": 3}),
    "interactive_without_body": lambda row: row.wrote("interactive"),
    "button": lambda row: row.wrote("button", {"payload": "Unsubscribe-1", "text": "Unsubscribe"}, **row.quoting(90)),
    "button_without_context": lambda row: row.wrote("button", {"payload": "p", "text": "Yes"}),
    "reaction": lambda row: row.said().reacted(0, emoji="👍"),
    "reaction_replaced": lambda row: row.said().reacted(0, emoji="👍").reacted(0, emoji="❤️"),
    "reaction_removed": lambda row: row.said().reacted(0, emoji="👍").reacted(0),
    "reaction_removed_by_empty": lambda row: row.said().reacted(0, emoji="👍").reacted(0, emoji=""),
    "reaction_to_unknown": lambda row: row.said().reacted(77, emoji="👍"),
    "order": lambda row: row.wrote(
        "order",
        {
            "catalog_id": "194836987003835",
            "text": "",
            "product_items": [
                {"product_retailer_id": "di9ozbzfi4", "quantity": 2, "item_price": 30.5, "currency": "USD"},
                {"product_retailer_id": "di9ozbzfi4", "quantity": 1, "item_price": 7, "currency": "USD"},
            ],
        },
    ),
    "request_welcome": lambda row: row.said().wrote("request_welcome"),
    "media_placeholder": lambda row: row.said().wrote("media_placeholder"),
    "unsupported_unknown_type": lambda row: row.wrote(
        "unsupported",
        {"type": "poll_creation"},
        errors=[{"code": 131051, "title": "Message type unknown", "error_data": {"details": "not supported"}}],
    ),
    "unsupported_without_type": lambda row: row.wrote("unsupported", errors=[{"code": 131051, "title": "x"}]),
    "unsupported_on_the_phone": lambda row: row.wrote("unsupported", errors=[{"code": 131060, "title": "x"}]),
    "unsupported_edit": lambda row: row.said().wrote("unsupported", {"type": "edit"}, errors=[{"code": 131051}]),
    "unknown": lambda row: row.wrote("unknown", errors=[{"code": 131051, "title": "x"}]),
    "type_of_tomorrow": lambda row: row.wrote("hologram", {"id": "77", "depth": 3}),
    "edit": lambda row: row.said("first").edited(0, "second"),
    "edit_older_after_newer": lambda row: (
        row.said("first").edited(0, "third", timestamp=str(row.began + 60)).edited(0, "second")
    ),
    "edit_twice": lambda row: row.said("first").edited(0, "second").edited(0, "third"),
    "revoke": lambda row: row.said("secret").revoked(0),
    "revoke_then_edit": lambda row: row.said("secret").revoked(0).edited(0, "again"),
    "revoke_of_image": lambda row: row.wrote("image", media(mime_type="image/jpeg", caption="x")).revoked(0),
    "media_not_fetched": lambda row: row.wrote(
        "image", {"mime_type": "image/jpeg"}, errors=[{"code": 131052, "title": "Media download error"}]
    ),
    "reply": lambda row: row.said("first").said("to it", **row.quoting(0)),
    "reply_of_other_form": lambda row: row.said("first").said("to it", **row.quoting(0, other_form=True)),
    "reply_to_unknown": lambda row: row.said("to it", **row.quoting(77)),
    "forwarded": lambda row: row.said(context={"forwarded": True}),
    "forwarded_often": lambda row: row.said(context={"frequently_forwarded": True}),
    "product_question": lambda row: row.said(
        context={
            **row.quoting(90)["context"],
            "referred_product": {"catalog_id": "194836987003835", "product_retailer_id": "di9ozbzfi4"},
        }
    ),
    "referral": lambda row: row.said(referral=REFERRAL),
    "referral_on_image": lambda row: row.wrote(
        "image", media(mime_type="image/jpeg"), referral={**REFERRAL, "ctwa_clid": None, "media_type": "video"}
    ),
    "referral_later": lambda row: row.said().said("and now", referral={"source_type": "post", "source_id": "1"}),
    "text_of_4096": lambda row: row.said("é" * 4096),
    "text_controls": lambda row: row.said(CONTROLS),
    "file_name_controls": lambda row: row.wrote(
        "document", media(mime_type="application/pdf", filename=CONTROLS, caption=CONTROLS)
    ),
    "location_controls": lambda row: row.wrote("location", {"latitude": 0, "longitude": -0.0, "name": CONTROLS}),
    "nfm_reply_address": lambda row: row.answered(
        "nfm_reply",
        {"name": "address_message", "body": "Rua A 1", "response_json": '{"values":{"city":"São Paulo"}}'},
    ),
    "nfm_reply_without_token": lambda row: row.answered(
        "nfm_reply", {"name": "flow", "body": "Sent", "response_json": '{"name":"Ana"}'}
    ),
    "call_permission_refused": lambda row: row.answered(
        "call_permission_reply", {"response": "reject", "response_source": "user_action"}
    ),
    "call_permission_for_ever": lambda row: row.answered(
        "call_permission_reply", {"response": "accept", "is_permanent": True, "response_source": "automatic"}
    ),
    "list_reply_without_description": lambda row: row.answered("list_reply", {"id": "express", "title": "Express"}),
    "order_with_a_word": lambda row: row.wrote(
        "order",
        {
            "catalog_id": "194836987003835",
            "text": "By Friday",
            "product_items": [
                {"product_retailer_id": "a", "quantity": 1, "item_price": 0.1, "currency": "KWD"},
                {"product_retailer_id": "b", "quantity": "3", "item_price": "19.90", "currency": "EUR"},
            ],
        },
    ),
    "unsupported_of_every_kind": lambda row: row.told(UNSUPPORTED),
    "media_not_fetched_of_every_kind": lambda row: (
        row.wrote("video", {"mime_type": "video/mp4", "caption": "look"}, errors=[{"code": 131052}])
        .wrote("audio", {"mime_type": "audio/ogg; codecs=opus", "voice": True}, errors=[{"code": 131052}])
        .wrote("document", {"filename": "a.pdf"}, errors=[{"code": 131052}])
        .wrote("sticker", errors=[{"code": 131052}])
    ),
    "forwarded_of_anothers": lambda row: row.said(
        "Ana Silva, +55 11 91234-5678, ana@example.com", context={"forwarded": True}
    ),
    "reply_without_from": lambda row: row.said("first").said("to it", context={"id": row.wamid(0)}),
    "reply_forwarded": lambda row: row.said("first").said(
        "to it", context={**row.quoting(0)["context"], "forwarded": True, "frequently_forwarded": True}
    ),
    "product_question_of_nothing": lambda row: row.said(context={**row.quoting(90)["context"], "referred_product": {}}),
    "referral_of_a_video": lambda row: row.said(
        referral={
            **{name: value for name, value in REFERRAL.items() if name not in ("image_url", "ctwa_clid")},
            **{"media_type": "video", "video_url": "https://scontent.xx.fbcdn.net/v.mp4", "ref": "spring"},
            "thumbnail_url": "https://scontent.xx.fbcdn.net/t.jpg?oe=5A000000",
        }
    ),
    "referral_on_every_type": lambda row: (
        row.wrote("location", {"latitude": 1, "longitude": 2}, referral=REFERRAL)
        .wrote("button", {"payload": "p", "text": "Yes"}, referral=REFERRAL)
        .wrote("unsupported", errors=[{"code": 131060, "title": "x"}], referral=REFERRAL)
    ),
    "referral_of_odd_values": lambda row: row.said(
        referral={"source_id": 120226305854810726, "source_type": "hologram", "headline": None, "body": ["x"]}
    ),
    "referral_of_nothing": lambda row: row.said(referral={}),
    "referral_twice": lambda row: row.said(referral=REFERRAL).said(
        "again", referral={"source_type": "post", "source_id": "2", "ctwa_clid": "second"}
    ),
    "group": lambda row: row.said("alone").in_group("all of you").in_group("me too", member=MEMBER).said("alone again"),
    "group_reaction": lambda row: (
        row.in_group("hello")
        .wrote("reaction", {"message_id": row.wamid(0), "emoji": "👍"}, group_id=row.group)
        .wrote("reaction", {"message_id": row.wamid(0), "emoji": "🎉"}, **{"group_id": row.group, "from": MEMBER})
    ),
    "group_reply_without_from": lambda row: row.in_group("first").in_group(
        "to it", member=MEMBER, context={"id": row.wamid(0)}
    ),
    "group_member_without_number": lambda row: row.in_group("hi", from_user_id="DE.77").in_group(
        "ho", **{"from": None, "from_user_id": "DE.78"}
    ),
    "group_edit_and_revoke": lambda row: (
        row.in_group("first")
        .edited(0, "second", group_id=row.group)
        .in_group("gone")
        .wrote("revoke", {"original_message_id": row.wamid(2)}, group_id=row.group)
    ),
}
