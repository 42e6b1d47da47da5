"""Start-up: the CLI, `up` until the first token, and the memory of an idle cloud."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nacre.cli.benchmarks.target import Figures, Target, summary
from nacre.cli.client import connect
from nacre.cli.state import State

CLI_RUNS = 20
UP_RUNS = 3


def command_line() -> list[str]:
    """This very CLI, by the launcher where it came from one."""
    command = os.environ.get("NACRE_COMMAND")
    return [command] if command and Path(command).exists() else [sys.executable, "-m", "nacre.cli"]


def cli(target: Target) -> Figures:
    """`nacre --help`, whole processes."""
    samples = []
    for _ in range(CLI_RUNS):
        start = time.perf_counter()
        subprocess.run([*command_line(), "--help"], stdout=subprocess.DEVNULL, check=True)
        samples.append((time.perf_counter() - start) * 1000)
    return Figures("nacre --help", summary(samples), samples)


def up(target: Target) -> Figures:
    """`up --detach` of a new cloud on this prepared machine, from the command to the first token; then it is purged."""
    samples = []
    memory: list[float] = []
    for number in range(UP_RUNS):
        with tempfile.TemporaryDirectory(prefix="nacre-bench-") as directory:
            Path(directory).chmod(0o755)
            state = State(Path(directory) / "cloud")
            where = ["--state", str(state.dir)]
            start = time.perf_counter()
            subprocess.run(
                [*command_line(), "up", "--detach", "--port", str(18300 + number), *where], check=True, capture_output=True
            )
            connect(state).authenticate()
            samples.append((time.perf_counter() - start) * 1000)
            time.sleep(2)
            memory.append(_pss_mb(state))
            subprocess.run([*command_line(), "down", "--purge", *where], check=True, capture_output=True)
    values = summary(samples)
    values["PSS of API and node, no servers, MB"] = round(min(memory), 1)
    return Figures("up, from the command to the first token", values, samples)


def _pss_mb(state: State) -> float:
    from nacre.cli.status import process_rows

    return sum(float(row["pss_mb"] or 0) for row in process_rows(state) if row["name"] in ("api", "node"))
