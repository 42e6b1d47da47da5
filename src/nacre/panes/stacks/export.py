"""A stack as the stack file of which it could be made again."""

from typing import Any

from nacre.cloud.stacks.specs import Binding, Port, ServiceSpec, stored
from nacre.panes.stacks.views import ServiceView, StackView

Row = dict[str, Any]

_PLAIN = {
    "run_command": "command",
    "entrypoint": "entrypoint",
    "working_dir": "working_dir",
    "user": "user",
    "hostname": "hostname",
    "domainname": "domainname",
    "mac_address": "mac_address",
    "cgroup_parent": "cgroup_parent",
    "cpu_shares": "cpu_shares",
    "cpuset": "cpuset",
    "privileged": "privileged",
    "read_only": "read_only",
    "stdin_open": "stdin_open",
    "tty": "tty",
    "autoredeploy": "autoredeploy",
    "sequential_deployment": "sequential_deployment",
    "labels": "labels",
}
_LISTS = ("cap_add", "cap_drop", "devices", "dns", "dns_search", "extra_hosts", "security_opt", "tags", "roles")


def document(view: StackView) -> Row:
    return {each.row["name"]: _service(each) for each in view.services if each.row["intent"] != "gone"}


def _service(view: ServiceView) -> Row:
    spec = stored(view.row)
    found: Row = {"image": spec.image}
    found |= {key: getattr(spec, name) for name, key in _PLAIN.items() if getattr(spec, name)}
    found |= {name: list(getattr(spec, name)) for name in _LISTS if getattr(spec, name)}
    found |= _chosen(spec)
    if spec.deployment_strategy != "EVERY_NODE" and view.row["target"] != 1:
        found["target_num_containers"] = view.row["target"]
    for key, size in (("mem_limit", spec.memory), ("memswap_limit", spec.memory_swap)):
        if size:
            found[key] = f"{size}m"
    if spec.container_envvars:
        found["environment"] = {each.key: each.value for each in spec.container_envvars}
    if spec.linked_to_service:
        found["links"] = [each.to_service + (f":{each.name}" if each.name else "") for each in spec.linked_to_service]
    published = [port for port in spec.container_ports if port.published or port.outer_port]
    if published:
        found["ports"] = [_port(port) for port in published]
    exposed = [port for port in spec.container_ports if port not in published]
    if exposed:
        found["expose"] = [_port(port) for port in exposed]
    volumes = [_volume(each) for each in spec.bindings if not each.volumes_from]
    sources = [each.volumes_from for each in spec.bindings if each.volumes_from]
    return {**found, **({"volumes": volumes} if volumes else {}), **({"volumes_from": sources} if sources else {})}


def _chosen(spec: ServiceSpec) -> Row:
    """Words of which the file has others than the API."""
    found: Row = {}
    if spec.deployment_strategy != "EMPTIEST_NODE":
        found["deployment_strategy"] = spec.deployment_strategy.lower()
    if spec.autorestart != "OFF":
        found["restart"] = spec.autorestart.lower().replace("_", "-")
    if spec.autodestroy != "OFF":
        found["autodestroy"] = spec.autodestroy.lower().replace("_", "-")
    for key, value, usual in (("net", spec.net, "bridge"), ("pid", spec.pid, "none")):
        if value != usual:
            found[key] = value
    return found


def _port(port: Port) -> str:
    outer = f"{port.outer_port}:" if port.outer_port else ""
    return f"{outer}{port.inner_port}{'' if port.protocol == 'tcp' else '/' + port.protocol}"


def _volume(binding: Binding) -> str:
    source = f"{binding.host_path}:" if binding.host_path else ""
    return f"{source}{binding.container_path}{'' if binding.rewritable else ':ro'}"
