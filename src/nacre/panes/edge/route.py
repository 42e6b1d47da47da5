"""Routes as data: one row per operation. 404 and 405 fall out of the table, and so does the coverage page."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError
from nacre.cloud.policy import Rule
from nacre.panes.edge.microversion import Microversions, Version

if TYPE_CHECKING:
    from nacre.panes.edge.call import Call, Reply

Handler = Callable[["Call"], Awaitable["Reply"]]


@dataclass(frozen=True)
class Route:
    """`path` is relative to the service's prefix, with `{name}` for parameters. `policy` None needs no token (version documents, authentication).

    Two rows may share method and path when their version ranges do not meet.
    """

    method: str
    path: str
    handler: Handler
    policy: str | None
    summary: str
    since: Version | None = None
    until: Version | None = None
    streams: bool = False
    """The body is bytes that the handler reads by itself, however long."""


class ErrorDialect(Protocol):
    """How a service words its errors."""

    def __call__(self, error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
        """(JSON-able body, content type)."""


@dataclass(frozen=True)
class Service:
    """One API under one prefix (`/compute`)."""

    service_type: str
    prefix: str
    routes: tuple[Route, ...]
    errors: ErrorDialect
    policies: Mapping[str, Rule]
    microversions: Microversions | None = None
    status_of: Mapping[type[CloudError], int] | None = None
    """Statuses that differ from the edge's own table (Neutron answers 409 to a used-up quota, where Nova says 403)."""
    trailing_slash: bool = False
    """A slash at the end of any path is as good as none (Keystone)."""
    authenticate: Callable[[Cloud, web.Request, str], Context | Awaitable[Context]] | None = None
    """(cloud, request, request id) -> who asks; raises Unauthorized (its detail `challenge` is the answer's WWW-Authenticate). None: by the
    token in X-Auth-Token."""
    version_path: str = ""
    """A path that may stand before every path of the service and says nothing (`/{version:v...}` of the Engine API)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """On every answer."""
    frozen: tuple[str, str] | None = None
    """(`/v2`, `/v2.1`): under the first prefix the rows of the second are served too, at the least microversion whatever the headers say."""

    def alias(self, path: str) -> str | None:
        """The same path under the frozen prefix."""
        if self.frozen is None:
            return None
        old, new = self.frozen
        return old + path[len(new) :] if path == new or path.startswith(f"{new}/") else None

    def __post_init__(self) -> None:
        for route in self.routes:
            if route.policy is not None and route.policy not in self.policies:
                raise ValueError(
                    f"{route.method} {self.prefix}{route.path} names the policy {route.policy}, which is in no table"
                )
