"""Sizes in bytes are shown as people say them."""

import pytest
from switchboard.v1 import message_pb2
from switchboard_cli.tables import cell
from switchboard_cli.values import size_words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KB"), (10_240, "10 KB"), (24_117_248, "23 MB"), (3 << 40, "3072 GB")],
)
def test_a_number_of_bytes_in_words(number: int, words: str) -> None:
    assert size_words(number) == words


def test_a_file_shows_its_size_and_nothing_where_nobody_knows_it() -> None:
    size = message_pb2.Attachment.DESCRIPTOR.fields_by_name["size_bytes"]
    assert cell(message_pb2.Attachment(size_bytes=1434), size) == "1.4 KB"
    assert cell(message_pb2.Attachment(), size) == ""
