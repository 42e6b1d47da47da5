"""Whether a host can carry guests: `python -m nacre.node.acceptance DIRECTORY` tries what `nacre doctor` tries of a host.

A process of its own, since some of the probes fork. It writes one line for each thing that is against the host, with its remedy.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nacre.node import probes

Result = Literal["ok", "failed", "warning", "skipped"]
EXAMINATION_S = 120.0
"""How long all the probes may take together."""


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


def examine(check: Check) -> Finding:
    if check.root and os.geteuid() != 0:
        return Finding(check.name, "skipped", "needs root")
    try:
        return Finding(check.name, "ok", check.probe())
    except (probes.Failed, OSError) as error:
        return Finding(check.name, "failed" if check.required else "warning", str(error), check.remedy)


def host_checks(there: Path) -> list[Check]:
    """What a host must be able to do; guests will lie in the directory."""
    return [
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
        Check("clock", probes.clock, "Set it, and install an NTP client: apt-get install -y systemd-timesyncd"),
    ]


def against(findings: list[Finding]) -> str:
    """What failed, a line for each; empty where nothing did."""
    return "\n".join(f"{each.check}: {each.detail}. {each.remedy}" for each in findings if each.result == "failed")


async def examine_host(there: Path) -> str:
    """What is against this host; empty where nothing is."""
    command = (sys.executable, "-m", "nacre.node.acceptance", str(there))
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(EXAMINATION_S):
            output, _ = await child.communicate()
    except TimeoutError:
        return f"the examination did not end within {EXAMINATION_S:.0f} s"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    said = output.decode(errors="replace").strip()
    return said or ("" if child.returncode == 0 else f"the examination exited with {child.returncode}")


def main() -> None:
    there = Path(sys.argv[1])
    print(against([examine(check) for check in host_checks(there)]))


if __name__ == "__main__":
    main()
