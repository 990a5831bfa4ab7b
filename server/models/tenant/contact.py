"""People, where they can be met, and under which addresses."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Id, TenantBase, Time, Word, words

# Compared by code points: an order that no update of the system's languages changes.
NAME_KEY = Text(collation="C")
# Who is part of another is in no list.
STANDING = text("merged_into_id IS NULL")
ALIAS_KINDS = ("wa_id", "bsuid", "parent_bsuid", "psid", "igsid", "user_ref", "group", "visitor")


class Contact(TenantBase):
    """A person. name_source: whose word the name is; an agent's is never overwritten by a provider's."""

    __tablename__ = "contacts"
    __table_args__ = (
        words("name_source", ("agent", "provider", "address")),
        CheckConstraint("block_reason IS NULL OR block_time IS NOT NULL", name="block_reason"),
        CheckConstraint("merged_into_id <> id", name="merged_into_id"),
        *(
            Index(None, column, "id", postgresql_where=STANDING)
            for column in ("create_time", "name_key", "update_time")
        ),
        Index("ix_contacts_merged_into_id", "merged_into_id", postgresql_where=text("merged_into_id IS NOT NULL")),
    )

    id: Mapped[Id]
    name: Mapped[Word]
    name_source: Mapped[Word]
    attributes: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    create_time: Mapped[Time]
    update_time: Mapped[Time]
    block_time: Mapped[Time | None]
    block_reason: Mapped[Word | None]
    merged_into_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("contacts.id"))
    erase_time: Mapped[Time | None]
    name_key: Mapped[str] = mapped_column(NAME_KEY, Computed("left(contact_name_key(name), 40)", persisted=True))


class ContactKey(TenantBase):
    """That a contact is listed by something: a channel's id, or the hash of a provider, an attribute's value, "blocked". Triggers keep it.

    name_key, create_time, update_time: copies of the contact's, which the orders of the list go by.
    """

    __tablename__ = "contact_keys"
    __table_args__ = (
        Index(None, "key", "create_time", "contact_id"),
        Index(None, "key", "name_key", "contact_id"),
        Index(None, "key", "update_time", "contact_id"),
    )

    contact_id: Mapped[Id] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[Id] = mapped_column(primary_key=True)
    name_key: Mapped[str] = mapped_column(NAME_KEY)
    create_time: Mapped[Time]
    update_time: Mapped[Time]


class ContactMerge(TenantBase):
    """That a contact became part of another: which identities and attributes moved, so that it can be taken back."""

    __tablename__ = "contact_merges"
    __table_args__ = (
        CheckConstraint("contact_id <> merged_contact_id", name="two"),
        Index(
            "uq_contact_merges_standing", "merged_contact_id", unique=True, postgresql_where=text("undo_time IS NULL")
        ),
    )

    id: Mapped[Id]
    contact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("contacts.id"), index=True)
    merged_contact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("contacts.id"))
    identity_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    attributes: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    reason: Mapped[Word | None]
    create_time: Mapped[Time]
    undo_time: Mapped[Time | None]


class Identity(TenantBase):
    """One person on one channel: the key of a thread."""

    __tablename__ = "identities"

    id: Mapped[Id]
    contact_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("contacts.id"), index=True)
    channel_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("channels.id"), index=True)
    profile_name: Mapped[Word | None]
    create_time: Mapped[Time]
    # When the provider told that name, by its clock.
    profile_time: Mapped[Time | None]
    # What the person is called by others; it may change hands, and nobody is found by it.
    username: Mapped[Word | None]


class IdentityAlias(TenantBase):
    """One address of an identity. An address belongs to one identity of a channel for ever."""

    __tablename__ = "identity_aliases"
    __table_args__ = (
        UniqueConstraint("channel_id", "kind", "value"),
        Index(None, "kind", "value"),
        Index("ix_identity_aliases_value_prefix", "value", postgresql_ops={"value": "text_pattern_ops"}),
        words("kind", ALIAS_KINDS),
    )

    id: Mapped[Id]
    channel_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("channels.id"))
    kind: Mapped[Word]
    value: Mapped[Word]
    identity_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("identities.id"), index=True)
    create_time: Mapped[Time]
    # Since when the person has another one instead; and when the provider last told anything about it.
    end_time: Mapped[Time | None]
    told_time: Mapped[Time | None]


class MarketingConsent(TenantBase):
    """Whether whoever has an address wants marketing messages. provider_time: when the customer said so."""

    __tablename__ = "marketing_consents"
    __table_args__ = (words("state", ("stopped", "resumed", "signed_up")),)

    channel_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("channels.id"), primary_key=True)
    kind: Mapped[Word] = mapped_column(primary_key=True)
    value: Mapped[Word] = mapped_column(primary_key=True)
    state: Mapped[Word]
    provider_time: Mapped[Time]
    update_time: Mapped[Time]


class IdentityConflict(TenantBase):
    """One payload, or one contact, was to have addresses of two identities. Nothing was merged. value_hash is SHA-256 of the address."""

    __tablename__ = "identity_conflicts"
    __table_args__ = (
        UniqueConstraint("identity_id", "other_identity_id", "kind", "value_hash"),
        Index(None, "create_time", "id"),
    )

    id: Mapped[Id]
    channel_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("channels.id"))
    identity_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("identities.id"))
    other_identity_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("identities.id"))
    kind: Mapped[Word]
    value_hash: Mapped[bytes] = mapped_column(LargeBinary)
    create_time: Mapped[Time]
