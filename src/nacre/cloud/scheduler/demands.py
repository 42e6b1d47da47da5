"""What flavors and images ask of a host in Nova's words, and how a value is held against what is asked.

Source: https://docs.openstack.org/nova/latest/admin/scheduling.html (ComputeCapabilitiesFilter, AggregateInstanceExtraSpecsFilter,
ImagePropertiesFilter) and https://docs.openstack.org/nova/latest/configuration/extra-specs.html.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from nacre.cloud.scheduler.conditions import fact, texts_of
from nacre.cloud.scheduler.snapshot import NO_DEMANDS, Demands, HostView

AGGREGATE_SPECS = "aggregate_instance_extra_specs:"
CAPABILITIES = "capabilities:"
BOOKED = frozenset({"VCPU", "MEMORY_MB", "DISK_GB"})
"""Resource classes that hosts have."""
_TRAIT = re.compile(r"trait[a-zA-Z0-9_-]*:([A-Z][A-Z0-9_]*)")
_RESOURCE = re.compile(r"resources[a-zA-Z0-9_-]*:([A-Z][A-Z0-9_]*)")
ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}
"""Other names of what `uname -m` says."""
ARCHITECTURE_PROPERTIES = ("hw_architecture", "architecture")
HYPERVISOR_PROPERTIES = ("img_hv_type", "hypervisor_type")
"""The newer name, and that of before."""


def demands_of(extra_specs: Mapping[str, str], properties: Mapping[str, str]) -> Demands:
    """Of a flavor's extra specs and an image's properties. Names without a namespace are their users' own and ask nothing."""
    traits: dict[str, set[str]] = {"required": set(), "forbidden": set()}
    resources, aggregate_specs, capabilities = [], [], []
    for name, value in (*properties.items(), *extra_specs.items()):
        if (match := _TRAIT.fullmatch(name)) and value in traits:
            traits[value].add(match[1])
    for name, value in extra_specs.items():
        if name.startswith(AGGREGATE_SPECS):
            aggregate_specs.append((name.removeprefix(AGGREGATE_SPECS), value))
        elif name.startswith(CAPABILITIES):
            capabilities.append((name.removeprefix(CAPABILITIES), value))
        elif (match := _RESOURCE.fullmatch(name)) and match[1] not in BOOKED and value.strip("0"):
            resources.append(match[1])
    found = Demands(
        required_traits=frozenset(traits["required"]),
        forbidden_traits=frozenset(traits["forbidden"]),
        resources=tuple(resources),
        aggregate_specs=tuple(aggregate_specs),
        capabilities=tuple(capabilities),
        architecture=architecture(_first(properties, ARCHITECTURE_PROPERTIES)),
        hypervisor_type=_first(properties, HYPERVISOR_PROPERTIES).lower(),
    )
    return NO_DEMANDS if found == NO_DEMANDS else found


def _first(properties: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((str(properties[name]) for name in names if properties.get(name)), "")


def architecture(name: str) -> str:
    """As `uname -m` would say it."""
    name = name.lower()
    return ARCHITECTURES.get(name, name)


_CAPABILITIES: dict[str, Callable[[HostView], Any]] = {
    "host": lambda host: host.hostname,
    "hypervisor_hostname": lambda host: host.hostname,
    "hypervisor_type": lambda host: host.hypervisor_type,
    "cpu_info:arch": lambda host: host.architecture,
    "vcpus_total": lambda host: host.vcpus / host.ratios.vcpus,
    "vcpus_used": lambda host: host.claimed_vcpus,
    "total_usable_ram_mb": lambda host: host.memory_mb / host.ratios.memory_mb,
    "free_ram_mb": lambda host: host.memory_mb / host.ratios.memory_mb - host.claimed_memory_mb,
    "total_usable_disk_gb": lambda host: host.disk_gb / host.ratios.disk_gb,
    "free_disk_mb": lambda host: (host.disk_gb / host.ratios.disk_gb - host.claimed_disk_gb) * 1024,
    "num_instances": lambda host: host.guests,
}
"""Nova's names of what a host's state has."""


def need_facts(demands: Demands) -> bool:
    """Whether a capability is none of Nova's: then it is a fact."""
    return any(name not in _CAPABILITIES for name, _ in demands.capabilities)


def capability(host: HostView, name: str) -> str | None:
    """What a host has under that name: one of Nova's, or a fact (with dots or colons through the structured ones)."""
    if name in _CAPABILITIES:
        value = _CAPABILITIES[name](host)
        return f"{value:.0f}" if isinstance(value, float) else str(value)
    texts = texts_of(fact(host.facts, name.replace(":", ".")))
    return texts[-1] if texts else None


_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
"""`=` is "equal to or greater than", as Nova has it."""
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
}


def matches(value: str | None, wanted: str) -> bool:
    """Whether what a host or an aggregate has is what an extra spec asks for, by the operators of Nova's documentation.

    `<or> a <or> b`: one of them; `<in> a`: a is in the text; `<all-in> a b`: all of these words are; without an operator: the same text.
    """
    if value is None:
        return False
    words = wanted.split()
    if not words:
        return value == wanted
    first, rest = words[0], words[1:]
    if first == "<or>":
        return value in [choice.strip() for choice in wanted.split("<or>")[1:]]
    if first == "<in>":
        return bool(rest) and " ".join(rest) in value
    if first == "<all-in>":
        return bool(rest) and all(word in value for word in rest)
    if first in _TEXTS:
        return bool(rest) and _TEXTS[first](value, rest[0])
    if first in _NUMBERS:
        return bool(rest) and _compared(_NUMBERS[first], value, rest[0])
    return value == wanted


def _compared(compare: Callable[[float, float], bool], value: str, wanted: str) -> bool:
    try:
        return compare(float(value), float(wanted))
    except ValueError:
        return False
