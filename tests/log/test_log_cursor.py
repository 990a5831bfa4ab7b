"""Cursors: what is refused, and as what."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.kit.mac import MacKeys
from server.log.cursor import MAX_SEQ, CursorDiverged, CursorExpired, CursorForeign, CursorInvalid, Cursors, HeadRow
from server.rpc.paging import decoded, unpadded

TENANT, EPOCH, EVENT = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
CURSORS = Cursors(MacKeys({1: b"k" * 32}, current=1))
HEAD = HeadRow(epoch=EPOCH, head=100, floor=50, head_event_id=EVENT)


@given(st.integers(0, MAX_SEQ))
def test_a_cursor_says_what_was_put_in_and_is_short_and_safe_in_an_address(seq: int) -> None:
    text = CURSORS.encode(TENANT, EPOCH, seq, EVENT)
    assert CURSORS.decode(TENANT, text).seq == seq
    assert len(text) <= 64
    assert text.replace("-", "").replace("_", "").isalnum()


def test_every_flipped_bit_is_noticed() -> None:
    text = CURSORS.encode(TENANT, EPOCH, 77, EVENT)
    data = decoded(text)
    assert data is not None
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CursorInvalid):
            CURSORS.decode(TENANT, unpadded(bytes(flipped)))


@pytest.mark.parametrize("damage", ["", "=", "x", " ", "A" * 64, "%00", "é"])
def test_what_we_did_not_write_is_damaged(damage: str) -> None:
    text = CURSORS.encode(TENANT, EPOCH, 77, EVENT)
    for other in (damage, text + damage, text[:-1] + damage, text[1:]):
        if other not in ("", text):
            with pytest.raises(CursorInvalid):
                CURSORS.decode(TENANT, other)


def test_a_cursor_of_another_tenant_is_foreign() -> None:
    with pytest.raises(CursorForeign):
        CURSORS.decode(uuid.uuid4(), CURSORS.encode(TENANT, EPOCH, 77, EVENT))


def test_a_cursor_sealed_by_another_installation_is_damaged() -> None:
    other = Cursors(MacKeys({1: b"x" * 32}, current=1))
    with pytest.raises(CursorInvalid):
        CURSORS.decode(TENANT, other.encode(TENANT, EPOCH, 77, EVENT))


def test_a_cursor_of_an_older_key_is_good() -> None:
    rotated = Cursors(MacKeys({1: b"k" * 32, 2: b"n" * 32}, current=2))
    assert rotated.decode(TENANT, CURSORS.encode(TENANT, EPOCH, 77, EVENT)).seq == 77


@pytest.mark.parametrize(("seq", "event_id"), [(49, None), (49, EVENT), (50, EVENT), (100, EVENT)])
def test_a_position_inside_the_log_holds(seq: int, event_id: uuid.UUID | None) -> None:
    CURSORS.decode(TENANT, CURSORS.encode(TENANT, EPOCH, seq, EVENT)).check(HEAD, event_id)


@pytest.mark.parametrize("seq", [0, 1, 48])
def test_a_position_before_the_floor_is_expired(seq: int) -> None:
    with pytest.raises(CursorExpired):
        CURSORS.decode(TENANT, CURSORS.encode(TENANT, EPOCH, seq, EVENT)).check(HEAD, None)


@pytest.mark.parametrize("seq", [101, 1_000_100, MAX_SEQ])
def test_a_position_beyond_the_head_is_of_another_log(seq: int) -> None:
    with pytest.raises(CursorDiverged):
        CURSORS.decode(TENANT, CURSORS.encode(TENANT, EPOCH, seq, EVENT)).check(HEAD, None)


def test_another_epoch_is_another_log() -> None:
    with pytest.raises(CursorDiverged):
        CURSORS.decode(TENANT, CURSORS.encode(TENANT, uuid.uuid4(), 77, EVENT)).check(HEAD, EVENT)


def test_another_event_with_the_same_number_is_another_log() -> None:
    with pytest.raises(CursorDiverged):
        CURSORS.decode(TENANT, CURSORS.encode(TENANT, EPOCH, 77, EVENT)).check(HEAD, uuid.uuid4())


def test_the_place_before_the_first_event_belongs_to_its_epoch() -> None:
    empty = HeadRow(epoch=EPOCH, head=0, floor=1, head_event_id=None)
    text = CURSORS.at(TENANT, empty)
    CURSORS.decode(TENANT, text).check(empty, None)
    with pytest.raises(CursorDiverged):
        CURSORS.decode(TENANT, text).check(HeadRow(uuid.uuid4(), 0, 1, None), None)
