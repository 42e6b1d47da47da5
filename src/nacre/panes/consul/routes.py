"""The Consul pane's route table."""

from nacre.cloud.discovery.policies import POLICIES
from nacre.panes.consul import agent, catalog, health, kv, sessions, system
from nacre.panes.consul.dialect import HEADERS, PATH, STATUS_OF, authenticate, render_error
from nacre.panes.consul.queries import TooMany
from nacre.panes.edge import Route, Service

ROUTES: tuple[Route, ...] = (
    *kv.ROUTES,
    *sessions.ROUTES,
    *catalog.ROUTES,
    *health.ROUTES,
    *agent.ROUTES,
    *system.ROUTES,
)

SERVICE = Service(
    "consul",
    PATH,
    ROUTES,
    render_error,
    POLICIES,
    status_of={**STATUS_OF, TooMany: 429},
    authenticate=authenticate,
    headers=HEADERS,
)
"""Under /v1 on the API's port, as Consul's clients expect (CONSUL_HTTP_ADDR=HOST:PORT); and on each project's socket."""
