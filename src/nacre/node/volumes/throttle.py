"""The rates of profiles, as an OCI runtime sets them on a guest's cgroup: blkio.throttle in version 1, io.max in version 2.

A cgroup has one set of rates per device, and one device bears all volumes of a host: a guest with several of them may do with all
together what each allows, summed up; one without limits lifts them. On version 1 the kernel counts reads, direct writes
and what a program flushes itself (fsync); what it writes back later from the page cache is in nobody's name. Version 2 counts that too.
"""

from collections.abc import Iterable
from typing import Any

from nacre.node.drivers import Attached

RATES: tuple[tuple[str, str], ...] = (
    ("read_iops", "throttleReadIOPSDevice"),
    ("write_iops", "throttleWriteIOPSDevice"),
    ("read_bytes_s", "throttleReadBpsDevice"),
    ("write_bytes_s", "throttleWriteBpsDevice"),
)
"""A field of protocol.volumes.Volume, and its name in the OCI runtime specification (config-linux.md, Block IO)."""


def block_io(attached: Iterable[Attached]) -> dict[str, Any]:
    """`linux.resources.blockIO` of a guest with these volumes; empty where nothing is limited."""
    volumes: dict[str, list[Attached]] = {}
    for one in {one.volume.id: one for one in attached}.values():
        if one.device:
            volumes.setdefault(one.device, []).append(one)
    found: dict[str, Any] = {}
    for device, those in volumes.items():
        major, _, minor = device.partition(":")
        for field, name in RATES:
            rates = [getattr(one.volume, field) for one in those]
            if all(rate is not None for rate in rates):
                found.setdefault(name, []).append({"major": int(major), "minor": int(minor), "rate": sum(rates)})
    return found
