"""The harness itself is tested: each of these bugs, planted in servers and workers, is found by a run of half a minute.

| bug | what is done to the stack | found by |
|---|---|---|
| hint before COMMIT | nothing; then calls one by one in silence | V12: the event comes with the next verify poll |
| verify poll skipped | a server dies between COMMIT and hint, then silence | V12: its event never comes |
| bookmark from a hint's head | hints of what nobody wrote | V6: events before the bookmark were not given |
| 200 before durable | servers are killed | V2: messages lost |
| an expired lease requeues | workers die after the provider accepted | sent once: accepted twice |
| request id not stored | servers die between COMMIT and answer | V2: sends doubled |
| one event in 1,000 left out | load | V3, V7: gaps |
| COMMIT answered before it is durable | Postgres crashes | V2: acknowledged operations lost |
| statistics leave out an event of each page | load | statistics are tables |
| entries of the audit trail are not chained | load | audit whole |

The bugs are in `points/child_bugs.py`. The same runs without a bug find nothing.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults_chaos import Card
from faults_load import RATES
from faults_report import report
from faults_run import Plan, run

pytestmark = pytest.mark.faults

SENDS = {"webhook": 4.0, "send": 10.0}
LIGHT = {"note": 4.0}
BUSY = {"webhook": 6.0, "send": 6.0, "note": 6.0}
RARELY = {"note": 0.3}
KILLED = [Card("kill", "serve")] * 6
UNSETTLED = [Card("kill", "work", point) for point in ("accepted", "responded")] * 3
UNANSWERED = [Card("kill", "serve", "unanswered")] * 7
CRASHED = [Card("crash", "postgres"), Card("kill", "postgres")] * 2
# Name: rates, cards, seconds, whether the quiet stack is shaken once more, and who finds it.
BUGS = {
    "hint_before_commit": (LIGHT, [], 4.0, True, {"V12 calm"}),
    "verify_poll_skipped": (LIGHT, [], 4.0, True, {"V12 calm"}),
    "bookmark_from_hint": (RARELY, [Card("lie", "valkey")] * 3, 15.0, False, {"V6 honest bookmarks"}),
    "answered_before_durable": (RATES, KILLED, 22.0, False, {"V2 acknowledged once"}),
    "lease_requeued": (SENDS, UNSETTLED, 25.0, False, {"sent once"}),
    "request_id_forgotten": (SENDS, UNANSWERED, 25.0, False, {"V2 acknowledged once", "V2 answered truly"}),
    "event_dropped": (RATES, [], 25.0, False, {"V3 V10 delivered", "V7 complete"}),
    "commit_not_durable": (RATES, CRASHED, 20.0, False, {"V2 acknowledged once"}),
    "event_not_counted": (BUSY, [], 6.0, False, {"statistics are tables"}),
    "audit_unchained": (BUSY, [], 6.0, False, {"audit whole"}),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_bug_is_found(bug: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates, cards, seconds, end, finders = BUGS[bug]
    # A receipt would settle what the dead worker left before its lease ends.
    receipts = bug != "lease_requeued"
    plan = Plan(random.randrange(10**6), seconds, cards, rates, bug, quiet_within=20, end=end, receipts=receipts)
    result = await run(plan, tmp_path)
    print(report([result]))
    found = {name for name, findings in result.findings.items() if findings}
    with capsys.disabled():
        print(f"\n{bug}, seed {plan.seed}: found by {', '.join(sorted(found))}", flush=True)
    assert found & finders, f"{bug} was not found by {finders}, only by {found}"


@pytest.mark.timeout(400)
async def test_without_a_bug_nothing_is_found(tmp_path: Path) -> None:
    cards = [*KILLED[:2], *UNSETTLED[:2], *UNANSWERED[:2], *CRASHED[:2]]
    result = await run(Plan(random.randrange(10**6), 30.0, cards), tmp_path)
    print(f"\n{report([result])}")
    assert not [finding for findings in result.findings.values() for finding in findings]
