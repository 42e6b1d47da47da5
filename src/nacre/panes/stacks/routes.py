"""The route table of Tutum's API, which is Docker Cloud's under another prefix."""

from nacre.cloud.stacks.policies import POLICIES
from nacre.panes.edge import Route, Service
from nacre.panes.stacks import containers, services, stacks
from nacre.panes.stacks.dialect import NAMESPACE_PATH, authenticate, render_error

ROUTES: tuple[Route, ...] = (*stacks.ROUTES, *services.ROUTES, *containers.ROUTES)


def _service(name: str, prefix: str) -> Service:
    return Service(name, prefix, ROUTES, render_error, POLICIES, authenticate=authenticate, version_path=NAMESPACE_PATH)


TUTUM = _service("tutum", "/api/v1")
"""TUTUM_REST_HOST=http://HOST:PORT"""
DOCKER_CLOUD = _service("docker-cloud", "/api/app/v1")
"""DOCKERCLOUD_REST_HOST=http://HOST:PORT"""
