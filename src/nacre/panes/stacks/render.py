"""Stacks, services, containers and triggers in Tutum's shapes. `cause` is the cloud's own: why something is not as wanted."""

from datetime import UTC, datetime
from typing import Any

from nacre.cloud.stacks.making import uri
from nacre.cloud.stacks.rules import Status
from nacre.cloud.stacks.specs import stored
from nacre.panes.stacks.views import ContainerView, ServiceView, StackView

Row = dict[str, Any]

CONTAINER_STATES: dict[Status, str] = {
    "created": "Starting",
    "starting": "Starting",
    "running": "Running",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "failed": "Stopped",
    "gone": "Terminated",
    "leaving": "Terminating",
}
_PLAIN = (
    *("run_command", "entrypoint", "deployment_strategy", "sequential_deployment", "autorestart", "autodestroy", "autoredeploy"),
    *("privileged", "net", "pid", "cpu_shares", "memory", "memory_swap", "cpuset", "cgroup_parent", "read_only", "stdin_open"),
    *("tty", "working_dir", "user", "hostname", "domainname", "mac_address", "labels"),
)
_LISTS = ("roles", "cap_add", "cap_drop", "devices", "dns", "dns_search", "extra_hosts", "security_opt")


def moment(seconds: float | None) -> str | None:
    """As Tutum writes moments: Mon, 13 Oct 2014 11:01:43 +0000."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


def service(view: ServiceView) -> Row:
    row, spec, present = view.row, stored(view.row), [each for each in view.members if each.status != "leaving"]
    return {
        "uuid": row["id"],
        "resource_uri": uri("service", row["id"]),
        "name": row["name"],
        "unique_name": row["name"],
        "stack": uri("stack", row["stack_id"]) if row["stack_id"] else None,
        "state": view.state,
        "cause": row["cause"] or None,
        "image_name": spec.image,
        "target_num_containers": len(present) if spec.deployment_strategy == "EVERY_NODE" else row["target"],
        "current_num_containers": len(present),
        "running_num_containers": sum(each.status == "running" for each in present),
        "stopped_num_containers": sum(each.status in ("stopped", "failed") for each in present),
        "containers": [uri("container", each.server_id) for each in present],
        "container_ports": [_port(port) for port in spec.container_ports],
        "container_envvars": [{"key": each.key, "value": each.value} for each in spec.container_envvars],
        "linked_to_service": [
            {
                "name": link.name or link.to_service.partition(".")[0],
                "to_service": uri("service", view.targets[link.to_service]) if link.to_service in view.targets else None,
                "from_service": uri("service", row["id"]),
            }
            for link in spec.linked_to_service
        ],
        "bindings": [_binding(each) for each in spec.bindings],
        "tags": [{"name": tag} for tag in spec.tags],
        "synchronized": row["synchronized"],
        "deployed_datetime": moment(row["created_at"]),
        **{name: getattr(spec, name) for name in _PLAIN},
        **{name: list(getattr(spec, name)) for name in _LISTS},
    }


def _port(port: Any) -> Row:
    return {
        "protocol": port.protocol,
        "inner_port": port.inner_port,
        "outer_port": port.outer_port,
        "published": port.published or port.outer_port is not None,
    }


def _binding(binding: Any) -> Row:
    return {
        "host_path": binding.host_path,
        "container_path": binding.container_path,
        "rewritable": binding.rewritable,
        "volumes_from": binding.volumes_from,
    }


def stack(view: StackView) -> Row:
    return {
        "uuid": view.row["id"],
        "resource_uri": uri("stack", view.row["id"]),
        "name": view.row["name"],
        "state": view.state,
        "services": [uri("service", each.row["id"]) for each in view.services],
        "synchronized": all(each.row["synchronized"] for each in view.services),
        "deployed_datetime": moment(view.row["created_at"]),
    }


def container(view: ContainerView) -> Row:
    row, server, spec = view.row, view.row["server"], stored(view.service.row)
    return {
        "uuid": row["server_id"],
        "resource_uri": uri("container", row["server_id"]),
        "name": row["name"],
        "unique_name": row["name"],
        "service": uri("service", row["service_id"]),
        "state": CONTAINER_STATES[view.member.status],
        "cause": (server["fault"] if server else None) or None,
        "image_name": spec.image,
        "run_command": spec.run_command,
        "exit_code": server["exit_code"] if server else None,
        "restarts": row["restarts"],
        "private_ip": next(iter(view.addresses), None),
        "container_ports": [_port(port) for port in spec.container_ports],
        "container_envvars": _environment(server),
        "autorestart": spec.autorestart,
        "autodestroy": spec.autodestroy,
        "started_datetime": moment(server["launched_at"]) if server else None,
    }


def _environment(server: Row | None) -> list[Row]:
    container = server["container"] if server else None
    pairs = [each.partition("=") for each in (container["config"]["Env"] or () if container else ())]
    return [{"key": key, "value": value} for key, _, value in pairs]


def trigger(row: Row) -> Row:
    """`url` is all that is needed to call it."""
    address = f"{uri('service', row['service_id'])}trigger/{row['id']}/"
    return {
        "name": row["name"],
        "operation": row["operation"],
        "resource_uri": address,
        "url": f"{address}call/",
    }
