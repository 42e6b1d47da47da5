"""Every fact that a host has by itself: one row each."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nacre.node.facts import drivers, network, storage, system
from nacre.node.facts.source import Source
from nacre.node.facts.virtual import virtual

ONCE = 0.0
SLOW_S = 60.0
LIVE_S = 5.0
FACTER_VERSION = "4.3.0"
"""Whose names and shapes these are."""


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    every_s: float
    """How often it is read; `ONCE` when the node starts."""
    read: Callable[[Source], Any]
    """What it is now; None where the host has none of it."""


FACTS: tuple[Fact, ...] = (
    Fact("kernel", ONCE, lambda source: system.kernel(source)["kernel"]),
    Fact("kernelrelease", ONCE, lambda source: system.kernel(source)["kernelrelease"]),
    Fact("kernelversion", ONCE, lambda source: system.kernel(source)["kernelversion"]),
    Fact("kernelmajversion", ONCE, lambda source: system.kernel(source)["kernelmajversion"]),
    Fact("os", SLOW_S, system.operating_system),
    Fact("processors", ONCE, system.processors),
    Fact("memory", LIVE_S, system.memory),
    Fact("load_averages", LIVE_S, system.load_averages),
    Fact("system_uptime", SLOW_S, system.uptime),
    Fact("networking", SLOW_S, network.networking),
    Fact("disks", SLOW_S, storage.disks),
    Fact("partitions", SLOW_S, storage.partitions),
    Fact("mountpoints", SLOW_S, storage.mountpoints),
    Fact("filesystems", SLOW_S, system.filesystems),
    Fact("dmi", ONCE, lambda source: system.dmi(source) or None),
    Fact("identity", ONCE, system.identity),
    Fact("timezone", ONCE, system.timezone),
    Fact("path", ONCE, lambda source: os.environ.get("PATH")),
    Fact("fips_enabled", ONCE, system.fips),
    Fact("facterversion", ONCE, lambda source: FACTER_VERSION),
    Fact("virtual", ONCE, virtual),
    Fact("is_virtual", ONCE, lambda source: virtual(source) not in ("physical", "xen0")),
    Fact("hypervisor", SLOW_S, drivers.hypervisor),
    Fact("docker_plugins", SLOW_S, drivers.plugins),
    Fact("volume_drivers", SLOW_S, drivers.volume_drivers),
)
