"""The filters, in order: the first that drops a host is counted, so that `No valid host` says why for each of them."""

from collections.abc import Callable

from nacre.cloud.scheduler.snapshot import HostView, Request

Filter = Callable[[HostView, Request], bool]


def _agrees(host: HostView, request: Request) -> bool:
    """The hard policies of a server group; the soft ones only order the hosts."""
    if request.group_policy == "affinity":
        return not request.group_hosts or host.id in request.group_hosts
    if request.group_policy == "anti-affinity":
        return request.group_hosts.get(host.id, 0) < request.group_max_per_host
    return True


HEALTH: dict[str, tuple[str, Filter]] = {
    "enabled": ("disabled by an operator", lambda host, request: host.enabled),
    "accepted": ("not accepted yet (see `nacre host list`)", lambda host, request: host.accepted),
    "alive": ("without a sign of life", lambda host, request: host.alive),
}
FITNESS: dict[str, tuple[str, Filter]] = {
    "availability_zone": (
        "in another availability zone",
        lambda host, request: request.availability_zone in (None, host.availability_zone),
    ),
    "host": ("not the host that was asked for", lambda host, request: request.host in (None, host.hostname, host.id)),
    "group": ("against the policy of the server group", lambda host, request: _agrees(host, request)),
    "runtime": ("unable to run this kind of image", lambda host, request: bool(host.runtimes & request.runtimes)),
}
ROOM: dict[str, tuple[str, Filter]] = {
    "vcpus": ("short of vCPUs", lambda host, request: host.claimed_vcpus + request.vcpus <= host.vcpus),
    "memory": ("short of memory", lambda host, request: host.claimed_memory_mb + request.memory_mb <= host.memory_mb),
    "disk": ("short of disk", lambda host, request: host.claimed_disk_gb + request.disk_gb <= host.disk_gb),
}
FILTERS = {**HEALTH, **FITNESS, **ROOM}
"""name -> (what is wrong with a host that it drops, predicate)."""
