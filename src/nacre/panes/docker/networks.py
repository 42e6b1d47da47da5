"""Networks: https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Network."""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.containers import lookup, networking, networks
from nacre.cloud.containers.ipam import SubnetSpec
from nacre.cloud.containers.networks import NetworkSpec, View
from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid
from nacre.panes.docker import filters
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import parse as parse_time
from nacre.store.schema import now

FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")
TYPES = {"builtin": True, "custom": False}
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class AddressPlan(
    Struct, rename={"subnet": "Subnet", "ip_range": "IPRange", "gateway": "Gateway", "auxiliary": "AuxiliaryAddresses"}
):
    """One of `IPAM.Config`."""

    subnet: str | None = None
    ip_range: str | None = None
    gateway: str | None = None
    auxiliary: dict[str, str] | None = None


class Plan(Struct, rename="pascal"):
    driver: str | None = None
    options: dict[str, str] | None = None
    config: list[AddressPlan] | None = None


class NetworkCreate(
    Struct,
    rename={
        "name": "Name",
        "driver": "Driver",
        "scope": "Scope",
        "internal": "Internal",
        "attachable": "Attachable",
        "ingress": "Ingress",
        "config_only": "ConfigOnly",
        "config_from": "ConfigFrom",
        "ipam": "IPAM",
        "enable_ipv4": "EnableIPv4",
        "enable_ipv6": "EnableIPv6",
        "options": "Options",
        "labels": "Labels",
    },
):
    """POST /networks/create. Keys that the API does not have are passed over, as the engine does."""

    name: str
    driver: str | None = None
    scope: str | None = None
    internal: bool | None = None
    attachable: bool | None = None
    ingress: bool | None = None
    config_only: bool | None = None
    config_from: dict[str, Any] | None = None
    ipam: Plan | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Connect(Struct, rename="pascal"):
    container: str
    endpoint_config: dict[str, Any] | None = None


class Disconnect(Struct, rename="pascal"):
    container: str
    force: bool | None = None


class EndpointIpam(Struct, rename={"ipv4": "IPv4Address", "ipv6": "IPv6Address", "link_local": "LinkLocalIPs"}):
    ipv4: str | None = None
    ipv6: str | None = None
    link_local: list[str] | None = None


class EndpointSettings(
    Struct,
    rename={
        "ipam": "IPAMConfig",
        "aliases": "Aliases",
        "links": "Links",
        "mac": "MacAddress",
        "driver_opts": "DriverOpts",
        "gateway_priority": "GwPriority",
    },
):
    """What of an endpoint's settings a client may choose."""

    ipam: EndpointIpam | None = None
    aliases: list[str] | None = None
    links: list[str] | None = None
    mac: str | None = None
    driver_opts: dict[str, str] | None = None
    gateway_priority: int | None = None


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def summary(view: View) -> dict[str, Any]:
    """A network as a list shows it."""
    return {
        "Name": view.name,
        "Id": view.docker_id,
        "Created": _time(view.created_at),
        "Scope": view.scope,
        "Driver": view.driver,
        "EnableIPv4": view.id is None or view.has(4),
        "EnableIPv6": view.has(6),
        "IPAM": {
            "Driver": "default",
            "Options": view.ipam.get("options") or None,
            "Config": [_config(view, s) for s in view.subnets],
        },
        "Internal": view.internal,
        "Attachable": view.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": view.options,
        "Labels": view.labels,
    }


def _config(view: View, subnet: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {"Subnet": subnet["cidr"]}
    ip_range = view.ipam.get("ranges", {}).get(subnet["cidr"])
    auxiliary = view.ipam.get("auxiliary", {}).get(subnet["cidr"])
    if ip_range:
        shown["IPRange"] = ip_range
    if subnet["gateway_ip"]:
        shown["Gateway"] = subnet["gateway_ip"]
    if auxiliary:
        shown["AuxiliaryAddresses"] = auxiliary
    return shown


def _attached(rows: Iterable[Row]) -> dict[str, dict[str, str]]:
    """`Containers`: those with a port on the network, by Docker's id."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = found.setdefault(
            lookup.docker_id(row["server_id"]),
            {
                "Name": row["name"],
                "EndpointID": networks.docker_id(row["port_id"]),
                "MacAddress": row["mac_address"],
                "IPv4Address": "",
                "IPv6Address": "",
            },
        )
        length = ipaddress.ip_network(row["cidr"]).prefixlen
        shown[f"IPv{row['ip_version']}Address"] = shown[f"IPv{row['ip_version']}Address"] or f"{row['address']}/{length}"
    return found


async def _known(call: Call) -> list[View]:
    """All the project's networks; its default network is made when it is first looked for."""
    if await call.read(networks.bridge_of) is None:
        await call.write(networks.ensure_bridge)
    return await call.read(networks.views)


async def index(call: Call) -> Reply:
    wanted = filters.parse(call, FILTERS)
    found = [view for view in await _known(call) if _matches(view, wanted)]
    for text in wanted.get("dangling", ()):
        if text not in BOOLEANS:
            raise Invalid(f"invalid filter 'dangling=[{text}]'")
        used = await call.read(_used, [view.id for view in found if view.id])
        found = [view for view in found if not view.predefined and (view.id not in used) == BOOLEANS[text]]
    return Reply([summary(view) for view in found])


def _used(conn: sa.Connection, ctx: Context, ids: list[str]) -> set[str]:
    return networks.used_networks(conn, ids)


def _matches(view: View, wanted: filters.Filters) -> bool:
    kinds = wanted.get("type", ())
    for kind in kinds:
        if kind not in TYPES:
            raise Invalid(f"invalid filter: 'type'='{kind}'")
    return (
        ("name" not in wanted or any(text in view.name for text in wanted["name"]))
        and ("id" not in wanted or any(view.docker_id.startswith(text) for text in wanted["id"]))
        and ("driver" not in wanted or view.driver in wanted["driver"])
        and ("scope" not in wanted or view.scope in wanted["scope"])
        and (not kinds or any(TYPES[kind] == view.predefined for kind in kinds))
        and filters.labels_match(view.labels, wanted.get("label", ()))
    )


async def _find(call: Call) -> View:
    term = call.path["id"]
    if term in ("bridge", "default"):
        await _known(call)
    return await call.read(networks.find, term)


async def show(call: Call) -> Reply:
    view = await _find(call)
    shown = summary(view)
    if view.id is not None:
        shown["Containers"] = _attached(await call.read(_attached_rows, view.id))
    return Reply(shown)


def _attached_rows(conn: sa.Connection, ctx: Context, network_id: str) -> list[Row]:
    return [row for row in networks.addresses_on(conn, network_id, ctx) if row["power"] != "stopped"]


def spec_of(body: NetworkCreate) -> NetworkSpec:
    """Raises Invalid for what an engine outside of swarm mode, or this cloud, does not have."""
    if body.ingress:
        raise Invalid("Ingress network can only be created in a swarm")
    if body.config_only or (body.config_from and body.config_from.get("Network")):
        raise Invalid("configuration-only networks are not supported")
    plan = body.ipam or Plan()
    if plan.driver not in (None, "", "default"):
        raise Invalid(f'plugin "{plan.driver}" not found')
    return NetworkSpec(
        name=body.name,
        driver=body.driver or networks.BRIDGE,
        internal=bool(body.internal),
        attachable=bool(body.attachable),
        enable_ipv4=body.enable_ipv4 is not False,
        enable_ipv6=bool(body.enable_ipv6),
        subnets=tuple(
            SubnetSpec.of(each.subnet, each.gateway or "", each.ip_range or "", each.auxiliary)
            for each in plan.config or ()
            if each.subnet
        ),
        ipam_options=plan.options or {},
        options=body.options or {},
        labels=body.labels or {},
    )


async def create(call: Call) -> Reply:
    spec = spec_of(await call.body(NetworkCreate))
    view = await call.write(networks.create, spec)
    return Reply({"Id": view.docker_id, "Warning": ""}, 201)


async def remove(call: Call) -> Reply:
    await call.write(networks.remove, call.path["id"])
    return Reply(status=204)


async def connect(call: Call) -> Reply:
    body = await call.body(Connect)
    settings = body.endpoint_config or {}
    try:
        msgspec.convert(settings, EndpointSettings)
    except msgspec.ValidationError as error:
        raise Invalid(f"invalid endpoint settings: {error}") from None
    await call.write(_connect, call.path["id"], body.container, settings)
    return Reply(status=200)


def _connect(conn: sa.Connection, ctx: Context, term: str, container: str, settings: dict[str, Any]) -> None:
    networking.connect(conn, ctx, lookup.find(conn, ctx, container), term, settings)


async def disconnect(call: Call) -> Reply:
    body = await call.body(Disconnect)
    await call.write(_disconnect, call.path["id"], body.container)
    return Reply(status=200)


def _disconnect(conn: sa.Connection, ctx: Context, term: str, container: str) -> None:
    networking.disconnect(conn, ctx, lookup.find(conn, ctx, container), term)


async def prune(call: Call) -> Reply:
    wanted = filters.parse(call, PRUNE_FILTERS)
    before = filters.until(wanted.get("until", ()), now(), lambda text: parse_time(text, "until"))
    chosen = [
        view.id
        for view in await call.read(networks.views)
        if view.id
        and filters.labels_match(view.labels, wanted.get("label", ()))
        and not any(filters.labels_match(view.labels, [text]) for text in wanted.get("label!", ()))
        and (before is None or view.created_at < before)
    ]
    removed = await call.write(networks.prune, chosen)
    return Reply({"NetworksDeleted": [view.name for view in removed] or None})


ROUTES: tuple[Route, ...] = (
    Route("GET", "/networks", index, "docker:read", "List networks"),
    Route("POST", "/networks/create", create, "docker:networks", "Create a network"),
    Route("POST", "/networks/prune", prune, "docker:networks", "Remove the networks that nobody uses"),
    Route("GET", "/networks/{id}", show, "docker:read", "Inspect a network"),
    Route("POST", "/networks/{id}/connect", connect, "docker:networks", "Connect a container"),
    Route("POST", "/networks/{id}/disconnect", disconnect, "docker:networks", "Disconnect a container"),
    Route("DELETE", "/networks/{id}", remove, "docker:networks", "Remove a network"),
)
