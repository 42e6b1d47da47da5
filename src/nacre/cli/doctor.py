"""`nacre doctor`: checks the host by trying, and names the remedy of what fails."""

from dataclasses import asdict
from pathlib import Path

import click

from nacre.cli import packages, processes, source, subnets
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, State, opened, say, state_option
from nacre.node import probes
from nacre.node.acceptance import Check, examine, host_checks


@click.command()
@state_option
@format_option
def doctor(directory: Path | None, form: str) -> None:
    """Check this machine by trying, and name the remedies. Exits with 1 when something required fails."""
    findings = [examine(check) for check in checks(opened(directory))]
    if form == "json":
        emit_json([asdict(finding) for finding in findings])
    else:
        click.echo(table(("check", "result", "detail"), [(f.check, f.result, f.detail) for f in findings]))
        for finding in findings:
            if finding.remedy:
                click.echo(f"\n{finding.check}: {finding.remedy}")
        if any(finding.result == "skipped" for finding in findings):
            say(f"\nSkipped checks need root: sudo {COMMAND} doctor")
    if any(finding.result == "failed" for finding in findings):
        raise SystemExit(1)


def debian_packages() -> str:
    absent = packages.missing("node")
    if absent:
        raise probes.Failed("missing: " + ", ".join(f"{package.name} ({package.reason})" for package in absent))
    return "all there"


def checks(state: State) -> list[Check]:
    """Every check, in the order in which a cloud would meet them."""
    there = next(path for path in (state.dir, *state.dir.parents) if path.is_dir())
    return [
        Check("packages", debian_packages, f"Run: {packages.install_line(packages.missing('node'))} (`up` does it as root)."),
        *host_checks(there),
        Check("state directory", lambda: reachable(state, there), "Choose a --state below /var/lib, /srv or /opt.", root=True),
        Check("port", lambda: port(state), f"Choose another: {COMMAND} up --port N"),
        Check("external subnet", lambda: external(state), "Free one of 172.24.4.0/24 and the like, or remove a stale route."),
        Check(
            "machines (KVM)", probes.kvm, "Only virtual machines need it: turn virtualization on in the firmware.", required=False
        ),
    ]


def reachable(state: State, there: Path) -> str:
    """The API's user must be able to come to its directory."""
    closed = source.closed_parent(there)
    if closed is not None and closed != state.dir:
        raise probes.Failed(f"{closed} is closed to the cloud's user")
    return str(state.dir)


def port(state: State) -> str:
    cloud = state.load()
    if cloud is None:
        chosen = subnets.PORT_FIRST
        if not subnets.port_free(chosen):
            return f"{chosen} is taken; the first `up` takes {subnets.choose_port()}"
        return f"{chosen} is free"
    if processes.find(state.pid_file("api")) is None and not subnets.port_free(cloud.port):
        raise probes.Failed(f"{cloud.port} is the cloud's, and another program has it")
    return f"{cloud.port} is the cloud's"


def external(state: State) -> str:
    cloud = state.load()
    if cloud is not None:
        return f"{cloud.external_cidr} is the cloud's"
    try:
        return f"{subnets.choose_subnet()} is free"
    except click.ClickException as error:
        raise probes.Failed(error.message) from error
