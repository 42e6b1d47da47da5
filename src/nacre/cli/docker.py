"""`nacre docker`: what joins Docker's own tools and engines to the cloud."""

import json
import os
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from nacre.cli.certificates import DAYS_MAX, certificates, variables
from nacre.cli.client import ApiError, Client, connect, send
from nacre.cli.output import emit_json
from nacre.cli.state import State, opened, say, state_option, write

SOCKET_PATH_MAX = 107
"""The kernel takes no longer path for a unix socket."""
HOST_ACCESS = "host-access.json"
"""In the node's state directory: project id -> what this host's root allows its containers. As nacre.node.runtimes.containers.consent reads it."""

SOCKET = Path("/run/docker/plugins/nacre.sock")

project_option = click.option("--project", default="demo", show_default=True, help="The project, by name or id.")


@click.group()
def docker() -> None:
    """Join Docker's own tools and engines to the cloud."""


docker.add_command(certificates)


@docker.command("volume-plugin")
@state_option
@click.option("--project", default="demo", show_default=True, help="Whose volumes the engines of this host use.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SOCKET,
    show_default=True,
    help="Where engines look for it.",
)
def volume_plugin(directory: Path | None, project: str, socket: Path) -> None:
    """Serve a project's volumes to Docker engines on this host: `docker volume create -d nacre`.

    Runs in the foreground, as root, until it is interrupted. The engine finds it by the socket's name.
    """
    from nacre.cli.volumeplugin import serve

    serve(opened(directory), project, socket)


def project_id_of(admin: Client, project: str) -> str:
    """Raises ClickException for one that is not there, or a name that several domains have."""
    found = admin.get("identity", f"/projects?name={quote(project, safe='')}")["projects"]
    if len(found) > 1:
        raise click.ClickException(
            f"several projects are named {project}: give the id of one of {', '.join(p['id'] for p in found)}"
        )
    if found:
        return str(found[0]["id"])
    try:
        return str(admin.get("identity", f"/projects/{quote(project, safe='')}")["project"]["id"])
    except ApiError as error:
        if error.status == 404:
            raise click.ClickException(f"there is no project {project}") from None
        raise


def socket_of(state: State, project_id: str) -> Path:
    """Where the project's pane is served. Raises ClickException where nobody can open it."""
    path = state.docker / f"{project_id}.sock"
    if len(str(path)) > SOCKET_PATH_MAX:
        raise click.ClickException(f"{path} is too long for a unix socket: choose a shorter --state")
    if not path.exists():
        raise click.ClickException(f"{path} is not there: is the cloud up, and the project enabled?")
    return path


@docker.command()
@state_option
@project_option
@click.option("-f", "--format", "form", type=click.Choice(["shell", "json"]), default="shell", show_default=True)
@click.option(
    "--tls",
    "certificates_at",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="By TLS, with the key and the certificate in DIR; they are made when there are none that are good.",
)
@click.option("--user", default="demo", show_default=True, help="Whom the certificate stands for, by name or id (with --tls).")
@click.option(
    "--days", type=click.IntRange(1, DAYS_MAX), default=DAYS_MAX, show_default=True, help="How long it lasts (with --tls)."
)
def env(directory: Path | None, project: str, form: str, certificates_at: Path | None, user: str, days: int) -> None:
    """Print what makes `docker` speak to a project: eval "$(nacre docker env)".

    Whoever can open the project's socket acts for the project: root and the cloud's own user. With --tls it is the user of the
    certificate, with the roles that it has on the project at the time.
    """
    state = opened(directory)
    state.require()
    if certificates_at is not None:
        _show_tls(variables(state, project, user, certificates_at, days), form)
        return
    host = f"unix://{socket_of(state, project_id_of(connect(state), project))}"
    if form == "json":
        emit_json({"DOCKER_HOST": host})
        return
    # A context or certificates of another engine would win over DOCKER_HOST, or spoil it.
    # The semicolon keeps the lines apart for an eval without quotes, which joins them.
    click.echo("unset DOCKER_CONTEXT DOCKER_TLS DOCKER_TLS_VERIFY DOCKER_CERT_PATH;")
    click.echo(f"export DOCKER_HOST={host}")


def _show_tls(values: dict[str, str], form: str) -> None:
    if form == "json":
        emit_json(values)
        return
    click.echo("unset DOCKER_CONTEXT DOCKER_TLS")
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@docker.command()
@state_option
@project_option
@click.argument("policies", metavar="ROW...", nargs=-1, required=True)
def allow(directory: Path | None, project: str, policies: tuple[str, ...]) -> None:
    """Allow a project's containers what hands over the host: docker:privileged, docker:host_network, docker:host_pid,
    docker:host_paths, docker:devices, docker:seccomp_unconfined. And its builds to fetch from private addresses: docker:private_urls.

    As root it writes this host's own consent too; every other host's root has to do the same there.
    """
    _change(opened(directory), project, policies, "PUT")


@docker.command()
@state_option
@project_option
@click.argument("policies", metavar="ROW...", nargs=-1, required=True)
def forbid(directory: Path | None, project: str, policies: tuple[str, ...]) -> None:
    """Take back what `allow` gave. Containers that run already go on as they are."""
    _change(opened(directory), project, policies, "DELETE")


@docker.command()
@state_option
@project_option
@click.argument("place", type=click.Choice(["host", "floating"]))
def publish(directory: Path | None, project: str, place: str) -> None:
    """Say where a project's containers publish their ports (docker run -p): on the host's addresses, or on floating IPs.

    With `floating` each container that publishes takes a floating IP for its published ports alone, counted in the project's quota,
    and keeps it until it is removed. It holds from each container's next start on.
    """
    state = opened(directory)
    cloud, admin = state.require(), connect(state)
    url = f"{cloud.url}/nacre/v1/projects/{project_id_of(admin, project)}/docker-publishing/{place}"
    send("PUT", url, {"X-Auth-Token": admin.token})
    say(f"project {project} publishes ports on {'the host' if place == 'host' else 'floating IPs, one for each container'}")


def _change(state: State, project: str, policies: tuple[str, ...], method: str) -> None:
    from nacre.cli.up import locked

    cloud = state.require()
    admin = connect(state)
    ident = project_id_of(admin, project)
    shown: Any = None
    with locked(state):
        for policy in policies:
            url = f"{cloud.url}/nacre/v1/projects/{ident}/docker-grants/{quote(policy, safe='')}"
            shown = send(method, url, {"X-Auth-Token": admin.token}).body
        names = [policy.removeprefix("docker:") for policy in shown["policies"]]
        if cloud.simulated_hosts:
            consent = "the hosts are simulated and have nothing to hand over"
        elif os.geteuid() != 0:
            consent = "this host does not consent yet: run the same as root"
        else:
            _consent(state.node / HOST_ACCESS, ident, names)
            consent = "and so does this host"
    say(f"project {project} allows its containers: {', '.join(names) or 'nothing of the host'}; {consent}")


def _consent(path: Path, project_id: str, names: list[str]) -> None:
    """Write down what this host allows the project, as its root."""
    try:
        table: dict[str, list[str]] = json.loads(path.read_text())
    except FileNotFoundError:
        table = {}
    table.pop(project_id, None)
    if names:
        table[project_id] = names
    write(path, json.dumps(table, indent=1) + "\n", mode=0o600)
