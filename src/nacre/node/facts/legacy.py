"""Facter's flat names of before, made of the structured facts. Expressions of the documents use them."""

from collections.abc import Iterator, Mapping
from typing import Any

PATHS = {
    "architecture": "os.hardware",
    "hardwaremodel": "os.hardware",
    "hardwareisa": "processors.isa",
    "operatingsystem": "os.name",
    "operatingsystemrelease": "os.release.full",
    "operatingsystemmajrelease": "os.release.major",
    "osfamily": "os.family",
    "lsbdistid": "os.distro.id",
    "lsbdistcodename": "os.distro.codename",
    "lsbdistdescription": "os.distro.description",
    "lsbdistrelease": "os.distro.release.full",
    "lsbmajdistrelease": "os.distro.release.major",
    "lsbminordistrelease": "os.distro.release.minor",
    "selinux": "os.selinux.enabled",
    "selinux_enforced": "os.selinux.enforced",
    "selinux_current_mode": "os.selinux.current_mode",
    "selinux_config_mode": "os.selinux.config_mode",
    "selinux_config_policy": "os.selinux.config_policy",
    "selinux_policyversion": "os.selinux.policy_version",
    "hostname": "networking.hostname",
    "fqdn": "networking.fqdn",
    "domain": "networking.domain",
    "ipaddress": "networking.ip",
    "ipaddress6": "networking.ip6",
    "macaddress": "networking.mac",
    "netmask": "networking.netmask",
    "netmask6": "networking.netmask6",
    "network": "networking.network",
    "network6": "networking.network6",
    "processorcount": "processors.count",
    "physicalprocessorcount": "processors.physicalcount",
    "memorysize": "memory.system.total",
    "memoryfree": "memory.system.available",
    "swapsize": "memory.swap.total",
    "swapfree": "memory.swap.available",
    "uptime": "system_uptime.uptime",
    "uptime_seconds": "system_uptime.seconds",
    "uptime_hours": "system_uptime.hours",
    "uptime_days": "system_uptime.days",
    "id": "identity.user",
    "gid": "identity.group",
    "manufacturer": "dmi.manufacturer",
    "productname": "dmi.product.name",
    "serialnumber": "dmi.product.serial_number",
    "uuid": "dmi.product.uuid",
    "bios_vendor": "dmi.bios.vendor",
    "bios_version": "dmi.bios.version",
    "bios_release_date": "dmi.bios.release_date",
    "boardmanufacturer": "dmi.board.manufacturer",
    "boardproductname": "dmi.board.product",
    "boardserialnumber": "dmi.board.serial_number",
    "chassisassettag": "dmi.chassis.asset_tag",
}
"""Flat name -> path. `architecture` is what uname(1) says (x86_64), as the documents have it; os.architecture is the distribution's (amd64)."""
MEGABYTES = {
    "memorysize_mb": "memory.system.total_bytes",
    "memoryfree_mb": "memory.system.available_bytes",
    "swapsize_mb": "memory.swap.total_bytes",
    "swapfree_mb": "memory.swap.available_bytes",
}
"""Without swap its figures are 0, so that an expression can ask for it."""
OF_INTERFACE = {
    "ipaddress": "ip",
    "ipaddress6": "ip6",
    "macaddress": "mac",
    "mtu": "mtu",
    "netmask": "netmask",
    "netmask6": "netmask6",
    "network": "network",
    "network6": "network6",
    "scope6": "scope6",
}
OF_DISK = {"size": "size_bytes", "model": "model", "vendor": "vendor"}


def flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The flat facts that these structured ones give."""
    found = {name: value for name, path in PATHS.items() if (value := _at(facts, path)) is not None}
    found |= {name: (_at(facts, path) or 0) / 2**20 for name, path in MEGABYTES.items()}
    return found | dict(_of_processors(facts)) | dict(_of_interfaces(facts)) | dict(_of_disks(facts))


def _at(facts: Mapping[str, Any], path: str) -> Any:
    found: Any = facts
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def _of_processors(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for number, model in enumerate(_at(facts, "processors.models") or ()):
        yield f"processor{number}", model


def _of_interfaces(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    known = _at(facts, "networking.interfaces") or {}
    yield "interfaces", ",".join(_named(name) for name in known)
    for interface, values in known.items():
        for name, key in OF_INTERFACE.items():
            if key in values:
                yield f"{name}_{_named(interface)}", values[key]


def _named(interface: str) -> str:
    return interface.replace(".", "_").replace(":", "_")


def _of_disks(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    known = facts.get("disks") or {}
    yield "blockdevices", ",".join(known)
    for disk, values in known.items():
        for name, key in OF_DISK.items():
            if key in values:
                yield f"blockdevice_{disk}_{name}", values[key]
