"""`nacre doctor`: checks the host by trying, and names the remedy of what fails."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from nacre.cli import packages, probes, processes, source, subnets
from nacre.cli.output import emit_json, format_option, table
from nacre.cli.state import COMMAND, State, opened, say, state_option

Result = Literal["ok", "failed", "warning", "skipped"]


@dataclass(frozen=True)
class Check:
    name: str
    probe: Callable[[], str]
    remedy: str
    required: bool = True
    root: bool = False
    """Only root can try it."""


@dataclass(frozen=True)
class Finding:
    check: str
    result: Result
    detail: str
    remedy: str = ""


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


def examine(check: Check) -> Finding:
    if check.root and os.geteuid() != 0:
        return Finding(check.name, "skipped", "needs root")
    try:
        return Finding(check.name, "ok", check.probe())
    except (probes.Failed, OSError) as error:
        return Finding(check.name, "failed" if check.required else "warning", str(error), check.remedy)


def checks(state: State) -> list[Check]:
    """Every check, in the order in which a cloud would meet them."""
    there = next(path for path in (state.dir, *state.dir.parents) if path.is_dir())
    return [
        Check(
            "packages", probes.debian_packages, f"Run: {packages.install_line(packages.missing('node'))} (`up` does it as root)."
        ),
        Check(
            "namespaces", probes.namespaces, "The kernel needs CONFIG_NAMESPACES; in a container, run it privileged.", root=True
        ),
        Check("user namespaces", probes.user_namespaces, "Run: sysctl -w user.max_user_namespaces=65536", root=True),
        Check(
            "overlayfs",
            lambda: probes.overlay(there),
            "Run: modprobe overlay; or choose a --state on ext4, xfs or btrfs.",
            root=True,
        ),
        Check(
            "idmapped mounts",
            lambda: probes.idmapped_mounts(there),
            "They need Linux 5.12 (on ext4, xfs), 5.15 (btrfs) or 5.19 (overlay): choose a --state on such a file system, or a newer kernel.",
            root=True,
        ),
        Check(
            "cgroups",
            probes.cgroups,
            "Boot with the controllers on: cgroup_enable=memory systemd.unified_cgroup_hierarchy=1",
            root=True,
        ),
        Check("seccomp", probes.seccomp, "The kernel needs CONFIG_SECCOMP_FILTER."),
        Check("container runtime", probes.container_runtime, "Run: apt-get install -y crun"),
        Check("links", probes.links, "Run: modprobe -a veth bridge vxlan", root=True),
        Check("bridge netfilter", probes.bridge_netfilter, "Run: modprobe br_netfilter", root=True),
        Check(
            "nftables",
            probes.nftables,
            "Run: modprobe -a nf_tables nft_ct nft_nat nft_masq; apt-get install -y nftables",
            root=True,
        ),
        Check("disk", lambda: probes.disk(there), "Free some space, or choose another --state."),
        Check("memory", probes.memory, "Nacre itself takes about 100 MB; each server what its flavor says at most."),
        Check("state directory", lambda: reachable(state, there), "Choose a --state below /var/lib, /srv or /opt.", root=True),
        Check("port", lambda: port(state), f"Choose another: {COMMAND} up --port N"),
        Check("external subnet", lambda: external(state), "Free one of 172.24.4.0/24 and the like, or remove a stale route."),
        Check("clock", probes.clock, "Set it, and install an NTP client: apt-get install -y systemd-timesyncd"),
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
