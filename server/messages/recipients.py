"""Where a customer is written to, by what is known of him."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from server.kit.db import Connection
from server.providers.contract import Address, Provider

# The best first.
ADDRESSES = """
SELECT identity_id, kind, value FROM identity_aliases WHERE identity_id = ANY($1::uuid[])
ORDER BY end_time IS NOT NULL, array_position(ARRAY['wa_id', 'group', 'bsuid', 'parent_bsuid'], kind), create_time DESC
"""


async def address_of(connection: Connection, identity_id: uuid.UUID, provider: Provider) -> Address | None:
    """Where a customer is written to; None where the provider writes to none of what is known."""
    return (await addresses_of(connection, {identity_id: provider})).get(identity_id)


async def addresses_of(connection: Connection, wanted: Mapping[uuid.UUID, Provider]) -> dict[uuid.UUID, Address]:
    """The same of several, by identity."""
    found: dict[uuid.UUID, Address] = {}
    for each in await connection.fetch(ADDRESSES, list(wanted)):
        if each["kind"] in wanted[each["identity_id"]].capabilities.address_kinds:
            found.setdefault(each["identity_id"], Address(each["kind"], each["value"]))
    return found
