"""The command: environment, cloud, run, report; and whatever happens, what it made goes again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

import click

from nacre.cli.client import connect
from nacre.cli.conformance import balanced, environment, page, ratchet, results, selection
from nacre.cli.conformance.workspace import SSH_IMAGE, Workspace
from nacre.cli.lab.layout import HOSTS_MAX
from nacre.cli.state import COMMAND, State, say

CONCURRENCY = 2
UP_WAIT_S = 600.0
"""How long the cloud may take to come up (the first `up` of a machine installs packages) and to go."""

SETTINGS = (
    "security_compliance.lockout_failure_attempts=2",
    "security_compliance.lockout_duration_s=5",
    "security_compliance.unique_last_password_count=2",
    "image_import.allowed_ports=0",
    "image_import.allowed_networks=127.0.0.0/8",
    "image_import.show_locations=true",
)
"""What tempest.conf says of a cloud that is made here, and the leave to fetch images from the workspace's own web server."""


@click.command()
@click.option(
    "--ids",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of test ids (Tempest's smoke tests and those that the interop guideline requires).",
)
@click.option(
    "--services", default=",".join(selection.SERVICES), show_default=True, help="Only the tests of these, with commas between."
)
@click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cloud to test: one that runs there is used and left as it is, otherwise one is made there (a temporary one).",
)
@click.option(
    "--simulate", type=click.IntRange(1, 1000), metavar="N", help="N simulated hosts instead of real guests; needs no root."
)
@click.option(
    "--lab",
    "lab_hosts",
    type=click.IntRange(1, HOSTS_MAX),
    metavar="N",
    help="A lab of this machine and N hosts more, with real guests; needs root. `nacre lab` has none of the settings that Identity's tests want.",
)
@click.option(
    "--processes",
    type=click.IntRange(2, 16),
    metavar="N",
    help="N API processes with HAProxy in front of them, over the empty PostgreSQL database that NACRE_STORE names.",
)
@click.option(
    "--ssh", is_flag=True, help="Boot servers from Debian (built if it is not there) and log in to them; needs real guests."
)
@click.option("--all", "everything", is_flag=True, help="Every test under tempest.api of these services.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Keep the results in this folder (docs), write its conformance.md, and note what passed for the ratchet.",
)
@click.option("--keep", is_flag=True, help="Leave the cloud and Tempest's directory behind, and say where.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=CONCURRENCY, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the results to this file, too.")
def conformance(
    ids: Path | None,
    services: str,
    directory: Path | None,
    simulate: int | None,
    lab_hosts: int | None,
    processes: int | None,
    ssh: bool,
    everything: bool,
    save: Path | None,
    keep: bool,
    concurrency: int,
    json_file: Path | None,
) -> None:
    """Run Tempest's smoke tests, and those that the interop guideline requires, against a cloud of its own.

    Tempest gets an environment of its own at the first run. What has passed once counts as failed when it is skipped. The last line is
    `N passed, N failed, N skipped`; the exit code is 1 when anything failed.
    """
    chosen_services = frozenset(filter(None, services.split(",")))
    files = (ids,) if ids else selection.USUAL
    chosen = [] if everything else selection.select(chosen_services, *files)
    if not chosen and not everything:
        raise click.ClickException(f"no test of {services} is in {', '.join(str(file) for file in files)}")
    if save and simulate:
        raise click.ClickException("what is kept was seen with real guests: leave out --save or --simulate")
    if ssh and simulate:
        raise click.ClickException("nobody logs in to simulated guests: leave out --ssh or --simulate")
    if lab_hosts and (simulate or directory):
        raise click.ClickException("a lab has a cloud of its own: leave out --simulate and --state, or --lab")
    if processes and (lab_hosts or directory or not os.environ.get("NACRE_STORE")):
        raise click.ClickException(
            "several API processes need a cloud of their own, and NACRE_STORE: leave out --lab and --state"
        )
    signal.signal(signal.SIGTERM, interrupted)
    tempest_bin = environment.ensure()
    with scratch(keep) as work, cloud_for(work, directory, simulate, lab_hosts, processes, keep) as state:
        if ssh and not connect(state).get("image", f"/images?name={SSH_IMAGE}")["images"]:
            nacre("image", "build", "debian", "--state", str(state.dir))
        workspace = Workspace(work / "tempest", tempest_bin, ssh)
        workspace.init()
        chosen = chosen or selection.of_services(workspace.all_tests(), chosen_services)
        with workspace.served() as serving:
            serving.configure(state, chosen)
            say(f"{len(chosen)} tests, {concurrency} at a time")
            serving.run(concurrency)
        found = workspace.results(chosen)
    if not simulate and not lab_hosts:
        found = ratchet.hold(found, ratchet.passing())
    if json_file is not None:
        json_file.write_text(json.dumps({"tempest": environment.TEMPEST_VERSION, **found.as_json()}, indent=1) + "\n")
    if save is not None:
        page.keep(save, "ssh" if ssh else "usual", found)
        page.render(save)
        if not ssh:
            # What passes only where Tempest logs in is skipped in a usual run.
            say(f"{ratchet.advance(found)} tests passed for the first time")
    click.echo("\n".join(results.report(found)))
    if found.count("failed"):
        raise SystemExit(1)


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends this as Ctrl-C does: what was made is undone."""
    raise KeyboardInterrupt


@contextmanager
def scratch(keep: bool) -> Iterator[Path]:
    """A temporary directory that the cloud's user may enter."""
    work = Path(tempfile.mkdtemp(prefix="nacre-conformance-"))
    work.chmod(0o755)
    try:
        yield work
    finally:
        if keep:
            say(f"Tempest's directory: {work / 'tempest'}")
        else:
            shutil.rmtree(work / "tempest", ignore_errors=True)
            # The cloud's part is empty after its purge; if something is left there, it is not removed blindly.
            if not (work / "cloud").exists():
                work.rmdir()


def cloud_for(
    work: Path, directory: Path | None, simulate: int | None, lab_hosts: int | None, processes: int | None, keep: bool
) -> AbstractContextManager[State]:
    if lab_hosts:
        return running_lab(work / "lab", lab_hosts, keep)
    if processes:
        return balanced_cloud(work, simulate, processes, keep)
    return running_cloud(directory or work / "cloud", simulate, keep)


@contextmanager
def balanced_cloud(work: Path, simulate: int | None, processes: int, keep: bool) -> Iterator[State]:
    """A cloud of several API processes that is made for this."""
    with running_cloud(work / "cloud", simulate, keep, balanced.options(processes)) as state, balanced.balancer(state, work):
        yield state


@contextmanager
def running_lab(directory: Path, hosts: int, keep: bool) -> Iterator[State]:
    """The cloud of a lab that is made for this."""
    if os.geteuid() != 0:
        raise click.ClickException("a lab needs root: use sudo, or --simulate 2")
    try:
        nacre("lab", "up", "--hosts", str(hosts), "--state", str(directory))
        yield State(directory / "cloud")
    finally:
        if keep:
            say(f"The lab runs on; to end it: {COMMAND} lab down --purge --state {directory}")
        else:
            nacre("lab", "down", "--purge", "--state", str(directory))


@contextmanager
def running_cloud(directory: Path, simulate: int | None, keep: bool, more: Sequence[str] = ()) -> Iterator[State]:
    """A cloud in that directory. One that was there before stays as it was; one made here is purged."""
    state = State(directory)
    existed = state.load() is not None
    options = ["--state", str(state.dir)]
    made = [*more] if existed or simulate is None else ["--simulate", str(simulate), *more]
    if not existed:
        made += [word for setting in SETTINGS for word in ("--set", setting)]
    if not existed and simulate is None and os.geteuid() != 0:
        raise click.ClickException("real guests need root: use sudo, or --simulate 2")
    try:
        nacre("up", *options, "--detach", *made)
        yield state
    finally:
        if keep or existed:
            say(f"The cloud runs on; to end it: {COMMAND} down --purge --state {state.dir}")
        else:
            nacre("down", *options, "--purge")


def nacre(*arguments: str) -> None:
    """A command of this very CLI, its words to stderr. Raises ClickException when it fails."""
    command = [sys.executable, "-m", "nacre.cli", *arguments]
    # Ctrl-C reaches this process only: a purge that has begun ends in peace.
    done = subprocess.run(command, stdout=sys.stderr, timeout=UP_WAIT_S, check=False, start_new_session=True)
    if done.returncode:
        raise click.ClickException(f"`nacre {' '.join(arguments)}` failed")
