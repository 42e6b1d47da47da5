"""The Docker pane's route table: each room brings its own rows."""

from nacre.cloud.containers.policies import POLICIES
from nacre.panes.docker import (
    build,
    containers,
    events,
    exec,
    files,
    images,
    info,
    lifecycle,
    networks,
    stats,
    streams,
    swarm,
    system,
    usage,
    volumes,
)
from nacre.panes.docker.dialect import HEADERS, VERSION_PATH, authenticate_token, render_error
from nacre.panes.edge import Route, Service

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *info.ROUTES,
    *events.ROUTES,
    *containers.ROUTES,
    *lifecycle.ROUTES,
    *usage.ROUTES,
    *exec.ROUTES,
    *streams.ROUTES,
    *files.ROUTES,
    *stats.ROUTES,
    *images.ROUTES,
    *build.ROUTES,
    *volumes.ROUTES,
    *networks.ROUTES,
    *swarm.ROUTES,
)

SERVICE = Service(
    "docker",
    "/docker",
    ROUTES,
    render_error,
    POLICIES,
    authenticate=authenticate_token,
    version_path=VERSION_PATH,
    headers=HEADERS,
)
"""Under /docker on the API's port (DOCKER_HOST=tcp://HOST:PORT/docker with a bearer token), and at the root of each project's socket."""
