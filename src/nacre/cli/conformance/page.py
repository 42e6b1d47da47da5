"""docs/conformance.md, from the results of the runs that were kept: what passes, and why the rest does not."""

import datetime
import fnmatch
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nacre.cli.conformance.environment import TEMPEST_VERSION
from nacre.cli.conformance.results import Results, plain, service_of

REASONS = Path(__file__).with_name("reasons")
"""For each service a file with a line `PATTERN: REASON` for whatever does not pass; the first pattern that fits (fnmatch) counts."""
NO_REASON = "**no reason is known yet**"
RANK = {"passed": 0, "failed": 1, "skipped": 2}
"""Of several runs the best outcome counts, and a skip hides no failure."""
HEAD = f"""# Conformance

Made by `nacre conformance --all --save docs` from the results in `docs/conformance/`: all tests under `tempest.api` of these services in
Tempest {TEMPEST_VERSION}, against a cloud that the command starts itself. What has passed once is in
`src/nacre/cli/conformance/passing.txt` and may never fail or be skipped again; `./nacre test` runs the smoke tests and those that the
interop guideline requires, `./nacre test --all` all of them.
"""


def keep(folder: Path, name: str, found: Results) -> None:
    """Write a run's statuses to `folder/conformance/NAME.json`; services that it did not cover stay as an earlier run of that name left them."""
    path = folder / "conformance" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tests: dict[str, str] = json.loads(path.read_text())["tests"] if path.exists() else {}
    covered = set(found.by_service())
    tests = {test_id: status for test_id, status in tests.items() if service_of(test_id) not in covered}
    tests |= {plain(outcome.id): outcome.status for outcome in found.outcomes}
    record = {
        "tempest": TEMPEST_VERSION,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(sum(outcome.seconds for outcome in found.outcomes)),
        "tests": dict(sorted(tests.items())),
    }
    path.write_text(json.dumps(record, indent=0) + "\n")


def render(folder: Path) -> None:
    """Write `folder/conformance.md` from all runs that were kept."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted((folder / "conformance").glob("*.json"))}
    statuses = best(record["tests"] for record in records.values())
    parts = [HEAD, summary(statuses), *(f"Run `{name}`: {record['date']}." for name, record in records.items()), ""]
    for service in sorted({service_of(test_id) for test_id in statuses}):
        parts += section(service, statuses)
    (folder / "conformance.md").write_text("\n".join(parts).rstrip() + "\n")


def best(runs: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for tests in runs:
        for test_id, status in tests.items():
            found[test_id] = min(found.get(test_id, status), status, key=RANK.__getitem__)
    return found


def summary(statuses: Mapping[str, str]) -> str:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(RANK, 0))
    for test_id, status in statuses.items():
        counts[service_of(test_id)][status] += 1
    rows = ["| service | tests | passed | failed | skipped |", "|---|---|---|---|---|"]
    for service, of in sorted(counts.items()):
        rows.append(f"| {service} | {sum(of.values())} | {of['passed']} | {of['failed']} | {of['skipped']} |")
    return "\n".join([*rows, ""])


def section(service: str, statuses: Mapping[str, str]) -> list[str]:
    """What does not pass, by its reason."""
    open_tests = sorted(test_id for test_id, status in statuses.items() if service_of(test_id) == service and status != "passed")
    if not open_tests:
        return []
    known = reasons(service)
    grouped: dict[str, list[str]] = defaultdict(list)
    for test_id in open_tests:
        grouped[reason(test_id, known)].append(test_id)
    lines = [f"## {service}: what does not pass", ""]
    for text, tests in sorted(grouped.items(), key=lambda group: -len(group[1])):
        lines += [f"{len(tests)}: {text}", ""]
        lines += [f"- `{test_id.removeprefix(f'tempest.api.{service}.')}` ({statuses[test_id]})" for test_id in tests]
        lines.append("")
    return lines


def reasons(service: str) -> list[tuple[str, str]]:
    path = REASONS / f"{service}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.split(":", 1) for line in lines if line.strip() and not line.startswith("#")]
    return [(pattern.strip(), text.strip()) for pattern, text in pairs]


def reason(test_id: str, known: Sequence[tuple[str, str]]) -> str:
    return next((text for pattern, text in known if fnmatch.fnmatchcase(test_id, pattern)), NO_REASON)
