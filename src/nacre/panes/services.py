"""Every service that this process serves. Adding one is a line here."""

from nacre.panes.consul.routes import SERVICE as CONSUL
from nacre.panes.docker.routes import SERVICE as DOCKER
from nacre.panes.edge import Service
from nacre.panes.openstack.compute.routes import SERVICE as COMPUTE
from nacre.panes.openstack.identity.routes import SERVICE as IDENTITY
from nacre.panes.openstack.image.routes import SERVICE as IMAGE
from nacre.panes.openstack.network.routes import SERVICE as NETWORK
from nacre.panes.openstack.placement.routes import SERVICE as PLACEMENT
from nacre.panes.operator.routes import SERVICE as OPERATOR
from nacre.panes.registry.routes import SERVICE as REGISTRY
from nacre.panes.stacks.routes import DOCKER_CLOUD, TUTUM

SERVICES: tuple[Service, ...] = (
    IDENTITY,
    COMPUTE,
    IMAGE,
    NETWORK,
    PLACEMENT,
    DOCKER,
    CONSUL,
    REGISTRY,
    TUTUM,
    DOCKER_CLOUD,
    OPERATOR,
)
"""In the order in which their prefixes are tried: the operator's is empty and comes last."""
