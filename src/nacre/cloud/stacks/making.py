"""A service's next container, as `docker create` takes it: its name, environment, links, volumes, ports and where it may go."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.containers.specs import ContainerSpec
from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.errors import Invalid
from nacre.cloud.network.tables import fixed_ips, ports
from nacre.cloud.stacks import engine, finding, members
from nacre.cloud.stacks.specs import Binding, ServiceSpec, stored
from nacre.cloud.stacks.specs import Port as ServicePort
from nacre.store import Prepared, among

Row = dict[str, Any]

MIB = 1 << 20
LABELS = {
    "stack": "nacre.stack",
    "service": "nacre.service",
    "service_id": "nacre.service.id",
    "number": "nacre.service.number",
}
RESTARTS = {"OFF": "no", "ON_FAILURE": "on-failure", "ALWAYS": "always"}
"""autorestart -> the Engine API's restart policy: its host starts it again, whether this process is there or not."""
_ADDRESSES = Prepared(
    sa.select(ports.c.device_id, fixed_ips.c.address)
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .where(among(ports.c.device_id))
    .order_by(ports.c.position, ports.c.id, fixed_ips.c.position)
)


class Linked:
    """One container that a new one is linked to."""

    def __init__(self, row: Mapping[str, Any], address: str) -> None:
        self.number: int = row["number"]
        self.address = address
        self.host_id: str = row["host_id"]
        config = row["server"]["container"]["config"]
        self.exposed: list[str] = sorted(config["ExposedPorts"] or {}, key=_port_order)
        self.env: list[str] = [each for each in config["Env"] or () if "=" in each and not each.startswith("TUTUM_AUTH=")]


def context_of(service: Mapping[str, Any], request_id: str = "") -> Context:
    """What is done for a service is done as a member of its project, in the name of who made it."""
    return Context(
        user_id=service["user_id"],
        user_domain_id="",
        project_id=service["project_id"],
        project_name=service["project_name"],
        roles=ROLE_IMPLIES["member"],
        request_id=request_id,
    )


def uri(kind: str, ident: str) -> str:
    """As Tutum's clients know things."""
    return f"/api/v1/{kind}/{ident}/"


def container_spec(
    conn: sa.Connection,
    ctx: Context,
    service: Mapping[str, Any],
    name: str,
    number: int,
    ident: str,
    base_url: str,
    *,
    host_id: str = "",
) -> ContainerSpec:
    """`host_id` is that of its host where EVERY_NODE has chosen it. Raises Invalid, NotFound (a link, another service)."""
    spec = stored(service)
    links = _links(conn, service, spec, number, host_id)
    exposed: Row = {f"{port.inner_port}/{port.protocol}": {} for port in spec.container_ports}
    config = engine.config(
        Image=spec.image,
        Cmd=words(spec.run_command, "run_command"),
        Entrypoint=words(spec.entrypoint, "entrypoint"),
        Env=_environment(service, spec, links, ident, base_url),
        ExposedPorts=exposed or None,
        Labels={**spec.labels, **_labels(conn, service, number)},
        WorkingDir=spec.working_dir,
        User=spec.user,
        Hostname=spec.hostname or name.partition(".")[0],
        Domainname=spec.domainname,
        MacAddress=spec.mac_address,
        OpenStdin=spec.stdin_open,
        Tty=spec.tty,
    )
    return ContainerSpec(
        id=ident,
        name=name,
        config=config,
        host_config=_host_config(conn, ctx, service, spec, number),
        networking_config={"EndpointsConfig": None},
    )


def words(command: str, field: str) -> list[str] | None:
    """A command line as its words. Raises Invalid."""
    try:
        return shlex.split(command) or None
    except ValueError as error:
        raise Invalid(f"{field}: {error}", field=field) from None


def _labels(conn: sa.Connection, service: Mapping[str, Any], number: int) -> dict[str, str]:
    stack = finding.stack_name(conn, service)
    return {
        **({LABELS["stack"]: stack} if stack else {}),
        LABELS["service"]: service["name"],
        LABELS["service_id"]: service["id"],
        LABELS["number"]: str(number),
    }


def _host_config(
    conn: sa.Connection,
    ctx: Context,
    service: Mapping[str, Any],
    spec: ServiceSpec,
    number: int,
) -> Row:
    binds, volumes_from = _volumes(conn, ctx, service, spec.bindings, number)
    return engine.host_config(
        Binds=binds or None,
        VolumesFrom=volumes_from or None,
        PortBindings={
            f"{port.inner_port}/{port.protocol}": [_binding(port)] for port in spec.container_ports if _is_published(port)
        }
        or None,
        RestartPolicy={"Name": RESTARTS[spec.autorestart], "MaximumRetryCount": 0},
        NetworkMode="host" if spec.net == "host" else "default",
        PidMode="host" if spec.pid == "host" else "",
        Privileged=spec.privileged,
        CpuShares=spec.cpu_shares or 0,
        CpusetCpus=spec.cpuset,
        Memory=(spec.memory or 0) * MIB,
        MemorySwap=(spec.memory_swap or 0) * MIB,
        CapAdd=list(spec.cap_add) or None,
        CapDrop=list(spec.cap_drop) or None,
        CgroupParent=spec.cgroup_parent,
        Devices=[_device(text) for text in spec.devices] or None,
        Dns=list(spec.dns) or None,
        DnsSearch=list(spec.dns_search) or None,
        ExtraHosts=list(spec.extra_hosts) or None,
        SecurityOpt=list(spec.security_opt) or None,
        ReadonlyRootfs=spec.read_only,
    )


def _is_published(port: ServicePort) -> bool:
    return port.published or port.outer_port is not None


def _binding(port: ServicePort) -> Row:
    return {"HostIp": "", "HostPort": str(port.outer_port or "")}


def _device(text: str) -> Row:
    path, _, rest = text.partition(":")
    inside, _, access = rest.partition(":")
    return {"PathOnHost": path, "PathInContainer": inside or path, "CgroupPermissions": access or "rwm"}


def _volumes(
    conn: sa.Connection, ctx: Context, service: Mapping[str, Any], bindings: Sequence[Binding], number: int
) -> tuple[list[str], list[str]]:
    """(Binds, VolumesFrom). Raises NotFound, Invalid."""
    binds, volumes_from = [], []
    for binding in bindings:
        if binding.volumes_from:
            other = finding.service(conn, ctx, binding.volumes_from, service["stack_id"])
            volumes_from.append(_beside(conn, other, number))
            continue
        source = binding.host_path or own_volume(service, number, binding.container_path)
        binds.append(f"{source}:{binding.container_path}{'' if binding.rewritable else ':ro'}")
    return binds, volumes_from


def own_volume(service: Mapping[str, Any], number: int, path: str) -> str:
    """The name of the volume that a container has for itself: the same one when it is made anew, unless that is not wanted."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", path).strip("-")
    return f"{own_prefix(service)}{number}-{slug}{'' if service['reuse_volumes'] else '-' + str(service['revision'])}"


def own_prefix(service: Mapping[str, Any]) -> str:
    """What the names of a service's own volumes begin with."""
    return f"{service['name']}-{service['id'][:8]}-"


def _beside(conn: sa.Connection, other: Row, number: int) -> str:
    """The container of the other service that has the same number, or else its first. Raises Invalid."""
    there = [each for each in members.of_services(conn, [other["id"]])[other["id"]] if each["server"] and not each["leaving"]]
    if not there:
        raise Invalid(f"bindings: the service {other['name']} has no container whose volumes could be taken", field="bindings")
    chosen = next((each for each in there if each["number"] == number), there[0])
    ident: str = chosen["server_id"]
    return ident


def _links(
    conn: sa.Connection, service: Mapping[str, Any], spec: ServiceSpec, number: int, host_id: str
) -> list[tuple[str, list[Linked]]]:
    """(alias, the containers behind it). A sequential service's containers know those before them. Raises NotFound."""
    ctx = context_of(service)
    wanted: list[tuple[str, Row, int | None]] = []
    for link in spec.linked_to_service:
        other = finding.service(conn, ctx, link.to_service, service["stack_id"])
        wanted.append((link.name or other["name"], other, None))
    if spec.sequential_deployment:
        wanted.append((service["name"], dict(service), number))
    rows = members.of_services(conn, [other["id"] for _, other, _ in wanted])
    there = {
        each["server_id"]: each
        for kept in rows.values()
        for each in kept
        if not each["leaving"] and each["server"] and each["server"]["container"]
    }
    addresses: dict[str, str] = {}
    for row in _ADDRESSES.rows(conn, ids=list(there)) if there else ():
        if ":" not in row["address"]:
            addresses.setdefault(row["device_id"], row["address"])
    found = []
    for alias, other, before in wanted:
        mates = [
            Linked(each, addresses.get(each["server_id"], ""))
            for each in rows[other["id"]]
            if each["server_id"] in there and (before is None or each["number"] < before)
        ]
        # EVERY_NODE to EVERY_NODE: each to the one beside it.
        if host_id and stored(other).deployment_strategy == "EVERY_NODE":
            mates = [mate for mate in mates if mate.host_id == host_id]
        found.append((alias, mates))
    return found


def _environment(
    service: Mapping[str, Any], spec: ServiceSpec, links: Sequence[tuple[str, list[Linked]]], ident: str, base_url: str
) -> list[str]:
    """What is asked for comes last and wins."""
    found = {
        "TUTUM_SERVICE_API_URI": uri("service", service["id"]),
        "TUTUM_SERVICE_API_URL": base_url + uri("service", service["id"]),
        "TUTUM_CONTAINER_API_URI": uri("container", ident),
        "TUTUM_CONTAINER_API_URL": base_url + uri("container", ident),
    }
    if service["authorization"]:
        found |= {"TUTUM_AUTH": service["authorization"], "DOCKERCLOUD_AUTH": service["authorization"]}
    if service["trigger_body"]:
        found["TUTUM_TRIGGER_BODY"] = service["trigger_body"]
    for alias, mates in links:
        for mate in mates:
            found |= link_variables(alias, mate.number, mate.address, mate.exposed, mate.env)
    found |= {each.key: each.value for each in spec.container_envvars}
    return [f"{name}={value}" for name, value in found.items()]


def link_variables(alias: str, number: int, address: str, exposed: Sequence[str], env: Sequence[str]) -> dict[str, str]:
    """NAME_N_PORT, NAME_N_PORT_80_TCP..., NAME_N_ENV_X, as Docker's links have them. `exposed` are `80/tcp`, lowest first."""
    prefix = f"{alias}_{number}".upper().replace("-", "_")
    found: dict[str, str] = {}
    if address:
        for index, each in enumerate(exposed):
            port, _, protocol = each.partition("/")
            url, name = f"{protocol}://{address}:{port}", f"{prefix}_PORT_{port}_{protocol.upper()}"
            if index == 0:
                found[f"{prefix}_PORT"] = url
            found |= {name: url, f"{name}_ADDR": address, f"{name}_PORT": port, f"{name}_PROTO": protocol}
    for each in env:
        key, _, value = each.partition("=")
        if (
            "_ENV_" not in key
            and "_PORT" not in key
            and not key.startswith(("TUTUM_", "DOCKERCLOUD_"))
            and key not in ("PATH", "HOME")
        ):
            found[f"{prefix}_ENV_{key}"] = value
    return found


def _port_order(text: str) -> tuple[int, str]:
    port, _, protocol = text.partition("/")
    return int(port), protocol
