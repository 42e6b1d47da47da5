"""The Debian packages that Nacre uses: which are missing is seen by their files, without asking dpkg."""

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from nacre.cli.state import say

PLACES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")


@dataclass(frozen=True)
class Package:
    """A package, the file that shows it is there, and what needs it."""

    name: str
    program: str
    needed_by: str
    """`node`, `pull`, `build`, `bench` or `test`."""
    reason: str

    def present(self) -> bool:
        return any(Path(place, self.program).exists() for place in PLACES)


PACKAGES = (
    Package("crun", "crun", "node", "makes containers"),
    Package("conmon", "conmon", "node", "keeps a container's terminal and exit status"),
    Package("tini", "tini-static", "node", "the init of `docker run --init`"),
    Package("busybox-static", "busybox", "node", "the init of containers, and the image busybox"),
    Package("nftables", "nft", "node", "security groups, floating IPs, SNAT (its library does the work)"),
    Package("btrfs-progs", "mkfs.btrfs", "node", "makes the file system of volumes (sizes, snapshots)"),
    Package("iproute2", "ip", "node", "shows what the node made; `doctor` tries links with it"),
    Package("skopeo", "skopeo", "node", "brings OCI images from registries, and takes them there"),
    Package("mmdebstrap", "mmdebstrap", "build", "builds the image debian"),
    Package("iperf3", "iperf3", "bench", "measures throughput between hosts"),
    Package("curl", "curl", "test", "speaks to servers as a user does"),
    Package("iputils-ping", "ping", "test", "shows that packets pass, or do not"),
    Package("docker.io", "docker", "test", "the Docker CLI, and an engine to compare with"),
    Package("docker-compose", "docker-compose", "test", "compose files, as their users run them"),
    Package("bind9-dnsutils", "dig", "test", "asks the networks' resolvers"),
    Package("faketime", "faketime", "test", "lets a process's clock jump"),
    Package("postgresql", "pg_ctlcluster", "test", "the store of some tests' clouds"),
    Package("haproxy", "haproxy", "test", "balances among several API processes"),
    Package("git", "git", "test", "names the files that test_tidy looks at"),
)


def missing(*purposes: str) -> list[Package]:
    return [package for package in PACKAGES if package.needed_by in purposes and not package.present()]


def install_line(packages: list[Package]) -> str:
    return f"apt-get install -y --no-install-recommends {shlex.join(package.name for package in packages)}"


def ensure(*purposes: str) -> None:
    """Installs as root what is missing, saying so; otherwise prints the one line to run. Raises ClickException when it stays missing."""
    wanted = missing(*purposes)
    if not wanted:
        return
    if os.geteuid() != 0:
        raise click.ClickException(f"Debian packages are missing. Run: sudo {install_line(wanted)}")
    say(f"installing Debian packages: {' '.join(package.name for package in wanted)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *(p.name for p in wanted)),
    )
    for command in commands:
        try:
            done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            names = ", ".join(package.name for package in wanted)
            raise click.ClickException(
                f"this machine has no apt-get; install what {names} bring by its own package manager"
            ) from error
        if done.returncode:
            raise click.ClickException(f"`{shlex.join(command)}` failed:\n{done.stderr.strip() or done.stdout.strip()}")
    still = missing(*purposes)
    if still:
        raise click.ClickException(f"installed, but still not found: {', '.join(package.program for package in still)}")
