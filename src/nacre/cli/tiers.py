"""`nacre test`: linters, types and import contracts, then the test tiers, in an environment that has the dev extra."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from nacre.cli import packages
from nacre.cli.state import say

Tell = Callable[[str], None]
"""What is done with each line of a tier's output."""

GROUPS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("functional",), ("lint", "unit", "postgresql")),
    (("node", "faults", "conformance"),),
)
"""Lanes side by side, then those after them. What works on the kernel's own things has the machine to itself."""
TIERS = ("unit", "functional", "postgresql", "node", "faults")
POSTGRESQL = (
    "unit/test_migrations.py",
    "unit/test_identity_keys.py",
    "functional/test_compute_servers.py",
    "functional/test_compute_policies.py",
    "functional/test_consul_clients.py",
    "functional/test_docker_images.py",
    "functional/test_docker_volumes.py",
    "functional/test_identity_tokens.py",
    "functional/test_image_images.py",
    "functional/test_network_ports.py",
    "functional/test_network_security_groups.py",
    "functional/test_stacks.py",
)
"""What runs once more over PostgreSQL each time: of each domain something. All of it can, by NACRE_TEST_STORE=postgresql."""
TIER_WAIT_S = 3 * 3600.0
"""A tier that takes longer hangs."""

OUTCOME = re.compile(r"(\d+) (passed|failed|error|errors|skipped|xfailed|xpassed)\b")


@dataclass
class Totals:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: "Totals") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@click.command()
@click.argument("tiers", nargs=-1, type=click.Choice(("lint", *TIERS, "conformance")))
@click.option("--all", "everything", is_flag=True, help="The tests that take minutes too.")
def test(tiers: tuple[str, ...], everything: bool) -> None:
    """Run linters, types and the test tiers: lint, unit, functional, postgresql, node, faults, conformance (all of them by default).

    The last line is `N passed, N failed, N skipped`; the exit code is 1 when anything failed.
    """
    clone = Path(__file__).resolve().parents[3]
    if not (clone / "tests").is_dir():
        raise click.ClickException("the tests are in a clone of the repository: run its ./nacre test")
    if os.geteuid() == 0:
        packages.ensure("node", "test")
    chosen = tiers or ("lint", *TIERS, "conformance")
    total = Totals()
    for group in GROUPS:
        lanes = [wanted for lane in group if (wanted := [tier for tier in lane if tier in chosen])]
        with ThreadPoolExecutor(max(1, len(lanes))) as pool:
            # The first lane is seen as it goes; of the others, each tier once it has ended.
            running = [pool.submit(run_lane, clone, lane, everything, number == 0) for number, lane in enumerate(lanes)]
            for each in running:
                total.add(each.result())
    click.echo(str(total))
    if total.failed:
        raise SystemExit(1)


def run_lane(clone: Path, tiers: Sequence[str], everything: bool, seen: bool) -> Totals:
    """Run these tiers, one after the other."""
    total = Totals()
    for tier in tiers:
        lines: list[str] = []
        began = time.monotonic()
        result = run(clone, tier, everything, say if seen else lines.append)
        for line in [*lines, f"--- {tier}: {result} ({time.monotonic() - began:.0f} s)"]:
            say(line)
        total.add(result)
    return total


def run(clone: Path, tier: str, everything: bool, tell: Tell) -> Totals:
    """Run one tier, whatever it is made of."""
    if tier == "lint":
        return lint(clone, tell)
    if tier == "conformance":
        return conformance(clone, everything, tell)
    return run_tier(clone, tier, everything, tell)


def conformance(clone: Path, everything: bool, tell: Tell) -> Totals:
    """Over SQLite, and over PostgreSQL by two API processes behind HAProxy."""
    command = [sys.executable, "-m", "nacre.cli", "conformance", *(["--all"] if everything else [])]
    totals = follow(clone, command, tell)
    if os.geteuid() == 0:
        totals.add(follow(clone, [sys.executable, "-m", "tests.postgres", *command, "--processes", "2"], tell))
    return totals


def linters(clone: Path) -> list[tuple[str, list[str]]]:
    bin_dir = Path(sys.executable).parent
    sources = ["src", "tests"]
    return [
        ("ruff check", [str(bin_dir / "ruff"), "check", *sources]),
        ("ruff format", [str(bin_dir / "ruff"), "format", "--check", *sources]),
        ("mypy", [sys.executable, "-m", "mypy"]),
        ("lint-imports", [str(bin_dir / "lint-imports")]),
        ("tidy", [sys.executable, "-m", "pytest", "-q", "tests/test_tidy.py"]),
    ]


def environment(clone: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{clone / 'src'}:{clone}"}


def lint(clone: Path, tell: Tell) -> Totals:
    """Each linter counts as one."""
    totals = Totals()
    for name, command in linters(clone):
        done = subprocess.run(
            command, cwd=clone, env=environment(clone), capture_output=True, text=True, timeout=TIER_WAIT_S, check=False
        )
        if done.returncode:
            totals.failed += 1
            tell(f"{name} failed:\n{done.stdout}{done.stderr}")
        else:
            totals.passed += 1
    return totals


def run_tier(clone: Path, tier: str, everything: bool, tell: Tell) -> Totals:
    """Runs pytest on one tier, its output as it comes. A tier that could not run counts as one failure."""
    if tier == "postgresql":
        files = [f"tests/{name}" for name in POSTGRESQL]
        return follow(clone, [sys.executable, "-m", "pytest", "--color=no", *files], tell, {"NACRE_TEST_STORE": "postgresql"})
    if not any((clone / "tests" / tier).rglob("test_*.py")):
        tell(f"tests/{tier} holds no test")
        return Totals(failed=1)
    chosen = [] if everything else ["-m", "not slow"]
    command = [sys.executable, "-m", "pytest", "--color=no", f"tests/{tier}", *chosen]
    return follow(clone, command, tell)


def follow(clone: Path, command: list[str], tell: Tell, more: Mapping[str, str] | None = None) -> Totals:
    """Run a command that counts its tests in its last line, its output as it comes."""
    last = ""
    with subprocess.Popen(
        command, cwd=clone, env={**environment(clone), **(more or {})}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tell(line.rstrip())
            last = line if OUTCOME.search(line) else last
        code = process.wait(timeout=TIER_WAIT_S)
    totals = counted(last)
    if code not in (0, 1) or (code == 1 and not totals.failed):
        totals.failed += 1
    return totals


def counted(line: str) -> Totals:
    """pytest's last line: `== 3 passed, 1 skipped in 0.2s ==`. An error counts as failed, an expected failure as passed."""
    totals = Totals()
    for count, outcome in OUTCOME.findall(line):
        if outcome in ("passed", "xfailed"):
            totals.passed += int(count)
        elif outcome == "skipped":
            totals.skipped += int(count)
        else:
            totals.failed += int(count)
    return totals
