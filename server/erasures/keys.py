"""What keeps a webhook that is repeated days later from bringing back what was erased: hashes of the ids that it would bring."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable
from datetime import timedelta

from server.kit.clock import utc_now
from server.kit.db import Connection
from server.providers.contract import Item, Receipt

# As long as the journal keeps payloads; Meta repeats for 7 days.
KEEP = timedelta(days=30)
# The same hash in SQL. `{text}`: what is hashed.
HASH = "encode(substring(sha256(convert_to({text}, 'UTF8')) FROM 1 FOR 16), 'hex')::uuid"
OF_PROVIDER = HASH.format(text="ch.provider || '/' || coalesce(ch.account_id, '') || '/' || p.provider_message_id")
OF_PART = HASH.format(text="'part/' || p.id")
ADD = "INSERT INTO erased_keys (key, create_time) SELECT k, $2 FROM unnest($1::uuid[]) k ORDER BY k ON CONFLICT DO NOTHING"
# Parts of messages, by their ids and by the provider's, which need not have come yet.
ADD_PARTS = f"""
INSERT INTO erased_keys (key, create_time)
SELECT k.key, $2 FROM message_parts p JOIN channels ch ON ch.id = p.channel_id
    CROSS JOIN LATERAL (VALUES ({OF_PART}), ({OF_PROVIDER})) k (key)
WHERE p.conversation_id = ANY($1::uuid[]) AND k.key IS NOT NULL ORDER BY k.key ON CONFLICT DO NOTHING
"""
FIND = "SELECT key FROM erased_keys WHERE key = ANY($1::uuid[])"


def hashed(text: str) -> uuid.UUID:
    """The hash of a text."""
    return uuid.UUID(bytes=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])


def keys_of(provider: str, item: Item) -> list[uuid.UUID]:
    """The hashes by which an item is known; a receipt has our own id too."""
    found = [hashed(f"{provider}/{item.account_id or ''}/{item.provider_id}")]
    if isinstance(item, Receipt) and item.opaque:
        found.append(hashed(f"part/{item.opaque}"))
    return found


async def add(connection: Connection, keys: Iterable[uuid.UUID]) -> None:
    """Keeps hashes."""
    if wanted := list(keys):
        await connection.execute(ADD, wanted, utc_now())


async def add_parts(connection: Connection, conversation_ids: Collection[uuid.UUID]) -> None:
    """Keeps those of all messages of conversations; the caller has their locks."""
    await connection.execute(ADD_PARTS, list(conversation_ids), utc_now())


async def find(connection: Connection, keys: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these were erased."""
    return {record["key"] for record in await connection.fetch(FIND, list(keys))} if keys else set()


async def drop_old(connection: Connection) -> None:
    """Forgets what no payload can repeat any more."""
    await connection.execute("DELETE FROM erased_keys WHERE create_time < $1", utc_now() - KEEP)
