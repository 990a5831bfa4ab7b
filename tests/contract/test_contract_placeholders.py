"""An example is the same whenever it is recorded: what differs from run to run is replaced, what is the same stays the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contract_placeholders import Placeholders
from contract_world import digits, nonce, unknown


def recorded(*, end: datetime, backwards: bool = False) -> Any:
    """A request and an answer as a run has them, at another time, with other ids, and maps in another order."""
    contact, other, number = unknown(), unknown(), int(digits(6))
    metadata = {"b": "2", "a": "1"} if backwards else {"a": "1", "b": "2"}
    answer = {
        "contact": {"id": contact, "friend": other, "phone": f"+49{digits(9)}", "name": f"Tag {nonce()}"},
        "createTime": f"{end - timedelta(seconds=3):%Y-%m-%dT%H:%M:%S.%fZ}",
        "expireTime": f"{end + timedelta(hours=24, seconds=-3):%Y-%m-%dT%H:%M:%SZ}",
        "asOf": nonce()[1:-1],
        "nextPageToken": "",
        "events": [{"seq": f"{number + 5}"}, {"seq": f"{number}"}, {"seq": f"{number + 9}"}],
        "metadata": metadata,
        "text": "x" * 300,
        "version": "7",
    }
    holders = Placeholders(answer, end=end, secrets={})
    return holders.text(f"/v1/contacts/{contact}"), holders.answer(answer)


def test_two_runs_record_the_same() -> None:
    now = datetime.now(UTC)
    assert recorded(end=now) == recorded(end=now - timedelta(days=40, seconds=17), backwards=True)


def test_maps_have_one_order() -> None:
    _, answer = recorded(end=datetime.now(UTC), backwards=True)
    assert list(answer["metadata"]) == ["a", "b"]


def test_what_is_the_same_stays_the_same_and_times_keep_their_distance() -> None:
    path, answer = recorded(end=datetime.now(UTC))
    assert path == f"/v1/contacts/{answer['contact']['id']}"
    assert answer["contact"]["friend"] != answer["contact"]["id"]
    assert (answer["createTime"], answer["expireTime"]) == ("2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z")


def test_lists_and_texts_are_cut_and_numbers_show_their_order() -> None:
    _, answer = recorded(end=datetime.now(UTC))
    assert answer["events"] == [{"seq": "1002"}, {"seq": "1001"}]
    assert (answer["text"], answer["nextPageToken"], answer["asOf"]) == ("x" * 20 + "…", "", "…")
    assert answer["version"] == "7"
