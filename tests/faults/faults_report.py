"""The table of a proof: what was done, what was asked, what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

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
    yield "back after, in seconds (needs away deducted)      p50   slowest"
    for kind in KINDS:
        found = sorted(
            seconds if seconds is not None else 60.0
            for result in results
            for name, seconds in result.back
            if name.partition("-")[0] == kind
        )
        if found:
            yield f"  {kind:<16}{len(found):>4} times {found[len(found) // 2]:>24.2f}{found[-1]:>10.2f}"


def _findings(results: Sequence[Result]) -> Iterable[str]:
    whole: Counter[str] = Counter()
    for result in results:
        whole.update(result.totals)
    yield "totals: " + ", ".join(f"{name} {count}" for name, count in whole.items())
    for result in results:
        for validator, found in result.findings.items():
            yield f"  {validator:<24}{'holds' if not found else f'{len(found)} findings'}"
            yield from (f"    {finding}" for finding in found[:5])
