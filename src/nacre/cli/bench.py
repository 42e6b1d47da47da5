"""`nacre bench`: the figures, measured on a running cloud, kept with their conditions."""

import datetime
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nacre.cli.benchmarks import (
    boot,
    claims,
    containers,
    evacuation,
    joining,
    lab,
    lists,
    load,
    peers,
    rules,
    scheduling,
    startup,
    swarm,
)
from nacre.cli.benchmarks.report import render
from nacre.cli.benchmarks.target import Figures, Target
from nacre.cli.output import table
from nacre.cli.state import opened, state_option

Benchmark = Callable[[Target], Figures]

REACH_CONTAINERS = "run --rm 4, exec 3, docker-compose 4 times as fast as dockerd; streams and builds no slower"

BENCHMARKS: dict[str, tuple[Benchmark, str]] = {
    "cli": (startup.cli, "80 ms"),
    "up": (startup.up, "2 s to the first token (goal 1 s); PSS 150 MB (goal 100)"),
    "boot": (boot.single, "p50 60 ms, p95 120 ms; 5 times faster than docker run (goal 40 ms)"),
    "docker": (peers.docker, "the peer of boot, in turn with it: 5 times as slow"),
    "containers": (containers.beside_dockerd, REACH_CONTAINERS),
    "burst": (boot.burst, "800 ACTIVE in 20 s (goal 8 s)"),
    "tokens": (load.validation, "8,000/s repeated, 5,000/s first seen (goal 10,000)"),
    "get": (load.one_server, "3,000/s (goal 5,000)"),
    "list": (lists.thousand, "p95 60 ms; another GET's p99 30 ms"),
    "join": (joining.join, "3 s"),
    "scheduler": (
        scheduling.scheduler,
        "planning 1,000/s at 1,000 hosts and 500/s at 10,000; plan + claim 600/s; none overbooked",
    ),
    "swarm": (swarm.swarm, "scheduling delay and GET, p50 10 ms, p99 50 ms each (Swarm: 230 and 400, 150 and 360)"),
    "enrol": (joining.enrol, "800 hosts in 15 s"),
    "claims": (claims.on_postgresql, "300/s by one process; four: 1.3 times that when spread, 0.9 when all want one host"),
    "evacuation": (evacuation.evacuation, "lease (at most 15 s) + 5 s"),
    "lab": (lab.lab, "over 90 % of the bare VXLAN; no packet lost"),
    "rules": (rules.twenty, "100 ms, no packet lost (goal 40 ms)"),
}
"""name -> (the benchmark, what is to be reached)."""

APART = {"join", "lab", "evacuation", "swarm", "enrol", "claims"}
"""Those that need a cloud of their own kind: they run only when they are named, `join` also where the cloud lets hosts in."""


@click.command()
@state_option
@click.argument("names", nargs=-1)
@click.option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write results and page into this folder (docs).")
def bench(directory: Path | None, names: tuple[str, ...], save: Path | None) -> None:
    """Measure a running cloud: NAMES of cli, up, boot, docker, containers, burst, tokens, get, list, join, scheduler, lab, rules; all when none is
    named. `swarm` and `enrol` are for clouds of simulated hosts (`up --simulate 1000`), `claims` is for the empty PostgreSQL database that
    NACRE_STORE names; they run only when they are named."""
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        raise click.UsageError(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    target = Target.open(opened(directory))
    # Only a cloud that lets other hosts in can measure how they come, and only a lab what passes between them.
    fitting = {"join"} if target.state.require().nodes_port else set()
    fitting |= {"lab", "evacuation"} if lab.place_of(target) is not None else set()
    every = [name for name in BENCHMARKS if name not in APART - fitting]
    for name in names or every:
        benchmark, reach = BENCHMARKS[name]
        try:
            figures = benchmark(target)
        finally:
            if name == "rules":
                rules.clean_up(target)
        click.echo(f"{figures.name} (to reach: {reach})")
        click.echo(table(("figure", "value"), list(figures.values.items())) + "\n")
        if save:
            keep(save, name, reach, figures)


def keep(folder: Path, name: str, reach: str, figures: Figures) -> None:
    """The result with its conditions as JSON, and the page made anew from all results in the folder."""
    results = folder / "benchmarks"
    results.mkdir(parents=True, exist_ok=True)
    record = {
        "name": name,
        "title": figures.name,
        "reach": reach,
        "values": figures.values,
        "samples": [round(sample, 2) for sample in figures.samples],
        "note": figures.note,
        "conditions": conditions(),
    }
    (results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    render(folder, list(BENCHMARKS))


def conditions() -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
