"""The filters, in order: the first that drops a host is counted, so that `No valid host` says why for each of them.

Each bears the name that Nova has for its like in its table's comment (https://docs.openstack.org/nova/latest/admin/scheduling.html).
"""

from collections.abc import Callable

from nacre.cloud.scheduler.demands import capability, matches
from nacre.cloud.scheduler.snapshot import HostView, Request

Filter = Callable[[HostView, Request], bool]

TENANT = "filter_tenant_id"
"""An aggregate's metadata key: only these projects' servers go to its hosts. Commas between ids; further keys begin with it."""


def _agrees(host: HostView, request: Request) -> bool:
    """The hard policies of a server group; the soft ones only order the hosts."""
    if request.group_policy == "affinity":
        return not request.group_hosts or host.id in request.group_hosts
    if request.group_policy == "anti-affinity":
        return request.group_hosts.get(host.id, 0) < request.group_max_per_host
    return True


def _image_runs(host: HostView, request: Request) -> bool:
    """A host that does not say what it is satisfies no image that asks for it."""
    wanted = request.demands
    if wanted.architecture and wanted.architecture != host.architecture:
        return False
    return not wanted.hypervisor_type or wanted.hypervisor_type == host.hypervisor_type.lower()


def _has_traits(host: HostView, request: Request) -> bool:
    wanted = request.demands
    return host.traits >= wanted.required_traits and host.traits.isdisjoint(wanted.forbidden_traits)


def _in_aggregates(host: HostView, request: Request) -> bool:
    """For each spec one of the host's aggregates must have a value that matches."""
    for key, wanted in request.demands.aggregate_specs:
        values = [value for aggregate in host.aggregates if (value := aggregate.get(key)) is not None]
        if not any(matches(value, wanted) for value in values):
            return False
    return True


def _admits(host: HostView, request: Request) -> bool:
    tenants: set[str] = set()
    for aggregate in host.aggregates:
        for key, value in aggregate.metadata:
            if key.startswith(TENANT):
                tenants.update(ident.strip() for ident in value.split(","))
    return not tenants or request.project_id in tenants


def _is_capable(host: HostView, request: Request) -> bool:
    return all(matches(capability(host, name), wanted) for name, wanted in request.demands.capabilities)


HEALTH: dict[str, tuple[str, Filter]] = {
    # ComputeFilter
    "enabled": ("disabled by an operator", lambda host, request: host.enabled),
    "accepted": ("not accepted yet (see `nacre host list`)", lambda host, request: host.accepted),
    "alive": ("without a sign of life", lambda host, request: host.alive),
}
KIND: dict[str, tuple[str, Filter]] = {
    # AvailabilityZoneFilter
    "availability_zone": (
        "in another availability zone",
        lambda host, request: request.availability_zone in (None, host.availability_zone),
    ),
    "runtime": ("unable to run this kind of image", lambda host, request: bool(host.runtimes & request.runtimes)),
    # ImagePropertiesFilter
    "image_properties": ("not of the image's architecture or hypervisor type", _image_runs),
    # Placement's required and forbidden traits
    "traits": ("without a required trait or with a forbidden one", _has_traits),
    # Placement's resource classes
    "resources": ("without a resource class that the flavor asks for", lambda host, request: not request.demands.resources),
    # AggregateInstanceExtraSpecsFilter
    "aggregate_extra_specs": ("in no aggregate that matches the flavor's extra specs", _in_aggregates),
    # AggregateMultiTenancyIsolation
    "tenancy": ("kept for other projects", _admits),
}
"""What these look at is the same for whole kinds of hosts (see `index.kind_of`)."""
PLACE: dict[str, tuple[str, Filter]] = {
    # IgnoreHosts of a move
    "without": ("to be left", lambda host, request: host.id not in request.without),
    "host": ("not the host that was asked for", lambda host, request: request.host in (None, host.hostname, host.id)),
    # ServerGroupAffinityFilter, ServerGroupAntiAffinityFilter
    "group": ("against the policy of the server group", _agrees),
    # ComputeCapabilitiesFilter
    "capabilities": ("without the capabilities that the flavor asks for", _is_capable),
}
FITNESS = {**KIND, **PLACE}
ROOM: dict[str, tuple[str, Filter]] = {
    # Placement's VCPU, MEMORY_MB and DISK_GB
    "vcpus": ("short of vCPUs", lambda host, request: host.claimed_vcpus + request.vcpus <= host.vcpus),
    "memory": ("short of memory", lambda host, request: host.claimed_memory_mb + request.memory_mb <= host.memory_mb),
    "disk": ("short of disk", lambda host, request: host.claimed_disk_gb + request.disk_gb <= host.disk_gb),
}
FILTERS = {**HEALTH, **FITNESS, **ROOM}
"""name -> (what is wrong with a host that it drops, predicate)."""
