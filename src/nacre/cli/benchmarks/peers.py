"""The peer: a Docker engine of our own start, measured in the same run. Needs dockerd and docker on the machine."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from nacre.cli.benchmarks import boot
from nacre.cli.benchmarks.target import Figures, Target, summary

RUNS = 20
READY_S = 60.0


def docker(target: Target) -> Figures:
    """`docker run -d` of busybox on its bridge, until the command returns with a running container; and in turn a server here."""
    if not (shutil.which("dockerd") and shutil.which("docker")):
        raise click.ClickException("no dockerd here: install Debian's docker.io to measure beside it")
    target.prepare()
    samples, ours = [], []
    with engine() as env:
        for number in range(RUNS + 2):
            active_ms = boot.one(target, f"beside-{number}")[1]
            start = time.perf_counter()
            ident = subprocess.run(
                ["docker", "run", "-d", "bench", "/bin/sleep", "1000"], env=env, check=True, capture_output=True, text=True
            ).stdout.strip()
            if number >= 2:
                samples.append((time.perf_counter() - start) * 1000)
                ours.append(active_ms)
            subprocess.run(["docker", "rm", "-f", ident], env=env, check=True, capture_output=True)
    target.delete_all()
    values = summary(samples)
    values["a server, POST to ACTIVE, in turn with it, p50 ms"] = summary(ours)["p50 ms"]
    values["times as fast"] = round(float(values["p50 ms"]) / float(summary(ours)["p50 ms"]), 2)
    return Figures("docker run -d on its bridge", values, samples)


@contextlib.contextmanager
def engine() -> Iterator[dict[str, str]]:
    """A dockerd in a mount and a network namespace of its own, with an image `bench`; nothing of it stays."""
    from nacre.cli.busybox import write_tar

    with tempfile.TemporaryDirectory(prefix="nacre-docker-") as directory:
        path = Path(directory)
        host = f"unix://{path}/docker.sock"
        env = {**os.environ, "DOCKER_HOST": host}
        command = ["unshare", "-m", "-n", "--propagation", "private", "dockerd", "--storage-driver", "overlay2"]
        parent = f"/nacre-docker-{os.getpid()}"
        command += [
            "--cgroup-parent",
            parent,
            "--data-root",
            f"{path}/data",
            "--exec-root",
            f"{path}/exec",
            "-p",
            f"{path}/pid",
            "-H",
            host,
        ]
        with (path / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            end = time.monotonic() + READY_S
            while subprocess.run(["docker", "version"], env=env, capture_output=True).returncode:
                if time.monotonic() > end or daemon.poll() is not None:
                    raise click.ClickException("dockerd did not start:\n" + (path / "log").read_text()[-2000:])
                time.sleep(0.2)
            content = io.BytesIO()
            write_tar(content)
            subprocess.run(["docker", "import", "-", "bench"], env=env, input=content.getvalue(), check=True, capture_output=True)
            yield env
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
            # dockerd leaves the cgroup above its containers' behind, once in each hierarchy.
            for cgroup in (Path("/sys/fs/cgroup" + parent), *Path("/sys/fs/cgroup").glob("*" + parent)):
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
