"""Validators: each compares what the actors recorded with the tables, for one sentence of the contract.

Pure functions over a history and the tables. Each returns its findings, as sentences; none means that the sentence held. A
finding begins with the word under which it is counted: lost, doubled, reordered, gap, or wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from faults_recorder import Running, read
from faults_tables import HIDDEN, Tables

Line = Mapping[str, Any]
Findings = Iterator[str]
# What these operations bring about is seen in the log for certain; others may change nothing.
ALWAYS_SEEN = {"send": 21, "note": 50, "subject": 36}
TERMINAL = {"sent", "delivered", "read", "failed", "unknown"}
BACK_WITHIN = {"serve": 3.0, "envoy": 3.0, "postgres": 10.0, "work": 10.0, "valkey": 3.0}

STARTS_SLOWLY = ("serve", "work", "postgres")


@dataclass(frozen=True)
class Back:
    """A process that answers again: after how many seconds, None if it did not; how many others started meanwhile."""

    name: str
    seconds: float | None
    beside: int


@dataclass(frozen=True)
class History:
    """What was recorded. writer: operations and looks; watchers: responses and controls by watcher; chaos: its actions."""

    writer: Sequence[Line] = ()
    watchers: Mapping[str, Sequence[Line]] = field(default_factory=dict)
    chaos: Sequence[Line] = ()

    @property
    def operations(self) -> list[Line]:
        """Operations, without looks."""
        return [line for line in self.writer if "op" in line]


def load_history(folder: Path, watchers: Sequence[str]) -> History:
    """Reads the files of a run."""
    seen = {name: read(folder, name) for name in watchers}
    return History(read(folder, "writer"), seen, read(folder, "chaos"))


def dense(_history: History, tables: Tables) -> Findings:
    """V1: seq runs from 1 to the head without a hole."""
    seqs = [event["seq"] for event in tables.events]
    if seqs != list(range(1, tables.head + 1)):
        yield f"gap in the log: {len(seqs)} events, head {tables.head}"


def acknowledged_once(history: History, tables: Tables) -> Findings:
    """V2: what was acknowledged is stored once and in the log once; what was refused is nowhere."""
    parts, causes = _by(tables.parts, "wamid"), _by(tables.events, "cause")
    # A send's request id is on its message; others are remembered beside what they did.
    ops = Counter(request for request, _ in tables.requests) | Counter(
        part["op"] for part in tables.parts if part["op"] is not None
    )
    logged = Counter(tables.received)
    for line in history.operations:
        op, kind = line["op"], line["k"]
        if line["r"] == "failed":
            if ops[op] or op in causes:
                yield f"wrong: {kind} {op} was refused, and is stored"
        elif kind == "webhook":
            yield from _messages_once(line, parts, logged)
        elif line["r"] == "ok":
            yield from _once(f"{kind} {op}", ops[op])
        if line["r"] != "failed" and kind in ALWAYS_SEEN:
            events = [event for event in causes.get(op, []) if event["kind"] == ALWAYS_SEEN[kind]]
            yield from _once(f"event of {kind} {op}", len(events), needed=line["r"] == "ok")


def _messages_once(line: Line, parts: Mapping[Any, Sequence[Line]], logged: Counter[str]) -> Findings:
    for wamid in line["many"]:
        stored = parts.get(wamid, ())
        yield from _once(f"message {wamid}", len(stored), needed=line["r"] == "ok")
        for part in stored:
            yield from _once(f"event of message {wamid}", logged[part["message"]])


def _once(what: str, count: int, *, needed: bool = True) -> Findings:
    if count > 1:
        yield f"doubled: {what} is there {count} times"
    elif count == 0 and needed:
        yield f"lost: {what}"


def answered_truly(history: History, tables: Tables) -> Findings:
    """V2: the id that a send was answered with is the id under which it is stored."""
    stored = {part["op"]: part["message"] for part in tables.parts if part["op"] is not None}
    for line in history.operations:
        if line["k"] == "send" and line["r"] == "ok" and stored.get(line["op"], line["id"]) != line["id"]:
            yield f"doubled: send {line['op']} was answered with {line['id']}, stored as {stored[line['op']]}"


def journal_clean(_history: History, tables: Tables) -> Findings:
    """V2: nothing was given up, and every inbound message has one event of its own."""
    if tables.failed:
        yield f"lost: {tables.failed} payloads, items or timers were given up"
    inbound = sum(part["direction"] == "inbound" for part in tables.parts)
    if not inbound == len(tables.received) == len(set(tables.received)):
        yield f"wrong: {inbound} inbound messages, {len(tables.received)} events of {len(set(tables.received))} messages"


def delivered(history: History, tables: Tables) -> Findings:
    """V3 and V10: each stream was given what the tenant's log holds for it, in its order, byte for byte the same ids."""
    shown = _shown(tables)
    index = {event["seq"]: at for at, event in enumerate(shown)}
    for watcher, lines in history.watchers.items():
        for stream, responses in _streams(lines):
            at, running = index.get(responses[0]["f"]), Running()
            for line in responses:
                if at is None or at + line["n"] > len(shown):
                    yield f"wrong: {watcher} {stream} was given seq {line['f']}, which its log does not have"
                    break
                for event in shown[at : at + line["n"]]:
                    running.add(event["seq"], event["id"])
                at += line["n"]
                if running.word != line["h"] or shown[at - 1]["seq"] != line["l"]:
                    yield f"gap: {watcher} {stream} up to {line['l']} is not what the log holds"
                    break


def listed(_history: History, tables: Tables) -> Findings:
    """V3: the pages of the log show the same events as the streams."""
    if tables.pages is None:
        return
    shown = [(event["seq"], event["id"]) for event in _shown(tables)]
    if list(tables.pages) != shown:
        yield f"gap: the pages show {len(tables.pages)} events, the log holds {len(shown)}, or others"


def ordered(history: History, _tables: Tables) -> Findings:
    """V4: strictly increasing; no event twice, over all streams of a watcher that resumes from its cursor."""
    for watcher, lines in history.watchers.items():
        last = 0
        for line in lines:
            if "f" in line:
                if line["f"] <= last or line["l"] < line["f"]:
                    yield f"reordered: {watcher} was given {line['f']} after {last}"
                last = max(last, line["l"])


def whole_transactions(history: History, tables: Tables) -> Findings:
    """V5: the events of a transaction lie together, and no cursor that a server sends stands inside one.

    A client may resume after any event, and is greeted with the place that it asked for.
    """
    ends = {event["tx_last"] for event in tables.events} | {0}
    inside = {event["seq"] for event in tables.events} - ends
    group = [event["tx_last"] for event in tables.events]
    if any(later < earlier for earlier, later in pairwise(group)):
        yield "wrong: transactions are interleaved in the log"
    for watcher, lines in history.watchers.items():
        for line in lines:
            asked = line.get("c") == "cursor" or (line.get("c") == "hello" and line["p"] == line["last"])
            if "c" in line and line["p"] in inside and not asked:
                yield f"wrong: {watcher} was sent a {line['c']} inside a transaction, at {line['p']}"


def honest_bookmarks(history: History, tables: Tables) -> Findings:
    """V6: a position says that everything up to it was given, is not beyond the head, and nothing up to it comes later."""
    seqs = [event["seq"] for event in _shown(tables)]
    for watcher, lines in history.watchers.items():
        given, promised = 0, 0
        for line in lines:
            if "f" in line:
                if line["f"] <= promised:
                    yield f"gap: {watcher} was given {line['f']} after a position at {promised}"
                given = max(given, line["l"])
                continue
            position, head = line["p"], line.get("head")
            promised = max(promised, position)
            if head is not None and position > head:
                yield f"wrong: {watcher} was sent position {position} beyond head {head}"
            if skipped := _between(seqs, given, position):
                yield f"gap: {watcher} was sent {line['c']} {position} with {skipped} events before it not given"


def complete(history: History, tables: Tables) -> Findings:
    """V7: resumed from whatever cursor it had, a watcher has the whole log in the end."""
    count = len(_shown(tables))
    for watcher, lines in history.watchers.items():
        given = sum(line["n"] for line in lines if "n" in line)
        if given < count:
            yield f"gap: {watcher} was given {given} of {count} events"
        if given > count:
            yield f"doubled: {watcher} was given {given} events of {count}"


def causal(history: History, tables: Tables) -> Findings:
    """V9: no event comes before its operation was begun, as far as events were recorded one by one."""
    begun = {line["op"]: line["t0"] for line in history.operations}
    for watcher, lines in history.watchers.items():
        for line in lines:
            for seq, _, cause in line.get("e", ()):
                if line["t"] < begun.get(cause, 0):
                    yield f"wrong: {watcher} was given {seq} before {cause} began"


def read_back(history: History, _tables: Tables) -> Findings:
    """V11: what was acknowledged before a list began is in it."""
    for line in history.writer:
        if line["k"] == "look" and not line["found"]:
            yield f"lost: message {line['id']} was acknowledged, and a later list did not show it"


def mirrored(_history: History, tables: Tables) -> Findings:
    """V11: the last event of each conversation shows it as it is stored; counters are what they count."""
    for conversation, stored in tables.conversations.items():
        if tables.mirror.get(conversation) != stored:
            yield f"wrong: {conversation} is {stored}, its last event shows {tables.mirror.get(conversation)}"
    for conversation in tables.miscounted:
        yield f"wrong: the counters of {conversation} are not what they count"
    if len(set(tables.people)) != 1:
        yield f"doubled: identities, contacts, conversations: {tables.people}"


def counted(_history: History, tables: Tables) -> Findings:
    """Statistics stand at the head and are what plain SQL over the tables tells: what happened, and what there is."""
    if tables.counted_upto != tables.head:
        yield f"wrong: statistics stand at {tables.counted_upto}, the log at {tables.head}"
    if tables.counts_differ:
        yield "wrong: statistics do not count the conversations there are"
    for miscount in tables.miscounts:
        yield f"wrong: statistics: {miscount}"


def worded(_history: History, tables: Tables) -> Findings:
    """A search finds each conversation by what stands in its messages, notes and contact's name, and by nothing else."""
    for word in tables.misworded:
        yield f"wrong: words: {word}"


def audited(history: History, tables: Tables) -> Findings:
    """The chain of the audit trail is whole; what was acknowledged has its entry, a send only one."""
    if tables.unchained is not None:
        yield f"wrong: {tables.unchained}"
    for line in history.operations:
        if line["k"] in ALWAYS_SEEN and line["r"] == "ok":
            entries = tables.audited.get(line["op"], 0)
            if not entries:
                yield f"lost: the audit trail has no entry of {line['k']} {line['op']}"
            elif line["k"] == "send" and entries > 1:
                yield f"doubled: the audit trail has {entries} entries of send {line['op']}"


def sent_once(_history: History, tables: Tables) -> Findings:
    """At most one accepted request for each part, in the order of the conversation; every send ends terminal or unknown."""
    parts = {part["id"]: part for part in tables.parts if part["direction"] == "outbound"}
    newest: dict[str, int] = defaultdict(int)
    for part_id, count in Counter(tables.accepted).items():
        if count > 1:
            yield f"doubled: the provider accepted part {part_id} {count} times"
    for part_id in tables.accepted:
        if part_id not in parts:
            yield f"lost: the provider accepted part {part_id}, which is not stored"
            continue
        part = parts[part_id]
        if part["sequence"] <= newest[part["conversation"]]:
            yield f"reordered: part {part_id} was sent after a later one"
        newest[part["conversation"]] = part["sequence"]
    accepted = set(tables.accepted)
    for part in parts.values():
        if part["status"] not in TERMINAL or part["delivery"] in ("queued", "in_flight"):
            yield f"lost: part {part['id']} ended {part['status']}, its delivery {part['delivery']}"
        elif tables.receipts and (part["status"] == "read") != (part["id"] in accepted):
            yield f"wrong: part {part['id']} is {part['status']}, accepted: {part['id'] in accepted}"
        elif part["status"] not in ("unknown", "failed") and part["id"] not in accepted:
            yield f"wrong: part {part['id']} is {part['status']}, and the provider never accepted it"
        elif part["status"] == "failed" and part["id"] in accepted:
            yield f"wrong: part {part['id']} is failed, and the provider accepted it"


def back_in_time(history: History, _tables: Tables) -> Findings:
    """A process that died answers again in time: a server or Envoy after 3 s, Postgres after 10 s; later beside others.

    Counted from when what it needs is there. A start is a second of CPU: for each other process that starts at the same time, as
    many seconds again.
    """
    for back in recoveries(history):
        bound = BACK_WITHIN[back.name.partition("-")[0]] * (1 + back.beside)
        if back.seconds is None or back.seconds > bound:
            yield f"wrong: {back.name} was back after {back.seconds} s, beside {back.beside} others"


def recoveries(history: History) -> list[Back]:
    """How long each killed process was away, less the time in which what it needs was away too."""
    away = _outages(history.chaos)
    found: list[Back] = []
    for line in history.chaos:
        if line["k"] != "back":
            continue
        name, begin, after = line["name"], line["t"], line["after"]
        end = begin + (after or 60.0)
        beside = sum(
            other["k"] == "back"
            and other is not line
            and other["t"] < end
            and other["t"] + (other["after"] or 60) > begin
            for other in history.chaos
            if other["name"].partition("-")[0] in STARTS_SLOWLY
        )
        found.append(Back(name, None if after is None else _less(begin, end, name, away), beside))
    return found


def _less(begin: float, end: float, name: str, away: Mapping[str, list[tuple[float, float]]]) -> float:
    """The last part of (begin, end) in which what the process needs was there; Envoy needs one of the servers."""
    kind = name.partition("-")[0]
    gone = list(away.get("postgres", ())) if kind in ("serve", "work", "envoy") else []
    servers = [outages for other, outages in away.items() if other.startswith("serve-")]
    if kind == "envoy" and len(servers) == 2:
        gone += [
            (max(one[0], other[0]), min(one[1], other[1]))
            for one, other in product(*servers)
            if max(one[0], other[0]) < min(one[1], other[1])
        ]
    free = begin
    for since, until in sorted(gone):
        if until > free and since < end:
            free = max(free, min(until, end))
    return round(end - free, 3)


def _outages(chaos: Sequence[Line]) -> dict[str, list[tuple[float, float]]]:
    """When each process was dead or stood still."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    standing: dict[str, float] = {}
    for line in chaos:
        if line["k"] == "back":
            found[line["name"]].append((line["t"], line["t"] + (line["after"] or 60)))
        elif line["k"] == "stop":
            standing[line["name"]] = line["t"]
        elif line["k"] == "continue" and line["name"] in standing:
            found[line["name"]].append((standing.pop(line["name"]), line["t"]))
    return found


VALIDATORS: dict[str, Callable[[History, Tables], Findings]] = {
    "V1 dense": dense,
    "V2 acknowledged once": acknowledged_once,
    "V2 answered truly": answered_truly,
    "V2 journal clean": journal_clean,
    "V3 V10 delivered": delivered,
    "V3 listed": listed,
    "V4 ordered": ordered,
    "V5 whole transactions": whole_transactions,
    "V6 honest bookmarks": honest_bookmarks,
    "V7 complete": complete,
    "V9 causal": causal,
    "V11 read back": read_back,
    "V11 state is events": mirrored,
    "statistics are tables": counted,
    "words are texts": worded,
    "audit whole": audited,
    "sent once": sent_once,
    "back in time": back_in_time,
}


def validate(history: History, tables: Tables) -> dict[str, list[str]]:
    """Findings by validator; each validator is there, with none if its sentence held."""
    return {name: list(check(history, tables)) for name, check in VALIDATORS.items()}


def totals(findings: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How much was lost, doubled, reordered, missing in a stream (gaps), or wrong otherwise."""
    counted = Counter(finding.split()[0].rstrip(":") for found in findings.values() for finding in found)
    words = {"lost": "lost", "doubled": "doubled", "reordered": "reordered", "gap": "gaps", "wrong": "wrong"}
    return {plural: counted[word] for word, plural in words.items()}


def _by(rows: Sequence[Line], name: str) -> dict[Any, list[Line]]:
    found: dict[Any, list[Line]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found


def _shown(tables: Tables) -> list[Line]:
    """What a stream without filter and with all rights shows."""
    return [event for event in tables.events if event["kind"] not in HIDDEN]


def _streams(lines: Sequence[Line]) -> Iterator[tuple[int, list[Line]]]:
    """The responses of each stream."""
    found: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        if "f" in line:
            found[line["s"]].append(line)
    yield from found.items()


def _between(seqs: Sequence[int], after: int, upto: int) -> int:
    """How many of the seqs lie in (after, upto]."""
    return max(0, bisect_right(seqs, upto) - bisect_right(seqs, after))
