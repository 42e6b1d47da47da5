"""The networks that a new cloud begins with. Both functions may be called again: what is there stays."""

import sqlalchemy as sa

from nacre.cloud import context
from nacre.cloud.network import interfaces, networks, routers, subnetpools, subnets
from nacre.cloud.network.tables import networks as networks_table

EXTERNAL_PHYSICAL = "public"
DEMO_CIDR = "10.0.0.0/24"
POOL_CIDR, POOL_PREFIX_LENGTH = "10.128.0.0/9", 24
"""Of the default subnet pool: what people take by hand begins lower."""


def ensure_external(
    conn: sa.Connection, *, project_id: str, name: str = "public", cidr: str, gateway: str, pool_start: str, pool_end: str
) -> str:
    """The external network on the hosts' own bridge, and its subnet; with it the pool that `network auto-allocated-topology` and servers
    on an `auto` network take their subnets from. Returns the network's id."""
    ctx = context.internal()
    found = conn.execute(
        sa.select(networks_table.c.id).where(networks_table.c.external, networks_table.c.physical == EXTERNAL_PHYSICAL)
    ).scalar()
    if found is not None:
        return str(found)
    network = networks.create(
        conn,
        ctx,
        {"project_id": project_id, "name": name, "external": True, "is_default": True, "physical": EXTERNAL_PHYSICAL},
    )
    subnets.create(
        conn,
        ctx,
        {
            "project_id": project_id,
            "network_id": network["id"],
            "name": f"{name}-subnet",
            "ip_version": 4 if ":" not in cidr else 6,
            "cidr": cidr,
            "gateway_ip": gateway,
            "enable_dhcp": False,
            "allocation_pools": [{"start": pool_start, "end": pool_end}],
        },
    )
    _make_default_pool(conn, project_id)
    return str(network["id"])


def _make_default_pool(conn: sa.Connection, project_id: str) -> None:
    """Once, with the external network: an administrator who deletes it has deleted it."""
    ctx = context.internal()
    values = {"prefixes": [POOL_CIDR], "default_prefixlen": POOL_PREFIX_LENGTH, "is_default": True, "shared": True}
    subnetpools.create(conn, ctx, {"project_id": project_id, "name": "default", **values})


def ensure_demo(conn: sa.Connection, project_id: str, *, cidr: str = DEMO_CIDR, dns_nameservers: tuple[str, ...] = ()) -> str:
    """A project's network `private`, joined by a router to the default external network. Returns the network's id."""
    ctx = context.internal()
    found = conn.execute(
        sa.select(networks_table.c.id).where(networks_table.c.project_id == project_id, networks_table.c.name == "private")
    ).scalar()
    if found is not None:
        return str(found)
    network = networks.create(conn, ctx, {"project_id": project_id, "name": "private"})
    subnet = subnets.create(
        conn,
        ctx,
        {
            "project_id": project_id,
            "network_id": network["id"],
            "name": "private-subnet",
            "ip_version": 4,
            "cidr": cidr,
            "dns_nameservers": list(dns_nameservers),
        },
    )
    external = conn.execute(sa.select(networks_table.c.id).where(networks_table.c.external, networks_table.c.is_default)).scalar()
    gateway = None if external is None else {"network_id": external}
    router = routers.create(conn, ctx, {"project_id": project_id, "name": "router", "external_gateway_info": gateway})
    interfaces.add(conn, ctx, router["id"], subnet_id=subnet["id"])
    return str(network["id"])
