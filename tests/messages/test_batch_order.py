"""Messages that the provider puts into one second, and those that come late: their places, and what follows the newest."""

from __future__ import annotations

import itertools
import time

from server.messages.items import Stored
from tests.desk import Desk, phone

PLACES = "SELECT text, sequence - $2 AS place FROM messages WHERE conversation_id = $1 ORDER BY sequence"
# As if all places of the second's first millisecond were taken: the newest message stands at the last of them.
FULL = """
WITH last AS (
    INSERT INTO messages (id, conversation_id, channel_id, direction, type, status, sequence, arrival, text, author_kind, create_time)
    SELECT gen_random_uuid(), conversation_id, channel_id, direction, type, status, sequence + 4095, 2, 'n1', author_kind, create_time
    FROM messages WHERE conversation_id = $1 RETURNING id, sequence
), part AS (
    INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status)
    SELECT gen_random_uuid(), last.id, p.conversation_id, p.channel_id, 0, p.status
    FROM message_parts p CROSS JOIN last WHERE p.conversation_id = $1
)
UPDATE conversations SET message_count = 2, inbound_count = 2, last_inbound_arrival = 2, last_sequence = last.sequence,
    last_message_id = last.id, last_message_preview = 'n1'
FROM last WHERE conversations.id = $1
"""


async def test_a_second_with_more_messages_than_a_millisecond_has_places_for_goes_on_in_the_next(desk: Desk) -> None:
    channel, sender, second = await desk.new_channel(), phone(), int(time.time()) - 100
    counted = itertools.count()

    async def writes(at: int = second) -> Stored:
        text = f"n{next(counted)}"
        stored = await desk.writer().submit(desk.receive(channel, sender, text, at=at))
        assert isinstance(stored, Stored)
        return stored

    first = await writes()
    conversation_id, base = first.message.conversation_id, first.message.sequence
    await desk.execute(FULL, conversation_id)
    next(counted)
    await writes()
    await writes()
    later = await writes(second + 1)
    await writes()
    # Several in one batch, after the full millisecond and behind a newer message.
    items = [desk.receive(channel, sender, f"n{next(counted)}", at=second) for _ in range(3)]
    for future in [desk.writer().enqueue(item) for item in items]:
        assert isinstance(await future, Stored)
    rows = [tuple(row) for row in await desk.rows(PLACES, conversation_id, base)]
    places = {"n0": 0, "n1": 4095, "n2": 4096, "n3": 4097, "n5": 4098, "n6": 4099, "n7": 4100, "n8": 4101}
    assert dict(rows) == places | {"n4": later.message.sequence - base}
    assert [text for text, _ in rows][-1] == "n4"


async def test_an_older_message_that_comes_later_is_not_what_a_read_mark_names(desk: Desk) -> None:
    channel, sender, second = await desk.new_channel(), phone(), int(time.time()) - 100
    stored = await desk.writer().submit(desk.receive(channel, sender, "newer", at=second, wamid="wamid.newer"))
    assert isinstance(stored, Stored)
    await desk.writer().submit(desk.receive(channel, sender, "older", at=second - 9, wamid="wamid.older"))
    row = await desk.conversation(stored.message.conversation_id)
    assert (row.last_inbound_provider_id, row.last_inbound_sequence) == ("wamid.newer", stored.message.sequence)
    await desk.writer().submit(desk.receive(channel, sender, "newest", at=second + 9, wamid="wamid.newest"))
    assert (await desk.conversation(row.id)).last_inbound_provider_id == "wamid.newest"
