"""Docker's networks: they are Networking's, seen through Docker's eyes.

A network that Docker makes is a network with its subnets, and a leg of the project's router in each of them unless it is internal.
A network that Neutron made is a Docker network too. `bridge` is the project's default network: the one that the project has when Docker
first needs it, or a new one. `host` and `none` are no networks at all, only names.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import events, lookup
from nacre.cloud.containers.ipam import SubnetSpec, first_free, pools_of
from nacre.cloud.containers.tables import networks as docker_networks
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.network import interfaces, networks, routers, subnets
from nacre.cloud.network.common import chosen, grouped, rows_among, rows_of
from nacre.cloud.network.tables import fixed_ips
from nacre.cloud.network.tables import networks as networks_table
from nacre.cloud.network.tables import ports as ports_table
from nacre.cloud.network.tables import routers as routers_table
from nacre.cloud.network.tables import subnets as subnets_table
from nacre.cloud.volumes.placing import has_plugin

BRIDGE = "bridge"
PREDEFINED = ("bridge", "host", "none", "default")
DRIVERS = ("bridge", "overlay", "nacre")
"""Names of drivers that all mean a network of this cloud."""
SCOPES = {"overlay": "global", "nacre": "global"}
ROUTER_NAME = "docker"
MTU_OPTION = "com.docker.network.driver.mtu"
MTU_MIN, MTU_MAX = 68, 65_535
_TRUE = ("true", "1", "")
OPTIONS = {
    "com.docker.network.bridge.enable_icc": _TRUE,
    "com.docker.network.bridge.enable_ip_masquerade": _TRUE,
    "com.docker.network.bridge.gateway_mode_ipv4": ("nat",),
    "com.docker.network.bridge.host_binding_ipv4": ("0.0.0.0", ""),  # noqa: S104 - a name, nothing is bound
    "com.docker.network.container_iface_prefix": ("eth", ""),
}
"""Options of Docker's own driver, each with the values that say what a network of this cloud is anyway."""
INTERFACE_OWNER = "network:router_interface"


class NetworkSpec(Struct, kw_only=True):
    """A network to be made."""

    name: str
    driver: str = BRIDGE
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    subnets: tuple[SubnetSpec, ...] = ()
    ipam_options: dict[str, str] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class View(Struct, kw_only=True):
    """A network as Docker shows it. `id` is Networking's, None for `host` and `none`."""

    id: str | None
    docker_id: str
    name: str
    project_id: str
    driver: str
    scope: str
    created_at: float
    internal: bool = False
    attachable: bool = False
    own_pool: bool = False
    predefined: bool = False
    subnets: list[Row] = []
    ipam: dict[str, Any] = {}
    labels: dict[str, str] = {}
    options: dict[str, str] = {}

    @property
    def plugin(self) -> str:
        """The network plugin that plugs its ports; empty where the cloud does."""
        return self.driver if self.id is not None and self.driver not in DRIVERS else ""

    def has(self, version: int) -> bool:
        return any(subnet["ip_version"] == version for subnet in self.subnets)


def docker_id(network_id: str) -> str:
    """64 hex digits that begin with the network's own id."""
    return lookup.docker_id(network_id)


def _name_only(project_id: str, name: str, driver: str) -> View:
    digest = hashlib.sha256(f"{project_id}/{name}".encode()).hexdigest()
    return View(
        id=None,
        docker_id=digest,
        name=name,
        project_id=project_id,
        driver=driver,
        scope="local",
        created_at=0.0,
        predefined=True,
    )


def views(conn: sa.Connection, ctx: Context) -> list[View]:
    """All that the project may use: its own, shared ones, `host` and `none`. External networks are for routers."""
    project = ctx.project_id or ""
    wanted = sa.and_(
        sa.or_(networks_table.c.project_id == project, networks_table.c.shared), networks_table.c.external.is_(False)
    )
    order = sa.select(networks_table).where(wanted).order_by(networks_table.c.created_at, networks_table.c.id)
    found = [dict(row) for row in conn.execute(order).mappings()]
    made = [_view(row, known, held) for row, known, held in _with_details(conn, project, found)]
    return [*made, _name_only(project, "host", "host"), _name_only(project, "none", "null")]


_BY_ID = chosen(sa.select(networks_table), networks_table.c.id)
_SUBNETS_OF = chosen(
    sa.select(subnets_table).order_by(subnets_table.c.ip_version, subnets_table.c.created_at, subnets_table.c.id),
    subnets_table.c.network_id,
)
_OF_NETWORKS = chosen(sa.select(docker_networks), docker_networks.c.network_id)


def of_ids(conn: sa.Connection, project_id: str, network_ids: Iterable[str]) -> dict[str, View]:
    """The views of these networks, by Networking's id."""
    found = rows_among(conn, _BY_ID, network_ids)
    return {row["id"]: _view(row, known, held) for row, known, held in _with_details(conn, project_id, found)}


def _with_details(conn: sa.Connection, project_id: str, found: list[Row]) -> list[tuple[Row, Row | None, list[Row]]]:
    ids = [row["id"] for row in found]
    by_network = grouped(rows_among(conn, _SUBNETS_OF, ids), "network_id")
    known = {row["network_id"]: row for row in rows_among(conn, _OF_NETWORKS, ids) if row["project_id"] == project_id}
    return [(row, known.get(row["id"]), by_network.get(row["id"], [])) for row in found]


def _view(row: Row, known: Row | None, held: list[Row]) -> View:
    known = known or {"driver": "nacre", "is_bridge": False, "own_pool": True}
    return View(
        id=row["id"],
        docker_id=docker_id(row["id"]),
        name=BRIDGE if known["is_bridge"] else row["name"] or row["id"],
        project_id=row["project_id"],
        driver=BRIDGE if known["is_bridge"] else row["driver"] or known["driver"],
        scope="local" if known["is_bridge"] else SCOPES.get(known["driver"], "local"),
        created_at=row["created_at"],
        internal=known.get("internal", False),
        attachable=known.get("attachable", False),
        own_pool=known["own_pool"] and not known["is_bridge"],
        predefined=known["is_bridge"],
        subnets=held,
        ipam=known.get("ipam", {}),
        labels=known.get("labels", {}),
        options=known.get("options", {}),
    )


def find(conn: sa.Connection, ctx: Context, term: str) -> View:
    """By the whole id, the name, or a prefix of the id that is the only one. Raises NotFound, and Invalid for what several match."""
    if term in ("", "default"):
        term = BRIDGE
    if term == BRIDGE and bridge_of(conn, ctx) is None:
        ensure_bridge(conn, ctx)
    known = views(conn, ctx)
    for view in known:
        if term in (view.docker_id, view.id):
            return view
    named = [view for view in known if view.name == term]
    if not named:
        named = [view for view in known if view.predefined and view.id and _own_name(conn, view.id) == term]
    if len(named) == 1:
        return named[0]
    if named:
        raise Invalid(f"network {term} is ambiguous ({len(named)} matches found on name)", code="NetworkAmbiguous")
    begun = [view for view in known if view.docker_id.startswith(term.lower())]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise Invalid(f"network {term} is ambiguous ({len(begun)} matches found based on ID prefix)", code="NetworkAmbiguous")
    raise NotFound(f"network {term} not found", code="NetworkNotFound")


def _own_name(conn: sa.Connection, network_id: str) -> str:
    return str(conn.execute(sa.select(networks_table.c.name).where(networks_table.c.id == network_id)).scalar())


def bridge_of(conn: sa.Connection, ctx: Context) -> str | None:
    """The id of the project's default network; None while it has none."""
    found: str | None = conn.execute(
        sa.select(docker_networks.c.network_id).where(
            docker_networks.c.project_id == (ctx.project_id or ""), docker_networks.c.is_bridge
        )
    ).scalar()
    return found


def ensure_bridge(conn: sa.Connection, ctx: Context) -> str:
    """The project's default network: the one that Nova would take, if a router leads out of it, or a new one with a router."""
    found = bridge_of(conn, ctx)
    if found is not None:
        return found
    project = ctx.project_id or ""
    taken = _only_network(conn, project)
    if taken is None:
        spec = NetworkSpec(name=BRIDGE)
        taken = _make(conn, ctx, spec)
    row = {"network_id": taken, "project_id": project, "driver": BRIDGE, "is_bridge": True}
    conn.execute(docker_networks.delete().where(docker_networks.c.network_id == taken))
    conn.execute(docker_networks.insert().values(row))
    return taken


def _only_network(conn: sa.Connection, project_id: str) -> str | None:
    """The project's one network, if it has exactly one that guests can use and that a router joins. One that Docker made has a name to ask by."""
    found = conn.execute(
        sa.select(networks_table.c.id)
        .where(
            networks_table.c.project_id == project_id,
            networks_table.c.external.is_(False),
            networks_table.c.id.in_(sa.select(subnets_table.c.network_id)),
            networks_table.c.id.not_in(sa.select(docker_networks.c.network_id)),
        )
        .limit(2)
    ).scalars()
    ids = list(found)
    return ids[0] if len(ids) == 1 and _router_of_network(conn, ids[0]) is not None else None


def _router_of_network(conn: sa.Connection, network_id: str) -> str | None:
    return conn.execute(
        sa.select(routers_table.c.id)
        .join(ports_table, ports_table.c.device_id == routers_table.c.id)
        .where(
            ports_table.c.network_id == network_id,
            ports_table.c.device_owner == INTERFACE_OWNER,
            routers_table.c.gateway_port_id.is_not(None),
        )
        .limit(1)
    ).scalar()


def create(conn: sa.Connection, ctx: Context, spec: NetworkSpec) -> View:
    """Raises Forbidden, Conflict, Invalid, NotFound with Docker's words."""
    if spec.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {spec.name} network ")
    if not spec.name or spec.name.strip() != spec.name:
        raise Invalid("invalid network name: it must not be empty, nor begin or end with a space", field="Name")
    driven = spec.driver not in DRIVERS
    if driven and not has_plugin(conn, spec.driver):
        raise NotFound(f'plugin "{spec.driver}" not found')
    if not driven:
        _check_options(spec.options)
    if any(view.name == spec.name for view in views(conn, ctx)):
        raise Conflict(f"network with name {spec.name} already exists")
    ident = _make(conn, ctx, spec)
    if driven:
        _hand_over(conn, ident, spec)
    conn.execute(
        docker_networks.insert().values(
            network_id=ident,
            project_id=ctx.project_id,
            driver=spec.driver,
            internal=spec.internal,
            attachable=spec.attachable,
            own_pool=bool(spec.subnets),
            labels=spec.labels,
            options=spec.options,
            ipam={
                "options": spec.ipam_options,
                "ranges": {each.cidr: each.ip_range for each in spec.subnets if each.ip_range},
                "auxiliary": {each.cidr: each.auxiliary for each in spec.subnets if each.auxiliary},
            },
        )
    )
    view = of_ids(conn, ctx.project_id or "", [ident])[ident]
    tell(conn, ctx.project_id or "", view, "create")
    return view


def _hand_over(conn: sa.Connection, ident: str, spec: NetworkSpec) -> None:
    """The network is a plugin's from here on, subnets and all."""
    options: dict[str, Any] = {"com.docker.network.generic": spec.options, "com.docker.network.internal": spec.internal}
    changes = {"driver": spec.driver, "driver_options": options, "port_security_enabled": False}
    conn.execute(networks_table.update().where(networks_table.c.id == ident).values(changes))


def _check_options(options: Mapping[str, str]) -> None:
    """What a network of this cloud does not do is refused, not passed over."""
    for name, value in options.items():
        if name == MTU_OPTION:
            if not value.isdecimal() or not MTU_MIN <= int(value) <= MTU_MAX:
                raise Invalid(f"invalid value for option {name}: {value}", field="Options")
        elif name not in OPTIONS:
            raise Invalid(f"option {name} is not available in this cloud", field="Options")
        elif value not in OPTIONS[name]:
            known = " or ".join(repr(each) for each in OPTIONS[name])
            raise Invalid(f"option {name} can only be {known} in this cloud, not {value!r}", field="Options")


def tell(conn: sa.Connection, project_id: str, view: View, action: str, **extra: str) -> None:
    """An event of a network, as `docker events` shows it."""
    events.emit(conn, project_id, "network", action, view.docker_id, {"name": view.name, "type": view.driver, **extra})


def _make(conn: sa.Connection, ctx: Context, spec: NetworkSpec) -> str:
    """The network, its subnets, and the router's legs in them."""
    project = ctx.project_id or ""
    taken = _taken(conn, project)
    wanted = _complete(spec, taken)
    for each in wanted:
        cidr = ipaddress.ip_network(each.cidr)
        if any(cidr.version == other.version and cidr.overlaps(other) for other in taken):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
    values: Row = {"project_id": project, "name": spec.name}
    if spec.driver in DRIVERS and spec.options.get(MTU_OPTION, "").isdecimal():
        values["mtu"] = int(spec.options[MTU_OPTION])
    network = networks.create(conn, ctx, values)
    router_id = None if spec.internal or spec.driver not in DRIVERS else _router(conn, ctx)
    for each in wanted:
        subnet = subnets.create(conn, ctx, _subnet_values(project, network["id"], each, spec.internal))
        if router_id is not None:
            interfaces.add(conn, ctx, router_id, subnet_id=subnet["id"])
    return str(network["id"])


def _subnet_values(project_id: str, network_id: str, spec: SubnetSpec, internal: bool) -> Row:
    cidr = ipaddress.ip_network(spec.cidr)
    return {
        "project_id": project_id,
        "network_id": network_id,
        "ip_version": cidr.version,
        "cidr": str(cidr),
        "gateway_ip": None if internal else spec.gateway,
        "enable_dhcp": False,
        "allocation_pools": pools_of(spec),
    }


def _complete(spec: NetworkSpec, taken: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> list[SubnetSpec]:
    """The subnets asked for, and one of each IP version that is wanted and was not."""
    wanted = list(spec.subnets)
    versions = {ipaddress.ip_network(each.cidr).version for each in wanted}
    if spec.enable_ipv4 and 4 not in versions:
        wanted.insert(0, SubnetSpec.of(str(first_free(taken))))
    if spec.enable_ipv6 and 6 not in versions:
        unique = ipaddress.IPv6Network((b"\xfd" + secrets.token_bytes(7) + bytes(8), 64))
        wanted.append(SubnetSpec.of(str(unique)))
    return wanted


def _taken(conn: sa.Connection, project_id: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """What the project's own networks use already, and the outside that its router has a leg in."""
    found = conn.execute(
        sa.select(subnets_table.c.cidr)
        .join(networks_table, networks_table.c.id == subnets_table.c.network_id)
        .where(sa.or_(networks_table.c.project_id == project_id, networks_table.c.external, networks_table.c.shared))
    ).scalars()
    return [ipaddress.ip_network(cidr) for cidr in found]


def _router(conn: sa.Connection, ctx: Context) -> str | None:
    """The router of the project's Docker networks: the default network's, else one of our own. None in a cloud without an outside."""
    bridge = bridge_of(conn, ctx)
    found = _router_of_network(conn, bridge) if bridge else None
    if found is not None:
        return found
    own = sa.select(routers_table.c.id).where(
        routers_table.c.project_id == (ctx.project_id or ""),
        routers_table.c.name == ROUTER_NAME,
        routers_table.c.gateway_port_id.is_not(None),
    )
    found = conn.execute(own.limit(1)).scalar()
    if found is not None:
        return str(found)
    outside = conn.execute(
        sa.select(networks_table.c.id)
        .where(networks_table.c.external)
        .order_by(networks_table.c.is_default.desc(), networks_table.c.created_at)
        .limit(1)
    ).scalar()
    if outside is None:
        return None
    values = {
        "project_id": ctx.project_id,
        "name": ROUTER_NAME,
        "description": "Made for Docker's networks.",
        "external_gateway_info": {"network_id": outside},
    }
    return str(routers.create(conn, ctx, values)["id"])


def remove(conn: sa.Connection, ctx: Context, term: str) -> View:
    """Raises NotFound, and Forbidden for what is predefined, in use, or another project's."""
    view = find(conn, ctx, term)
    if view.predefined or view.id is None:
        raise Forbidden(f"{view.name} is a pre-defined network and cannot be removed")
    users = _users(conn, view.id)
    if users:
        named = ", ".join(f'name:"{name}" id:"{docker_id(ident)[:12]}"' for ident, name in users)
        raise Forbidden(f"error while removing network: network {view.name} has active endpoints ({named})")
    _remove(conn, ctx, view.id)
    tell(conn, ctx.project_id or "", view, "destroy")
    return view


def _users(conn: sa.Connection, network_id: str) -> list[tuple[str, str]]:
    """The servers with a port on the network: their ids and names."""
    return [
        (ident, name)
        for ident, name in conn.execute(
            sa.select(servers.c.id, servers.c.name)
            .join(ports_table, ports_table.c.device_id == servers.c.id)
            .where(ports_table.c.network_id == network_id)
            .order_by(servers.c.created_at)
        ).all()
    ]


def _remove(conn: sa.Connection, ctx: Context, network_id: str) -> None:
    legs = conn.execute(
        sa.select(ports_table.c.id, ports_table.c.device_id).where(
            ports_table.c.network_id == network_id, ports_table.c.device_owner == INTERFACE_OWNER
        )
    ).all()
    for port_id, router_id in legs:
        interfaces.remove(conn, ctx, router_id, port_id=port_id)
    networks.delete(conn, ctx, network_id)
    for router_id in {router_id for _, router_id in legs}:
        row = conn.execute(sa.select(routers_table).where(routers_table.c.id == router_id)).mappings().one()
        if row["name"] == ROUTER_NAME and not routers.interfaces(conn, router_id):
            routers.delete(conn, ctx, router_id)


def prune(conn: sa.Connection, ctx: Context, chosen: Iterable[str]) -> list[View]:
    """Remove those of the chosen (Networking's ids) that Docker made and nobody uses."""
    removed: list[View] = []
    made = set(
        conn.execute(
            sa.select(docker_networks.c.network_id).where(
                docker_networks.c.project_id == (ctx.project_id or ""), docker_networks.c.is_bridge.is_(False)
            )
        ).scalars()
    )
    for view in of_ids(conn, ctx.project_id or "", made & set(chosen)).values():
        if view.id is not None and not _users(conn, view.id):
            _remove(conn, ctx, view.id)
            tell(conn, ctx.project_id or "", view, "destroy")
            removed.append(view)
    return removed


def used_networks(conn: sa.Connection, network_ids: Iterable[str]) -> set[str]:
    """Those of the networks that a guest has a port on (Docker's `dangling` is about the others)."""
    select = sa.select(ports_table.c.network_id).where(ports_table.c.made_by_compute).distinct()
    return {row["network_id"] for row in rows_of(conn, select, ports_table.c.network_id, network_ids)}


def addresses_on(conn: sa.Connection, network_id: str, ctx: Context) -> list[Row]:
    """The project's guests on a network with their addresses, one row for each address."""
    return [
        dict(row)
        for row in conn.execute(
            sa.select(
                servers.c.id.label("server_id"),
                servers.c.name,
                servers.c.power,
                ports_table.c.id.label("port_id"),
                ports_table.c.mac_address,
                fixed_ips.c.address,
                subnets_table.c.cidr,
                subnets_table.c.ip_version,
            )
            .join(ports_table, ports_table.c.device_id == servers.c.id)
            .join(fixed_ips, fixed_ips.c.port_id == ports_table.c.id)
            .join(subnets_table, subnets_table.c.id == fixed_ips.c.subnet_id)
            .where(
                ports_table.c.network_id == network_id,
                servers.c.gone.is_(False),
                servers.c.project_id == (ctx.project_id or ""),
            )
            .order_by(servers.c.created_at, servers.c.id, fixed_ips.c.position)
        ).mappings()
    ]
