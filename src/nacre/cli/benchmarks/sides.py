"""The two engines of a comparison, this cloud's and dockerd's, and how both are measured in turn.

What takes milliseconds is measured alternately, a sample here and a sample there, so that whatever else the machine does falls on both.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

COMMAND_WAIT_S = 900.0
CHUNK_BYTES = 1 << 20
WARM_UP = 2
SETTINGS = {"DOCKER_BUILDKIT": "0", "COMPOSE_HTTP_TIMEOUT": "600"}
"""BuildKit is a program of the client's, which builds in a daemon of its own: the API's builder is what is compared."""
LABEL = "nacre.bench"


@dataclass
class Side:
    """An engine to measure: its socket, and its image of busybox."""

    name: str
    socket: str
    image: str
    values: dict[str, float] = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)

    def docker(self, *words: str) -> str:
        """One command of the client; what it said. Raises ClickException."""
        return self.command("docker", *words)

    def command(self, *words: str) -> str:
        """One command of a client of Docker's; what it said. Raises ClickException."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=COMMAND_WAIT_S, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(words[:3])} on {self.name}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONTEXT": "", **SETTINGS}

    def streamed(self, *words: str) -> float:
        """The megabytes a second that a command's output comes in."""
        begun, size = time.perf_counter(), 0
        with subprocess.Popen(["docker", *words], env=self.environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while data := process.stdout.read(CHUNK_BYTES):
                size += len(data)
        if process.returncode or not size:
            raise click.ClickException(f"docker {words[0]} on {self.name} ended with {process.returncode} after {size} bytes")
        return size / 1e6 / (time.perf_counter() - begun)


def alternately(sides: Sequence[Side], work: Callable[[Side], Any], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run after the warm-up, by the side's name."""
    samples: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(runs + WARM_UP):
        for side in sides:
            begun = time.perf_counter()
            work(side)
            if number >= WARM_UP:
                samples[side.name].append((time.perf_counter() - begun) * 1000)
    return samples
