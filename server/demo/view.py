"""The terminal: what the world looks like now, for any width, without a line that wraps or a row that jumps."""

import itertools
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text
from switchboard_client.switchboard.v1 import ConversationStatus, MessageStatus
from switchboard_sdk import WatchState

from server.demo.proof import Proof
from server.demo.world import Row, Tick, World

WIDE = 116
SIDE = 40
STATUS_STYLES = {
    ConversationStatus.NEW: "bold cyan",
    ConversationStatus.OPEN: "green",
    ConversationStatus.PENDING: "yellow",
    ConversationStatus.SNOOZED: "magenta",
}
MARKS = {
    MessageStatus.PENDING: ("·", "yellow"),
    MessageStatus.UNKNOWN: ("?", "yellow"),
    MessageStatus.SENT: ("✓", "dim"),
    MessageStatus.DELIVERED: ("✓✓", "dim"),
    MessageStatus.READ: ("✓✓", "cyan"),
    MessageStatus.FAILED: ("✗", "red"),
}
DELIVERY_ORDER = (
    MessageStatus.PENDING, MessageStatus.UNKNOWN, MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ,
    MessageStatus.FAILED,
)  # fmt: skip
STATES = {
    WatchState.LIVE: ("live", "green"),
    WatchState.CATCHING_UP: ("catching up", "yellow"),
    WatchState.OFFLINE: ("offline", "red"),
}


@dataclass
class Facts:
    """What is shown besides the world: of the stage and of the run."""

    url: str
    seconds: float | None
    phase: str = "playing"
    processes: Mapping[str, int] = field(default_factory=dict)
    fired: Mapping[str, int] = field(default_factory=dict)
    faults: bool = False


def screen(world: World, facts: Facts, *, width: int, height: int) -> RenderableType:
    """The whole screen."""
    layout = Layout()
    ticker = max(6, min(14, height // 3))
    if width >= WIDE:
        body, side = Layout(name="body"), Layout(_side(world, facts), size=SIDE)
        body.split_row(Layout(_conversations(world, rows=height - ticker - 4)), Layout(Text(" "), size=3), side)
        layout.split_column(
            Layout(_header(world, facts), size=2), body, Layout(_ticker(world, ticker - 2), size=ticker)
        )
        return layout
    figures = _figures(world, facts)
    rows = height - ticker - len(figures) - 6
    layout.split_column(
        Layout(_header(world, facts), size=2),
        Layout(Group(*figures), size=len(figures) + 1),
        Layout(_conversations(world, rows=rows)),
        Layout(_ticker(world, ticker - 2), size=ticker),
    )
    return layout


def line(tick: Tick) -> str:
    """An event as one line of a log."""
    return f"{tick.time:%H:%M:%S}  #{tick.seq:<6} {tick.what:<28} {tick.who:<16} {tick.about}".rstrip()


def figures_line(world: World) -> str:
    """The figures as one line of a log."""
    ledger = world.ledger
    return (
        f"{world.rate():.1f} events/s, commit to event p50 {_ms(world.latency(0.5))} p99 {_ms(world.latency(0.99))}; "
        f"written {len(ledger.written)}, streamed {len(ledger.written) - world.missing()}; "
        f"replies {len(ledger.sent)}, accepted {len(ledger.accepted)}"
    )


def summary(world: World, facts: Facts, proof: Proof, *, seconds: float) -> Iterable[str]:
    """The last words, a line each."""
    yield f"played {seconds:.0f} s, {proof.events} events, commit to event p50 {_ms(world.latency(0.5))}"
    if facts.faults:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(world.ledger.kills.items())) or "none"
        fired = ", ".join(f"{kind} {count}" for kind, count in sorted(facts.fired.items())) or "none"
        yield f"  processes killed                {kills}"
        yield f"  faults of the provider          {fired}"
    yield f"  messages written by customers   {proof.written} = received {proof.received} = streamed {proof.streamed}"
    others = (("failed", proof.failed), ("unknown", proof.unknown), ("waiting", proof.waiting))
    rest = "".join(f" + {word} {count}" for word, count in others if count)
    yield f"  replies sent                    {proof.sent} = accepted {proof.accepted}{rest}"
    for word, counts in (("lost", proof.lost), ("doubled", proof.doubled), ("reordered", proof.reordered)):
        told = "".join(f"  {what}: {count}" for what, count in counts.items())
        yield f"  {word:<31} {sum(counts.values())}{told}"
    if world.ledger.shown:
        yield f"  seen on the way                 {', '.join(world.ledger.shown)}"
    if proof.amiss:
        yield f"  not as it should be             {', '.join(proof.amiss)}"
    if world.ledger.refused:
        refused = ", ".join(f"{reason or 'no reason'} {count}" for reason, count in world.ledger.refused.items())
        yield f"  calls refused                   {refused}"
    if world.ledger.repeated:
        yield f"  calls repeated, with their id   {world.ledger.repeated}"


def picture(world: World, facts: Facts, *, width: int = 132, height: int = 38) -> str:
    """The screen as SVG, with the fonts of whoever looks at it."""
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=width, height=height, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(screen(world, facts, width=width, height=height), height=height)
        exported = console.export_svg(title="make demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", exported, flags=re.DOTALL)


def _header(world: World, facts: Facts) -> RenderableType:
    word, style = STATES[world.state]
    played = time.monotonic() - world.began
    clock = f"{played:.0f} s" if facts.seconds is None else f"{min(played, facts.seconds):.0f} of {facts.seconds:.0f} s"
    left = Text.assemble(("Switchboard", "bold"), ("  ", ""), (facts.url, "dim"), no_wrap=True, overflow="ellipsis")
    right = Text.assemble((f"{facts.phase}  ", "dim"), (clock, "dim"), "  ", ("● ", style), (word, style))
    return _edges(left, right)


def _conversations(world: World, *, rows: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("customer", width=16, no_wrap=True, overflow="ellipsis")
    table.add_column("status", width=8, no_wrap=True)
    table.add_column("agent", width=6, no_wrap=True, overflow="ellipsis")
    table.add_column("unread", width=6, justify="right", no_wrap=True)
    table.add_column("waits", width=6, justify="right", no_wrap=True)
    table.add_column("last message", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in _shown(world.rows.values(), rows):
        unread = Text(str(row.unread), "bold yellow") if row.unread else Text("·", "dim")
        status = Text(_word(row.status), STATUS_STYLES.get(row.status, "dim"))
        table.add_row(row.name, status, world.names.get(row.assignee_id, ""), unread, _waits(row), _last(world, row))
    return table


def _shown(rows: Iterable[Row], most: int) -> Sequence[Row]:
    """All in the order of their creation, so that nothing jumps; of too many, those where something happened last."""
    every = list(rows)
    if len(every) <= most:
        return every
    latest = {row.id for row in sorted(every, key=lambda row: row.changed_at)[-max(1, most) :]}
    return [row for row in every if row.id in latest]


def _waits(row: Row) -> Text:
    if row.waiting_since is None:
        return Text("·", "dim")
    seconds = max(0.0, (datetime.now(UTC) - row.waiting_since).total_seconds())
    if seconds >= 3600:
        return Text(f"{seconds / 3600:.0f} h", "bold yellow")
    return Text(f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min", "yellow")


def _last(world: World, row: Row) -> Text:
    """The newest message; ours with the mark of how far it has come."""
    if not row.ours:
        return Text(_flat(row.preview), no_wrap=True, overflow="ellipsis")
    mark, style = MARKS.get(world.statuses.get(row.last_message_id, MessageStatus.PENDING), ("·", "dim"))
    return Text.assemble((f"{mark:<2} ", style), (_flat(row.preview), "dim"), no_wrap=True, overflow="ellipsis")


def _side(world: World, facts: Facts) -> RenderableType:
    return Group(*_traffic(world), Text(), *_deliveries(world), Text(), *_processes(facts))


def _traffic(world: World) -> list[RenderableType]:
    ledger = world.ledger
    return [
        Text("traffic", "dim"),
        _pair("events a second", f"{world.rate():.1f}"),
        _pair("commit → event, p50", _ms(world.latency(0.5))),
        _pair("commit → event, p99", _ms(world.latency(0.99))),
        _pair("written by customers", str(len(ledger.written))),
        _pair("  seen in the stream", str(len(ledger.written) - world.missing())),
        _pair("replies of agents", str(len(ledger.sent))),
        _pair("  accepted by provider", str(len(ledger.accepted))),
    ]


def _deliveries(world: World) -> list[RenderableType]:
    counts = world.deliveries()
    lines: list[RenderableType] = [Text("deliveries", "dim")]
    for status in DELIVERY_ORDER:
        if counts[status] or status not in (MessageStatus.UNKNOWN, MessageStatus.FAILED):
            mark, style = MARKS[status]
            lines.append(_pair(_word(status), str(counts[status]), mark=(mark, style)))
    return lines


def _processes(facts: Facts) -> list[RenderableType]:
    restarts = {name: str(count) if count else "·" for name, count in facts.processes.items()}
    lines: list[RenderableType] = [Text("processes, restarts", "dim"), _two_columns(restarts)]
    if facts.fired:
        fired = {kind.replace("_", " "): str(count) for kind, count in facts.fired.items()}
        lines += [Text(), Text("faults of the provider", "dim"), *(_pair(*each) for each in fired.items())]
    return lines


def _two_columns(pairs: Mapping[str, str]) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 3, 0, 0))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    cells = [_pair(*each) for each in pairs.items()]
    for left, right in itertools.zip_longest(cells[::2], cells[1::2], fillvalue=""):
        table.add_row(left, right)
    return table


def _figures(world: World, facts: Facts) -> list[RenderableType]:
    """The side of a wide screen, as lines for a narrow one."""
    counts = world.deliveries()
    ledger = world.ledger
    states = "  ".join(f"{_word(status)} {counts[status]}" for status in DELIVERY_ORDER if counts[status])
    restarts = sum(facts.processes.values())
    lines = [
        f"{world.rate():.1f} events/s   commit → event {_ms(world.latency(0.5))}, p99 {_ms(world.latency(0.99))}   "
        f"{len(facts.processes)} processes, {restarts} restarts",
        f"written {len(ledger.written)}, streamed {len(ledger.written) - world.missing()}   "
        f"replies {len(ledger.sent)}, accepted {len(ledger.accepted)}",
        f"deliveries   {states}",
    ]
    return [Text(each, "dim", no_wrap=True, overflow="ellipsis") for each in lines]


def _ticker(world: World, lines: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), show_header=False, show_edge=False)
    table.add_column(width=5, justify="right", style="dim", no_wrap=True)
    table.add_column(width=8, style="dim", no_wrap=True)
    table.add_column(width=27, style="cyan", no_wrap=True, overflow="ellipsis")
    table.add_column(width=14, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for tick in list(world.ticker)[-lines:]:
        table.add_row(str(tick.seq), f"{tick.time:%H:%M:%S}", tick.what, tick.who, Text(tick.about, no_wrap=True))
    notice = world.ledger.notices[-1] if world.ledger.notices else ""
    return Group(Text(), _edges(Text("events", "dim"), Text(notice, "yellow")), table)


def _pair(label: str, value: str, *, mark: tuple[str, str] | None = None) -> RenderableType:
    named = Text(label) if mark is None else Text.assemble((f"{mark[0]:<2} ", mark[1]), label)
    return _edges(named, Text(value, "bold" if value not in ("·", "0") else "dim"))


def _edges(left: Text, right: Text) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_row(left, right)
    return table


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _word(value: ConversationStatus | MessageStatus) -> str:
    return (value.name or "").lower().replace("_", " ")


def _flat(text: str) -> str:
    return " ".join(text.split())
