"""Extra specs of flavors as they are checked from microversion 2.86 on.

A name of one of Nova's namespaces must be one that Nova has, with a value that it may have; every other name is its user's own.
Source: https://docs.openstack.org/nova/latest/configuration/extra-specs.html.
"""

import re
from collections.abc import Mapping

from nacre.cloud.errors import Invalid

_BOOLEAN = "(?i:true|false|t|f|yes|no|y|n|on|off|1|0)"
_INTEGER = "[+-]?[0-9]{1,18}"
_COUNT = "[0-9]{1,18}"
_POSITIVE = "0*[1-9][0-9]{0,17}"
_TEXT = r"(?s:.*)"
_CPUS = r"\^?[0-9]+((-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)?)*"
_CLASS = "CUSTOM_[A-Z0-9_]+|[A-Z][A-Z0-9_]*"

KNOWN: dict[str, str] = {
    "accel:device_profile": ".+",
    "aggregate_instance_extra_specs:.+": ".+",
    "capabilities:.+": _TEXT,
    "hw:boot_menu": _BOOLEAN,
    "hw:cpu_dedicated_mask": _CPUS,
    "hw:cpu_policy": "dedicated|shared|mixed",
    "hw:cpu_realtime": _BOOLEAN,
    "hw:cpu_realtime_mask": _CPUS,
    "hw:(max_)?cpu_(sockets|cores|threads)": _POSITIVE,
    "hw:cpu_thread_policy": "prefer|isolate|require",
    "hw:emulator_threads_policy": "isolate|share",
    "hw:hide_hypervisor_id": _BOOLEAN,
    "hw:locked_memory": _BOOLEAN,
    "hw:maxphysaddr_bits": _COUNT,
    "hw:maxphysaddr_mode": "emulate|passthrough",
    "hw:mem_encryption": _BOOLEAN,
    "hw:mem_page_size": "large|small|any|[0-9]+([kKMGT]i?)?(b|bit|B)?",
    "hw:numa_cpus\\.[0-9]+": _CPUS,
    "hw:numa_mem\\.[0-9]+": _POSITIVE,
    "hw:numa_nodes": _POSITIVE,
    "hw:pci_numa_affinity_policy": "required|preferred|legacy|socket",
    "hw:pmem": "([a-zA-Z0-9_]+,?)+",
    "hw:pmu": _BOOLEAN,
    "hw:serial_port_count": _COUNT,
    "hw:tpm_model": "tpm-tis|tpm-crb",
    "hw:tpm_secret_security": "user|host|deployment",
    "hw:tpm_version": "1\\.2|2\\.0",
    "hw:vif_multiqueue_enabled": _BOOLEAN,
    "hw:viommu_model": "intel|smmuv3|virtio|auto",
    "hw:virtio_packed_ring": _BOOLEAN,
    "hw:watchdog_action": "none|pause|poweroff|reset|disabled",
    "hw_rng:allowed": _BOOLEAN,
    "hw_rng:rate_(bytes|period)": _COUNT,
    "hw_video:ram_max_mb": _COUNT,
    "os:inject_.+|os:(monitors|vram)|os:secure_boot": _TEXT,
    "pci_passthrough:alias": "[^:]+:[0-9]+(,[^:]+:[0-9]+)*",
    "quota:(cpu|memory|disk_io|vif)_(limit|reservation|shares_share)": _INTEGER,
    "quota:(cpu|memory|disk_io|vif)_shares_level": _TEXT,
    "quota:cpu_(shares|period|quota)": _COUNT,
    "quota:disk_(read|write|total)_(bytes|iops)_sec": _COUNT,
    "quota:vif_(inbound|outbound)_(average|peak|burst)": _COUNT,
    f"resources[a-zA-Z0-9_-]*:({_CLASS})": _COUNT,
    f"trait[a-zA-Z0-9_-]*:({_CLASS})": "required|forbidden",
    "vmware:.+": _TEXT,
}
"""A name, whole, as a regular expression -> its values, as one."""
_NAMESPACE = re.compile(
    "accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|powervm|quota"
    "|resources[a-zA-Z0-9_-]*|trait[a-zA-Z0-9_-]*|vmware"
)


def check(specs: Mapping[str, str]) -> None:
    """Raises Invalid, naming the first one that is wrong."""
    for name, value in specs.items():
        if ":" not in name or not _NAMESPACE.fullmatch(name.partition(":")[0]):
            continue
        values = next((values for pattern, values in KNOWN.items() if re.fullmatch(pattern, name)), None)
        if values is None:
            why = f"extra spec '{name}' does not appear to be a valid extra spec."
        elif not re.fullmatch(values, value):
            why = f"'{value}' is no value for extra spec '{name}'."
        else:
            continue
        raise Invalid(f"Validation failed; {why}", field=f"extra_specs.{name}")
