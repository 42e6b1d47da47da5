"""Auto-allocated topology: https://docs.openstack.org/api-ref/network/v2/#auto-allocated-topologies.

A network with subnets of the default pools, joined by a router to the default external network; made when it is first asked for.
"""

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context, internal
from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.network import interfaces, networks, routers, subnets
from nacre.cloud.network.tables import networks as networks_table
from nacre.cloud.network.tables import routers as routers_table
from nacre.cloud.network.tables import subnet_pools
from nacre.cloud.network.tables import subnets as subnets_table

NETWORK, ROUTER = "auto_allocated_network", "auto_allocated_router"
"""Neutron's names. They are all that tells these things from others: a project may rename them, and has others made then."""


def find(conn: sa.Connection, ctx: Context, project_id: str) -> str | None:
    """The network's id; None before it was made."""
    where = (networks_table.c.project_id == project_id, networks_table.c.name == NETWORK)
    ident: str | None = conn.execute(sa.select(networks_table.c.id).where(*where).limit(1)).scalar()
    return ident


def check(conn: sa.Connection, ctx: Context) -> tuple[str, list[int]]:
    """The default external network, and the IP versions that have a default pool. Raises Conflict where one is missing."""
    where = (networks_table.c.external, networks_table.c.is_default)
    external = conn.execute(sa.select(networks_table.c.id).where(*where)).scalar()
    if external is None:
        raise Conflict("Deployment error: No default router:external network.", code="AutoAllocationFailure")
    select = sa.select(subnet_pools.c.ip_version).where(subnet_pools.c.is_default).order_by(subnet_pools.c.ip_version)
    versions = list(conn.execute(select).scalars())
    if not versions:
        raise Conflict("Deployment error: No default subnetpools defined.", code="AutoAllocationFailure")
    return str(external), versions


def ensure(conn: sa.Connection, ctx: Context, project_id: str) -> str:
    """The network's id, with all that belongs to it. Raises Conflict, OverQuota; then nothing was made."""
    found = find(conn, ctx, project_id)
    if found is not None:
        return found
    external, versions = check(conn, ctx)
    own = internal(ctx.request_id)
    network = networks.create(conn, own, {"project_id": project_id, "name": NETWORK})
    router = routers.create(
        conn, own, {"project_id": project_id, "name": ROUTER, "external_gateway_info": {"network_id": external}}
    )
    for version in versions:
        values: Row = {"project_id": project_id, "network_id": network["id"], "name": f"auto_allocated_subnet_v{version}"}
        subnet = subnets.create(conn, own, {**values, "ip_version": version, "use_default_subnetpool": True})
        interfaces.add(conn, own, router["id"], subnet_id=subnet["id"])
    return str(network["id"])


def delete(conn: sa.Connection, ctx: Context, project_id: str) -> None:
    """Raises NotFound before it was made, Conflict while ports are on the network."""
    network_id = find(conn, ctx, project_id)
    if network_id is None:
        raise NotFound(
            f"No auto-allocated topology of project {project_id} could be found.", code="AutoAllocatedTopologyNotFound"
        )
    own = internal(ctx.request_id)
    where = (routers_table.c.project_id == project_id, routers_table.c.name == ROUTER)
    for router_id in list(conn.execute(sa.select(routers_table.c.id).where(*where)).scalars()):
        select = sa.select(subnets_table.c.id).where(subnets_table.c.network_id == network_id)
        mine = set(conn.execute(select).scalars())
        for subnet_id in sorted({each["subnet_id"] for each in routers.interfaces(conn, router_id)} & mine):
            interfaces.remove(conn, own, router_id, subnet_id=subnet_id)
        routers.delete(conn, own, router_id)
    networks.delete(conn, own, network_id)
