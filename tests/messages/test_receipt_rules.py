"""Which status gives way to which."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.messages.receipts import moves

BEFORE = ("pending", "unknown", "sent", "delivered", "read", "failed")
AFTER = ("pending", "unknown", "sent", "delivered", "read", "played", "failed")
# By rank; failed gives way to proof of delivery only, and takes the place of what is not delivered.
FORWARD = {
    "pending": {"unknown", "sent", "delivered", "read", "played", "failed"},
    "unknown": {"sent", "delivered", "read", "played", "failed"},
    "sent": {"delivered", "read", "played", "failed"},
    "delivered": {"read", "played"},
    "read": set(),
    "failed": {"delivered", "read", "played"},
}
SHOWN = {"played": "read"}


@pytest.mark.parametrize(("before", "after"), list(product(BEFORE, AFTER)))
def test_every_pair(before: str, after: str) -> None:
    assert moves(before, after) == (after in FORWARD[before])


def end(words: tuple[str, ...]) -> str:
    status = "pending"
    for word in words:
        if moves(status, word):
            status = SHOWN.get(word, word)
    return status


@given(st.lists(st.sampled_from(["unknown", "sent", "delivered", "read", "played", "failed"]), max_size=5))
def test_any_order_with_any_repeats_ends_alike(words: list[str]) -> None:
    assert len({end(order) for order in permutations(words)}) == 1
    assert end(tuple(words)) == end(tuple(words * 2))
