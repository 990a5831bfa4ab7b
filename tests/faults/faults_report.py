"""The table of a proof: what was done, what was asked, what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from faults_run import Result

KINDS = ("serve", "work", "valkey", "envoy", "postgres", "simulator")
FAULTS = ("kill", "stop", "cut", "lie")


def report(results: Sequence[Result]) -> str:
    """One table over some runs."""
    lines = [f"seeds {', '.join(str(result.seed) for result in results)}", *_faults(results), *_points(results)]
    lines += [*_operations(results), *_back(results), *_findings(results)]
    if len(results) == 1:
        lines += [f"  {name:<22}{value}" for name, value in results[0].notes.items()]
    return "\n".join(lines)


def _faults(results: Sequence[Result]) -> Iterable[str]:
    hits = sum((result.hits for result in results), start=Counter[tuple[str, str]]())
    yield f"faults {hits.total():>6}      " + "".join(f"{fault:>7}" for fault in FAULTS)
    for kind in KINDS:
        yield f"  {kind:<16}" + "".join(f"{hits[(kind, fault)] or '':>7}" for fault in FAULTS)


def _points(results: Sequence[Result]) -> Iterable[str]:
    points = sum((result.points for result in results), start=Counter[str]())
    yield f"at named points {points.total()}: " + ", ".join(f"{name} {n}" for name, n in sorted(points.items()))


def _operations(results: Sequence[Result]) -> Iterable[str]:
    done = sum((result.acknowledged for result in results), start=Counter[str]())
    seconds = sum(result.notes.get("seconds", 0) for result in results)
    yield f"acknowledged operations {done.total()}, {done.total() / max(seconds, 1):.0f} each second: " + ", ".join(
        f"{name} {count}" for name, count in done.most_common()
    )


def _back(results: Sequence[Result]) -> Iterable[str]:
    yield "back after seconds, those deducted in which Postgres was away"
    yield f"  {'':<16}{'alone':>8}{'p50':>8}{'slowest':>9}{'beside others':>16}{'slowest':>9}"
    for kind in KINDS:
        alone: list[float] = []
        beside: list[float] = []
        for back in (back for result in results for back in result.back if back.name.partition("-")[0] == kind):
            (beside if back.beside else alone).append(60.0 if back.seconds is None else back.seconds)
        if alone or beside:
            middle = f"{median(alone):.2f}" if alone else ""
            slowest = [f"{max(found):.2f}" if found else "" for found in (alone, beside)]
            yield f"  {kind:<16}{len(alone):>8}{middle:>8}{slowest[0]:>9}{len(beside):>16}{slowest[1]:>9}"


def _findings(results: Sequence[Result]) -> Iterable[str]:
    whole: Counter[str] = Counter()
    for result in results:
        whole.update(result.totals)
    yield "totals: " + ", ".join(f"{name} {count}" for name, count in whole.items())
    for result in results:
        for validator, found in result.findings.items():
            yield f"  {validator:<24}{'holds' if not found else f'{len(found)} findings'}"
            yield from (f"    {finding}" for finding in found[:5])
