"""Identity's route table."""

from nacre.cloud.identity.policies import POLICIES
from nacre.panes.edge import Route, Service
from nacre.panes.edge.resource import crud_routes
from nacre.panes.openstack.identity import (
    assignments,
    delegations,
    domain_config,
    ec2_credentials,
    endpoint_filter,
    limits,
    oauth,
    projects,
    regions,
    roles,
    tokens,
    users,
    versions,
)
from nacre.panes.openstack.identity.dialect import DIALECT, render_error
from nacre.panes.openstack.identity.resources import REGULAR

ROUTES: tuple[Route, ...] = (
    *versions.ROUTES,
    *tokens.ROUTES,
    # Before the regular ones, where a limit's id would be `model`.
    *limits.ROUTES,
    *(route for resource in REGULAR for route in crud_routes(resource, DIALECT)),
    *projects.ROUTES,
    *regions.ROUTES,
    *users.ROUTES,
    *roles.ROUTES,
    *assignments.ROUTES,
    *delegations.ROUTES,
    *ec2_credentials.ROUTES,
    *endpoint_filter.ROUTES,
    *oauth.ROUTES,
    *domain_config.ROUTES,
)

SERVICE = Service("identity", "/identity", ROUTES, render_error, POLICIES, trailing_slash=True)
