"""Docker's network plugins on this host: libnetwork's remote driver protocol, as the engine speaks it (libnetwork, "Remote Drivers").

Every answer is looked at before anything of it is believed. A method that came later than the protocol may be missing (404).
"""

import hashlib
import ipaddress
import logging
import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from nacre.node.volumes.plugins import Address, Found, NotSupported
from nacre.protocol.networks import Network, Port

SCOPES = ("local", "global")
PREFIX = "com.docker.network"
ADDRESS_SPACE = "LocalDefault"
ROUTES_MAX = 256
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
"""An interface's name, as the kernel takes it (IFNAMSIZ)."""

log = logging.getLogger("nacre.node")


class Route(Struct, frozen=True):
    destination: str
    """In CIDR form."""
    nexthop: str | None
    """None: it is on the link."""


class Joined(Struct, frozen=True):
    """What a Join says of the interface that the plugin has made in the host's namespace."""

    source: str
    name: str
    """What it is called in the container."""
    gateways: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()


class _InterfaceName(Struct, rename="pascal"):
    src_name: str
    dst_prefix: str = ""
    dst_name: str = ""


class _StaticRoute(Struct, rename="pascal"):
    destination: str
    route_type: int = 0
    next_hop: str = ""


class _Join(Struct, rename={"interface": "InterfaceName", "v4": "Gateway", "v6": "GatewayIPv6", "routes": "StaticRoutes"}):
    interface: _InterfaceName
    v4: str | None = None
    v6: str | None = None
    routes: list[_StaticRoute] | None = None


class NetworkPlugins(Found):
    """The calls, each with its end (see `Found`). They raise Refused with the plugin's words, any other OSError where no answer came."""

    implements, kind = "NetworkDriver", "network plugin"

    async def _met(self, plugin: str, address: Address) -> None:
        try:
            reply = await self._post(plugin, address, "NetworkDriver.GetCapabilities", {}, self._timeout_s)
        except NotSupported:
            return
        scope = reply.get("Scope") or SCOPES[0]
        if scope not in SCOPES:
            raise OSError(f"network plugin {plugin}: its scope is {scope!r}, which is neither local nor global")
        log.info("network plugin %s has scope %s", plugin, scope)

    async def _ask(self, plugin: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._call(plugin, f"NetworkDriver.{method}", body, self._timeout_s)

    async def create_network(self, network: Network) -> None:
        by_version: dict[int, list[dict[str, Any]]] = {4: [], 6: []}
        for subnet in network.subnets:
            pool: dict[str, Any] = {"AddressSpace": ADDRESS_SPACE, "Pool": subnet.cidr}
            if subnet.gateway_ip:
                pool["Gateway"] = f"{subnet.gateway_ip}/{ipaddress.ip_network(subnet.cidr).prefixlen}"
            by_version[subnet.version].append(pool)
        enabled = {f"{PREFIX}.enable_ipv{version}": bool(pools) for version, pools in by_version.items()}
        options = {**network.driver_options, **enabled}
        data = {"IPv4Data": by_version[4], "IPv6Data": by_version[6]}
        await self._ask(network.driver, "CreateNetwork", {"NetworkID": long_id(network.id), "Options": options, **data})

    async def delete_network(self, network: Network) -> None:
        await self._ask(network.driver, "DeleteNetwork", {"NetworkID": long_id(network.id)})

    async def create_endpoint(self, network: Network, port: Port) -> None:
        """With the addresses that the cloud gave. A plugin that answers with others is in the wrong: ValueError."""
        given = dict(zip(("Address", "AddressIPv6"), (first(network, port, 4), first(network, port, 6)), strict=True))
        interface = {"MacAddress": port.mac, **{name: text or "" for name, text in given.items()}}
        options: dict[str, Any] = {f"{PREFIX}.endpoint.exposedports": [], f"{PREFIX}.portmap": []}
        body = {**_ids(network, port), "Options": options, "Interface": interface}
        reply = (await self._ask(network.driver, "CreateEndpoint", body)).get("Interface") or {}
        named = {name: value for name, value in reply.items() if value} if isinstance(reply, dict) else reply
        if named:
            raise ValueError(f"network plugin {network.driver}: it wants {named} for an interface whose addresses were given")

    async def join(self, network: Network, port: Port, sandbox: str, taken: Collection[str]) -> Joined:
        """`taken` are names in the guest: the first number that is free completes the one that the plugin begins.

        Raises ValueError for an answer that makes no sense.
        """
        reply = await self._ask(network.driver, "Join", {**_ids(network, port), "SandboxKey": sandbox, "Options": {}})
        try:
            return _joined(msgspec.convert(reply, _Join), taken)
        except (msgspec.ValidationError, ValueError) as error:
            raise ValueError(f"network plugin {network.driver}: its answer to Join makes no sense: {error}") from None

    async def look(self, network: Network, port: Port) -> None:
        """What it says of the endpoint is for an operator's log."""
        try:
            reply = await self._ask(network.driver, "EndpointOperInfo", _ids(network, port))
        except OSError as error:
            log.info("port %s: %s", port.id, error)
        else:
            log.info("port %s: network plugin %s says %r", port.id, network.driver, reply.get("Value") or {})

    async def leave(self, network: Network, port: Port) -> None:
        await self._ask(network.driver, "Leave", _ids(network, port))

    async def delete_endpoint(self, network: Network, port: Port) -> None:
        await self._ask(network.driver, "DeleteEndpoint", _ids(network, port))


def _ids(network: Network, port: Port) -> dict[str, Any]:
    return {"NetworkID": long_id(network.id), "EndpointID": long_id(port.id)}


def long_id(ident: str) -> str:
    """As Docker's clients see it (`cloud.containers.lookup.docker_id`): 64 hex digits that begin with the UUID's."""
    plain = ident.replace("-", "")
    return plain + hashlib.sha256(plain.encode()).hexdigest()[: 64 - len(plain)]


def addresses(network: Network, port: Port) -> Iterable[str]:
    """The port's, with the prefix lengths of their subnets."""
    lengths = {subnet.id: ipaddress.ip_network(subnet.cidr).prefixlen for subnet in network.subnets}
    return [f"{ip.address}/{lengths[ip.subnet_id]}" for ip in port.fixed_ips if ip.subnet_id in lengths]


def first(network: Network, port: Port, version: int) -> str | None:
    """The first address of that IP version, in CIDR form."""
    return next((text for text in addresses(network, port) if ipaddress.ip_interface(text).version == version), None)


def _joined(reply: _Join, taken: Collection[str]) -> Joined:
    source, prefix = reply.interface.src_name, reply.interface.dst_prefix
    numbered = (f"{prefix}{number}" for number in range(len(taken) + 1))
    name = reply.interface.dst_name or next(name for name in numbered if name not in taken)
    for text in (source, name):
        if not _NAME.fullmatch(text) or text in (".", ".."):
            raise ValueError(f"{text!r} is not the name of an interface")
    if not reply.interface.dst_name and not reply.interface.dst_prefix:
        raise ValueError("it says neither DstPrefix nor DstName")
    routes = reply.routes or []
    if len(routes) > ROUTES_MAX:
        raise ValueError(f"it has more than {ROUTES_MAX} static routes")
    gateways = tuple(str(ipaddress.ip_address(text)) for text in (reply.v4, reply.v6) if text)
    return Joined(source, name, gateways, tuple(_route(route) for route in routes))


def _route(route: _StaticRoute) -> Route:
    destination = str(ipaddress.ip_network(route.destination, strict=False))
    return Route(destination, str(ipaddress.ip_address(route.next_hop)) if route.route_type == 0 else None)
