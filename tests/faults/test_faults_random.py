"""Everything at once, for minutes: load, watchers and faults at random. Afterwards every promise is counted out.

SWITCHBOARD_FAULTS_RUNS is how many runs there are (2), SWITCHBOARD_FAULTS_SECONDS how long the faults of each last (520),
SWITCHBOARD_FAULTS_SEED the first run's seed, which repeats its choices; the next run's is one more. With an odd seed the provider
sends no receipts, so that what ended unknown stays so. With runs and seconds as they are, the totals that the proof asks for are
asserted too: 300 faults, 20 of each kind of process, 100,000 acknowledged operations, every named point. docs/testing.md says
how to read the table.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from faults_chaos import deck
from faults_picture import draw
from faults_points import SERVE_POINTS, WORK_POINTS
from faults_report import report
from faults_run import Plan, Result, run

pytestmark = pytest.mark.faults

RUNS = int(os.environ.get("SWITCHBOARD_FAULTS_RUNS", "2"))
SECONDS = float(os.environ.get("SWITCHBOARD_FAULTS_SECONDS", "520"))
SEED = int(os.environ.get("SWITCHBOARD_FAULTS_SEED", str(random.SystemRandom().randrange(10**6))))
FAULT_EVERY = 3.0
KINDS = ("serve", "work", "valkey", "envoy", "postgres")
WHOLE = RUNS * SECONDS >= 1040


@pytest.mark.timeout(RUNS * (SECONDS + 600))
async def test_nothing_is_lost_doubled_or_reordered_whatever_dies(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    results: list[Result] = []
    for number in range(RUNS):
        seed = SEED + number
        tell(f"\nSWITCHBOARD_FAULTS_SEED={seed} SWITCHBOARD_FAULTS_SECONDS={SECONDS:.0f} SWITCHBOARD_FAULTS_RUNS=1")
        cards = deck(random.Random(seed), faults=int(SECONDS / FAULT_EVERY))
        folder: Path = tmp_path_factory.mktemp(f"run{number}")
        results.append(await run(Plan(seed, SECONDS, cards, receipts=seed % 2 == 0), folder))
        (folder / "picture.svg").write_text(draw(folder / "history"))
        tell(f"{report(results[-1:])}\nfiles and picture.svg: {folder}")
    if RUNS > 1:
        tell(f"\n{report(results)}")
    findings = [finding for result in results for found in result.findings.values() for finding in found]
    assert not findings, findings[:20]
    if WHOLE:
        _assert_whole(results)


def _assert_whole(results: list[Result]) -> None:
    hits = sum((result.hits for result in results), start=results[0].hits.__class__())
    by_kind = {kind: hits[(kind, "kill")] + hits[(kind, "stop")] for kind in KINDS}
    points = sum((result.points for result in results), start=results[0].points.__class__())
    assert hits.total() >= 300, hits
    assert min(by_kind.values()) >= 20, by_kind
    assert set(points) >= {*SERVE_POINTS, *WORK_POINTS}, points
    assert sum(result.acknowledged.total() for result in results) >= 100_000
