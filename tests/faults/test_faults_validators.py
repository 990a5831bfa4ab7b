"""Each validator finds the bad history that is made for it, and nothing in the good one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from faults_recorder import Running, position
from faults_tables import Tables
from faults_validate import VALIDATORS, Back, History, recoveries, totals, validate

EVENTS = [
    {"seq": seq, "tx_last": last, "id": f"e{seq}", "kind": kind, "cause": cause, "conversation": "c1", "version": seq}
    for seq, last, kind, cause in [(1, 2, 60, "j1"), (2, 2, 20, "j1"), (3, 3, 21, "s1"), (4, 4, 50, "n1"), (5, 5, 22, "d1")]
]  # fmt: skip
PARTS = [
    {"id": "p1", "wamid": "w1", "message": "m1", "op": None, "direction": "inbound", "status": "read", "delivery": None},
    {"id": "p2", "wamid": "w2", "message": "m2", "op": "s1", "direction": "outbound", "status": "read", "delivery": "accepted"},
]  # fmt: skip
STORED = (5, "open", "", "", "m2", 1, "", "vip", 1, "hello", [7, 0])


def response(stream: int, first: int, last: int, upto: Running, **more: Any) -> dict[str, Any]:
    for seq in range(first, last + 1):
        upto.add(seq, f"e{seq}")
    return {"s": stream, "t": 10.0 + last, "f": first, "l": last, "n": last - first + 1, "h": upto.word, **more}


def good() -> tuple[History, Tables]:
    one, two = Running(), Running()
    watcher = [
        {"s": 1, "t": 10.0, "c": "hello", "p": 0, "head": 0, "last": 0},
        response(1, 1, 3, one, e=[[1, "e1", "j1"], [2, "e2", "j1"], [3, "e3", "s1"]]),
        {"s": 1, "t": 14.0, "c": "bookmark", "p": 3, "head": 3, "last": 3},
        response(2, 4, 5, two),
    ]
    writer = [
        {"k": "webhook", "op": "x1", "r": "ok", "t0": 1.0, "t1": 2.0, "many": ["w1"]},
        {"k": "send", "op": "s1", "r": "ok", "t0": 3.0, "t1": 4.0, "id": "m2"},
        {"k": "note", "op": "n1", "r": "ok", "t0": 5.0, "t1": 6.0},
        {"k": "outdated", "op": "o1", "r": "failed", "t0": 7.0, "t1": 8.0},
        {"k": "note", "op": "n2", "r": "unknown", "t0": 7.0, "t1": 8.0},
        {"k": "look", "id": "m2", "t0": 9.0, "found": True},
    ]
    chaos = [
        {"k": "stop", "name": "postgres", "t": 100.0},
        {"k": "kill", "name": "serve-1", "t": 101.0},
        {"k": "continue", "name": "postgres", "t": 103.5},
        {"k": "back", "name": "serve-1", "t": 101.0, "after": 4.0},
    ]
    parts = [{**part, "sequence": 10 + at, "conversation": "c1", "error": None} for at, part in enumerate(PARTS)]
    tables = Tables(
        head=5,
        events=copy.deepcopy(EVENTS),
        parts=parts,
        requests=[("n1", "AddConversationNote")],
        received=["m1"],
        failed=0,
        mirror={"c1": STORED},
        conversations={"c1": STORED},
        people=(1, 1, 1),
        counted_upto=5,
        audited={"s1": 1, "n1": 1},
        accepted=["p2"],
        pages=[(seq, f"e{seq}") for seq in range(1, 6)],
    )
    return History(writer, {"w": watcher}, chaos), tables


Bad = Callable[[Any, Any], None]


def writer(index: int, **change: Any) -> Bad:
    return lambda history, _tables: history.writer[index].update(change)


def watched(index: int, **change: Any) -> Bad:
    return lambda history, _tables: history.watchers["w"][index].update(change)


def part(index: int, **change: Any) -> Bad:
    return lambda _history, tables: tables.parts[index].update(change)


def dropped(index: int) -> Bad:
    return lambda history, _tables: history.watchers["w"].pop(index)


def event(index: int, **change: Any) -> Bad:
    return lambda _history, tables: tables.events[index].update(change)


def twice(table: str, index: int) -> Bad:
    return lambda _history, tables: getattr(tables, table).append(getattr(tables, table)[index])


def forgotten(table: str, index: int) -> Bad:
    return lambda _history, tables: getattr(tables, table).pop(index)


def accepted(*part_ids: str) -> Bad:
    def change(_history: Any, tables: Any) -> None:
        tables.accepted[:] = part_ids

    return change


def without_receipts(status: str, *part_ids: str) -> Bad:
    def change(_history: Any, tables: Any) -> None:
        object.__setattr__(tables, "receipts", False)
        tables.parts[1]["status"], tables.accepted[:] = status, part_ids

    return change


def given_up(_history: Any, tables: Any) -> None:
    object.__setattr__(tables, "failed", 1)


def told(**change: Any) -> Bad:
    def make(_history: Any, tables: Any) -> None:
        for name, value in change.items():
            object.__setattr__(tables, name, value)

    return make


def slow(after: float | None) -> Bad:
    return lambda history, _tables: history.chaos[3].update(after=after)


def mirrored(state: tuple[Any, ...]) -> Bad:
    return lambda _history, tables: tables.mirror.update(c1=state)


BAD: list[tuple[str, str, Bad]] = [
    ("V1 dense", "gap", event(4, seq=6)),
    ("V2 acknowledged once", "lost", part(0, wamid="w9")),
    ("V2 acknowledged once", "doubled", twice("parts", 0)),
    ("V2 acknowledged once", "doubled", twice("parts", 1)),
    ("V2 acknowledged once", "lost", forgotten("requests", 0)),
    ("V2 acknowledged once", "lost", event(3, cause="other")),
    ("V2 acknowledged once", "doubled", event(4, cause="n1", kind=50)),
    ("V2 acknowledged once", "doubled", twice("received", 0)),
    ("V2 acknowledged once", "wrong", event(4, cause="o1")),
    ("V2 acknowledged once", "wrong", part(1, op="o1")),
    ("V2 answered truly", "doubled", writer(1, id="m7")),
    ("V2 journal clean", "wrong", twice("received", 0)),
    ("V2 journal clean", "lost", given_up),
    ("V3 V10 delivered", "gap", watched(1, n=2, l=2)),
    ("V3 V10 delivered", "gap", watched(3, h="0" * 16)),
    ("V3 V10 delivered", "gap", event(4, id="e7")),
    ("V3 V10 delivered", "wrong", watched(3, f=7, l=8)),
    ("V3 listed", "gap", forgotten("pages", 2)),
    ("V4 ordered", "reordered", watched(3, f=3)),
    ("V5 whole transactions", "wrong", watched(2, p=1)),
    ("V5 whole transactions", "wrong", watched(0, p=1)),
    ("V5 whole transactions", "wrong", event(0, tx_last=4)),
    ("V6 honest bookmarks", "gap", watched(2, p=4)),
    ("V6 honest bookmarks", "wrong", watched(2, head=2)),
    ("V6 honest bookmarks", "gap", watched(0, p=3)),
    ("V7 complete", "gap", dropped(3)),
    ("V7 complete", "doubled", watched(3, n=3)),
    ("V9 causal", "wrong", writer(1, t0=14.0)),
    ("V11 read back", "lost", writer(5, found=False)),
    ("V11 state is events", "wrong", mirrored((4, "new", "", "", "m1", 1, *STORED[6:]))),
    ("V11 state is events", "wrong", mirrored((*STORED[:7], "", *STORED[8:]))),
    ("V11 state is events", "wrong", mirrored((*STORED[:-1], [7, 8]))),
    ("words are texts", "wrong", told(misworded=["found k1 nothing"])),
    ("statistics are tables", "wrong", told(counted_upto=4)),
    ("statistics are tables", "wrong", told(counts_differ=True)),
    ("statistics are tables", "wrong", told(miscounts=["counted 2 of 1"])),
    ("audit whole", "wrong", told(unchained="entry 3 is missing")),
    ("audit whole", "lost", told(audited={"s1": 1})),
    ("audit whole", "doubled", told(audited={"s1": 2, "n1": 1})),
    ("sent once", "doubled", accepted("p2", "p2")),
    ("sent once", "lost", accepted("p2", "p9")),
    ("sent once", "wrong", accepted()),
    ("sent once", "lost", part(1, status="pending", delivery="queued")),
    ("sent once", "wrong", without_receipts("sent")),
    ("sent once", "wrong", without_receipts("failed", "p2")),
    ("back in time", "wrong", slow(7.0)),
    ("back in time", "wrong", slow(None)),
]


def test_the_good_history_has_no_findings() -> None:
    findings = validate(*good())
    assert set(findings) == set(VALIDATORS)
    assert not any(findings.values())
    assert set(totals(findings).values()) == {0}


@pytest.mark.parametrize(("validator", "word", "make_bad"), BAD)
def test_a_bad_history_is_found(validator: str, word: str, make_bad: Bad) -> None:
    history, tables = good()
    make_bad(history, tables)
    assert word in {finding.split()[0].rstrip(":") for finding in VALIDATORS[validator](history, tables)}


def test_without_receipts_an_accepted_send_may_end_unknown() -> None:
    history, tables = good()
    without_receipts("unknown", "p2")(history, tables)
    assert not list(VALIDATORS["sent once"](history, tables))


def test_sends_of_a_conversation_keep_their_order() -> None:
    history, tables = good()
    later = {**tables.parts[1], "id": "p3", "op": "s2", "message": "m3", "sequence": 5}
    tables = dataclasses.replace(tables, parts=[*tables.parts, later], accepted=["p2", "p3"])
    assert [finding.split()[0] for finding in VALIDATORS["sent once"](history, tables)] == ["reordered:"]


def test_every_validator_has_a_bad_history() -> None:
    assert {name for name, _, _ in BAD} == set(VALIDATORS)


def test_the_time_without_what_a_process_needs_is_not_counted() -> None:
    history, _ = good()
    assert recoveries(history) == [Back("serve-1", 1.5, beside=0)]
    history.chaos.append({"k": "back", "name": "work-1", "t": 102.0, "after": 9.0})  # type: ignore[attr-defined]
    assert recoveries(history) == [Back("serve-1", 1.5, beside=1), Back("work-1", 7.5, beside=1)]


def test_a_cursor_tells_its_position() -> None:
    import uuid

    from server.kit.mac import MacKeys
    from server.log.cursor import Cursors

    cursors = Cursors(MacKeys({1: b"k" * 32}, current=1))
    for seq in (0, 1, 127, 128, 300_000):
        assert position(cursors.encode(uuid.uuid4(), uuid.uuid4(), seq, uuid.uuid4())) == seq
