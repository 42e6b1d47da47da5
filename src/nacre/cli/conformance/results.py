"""What a run of Tempest says, held against what was asked: a test that did not run has not passed."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CAUSE_LINES_MAX = 6
SLOWEST_SHOWN = 20
_TAGS = re.compile(r"\[[^\]]*\]$")
_FIXTURE = re.compile(r"(setUpClass|tearDownClass|setUpModule|tearDownModule|process-returncode)\b")
OUTCOMES = {"success": "passed", "xfail": "passed", "skip": "skipped"}
"""subunit's status -> ours. Every other one is a failure, also `inprogress`: a worker died in that test."""


@dataclass(frozen=True)
class Outcome:
    """One test. `status`: passed, failed or skipped; `cause`: the traceback or the reason."""

    id: str
    status: str
    seconds: float
    cause: str

    @property
    def service(self) -> str:
        return service_of(self.id)


@dataclass(frozen=True)
class Results:
    """All the outcomes of a run, and the last line that says how many there were of each."""

    outcomes: Sequence[Outcome]

    def count(self, status: str) -> int:
        return sum(1 for outcome in self.outcomes if outcome.status == status)

    def __str__(self) -> str:
        return f"{self.count('passed')} passed, {self.count('failed')} failed, {self.count('skipped')} skipped"

    def by_service(self) -> dict[str, Counter[str]]:
        services: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            services.setdefault(outcome.service, Counter())[outcome.status] += 1
        return dict(sorted(services.items()))

    def as_json(self) -> dict[str, Any]:
        counts = {status: self.count(status) for status in ("passed", "failed", "skipped")}
        services = {name: dict(counter) for name, counter in self.by_service().items()}
        return {**counts, "services": services, "tests": [asdict(outcome) for outcome in self.outcomes]}


def service_of(test_id: str) -> str:
    """`tempest.api.compute.…` is compute, `tempest.scenario.…` is scenario; what belongs to none is `other`."""
    match = re.search(r"\btempest\.(?:api\.([a-z_]+)|(scenario))\.", test_id)
    return (match[1] or match[2]) if match else "other"


def plain(test_id: str) -> str:
    """The test's id without its tags `[id-…,smoke]`."""
    return _TAGS.sub("", test_id)


def gather(wanted: Iterable[str], reported: Iterable[dict[str, Any]]) -> Results:
    """An outcome for every wanted test. One whose class could not be set up shares the class's outcome; one nobody reports has failed.

    A class that could not be torn down, and a worker that died, are failures of their own.
    """
    seen: dict[str, Outcome] = {}
    fixtures: dict[str, Outcome] = {}
    for test in reported:
        status = OUTCOMES.get(test["status"], "failed")
        outcome = Outcome(test["id"], status, test["seconds"], test["text"].strip())
        (fixtures if _FIXTURE.match(test["id"]) else seen)[plain(test["id"])] = outcome
    outcomes = [seen.get(plain(test_id)) or _of_its_class(test_id, fixtures) for test_id in wanted]
    covered = {f"setUpClass ({plain(outcome.id).rpartition('.')[0]})" for outcome in outcomes}
    outcomes += [fixture for name, fixture in fixtures.items() if fixture.status == "failed" and name not in covered]
    return Results(outcomes)


def _of_its_class(test_id: str, fixtures: dict[str, Outcome]) -> Outcome:
    fixture = fixtures.get(f"setUpClass ({plain(test_id).rpartition('.')[0]})")
    if fixture is None or fixture.status == "passed":
        return Outcome(
            test_id, "failed", 0.0, "The test did not run. Is it spelled as `tempest run --list-tests` shows it, with its tags?"
        )
    return Outcome(test_id, fixture.status, 0.0, fixture.cause)


def first_lines(cause: str) -> list[str]:
    """What went wrong, in a few lines: the end of a traceback names it."""
    lines = [line for line in cause.splitlines() if line.strip()]
    if len(lines) <= CAUSE_LINES_MAX:
        return lines
    error = next((index for index in range(len(lines) - 1, -1, -1) if lines[index][0] not in " \t}{"), len(lines) - 1)
    begin = max(0, min(error - 2, len(lines) - CAUSE_LINES_MAX))
    return lines[begin : begin + CAUSE_LINES_MAX]


def report(results: Results) -> list[str]:
    """The lines for people; the last is `N passed, N failed, N skipped`."""
    lines = ["", "per service:"]
    for service, counter in results.by_service().items():
        counts = ", ".join(f"{counter[status]} {status}" for status in ("passed", "failed", "skipped"))
        lines.append(f"  {service}: {counts}")
    for title, status in (("skipped:", "skipped"), ("failures:", "failed")):
        chosen = [outcome for outcome in results.outcomes if outcome.status == status]
        if chosen:
            lines += ["", title]
        for outcome in chosen:
            lines.append(f"  {plain(outcome.id)}")
            lines += [f"      {line}" for line in first_lines(outcome.cause)]
    slowest = sorted(results.outcomes, key=lambda outcome: -outcome.seconds)[:SLOWEST_SHOWN]
    lines += ["", f"the slowest {len(slowest)}:", *(f"  {outcome.seconds:7.2f} s  {plain(outcome.id)}" for outcome in slowest)]
    return [*lines, "", str(results)]
