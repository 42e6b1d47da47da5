"""`nacre down`: stops the processes; with --purge leaves no trace."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from nacre.cli.state import API_USER, COMMAND, Cloud, State, opened, registered, say, state_option, unregister
from nacre.cli.up import locked, stop_processes

PURGE_WAIT_S = 600.0


@click.command()
@state_option
@click.option("--purge", is_flag=True, help="Remove every server, network, image and file of the cloud, and the cloud itself.")
def down(directory: Path | None, purge: bool) -> None:
    """Stop the cloud; with --purge leave no trace of it.

    Without --purge the servers run on, and the next `up` finds them.
    """
    state = opened(directory)
    cloud = state.load()
    if cloud is None:
        if purge and state.dir.exists():
            remove_empty(state)
        say(f"No cloud in {state.dir}; nothing to do.")
        return
    if os.geteuid() != state.cloud_file.stat().st_uid:
        raise click.ClickException("this cloud belongs to another user; run this as the one that made it (sudo?)")
    names = joined_names(state) if cloud.joined else []
    with locked(state):
        stopped = stop_processes(state)
        if purge:
            remove(state, cloud)
    if purge:
        what = "The host" if cloud.joined else "The cloud"
        say(f"{what} is gone: no process, namespace, link, mount, cgroup, rule or file of it in {state.dir} is left.")
        if names:
            say(
                f"The cloud at {cloud.joined} still has it in its books, as a host that is down. There: nacre host remove {' '.join(names)}"
            )
    elif stopped:
        say(f"Stopped; servers run on. Start again with: {COMMAND} {'join' if cloud.joined else 'up'}{state.option}")
    else:
        say(f"The {'host' if cloud.joined else 'cloud'} was stopped already; nothing to do.")


def joined_names(state: State) -> list[str]:
    """As the cloud knows the host, or the simulated hosts, of this state directory; none before it has enrolled."""
    if not state.node_config.exists():
        return []
    return [host["hostname"] for host in json.loads(state.node_config.read_text())["joined"]]


def remove(state: State, cloud: Cloud) -> None:
    """Everything: first what is in the kernel, then the files. cloud.json goes last, so that an interrupted purge can be repeated."""
    if state.node_config.exists() and not cloud.simulated_hosts:
        purge_host(state)
    if cloud.store and state.store.exists():
        empty_store(state, cloud)
    mounts = mounts_under(state.dir)
    if mounts:
        raise click.ClickException(f"still mounted, so no file was removed: {', '.join(mounts)}")
    for entry in sorted(state.dir.iterdir()):
        if entry in (state.cloud_file, state.lock):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    unregister(cloud.cloud_id)
    if os.geteuid() == 0 and cloud.user == API_USER and not any(has_api(place) for place in registered().values()):
        remove_user()
    state.cloud_file.unlink()
    remove_empty(state)


def empty_store(state: State, cloud: Cloud) -> None:
    """The database is its owner's: what the cloud made in it goes, unless API processes of other machines are noted in it."""
    from nacre.cli import database

    own = [path.read_text().strip() for path in state.api.glob("process-id*")]
    try:
        others = database.leave(database.url_of(state, cloud), own)
        if others:
            say(f"API processes of other machines serve over {cloud.store}, or did: {', '.join(others)}. It stays as it is.")
        else:
            database.empty(database.url_of(state, cloud))
            if cloud.blobs:
                # The last one that had a part in it: what the API processes shared goes too.
                for entry in Path(cloud.blobs).iterdir():
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    except click.ClickException as error:
        raise click.ClickException(
            f"{cloud.store} could not be emptied ({error.message}); once it answers, `{COMMAND} down --purge` may be repeated"
        ) from error


def has_api(directory: Path) -> bool:
    """Whether that is a cloud with an API process, whose user is still needed: a host that has joined has none."""
    try:
        # As it is: the cloud may be of a version whose file says more than this one understands.
        found = json.loads(State(directory).cloud_file.read_text())
    except (OSError, ValueError):
        return False
    return not found.get("joined")


def remove_empty(state: State) -> None:
    """A directory that holds no more than our lock. Raises ClickException when it holds anything else."""
    if any(path != state.lock for path in state.dir.iterdir()):
        raise click.ClickException(f"{state.dir} is not a Nacre state directory; nothing was touched")
    state.lock.unlink(missing_ok=True)
    state.dir.rmdir()


def purge_host(state: State) -> None:
    """The node's own module undoes what the cloud has on this host. Raises ClickException when something is left."""
    code = next((path.parent for path in state.code.glob("*/nacre")), Path(__file__).resolve().parent.parent.parent)
    env = {**os.environ, "PYTHONPATH": str(code)}
    command = [sys.executable, "-m", "nacre.node.purge", "--config", str(state.node_config)]
    done = subprocess.run(command, env=env, cwd="/", timeout=PURGE_WAIT_S, check=False)
    if done.returncode:
        raise click.ClickException(
            f"something of the cloud is left on this host (see above); `{COMMAND} down --purge` may be repeated"
        )


def mounts_under(directory: Path) -> list[str]:
    """The mount points below a directory: removing files through one could destroy what is not ours."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(f"{directory}/")]


def remove_user() -> None:
    """The system user, when the last cloud that used it is gone."""
    done = subprocess.run(["userdel", API_USER], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 6):
        say(f"the system user {API_USER} stays: {done.stderr.strip()}")
