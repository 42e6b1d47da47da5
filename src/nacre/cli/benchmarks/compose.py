"""Many containers of one service by `docker-compose up --scale`, beside dockerd."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from nacre.cli.benchmarks.sides import LABEL, Side

MANY = 300
PROJECT = "nacrebench"
FILE = """version: "2"
services:
  web:
    image: {image}
    command: /bin/sleep 10000
    labels: [{label}]
networks:
  default:
    ipam:
      config: [{{subnet: 10.98.0.0/16}}]
"""


def measure(sides: list[Side]) -> None:
    """From the command to its end, with all of them running."""
    if not shutil.which("docker-compose"):
        raise click.ClickException("no docker-compose here: apt-get install docker-compose")
    for side in sides:
        with _project(side) as file:
            compose = ("docker-compose", "-f", str(file), "-p", PROJECT)
            begun = time.perf_counter()
            side.command(*compose, "up", "-d", "--scale", f"web={MANY}")
            side.values[f"{MANY} containers up by docker-compose, s"] = time.perf_counter() - begun
            running = len(side.docker("ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}").split())
            if running != MANY:
                raise click.ClickException(f"{running} of {MANY} containers run on {side.name} after docker-compose up")


@contextlib.contextmanager
def _project(side: Side) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nacre-compose-") as directory:
        file = Path(directory) / "docker-compose.yml"
        file.write_text(FILE.format(image=side.image, label=LABEL))
        try:
            yield file
        finally:
            # Not measured: dockerd 20.10 now and then ends it with an endpoint that is still in use.
            with contextlib.suppress(click.ClickException):
                side.command("docker-compose", "-f", str(file), "-p", PROJECT, "down", "-t", "0")
