"""The ratchet: a test that has passed once may never fail or be skipped again."""

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from nacre.cli.conformance.results import Outcome, Results, plain

PASSING = Path(__file__).with_name("passing.txt")
"""The ids, without tags, of all tests that have passed in a run that was saved."""
BROKEN = "It has passed before, and may never fail or be skipped again."


def passing() -> frozenset[str]:
    return frozenset(PASSING.read_text().split())


def hold(found: Results, passed_before: Set[str]) -> Results:
    """The same outcomes; a skip of what passed before is a failure."""
    return Results([_held(outcome, passed_before) for outcome in found.outcomes])


def _held(outcome: Outcome, passed_before: Set[str]) -> Outcome:
    if outcome.status == "passed" or plain(outcome.id) not in passed_before:
        return outcome
    return replace(outcome, status="failed", cause=f"{outcome.cause}\n{BROKEN}".strip())


def advance(found: Results) -> int:
    """Note what passed. Returns how many are new."""
    before = passing()
    after = before | {plain(outcome.id) for outcome in found.outcomes if outcome.status == "passed"}
    PASSING.write_text("".join(f"{test_id}\n" for test_id in sorted(after)))
    return len(after - before)
