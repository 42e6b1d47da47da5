"""A container's networks: what its create asks for, what it shows of them, and its published ports.

The containers' operations call, each in its own transaction:

    plan(conn, ctx, name, host_config, networking_config)     before the server is made: its network requests
    link_hosts(conn, ctx, host_config)                        HostConfig.Links as lines for /etc/hosts
    joined(conn, ctx, server_id)                              after the server is made: the short id becomes an alias too
    publish(conn, ctx, server_id, config, host_config)        at start; raises "port is already allocated" (500)
    unpublish(conn, server_ids)                               when it has stopped (a delete gives the ports back by itself)
    renamed(conn, server_id, old, new)
    endpoints(conn, ctx, server_ids)                          for inspect and list
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.containers import lookup, networks
from nacre.cloud.containers.networks import View
from nacre.cloud.containers.publishing import check_place, place_of, wanted_ports
from nacre.cloud.context import Context
from nacre.cloud.errors import CloudError, Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.hosts.desired import mark
from nacre.cloud.network import forwards, ipam, marks, walls
from nacre.cloud.network import servers as network_servers
from nacre.cloud.network.common import chosen, grouped, rows_among, rows_of
from nacre.cloud.network.ports import release_published
from nacre.cloud.network.servers import NetworkRequest
from nacre.cloud.network.tables import fixed_ips, subnets
from nacre.cloud.network.tables import ports as ports_table
from nacre.cloud.volumes.placing import host_has_plugin

SHORT_ID_LENGTH = 12
ALIASES_MAX = 64
LINKS_MAX = 64


class Plan(Struct, kw_only=True):
    """How a container is to be on the network."""

    network: Literal["ports", "none", "guest", "host"]
    """As in protocol.containers.Container."""
    requests: list[NetworkRequest] | Literal["none"] = "none"
    """For ServerSpec.networks."""
    network_of: str = ""
    """The id of the server whose network it shares."""
    host_id: str | None = None
    """The host that it must be on for that."""


class Published(Struct, frozen=True):
    protocol: str
    internal_port: int
    host_ip: str
    """Empty: all addresses of the host."""
    host_port: int


class Endpoint(Struct, kw_only=True):
    """One network that a container is in."""

    network: View
    port_id: str
    mac: str
    aliases: tuple[str, ...]
    links: tuple[str, ...]
    """As they were asked for."""
    addresses: dict[int, tuple[str, int]]
    """By IP version the address and the prefix length."""
    gateways: dict[int, str]
    published: tuple[Published, ...] = ()

    @property
    def endpoint_id(self) -> str:
        return networks.docker_id(self.port_id)


def plan(
    conn: sa.Connection,
    ctx: Context,
    name: str,
    host_config: Mapping[str, Any],
    networking_config: Mapping[str, Any],
) -> Plan:
    """What `HostConfig.NetworkMode` and `NetworkingConfig.EndpointsConfig` ask for. Raises NotFound, Invalid, Conflict with Docker's words."""
    mode = str(host_config.get("NetworkMode") or "default")
    # What can never be published is said at once, not at the start.
    check_place(place_of(conn, ctx, ctx.project_id or ""), wanted_ports({}, host_config))
    asked: dict[str, Any] = dict(networking_config.get("EndpointsConfig") or {})
    if mode in ("none", "host"):
        others = [each for each in asked if each != mode]
        if others:
            raise Invalid(f"conflicting options: cannot attach both user-defined and non-user-defined network-modes: {others[0]}")
        return Plan(network="none" if mode == "none" else "host")
    if mode.startswith("container:"):
        return _shared(conn, ctx, mode.partition(":")[2], host_config)
    first = networks.find(conn, ctx, mode)
    found: dict[str, tuple[View, Mapping[str, Any]]] = {}
    for term, settings in asked.items():
        view = networks.find(conn, ctx, term)
        if view.id is not None:
            found[view.id] = (view, settings or {})
    if first.id is None:
        raise Invalid(f"network {mode} cannot be joined by name: use --network {first.name}")
    chosen = [found.pop(first.id, (first, {})), *found.values()]
    if all(view.plugin for view, _ in chosen) and (host_config.get("PortBindings") or host_config.get("PublishAllPorts")):
        raise _unpublishable(chosen[0][0])
    return Plan(network="ports", requests=[request(conn, ctx, view, settings, name) for view, settings in chosen])


def _unpublishable(view: View) -> Invalid:
    return Invalid(
        f"ports are not published from network {view.name}: its driver {view.plugin} is in charge of what leads there",
        field="PortBindings",
    )


def _shared(conn: sa.Connection, ctx: Context, ref: str, host_config: Mapping[str, Any]) -> Plan:
    for option, words in (("PortBindings", "port publishing"), ("Links", "links"), ("PublishAllPorts", "port publishing")):
        if host_config.get(option):
            raise Invalid(f"conflicting options: {words} and the container type network mode")
    other = lookup.find(conn, ctx, ref)
    if other["gone"] or other["host_id"] is None:
        raise Conflict(f"cannot join network of a non running container: {lookup.docker_id(other['id'])}")
    return Plan(network="guest", network_of=other["id"], host_id=other["host_id"])


def request(conn: sa.Connection, ctx: Context, view: View, settings: Mapping[str, Any], name: str) -> NetworkRequest:
    """One endpoint's settings (`EndpointSettings`) as a request for a port, checked."""
    assert view.id is not None
    given = settings.get("IPAMConfig") or {}
    addresses = [text for text in (given.get("IPv4Address"), given.get("IPv6Address")) if text]
    aliases = [str(alias) for alias in settings.get("Aliases") or ()]
    if len(aliases) > ALIASES_MAX:
        raise Invalid(f"an endpoint has at most {ALIASES_MAX} aliases")
    if view.predefined and addresses:
        raise Invalid("user specified IP address is supported on user defined networks only")
    if view.predefined and aliases:
        raise Invalid("network-scoped aliases are only supported for user-defined networks")
    for text in addresses:
        _check_address(view, text)
    mac = settings.get("MacAddress")
    _refuse_unavailable(settings, given)
    return NetworkRequest(
        network_id=view.id,
        fixed_ips=tuple(addresses),
        mac_address=ipam.normal_mac(str(mac)) if mac else None,
        aliases=tuple(dict.fromkeys((name, *aliases))) if name else tuple(dict.fromkeys(aliases)),
        links=_links(conn, ctx, settings.get("Links") or ()),
        security_groups=() if view.plugin else (walls.ensure_wall(conn, view.id, view.name),),
        driver=view.plugin,
    )


def _refuse_unavailable(settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """What an endpoint cannot have in this cloud is said, not passed over."""
    for field, value in (
        ("DriverOpts", settings.get("DriverOpts")),
        ("GwPriority", settings.get("GwPriority")),
        ("IPAMConfig.LinkLocalIPs", given.get("LinkLocalIPs")),
    ):
        if value:
            raise Invalid(f"invalid endpoint settings: {field} is not available in this cloud", field=field)


def _links(conn: sa.Connection, ctx: Context, asked: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
    """CONTAINER[:ALIAS] as names of the endpoint's own. A container that is not there yet is meant by its name, as the engine does."""
    found: dict[str, tuple[str, str, str]] = {}
    for text in asked:
        ref, _, alias = str(text).partition(":")
        ref, alias = ref.strip("/"), alias.rpartition("/")[2]
        if not ref:
            raise Invalid(f"bad format for links: {text}", field="Links")
        try:
            target = lookup.docker_id(lookup.find(conn, ctx, ref)["id"])[:SHORT_ID_LENGTH]
        except NotFound:
            target = ref
        found[(alias or ref).lower()] = ((alias or ref).lower(), target, str(text))
    if len(found) > LINKS_MAX:
        raise Invalid(f"an endpoint has at most {LINKS_MAX} links", field="Links")
    return tuple(found.values())


def _check_address(view: View, text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f"invalid IP address: {text}") from None
    inside = any(
        address.version == subnet["ip_version"] and address in ipaddress.ip_network(subnet["cidr"]) for subnet in view.subnets
    )
    if not view.own_pool:
        raise Invalid("user specified IP address is supported only when connecting to networks with user configured subnets")
    if not inside:
        raise Invalid(
            f"invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {text}", field="IPAMConfig"
        )


def joined(conn: sa.Connection, ctx: Context, server_id: str) -> None:
    """A new container is also known by its short id, as every Docker user expects."""
    short = lookup.docker_id(server_id)[:SHORT_ID_LENGTH]
    _rename_aliases(conn, server_id, lambda aliases: [*aliases, *([] if short in aliases else [short])])


def renamed(conn: sa.Connection, server_id: str, old: str, new: str) -> None:
    _rename_aliases(conn, server_id, lambda aliases: list(dict.fromkeys(new if alias == old else alias for alias in aliases)))


def _rename_aliases(conn: sa.Connection, server_id: str, change: Any) -> None:
    gathered = marks.Marks()
    for row in conn.execute(sa.select(ports_table).where(ports_table.c.device_id == server_id)).mappings().all():
        after = change(list(row["aliases"]))
        if after != row["aliases"]:
            conn.execute(ports_table.update().where(ports_table.c.id == row["id"]).values(aliases=after))
            marks.changed(conn, gathered, dict(row))
    gathered.flush(conn)


def link_hosts(conn: sa.Connection, ctx: Context, host_config: Mapping[str, Any]) -> tuple[str, ...]:
    """`HostConfig.Links` (CONTAINER[:ALIAS]) as name:address lines: the alias, the name and the short id. Raises NotFound, Invalid."""
    lines: list[str] = []
    for link in host_config.get("Links") or ():
        ref, _, alias = str(link).partition(":")
        other = lookup.find(conn, ctx, ref.strip("/").partition("/")[0])
        names = dict.fromkeys(
            (alias.rpartition("/")[2] or other["name"], lookup.docker_id(other["id"])[:SHORT_ID_LENGTH], other["name"])
        )
        for endpoint in endpoints(conn, ctx, [other["id"]])[other["id"]][:1]:
            lines += [f"{name}:{address}" for name in names for address, _ in endpoint.addresses.values()]
    return tuple(lines)


_OF_DEVICES = chosen(
    sa.select(ports_table).order_by(ports_table.c.position, ports_table.c.created_at, ports_table.c.id), ports_table.c.device_id
)
_HELD_BY = chosen(
    sa.select(fixed_ips.c.port_id, fixed_ips.c.address, subnets.c.cidr, subnets.c.ip_version, subnets.c.gateway_ip)
    .join(subnets, subnets.c.id == fixed_ips.c.subnet_id)
    .order_by(fixed_ips.c.position),
    fixed_ips.c.port_id,
)


def endpoints(conn: sa.Connection, ctx: Context, server_ids: Iterable[str]) -> dict[str, list[Endpoint]]:
    """The networks of each server, in the order of its interfaces: five statements for any number of servers."""
    ids = list(server_ids)
    rows = rows_among(conn, _OF_DEVICES, ids)
    port_ids = [row["id"] for row in rows]
    addresses = grouped(rows_among(conn, _HELD_BY, port_ids), "port_id")
    published = forwards.of_ports(conn, port_ids)
    views = networks.of_ids(conn, ctx.project_id or "", {row["network_id"] for row in rows})
    found: dict[str, list[Endpoint]] = {ident: [] for ident in ids}
    for row in rows:
        found[row["device_id"]].append(
            _endpoint(row, views[row["network_id"]], addresses.get(row["id"], []), published.get(row["id"], []))
        )
    return found


def _endpoint(row: Row, view: View, held: list[Row], published: list[Row]) -> Endpoint:
    first: dict[int, Row] = {}
    for each in held:
        first.setdefault(each["ip_version"], each)
    return Endpoint(
        network=view,
        port_id=row["id"],
        mac=row["mac_address"],
        aliases=tuple(row["aliases"]),
        links=tuple(text for _, _, text in row["links"]),
        addresses={version: (each["address"], ipaddress.ip_network(each["cidr"]).prefixlen) for version, each in first.items()},
        gateways={version: each["gateway_ip"] for version, each in first.items() if each["gateway_ip"]},
        published=tuple(
            Published(
                each["protocol"], each["internal_port"], each["host_address"] or each["external_address"], each["external_port"]
            )
            for each in published
        ),
    )


def publish(conn: sa.Connection, ctx: Context, server_id: str, config: Mapping[str, Any], host_config: Mapping[str, Any]) -> None:
    """Claim the ports that the container publishes, of the host or of a floating IP; those of an earlier start are given back first.

    Raises CloudError (500, as Docker has it) when one is another's, or no router leads out of the container's networks, and what
    taking a floating IP raises.
    """
    place = place_of(conn, ctx, ctx.project_id or "")
    wanted = wanted_ports(config, host_config)
    found = endpoints(conn, ctx, [server_id])[server_id]
    unpublish(conn, [server_id])
    if not wanted or not found:
        return
    check_place(place, wanted)
    name = str(conn.execute(sa.select(servers.c.name).where(servers.c.id == server_id)).scalar() or server_id)
    ours = [each for each in found if not each.network.plugin]
    if not ours:
        raise _unpublishable(found[0].network)
    outward = next((each for each in ours if each.gateways and not each.network.internal), ours[0])
    # What an earlier start has published elsewhere is of no use any more.
    release_published(conn, [each.port_id for each in found if place == "host" or each is not outward])
    try:
        forwards.publish(conn, ctx.project_id or "", outward.port_id, wanted, floating=place == "floating")
    except CloudError as error:
        if type(error) is not CloudError and not isinstance(error, forwards.PortTaken):
            raise
        text = f"driver failed programming external connectivity on endpoint {name} ({outward.endpoint_id}): {error.message}"
        raise CloudError(text, code=error.code) from None


def unpublish(conn: sa.Connection, server_ids: Iterable[str]) -> None:
    """Give the ports back; a floating IP stays the container's until it goes. Harmless for containers that have none."""
    select = sa.select(ports_table.c.id)
    forwards.unpublish(conn, [row["id"] for row in rows_of(conn, select, ports_table.c.device_id, server_ids)])


def connect(conn: sa.Connection, ctx: Context, server: Row, term: str, settings: Mapping[str, Any]) -> View:
    """`docker network connect`: one more port, now if the container runs, else at its start. Raises with Docker's words."""
    view = networks.find(conn, ctx, term)
    if view.id is None:
        word = "host" if view.name == "host" else "private"
        raise Forbidden(f"container cannot be connected to {word} network {view.name}")
    _check_connectable(conn, server)
    if any(each.network.id == view.id for each in endpoints(conn, ctx, [server["id"]])[server["id"]]):
        raise Forbidden(f"endpoint with name {server['name']} already exists in network {view.name}")
    if view.plugin and not host_has_plugin(conn, server["host_id"], view.plugin):
        raise Conflict(
            f'network {view.name} needs the network plugin "{view.plugin}", which the host of container {server["name"]} does not have'
        )
    short = lookup.docker_id(server["id"])[:SHORT_ID_LENGTH]
    wanted = request(conn, ctx, view, {**settings, "Aliases": [*(settings.get("Aliases") or ())]}, server["name"])
    wanted.aliases = tuple(dict.fromkeys((*wanted.aliases, short)))
    (resolved,) = network_servers.resolve(conn, ctx, [wanted])
    try:
        network_servers.allocate(
            conn,
            ctx,
            server_id=server["id"],
            project_id=server["project_id"],
            hostname=server["hostname"],
            host_id=server["host_id"],
            requests=[resolved],
            security_groups=[],
        )
    except Conflict as error:
        raise Forbidden("Address already in use" if error.code == "IpAddressAlreadyAllocated" else error.message) from None
    mark(conn, server["host_id"], "guest", server["id"])
    networks.tell(conn, ctx.project_id or "", view, "connect", container=lookup.docker_id(server["id"]))
    return view


def _check_connectable(conn: sa.Connection, server: Row) -> None:
    container = server.get("container") or {}
    mode = str((container.get("host_config") or {}).get("NetworkMode") or "")
    if mode.startswith("container:"):
        raise Invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if mode == "host":
        raise Invalid("container cannot be disconnected from host network or connected to another network")
    if server["gone"] or server["host_id"] is None:
        raise Conflict(
            f"container {lookup.docker_id(server['id'])} is marked for removal and cannot be connected or disconnected to the network"
        )


def disconnect(conn: sa.Connection, ctx: Context, server: Row, term: str) -> View:
    """`docker network disconnect`. Raises NotFound, and Forbidden when the container is not in the network."""
    view = networks.find(conn, ctx, term)
    _check_connectable(conn, server)
    found = [each for each in endpoints(conn, ctx, [server["id"]])[server["id"]] if each.network.id == view.id]
    if not found:
        raise Forbidden(f"container {lookup.docker_id(server['id'])} is not connected to network {view.name}")
    for each in found:
        network_servers.detach(conn, ctx, server["id"], each.port_id)
    mark(conn, server["host_id"], "guest", server["id"])
    networks.tell(conn, ctx.project_id or "", view, "disconnect", container=lookup.docker_id(server["id"]))
    return view
