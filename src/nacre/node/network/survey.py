"""What of a cloud is on this host, found by looking at the kernel; and its removal without a trace."""

import asyncio
import contextlib
from collections.abc import Iterator

from nacre.node.config import NodeConfig
from nacre.node.network import names, namespaces, rtnl, sysctls
from nacre.node.network.host import HostPlane
from nacre.node.network.nft import Nft
from nacre.protocol.messages import Holding, Kind


def survey(cloud_id: str) -> list[Holding]:
    """Runs in a thread that may enter namespaces."""
    found: list[Holding] = []
    for name in namespaces.pinned(names.prefix(cloud_id)):
        parsed = names.parse_namespace(cloud_id, name)
        if parsed is None:
            continue
        kind: Kind = "network" if parsed[0] == "network" else "router"
        found.append(Holding(kind, parsed[1], "namespace", name))
        with contextlib.closing(namespaces.ensure(name)) as namespace:
            found += _links(cloud_id, kind, parsed[1], namespace)
            found += _rules(cloud_id, kind, parsed[1], namespace.nft)
    with contextlib.closing(namespaces.Namespace(None)) as host:
        for link in rtnl.links(host.route).values():
            if link.name.startswith(names.prefix(cloud_id)):
                found.append(Holding("network", link.alias, "link", link.name))
        found += _rules(cloud_id, "network", "", host.nft)
    return found


def _links(cloud_id: str, kind: Kind, thing_id: str, namespace: namespaces.Namespace) -> Iterator[Holding]:
    links = rtnl.links(namespace.route)
    by_index = {link.index: link for link in links.values()}
    for link in links.values():
        if kind == "network" and link.kind == "veth" and link.alias and link.alias != thing_id:
            yield Holding("port", link.alias, "link", link.name)
        elif link.name != "lo":
            yield Holding(kind, thing_id, "link", link.name)
    for index, cidr in sorted(rtnl.addresses(namespace.route)):
        if kind == "router" and by_index[index].name.startswith(names.prefix(cloud_id)) and not cidr.startswith("fe80:"):
            yield Holding(kind, thing_id, "address", cidr)


def _rules(cloud_id: str, kind: Kind, thing_id: str, nft: Nft) -> Iterator[Holding]:
    """Our tables; and of a network's guard the ports that it lets speak, which their elements' comments name."""
    for item in nft.read("list tables"):
        table = item.get("table")
        if table is None or table["name"] != names.table(cloud_id):
            continue
        yield Holding(kind, thing_id, "rule", f"{table['family']} {table['name']}")
        if table["family"] != "bridge":
            continue
        for found in nft.read(f"list map bridge {table['name']} marks"):
            for element in found.get("map", {}).get("elem", []):
                key = element[0].get("elem", {}) if isinstance(element[0], dict) else {}
                yield Holding("port", key.get("comment", ""), "rule", str(key.get("val", element[0])))


def _purge(cloud_id: str) -> None:
    for kind in ("router", "network"):
        for name in namespaces.pinned(names.prefix(cloud_id)):
            parsed = names.parse_namespace(cloud_id, name)
            if parsed is None or parsed[0] != kind:
                continue
            with contextlib.closing(namespaces.ensure(name)) as namespace:
                doomed = [link for link in rtnl.links(namespace.route).values() if link.name != "lo"]
                namespace.route.request([*(rtnl.doom(link.index, link.name) for link in doomed), rtnl.delete_doomed()])
            namespaces.remove(name)
    with contextlib.closing(HostPlane(cloud_id)) as host:
        host.forget_unlisted(())
        host.release()
    sysctls.release(cloud_id)


async def purge(config: NodeConfig) -> None:
    """Remove every trace of the cloud from the host's network, with the sysctls as they were. Raises OSError with the cause."""
    await asyncio.to_thread(_purge, config.cloud_id)
