"""`nacre lab`: the command line."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from nacre.cli import packages
from nacre.cli import up as ups
from nacre.cli.asked import Asked
from nacre.cli.lab import hosts, wires
from nacre.cli.lab.layout import API, DEFAULT, HOSTS_MAX, Lab, Place
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, State, say
from nacre.cli.up import locked

NODES_PORTS = range(8443, 8543)
COLUMNS = ("name", "host", "address", "cable", "node", "cloud", "guests", "state")

state_option = click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"The lab's directory ({DEFAULT}); its cloud is in DIR/cloud.",
)
host_argument = click.argument("host", metavar="HOST")


@click.group()
def lab() -> None:
    """Make a cloud of several hosts on this machine, cut its cables and kill its hosts."""


@contextmanager
def opened(directory: Path | None, *, make: bool = False) -> Iterator[Place]:
    """The lab's place, for one command at a time."""
    if os.geteuid() != 0:
        raise click.ClickException("a lab makes network namespaces and real guests: run this as root")
    place = Place(directory)
    if not make:
        place.require()
    with locked(State(place.dir)):
        yield place


@lab.command()
@click.option("--hosts", "count", type=click.IntRange(1, HOSTS_MAX), help="How many hosts beside this machine (3).")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Where the APIs serve (8080, or the next free one at the first start)."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 16),
    metavar="N",
    help="So many API processes, over the empty PostgreSQL database that NACRE_STORE names; for the first start.",
)
@state_option
def up(count: int | None, port: int | None, processes: int | None, directory: Path | None) -> None:
    """Start a lab, or whatever of it does not run: a cloud, and hosts in network namespaces that have joined it.

    Again: what runs stays as it is, and cuts stay cut. With more --hosts than before, more hosts join.
    """
    began = time.monotonic()
    os.umask(0o022)
    packages.ensure("node")
    with opened(directory, make=True) as place:
        found = place.load() or place.begin(count or 3)
        if count is not None and count < found.hosts:
            raise click.ClickException(
                f"the lab has {found.hosts} hosts: a smaller one needs `nacre lab down --purge{place.option}` first"
            )
        found.hosts = count or found.hosts
        place.save(found)
        wires.ensure(found)
        start_cloud(found, place, port, processes)
        hosts.together(lambda name: hosts.ensure(found, place, name), missing(found, place))
        hosts.await_hosts(place, found.names)
    say(next_steps(found, place, time.monotonic() - began))


def missing(lab: Lab, place: Place) -> list[str]:
    """The hosts that the cloud has no stream from, or whose node does not run."""
    return [row["name"] for row in hosts.rows(lab, place) if row["name"] != API and (row["cloud"] != "up" or not row["node"])]


def start_cloud(lab: Lab, place: Place, port: int | None, processes: int | None) -> None:
    """The API processes and this machine's own node, as by `nacre up --detach --nodes`."""
    state = place.cloud
    known = state.load()
    nodes = None if known is not None and known.nodes_port else f"{lab.address(API)}:{free_port()}"
    with locked(state):
        store = os.environ.get("NACRE_STORE") if known is None else None
        asked = Asked(port=port, nodes=nodes, external=lab.outer(API), store=store, processes=processes)
        cloud, started = ups.start(state, asked)
    if started:
        ups.register_default_images(state, cloud)


def free_port() -> int:
    """For the hosts' door: one that is free on this machine's loopback too."""
    for port in NODES_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise click.ClickException(f"no free port from {NODES_PORTS[0]} to {NODES_PORTS[-1]}")


def next_steps(lab: Lab, place: Place, took_s: float) -> str:
    cloud = place.cloud
    cut = [f"{a} and {b}" for a, b in wires.cuts(lab)]
    return "\n".join(
        (
            f"{len(lab.names)} hosts, {', '.join(lab.names)}, are up ({took_s:.1f} s); the cloud serves at {cloud.require().url}."
            + (f" Cut off from each other: {'; '.join(cut)}." if cut else ""),
            f"  export OS_CLIENT_CONFIG_FILE={cloud.clouds_yaml} OS_CLOUD=nacre-admin",
            "  openstack server create --availability-zone nova:h1 ...   puts a server on h1",
            f"  {COMMAND} lab cut h1 h2{place.option}, {COMMAND} lab heal{place.option}, {COMMAND} lab kill h1{place.option}, "
            f"{COMMAND} lab start h1{place.option}",
            f"  {COMMAND} host list --state {cloud.dir}",
            f"  {COMMAND} lab down --purge{place.option}",
        )
    )


@lab.command()
@click.option("--purge", is_flag=True, help="Remove every host, guest, link and file of the lab, its cloud and the lab itself.")
@state_option
def down(purge: bool, directory: Path | None) -> None:
    """Stop a lab's processes (servers run on); with --purge leave no trace of it."""
    place = Place(directory)
    if not place.dir.exists():
        say(f"No lab in {place.dir}; nothing to do.")
        return
    with opened(directory, make=True):
        found = place.load()
        if found is None:
            if any(path != place.lock for path in place.dir.iterdir()):
                raise click.ClickException(f"{place.dir} holds no lab; nothing was touched")
        elif purge:
            remove(found, place)
        else:
            hosts.together(lambda name: hosts.stop(place, name), place.host_directories())
            if place.cloud.cloud_file.exists():
                hosts.command(("nacre.cli", "down", "--state", str(place.cloud.dir)))
            say(f"Stopped; servers run on. Start again with: {COMMAND} lab up{place.option}")
            return
        place.lock.unlink(missing_ok=True)
        place.dir.rmdir()
    say(f"The lab is gone: no process, namespace, link, mount, cgroup, rule or file of it in {place.dir} is left.")


def remove(lab: Lab, place: Place) -> None:
    """Everything, the lab's own file last, so that a purge that was interrupted can be repeated."""
    names = sorted({*place.host_directories(), *lab.names})
    hosts.together(lambda name: hosts.purge(lab, place, name), names)
    if place.cloud.dir.exists():
        hosts.command(("nacre.cli", "down", "--purge", "--state", str(place.cloud.dir)))
    wires.remove(lab, names)
    for path in place.dir.iterdir():
        if path not in (place.file, place.lock):
            shutil.rmtree(path)
    place.file.unlink()


@lab.command()
@state_option
@format_option
def status(directory: Path | None, form: str) -> None:
    """Show the hosts, their cables and what is cut. Exits with 1 when a host is not up."""
    place = Place(directory)
    found = place.require()
    rows, cuts = hosts.rows(found, place), wires.cuts(found)
    if form == "json":
        emit_json({"state": str(place.dir), "hosts": rows, "cuts": cuts})
    else:
        shown = [[("" if row[name] is None else row[name]) for name in COLUMNS] for row in rows]
        click.echo(table(COLUMNS, shown))
        for one, other in cuts:
            click.echo(f"cut: {one} and {other}")
    if any(row["cloud"] != "up" for row in rows):
        raise SystemExit(1)


@lab.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@state_option
def cut(one: str, other: str, directory: Path | None) -> None:
    """Let nothing pass between two hosts, or a host and `api`: this machine with the API process."""
    with opened(directory) as place:
        wires.cut(checked(place, one, other), one, other)


def checked(place: Place, one: str, other: str) -> Lab:
    found = place.require()
    found.require(one, other)
    if one == other:
        raise click.UsageError("say two different ends")
    return found


@lab.command()
@click.argument("ends", metavar="[A B]", nargs=-1)
@state_option
def heal(ends: tuple[str, ...], directory: Path | None) -> None:
    """Undo a cut, or all of them."""
    if len(ends) not in (0, 2):
        raise click.UsageError("say two ends, or none to undo every cut")
    with opened(directory) as place:
        if ends:
            wires.heal(checked(place, *ends), *ends)
        else:
            wires.heal_all(place.require())


@lab.command()
@host_argument
@state_option
def kill(host: str, directory: Path | None) -> None:
    """End a host as a power cut would: its cable, its node and all its guests at once. Its disk stays."""
    with opened(directory) as place:
        hosts.kill(host_of(place, host), place, host)


@lab.command()
@host_argument
@state_option
def start(host: str, directory: Path | None) -> None:
    """Switch a host on again, and wait until the cloud has it."""
    with opened(directory) as place:
        hosts.start(host_of(place, host), place, host)


def host_of(place: Place, host: str) -> Lab:
    found = place.require()
    found.require(host)
    if host == API:
        raise click.UsageError(f"{API} is this machine itself: its processes are those of the cloud in {place.cloud.dir}")
    return found
