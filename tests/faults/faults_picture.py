"""A run as a picture: what was done to whom and when, and under it how many operations were acknowledged each second.

`python tests/faults/faults_picture.py FOLDER/history > picture.svg`; every run of test_faults_random.py leaves one in its folder.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults_recorder import read

ROWS = ("serve-1", "serve-2", "work-1", "work-2", "valkey", "envoy", "postgres", "simulator")
LEFT, WIDTH, HEIGHT, CHART = 84, 1000, 18, 130
COLOURS = {"kill": "#c0392b", "stop": "#e67e22", "cut": "#7f8c8d", "lie": "#8e44ad"}
Line = Mapping[str, Any]


def picture(writer: Sequence[Line], chaos: Sequence[Line]) -> str:
    """The SVG."""
    begin = min(line["t"] for line in chaos)
    end = max(line["t"] + (line.get("after") or 0) for line in chaos)
    scale = (WIDTH - LEFT - 10) / max(end - begin, 1)
    top = HEIGHT * (len(ROWS) + 1) + CHART + 30
    body = [*_rows(chaos, begin, scale), *_chart(writer, begin, end, scale), *_legend(top)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 24}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>"])


def _rows(chaos: Sequence[Line], begin: float, scale: float) -> Iterator[str]:
    for row, name in enumerate(ROWS):
        y = HEIGHT * (row + 1)
        yield f'<text x="4" y="{y + 9}">{name}</text>'
        yield f'<line x1="{LEFT}" y1="{y + 5}" x2="{WIDTH - 10}" y2="{y + 5}" stroke="#ddd"/>'
    for line in chaos:
        if line["name"] in ROWS:
            yield from _mark(line, LEFT + (line["t"] - begin) * scale, HEIGHT * (ROWS.index(line["name"]) + 1), scale)


def _mark(line: Line, x: float, y: float, scale: float) -> Iterator[str]:
    if line["k"] == "back" and line["after"] is not None:
        yield f'<rect x="{x:.1f}" y="{y + 3}" width="{line["after"] * scale:.1f}" height="4" fill="#f5b7b1"/>'
    elif line["k"] in COLOURS:
        title = f"{line['k']} {line['point']}".strip()
        colour = COLOURS[line["k"]]
        yield f'<rect x="{x - 1:.1f}" y="{y}" width="2" height="10" fill="{colour}"><title>{title}</title></rect>'


def _chart(writer: Sequence[Line], begin: float, end: float, scale: float) -> Iterator[str]:
    """Acknowledged operations, by the second in which their answer came."""
    done: Counter[int] = Counter()
    for line in writer:
        if line.get("r") == "ok" and begin <= line["t1"] <= end:
            done[int(line["t1"] - begin)] += len(line.get("many", "1"))
    most = max(done.values(), default=1)
    base = HEIGHT * (len(ROWS) + 1) + CHART + 10
    points = " ".join(
        f"{LEFT + second * scale:.1f},{base - done[second] * CHART / most:.1f}" for second in range(int(end - begin))
    )
    yield f'<polyline points="{points}" fill="none" stroke="#2471a3" stroke-width="1"/>'
    yield f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 10}" y2="{base}" stroke="#888"/>'
    yield f'<text x="4" y="{base - CHART + 9}">{most}/s</text><text x="4" y="{base}">0</text>'
    for second in range(0, int(end - begin), 60):
        yield f'<text x="{LEFT + second * scale:.0f}" y="{base + 13}" fill="#666">{second} s</text>'


def _legend(y: float) -> Iterable[str]:
    for index, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + index * 70
        yield f'<rect x="{x}" y="{y}" width="3" height="10" fill="{colour}"/><text x="{x + 8}" y="{y + 9}">{name}</text>'
    yield f'<text x="{LEFT + 300}" y="{y + 9}">pale: until it answered again. Below: acknowledged operations each second</text>'


def draw(folder: Path) -> str:
    """The picture of a run's files."""
    return picture(read(folder, "writer"), read(folder, "chaos"))


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
