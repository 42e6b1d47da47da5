"""Names under which a project's services, nodes and servers are found (https://developer.hashicorp.com/consul/docs/services/discovery/dns-static-lookups).

    [TAG.]SERVICE.service[.DC].consul          A, AAAA, SRV, TXT
    _SERVICE._TAG|_tcp|_udp[.service][.DC].consul   SRV (RFC 2782)
    NODE.node[.DC].consul                      A, AAAA, TXT
    NAME.PROJECT.nacre                         A, AAAA: the project's servers and containers

Instances with a critical check are left out; the order is random.
"""

import ipaddress
import random
from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.discovery import catalog
from nacre.cloud.discovery.tables import nodes
from nacre.cloud.identity.tables import projects
from nacre.cloud.network.tables import fixed_ips, ports
from nacre.protocol.names import NameAnswer, Record

DATACENTER = "dc1"
TTL_S = 0
"""Consul's default: nobody keeps an answer."""
SOA = "ns.consul. postmaster.consul. 1 3600 600 86400 0"
UNKNOWN = NameAnswer(found=False)
NODATA = NameAnswer(found=True)
RECORDS_MAX = 256


def lookup(conn: sa.Connection, project_id: str, name: str, rtype: str) -> NameAnswer:
    """What this project finds under the name (lower case, without its last dot). Never raises for a name that is none."""
    labels = name.split(".")
    if labels[-1] == "nacre":
        return _server(conn, project_id, name, rtype, labels[:-1])
    if labels[-1] != "consul":
        return UNKNOWN
    rest = labels[:-1]
    if not rest:
        soa = (Record("consul.", "SOA", TTL_S, SOA),) if rtype in ("SOA", "ANY") else ()
        return NameAnswer(found=True, records=soa)
    rest = _without_datacenter(rest)
    if len(rest) >= 2 and rest[0].startswith("_") and rest[1].startswith("_"):
        tag = rest[1][1:]
        return _services(conn, project_id, name, rtype, rest[0][1:], "" if tag in ("tcp", "udp") else tag)
    if len(rest) in (2, 3) and rest[-1] == "service":
        return _services(conn, project_id, name, rtype, rest[-2], rest[0] if len(rest) == 3 else "")
    if len(rest) >= 2 and rest[-1] == "node":
        return _node(conn, project_id, name, rtype, ".".join(rest[:-1]))
    if len(rest) == 2 and rest[-1] == "addr":
        return _hex(name, rtype, rest[0])
    return UNKNOWN


def _without_datacenter(labels: list[str]) -> list[str]:
    """`web.service.dc1` and `web.service.dc1.dc` are `web.service`."""
    if labels[-2:] == [DATACENTER, "dc"]:
        return labels[:-2]
    return labels[:-1] if labels[-1] == DATACENTER and len(labels) > 1 else labels


def _services(conn: sa.Connection, project_id: str, name: str, rtype: str, service: str, tag: str) -> NameAnswer:
    ctx = Context(user_id="", user_domain_id="", project_id=project_id)
    names = {row["name"] for row in catalog.find_services(conn, ctx).value if row["name"].lower() == service}
    found = [each for exact in sorted(names) for each in catalog.instances(conn, ctx, exact).value]
    healthy = [
        (row, at)
        for row, at, checks in found
        if catalog.worst(checks) != "critical" and (not tag or tag in (each.lower() for each in row["tags"]))
    ]
    if not healthy:
        return UNKNOWN
    random.shuffle(healthy)
    records: dict[Record, None] = {}
    additional: dict[Record, None] = {}
    for row, at in healthy[:RECORDS_MAX]:
        address = row["address"] or at["address"]
        if rtype in ("SRV", "ANY"):
            target = _target(row, at)
            records[Record(f"{name}.", "SRV", TTL_S, f"1 1 {row['port']} {target}")] = None
            additional |= dict.fromkeys(_addresses(target, "ANY", [address]))
        if rtype != "SRV":
            records |= dict.fromkeys(_addresses(f"{name}.", rtype, [address]))
        if rtype in ("TXT", "ANY"):
            records |= dict.fromkeys(_texts(f"{name}.", row["meta"]))
    return NameAnswer(found=True, records=tuple(records), additional=tuple(additional))


def _target(row: Row, at: Row) -> str:
    """Where an instance is: its node, or the address of its own, in digits."""
    try:
        return f"{ipaddress.ip_address(row['address']).packed.hex()}.addr.{DATACENTER}.consul."
    except ValueError:
        return f"{at['name']}.node.{DATACENTER}.consul."


def _hex(name: str, rtype: str, digits: str) -> NameAnswer:
    try:
        packed = bytes.fromhex(digits)
        address = str(ipaddress.ip_address(packed))
    except ValueError:
        return UNKNOWN
    return NameAnswer(found=True, records=tuple(_addresses(f"{name}.", rtype, [address])))


def _node(conn: sa.Connection, project_id: str, name: str, rtype: str, node: str) -> NameAnswer:
    where = (nodes.c.project_id == project_id, sa.func.lower(nodes.c.name) == node)
    row = conn.execute(sa.select(nodes).where(*where)).mappings().first()
    if row is None:
        return UNKNOWN
    texts = _texts(f"{name}.", row["meta"]) if rtype in ("TXT", "ANY") else []
    return NameAnswer(found=True, records=(*_addresses(f"{name}.", rtype, [row["address"]]), *texts))


def _server(conn: sa.Connection, project_id: str, name: str, rtype: str, labels: list[str]) -> NameAnswer:
    """NAME.PROJECT: in the asking project alone. A name with dots in it is a server's too."""
    project = conn.execute(sa.select(projects.c.name).where(projects.c.id == project_id)).scalar()
    if len(labels) < 2 or project is None or labels[-1] not in (project.lower(), project_id):
        return UNKNOWN
    wanted = ".".join(labels[:-1])
    statement = (
        sa.select(fixed_ips.c.address)
        .join(ports, ports.c.id == fixed_ips.c.port_id)
        .join(servers, servers.c.id == ports.c.device_id)
        .where(servers.c.project_id == project_id, servers.c.gone.is_(False))
        .where(sa.or_(sa.func.lower(servers.c.name) == wanted, sa.func.lower(servers.c.hostname) == wanted))
        .limit(RECORDS_MAX)
    )
    found = list(conn.execute(statement).scalars())
    if not found:
        return UNKNOWN
    random.shuffle(found)
    return NameAnswer(found=True, records=tuple(_addresses(f"{name}.", rtype, found)))


def _addresses(name: str, rtype: str, addresses: Sequence[str]) -> list[Record]:
    records = []
    for address in addresses:
        try:
            kind = "A" if ipaddress.ip_address(address).version == 4 else "AAAA"
        except ValueError:
            continue
        if rtype in (kind, "ANY"):
            records.append(Record(name, kind, TTL_S, address))
    return records


def _texts(name: str, meta: Row) -> list[Record]:
    """`key=value` of the metadata, each a text that is quoted as zone files do (RFC 1035, 5.1) and cut at its 255 bytes."""
    shown = (f"{key}={value}".encode()[:255].decode("utf-8", "ignore") for key, value in sorted(meta.items()))
    return [Record(name, "TXT", TTL_S, '"' + "".join(_quoted(letter) for letter in text) + '"') for text in shown]


def _quoted(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if " " <= letter <= "~" else "".join(f"\\{byte:03d}" for byte in letter.encode())
