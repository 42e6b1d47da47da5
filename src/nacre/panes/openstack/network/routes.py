"""Networking's route table."""

from nacre.cloud.network.policies import POLICIES
from nacre.panes.edge import Route, Service
from nacre.panes.openstack.network import (
    addresses,
    agents,
    floatingips,
    metering,
    networks,
    port_forwardings,
    ports,
    qos,
    quotas,
    rbac,
    routers,
    security_groups,
    subnetpools,
    subnets,
    tags,
    topology,
    versions,
)
from nacre.panes.openstack.network.dialect import STATUS_OF, render_error

ROUTES: tuple[Route, ...] = (
    *versions.ROUTES,
    *networks.ROUTES,
    *subnets.ROUTES,
    *subnetpools.ROUTES,
    *ports.ROUTES,
    *routers.ROUTES,
    *floatingips.ROUTES,
    *port_forwardings.ROUTES,
    *security_groups.ROUTES,
    *addresses.ROUTES,
    *qos.ROUTES,
    *metering.ROUTES,
    *rbac.ROUTES,
    *tags.ROUTES,
    *topology.ROUTES,
    *quotas.ROUTES,
    *agents.ROUTES,
)

SERVICE = Service("network", "/network", ROUTES, render_error, POLICIES, status_of=STATUS_OF)
