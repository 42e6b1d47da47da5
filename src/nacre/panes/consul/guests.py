"""The pane as guests reach it at http://169.254.169.254:8500, without a secret: their node relays it to the API process and says which port
asks, which the network's anti-spoofing guard makes sure of. Whoever bears a port of a project acts for that project.
"""

from dataclasses import replace

from aiohttp import web

from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.core import Cloud
from nacre.cloud.identity import projects
from nacre.cloud.network.names import project_of_port
from nacre.panes.consul.dialect import PATH, Denied
from nacre.panes.consul.routes import SERVICE
from nacre.panes.edge import Service

PREFIX = "/hosts/{host}/ports/{port}"
"""On the gateway's socket, where only nodes speak (nacre.gateway.hub)."""
GUEST_USER = "guest"
"""The user id under which what guests do is written down."""


def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context:
    """The project of the port, which must be on the host that asks for it."""
    host_id, port_id = request.match_info["host"], request.match_info["port"]
    project_id = cloud.store.read_now(project_of_port, host_id, port_id)
    serving = cloud.store.remember((projects.serving,), projects.serving)
    if project_id is None or project_id not in serving:
        raise Denied("Permission denied: the port that asks is of no project that is enabled")
    return Context(
        user_id=GUEST_USER,
        user_domain_id="",
        project_id=project_id,
        project_name=serving[project_id],
        roles=ROLE_IMPLIES["member"],
        request_id=request_id,
    )


def for_guests() -> Service:
    return replace(SERVICE, prefix=PREFIX + PATH, authenticate=authenticate)
