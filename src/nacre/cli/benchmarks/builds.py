"""A small image built from a Dockerfile, beside dockerd: by the classic builder of the API, which both serve."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nacre.cli.benchmarks.sides import LABEL, Side, alternately
from nacre.cli.benchmarks.target import quantile

RUNS = 10
IMAGE = "nacre-bench-built"
DOCKERFILE = """FROM {image}
COPY words /words
RUN /bin/sh -c '/bin/cat /words /words > /twice'
"""


def measure(sides: list[Side]) -> None:
    """Cold: another file is copied each time, so that nothing behind FROM is in the cache. Cached: once more without a change."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        folders = {side.name: stack.enter_context(_context(side)) for side in sides}

        def build(side: Side) -> None:
            side.docker("build", "-q", "-t", IMAGE, "--label", LABEL, str(folders[side.name]))

        def build_anew(side: Side) -> None:
            (folders[side.name] / "words").write_text(f"words {next(numbers)}\n")
            build(side)

        for name, work in (("cold", build_anew), ("cached", build)):
            samples = alternately(sides, work, RUNS)
            for side in sides:
                side.values[f"build of three steps, {name}, p50 ms"] = quantile(samples[side.name], 0.5)


@contextlib.contextmanager
def _context(side: Side) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nacre-build-") as directory:
        (Path(directory) / "Dockerfile").write_text(DOCKERFILE.format(image=side.image))
        try:
            yield Path(directory)
        finally:
            with contextlib.suppress(Exception):
                side.docker("rmi", "-f", IMAGE)
                side.docker("image", "prune", "-f", "--filter", f"label={LABEL}")
