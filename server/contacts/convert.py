"""Contacts as the contract shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from switchboard.v1 import channel_pb2, contact_pb2

from server.kit import pb

ALIAS_KIND = pb.Words(contact_pb2.AliasKind, "ALIAS_KIND_")
CONSENT = pb.Words(contact_pb2.MarketingConsentState, "MARKETING_CONSENT_STATE_")
PROVIDER = pb.Words(channel_pb2.Provider, "PROVIDER_")


def contact(record: Any, identities: Iterable[Any] = ()) -> contact_pb2.Contact:
    """A contact. identities: rows of (id, channel_id, provider, profile_name, username, alias_kind, alias_value,
    alias_end_time, consent_state, consent_time), one per alias.
    """
    return contact_pb2.Contact(
        id=str(record["id"]),
        name=record["name"],
        identities=_identities(identities),
        create_time=pb.timestamp(record["create_time"]),
        attributes=pb.struct(None if record["attributes"] is None else json.loads(record["attributes"])),
        update_time=pb.timestamp(record["update_time"]),
        block_time=pb.timestamp(record["block_time"]),
        block_reason=record["block_reason"],
        merged_contact_ids=[str(contact_id) for contact_id in record.get("merged_ids", ())],
    )


def conflict(record: Any) -> contact_pb2.ContactConflict:
    """A conflict between two contacts."""
    return contact_pb2.ContactConflict(
        id=str(record["id"]),
        channel_id=str(record["channel_id"]),
        kind=ALIAS_KIND.number(record["kind"]),
        contact_id=str(record["contact_id"]),
        identity_id=str(record["identity_id"]),
        other_contact_id=str(record["other_contact_id"]),
        other_identity_id=str(record["other_identity_id"]),
        create_time=pb.timestamp(record["create_time"]),
    )


def _identities(rows: Iterable[Any]) -> list[contact_pb2.Identity]:
    found: dict[str, contact_pb2.Identity] = {}
    told: dict[Any, tuple[datetime, str]] = {}
    for row in rows:
        identity = found.setdefault(
            str(row["id"]),
            contact_pb2.Identity(
                id=str(row["id"]),
                channel_id=str(row["channel_id"]),
                provider=PROVIDER.number(row["provider"]),
                profile_name=row["profile_name"],
                username=row["username"],
            ),
        )
        kind, ended = ALIAS_KIND.number(row["alias_kind"]), pb.timestamp(row["alias_end_time"])
        # The later word of two addresses; `stopped` is the greatest of the words.
        if row["consent_state"] is not None and (heard := (row["consent_time"], row["consent_state"])) > told.get(
            row["id"], (heard[0], "")
        ):
            told[row["id"]] = heard
            consent = contact_pb2.MarketingConsent(state=CONSENT.number(heard[1]), time=pb.timestamp(heard[0]))
            identity.marketing_consent.CopyFrom(consent)
        identity.aliases.append(contact_pb2.Alias(kind=kind, value=row["alias_value"], end_time=ended))
    return list(found.values())
