"""How the Engine API speaks: versions, headers, errors, and who asks."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web
from cryptography import x509

from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Unauthorized
from nacre.cloud.identity import certificates
from nacre.panes.edge import Service

API_VERSION = "1.50"
"""The newest version that is spoken, and the one of a path without any."""
API_VERSION_MIN = "1.24"
"""The oldest that is advertised. Older prefixes are taken all the same: an adapter of 2015 says v1.16."""
ENGINE_VERSION = "28.2.2"
VERSION_PATH = r"/{version:v[0-9]+\.[0-9]+}"
HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Docker/{ENGINE_VERSION} (linux)",
}
SOCKET_USER = "docker"
"""The user id under which what comes by a project's socket is written down: whoever may open the socket acts for the project."""


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    return {"message": error.message}, "application/json"


def authenticate_token(cloud: Cloud, request: web.Request, request_id: str) -> Context:
    """On the API's own port: a project's token as a bearer (RFC 6750) or in X-Auth-Token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else request.headers.get("X-Auth-Token", "")
    if not token:
        raise Unauthorized("unauthorized: authentication required")
    context = cloud.authenticate(token, request_id)
    if context.project_id is None:
        raise Unauthorized("unauthorized: a project-scoped token is required")
    return context


def for_project(service: Service, project_id: str, project_name: str, *, prefix: str = "") -> Service:
    """The same service at the root (or under a prefix) of a place that is one project's own: whoever reaches it acts for the project."""
    holder = _holder(project_id, project_name)
    return replace(service, prefix=prefix, authenticate=lambda cloud, request, request_id: replace(holder, request_id=request_id))


def for_sockets(service: Service, project_of: Callable[[str], tuple[str, str] | None], *, prefix: str = "") -> Service:
    """The same service at the root of many sockets: `project_of` says whose (id, name) a socket's path is. Its file's permissions say who may."""

    def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context:
        name = request.transport.get_extra_info("sockname") if request.transport is not None else None
        found = project_of(name.decode() if isinstance(name, bytes) else str(name))
        if found is None:
            raise Unauthorized("unauthorized: the project of this socket is disabled or gone")
        return replace(_holder(*found), request_id=request_id)

    return replace(service, prefix=prefix, authenticate=authenticate)


def for_certificates(service: Service, *, prefix: str = "") -> Service:
    """The same service at the root of a TLS port: a client's certificate says who acts, and the store what it may do by now."""

    def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context:
        der = request.transport.get_extra_info("peercert_der") if request.transport is not None else None
        if not der:
            raise Unauthorized("unauthorized: a client certificate is required")
        serial = f"{x509.load_der_x509_certificate(der).serial_number:x}"
        key = (certificates.holder, serial)
        context, expires_at = cloud.store.remember(key, lambda conn: certificates.holder(conn, serial))
        # A connection may live longer than the certificate that opened it.
        if expires_at <= time.time():
            raise Unauthorized("unauthorized: the certificate has expired")
        return replace(context, request_id=request_id)

    return replace(service, prefix=prefix, authenticate=authenticate)


def _holder(project_id: str, project_name: str) -> Context:
    return Context(
        user_id=SOCKET_USER, user_domain_id="", project_id=project_id, project_name=project_name, roles=ROLE_IMPLIES["member"]
    )


def minor_of(request: web.Request) -> int:
    """The minor version that the path asks for: 43 of v1.43, that of API_VERSION without one."""
    text = request.match_info.get("version") or f"v{API_VERSION}"
    return int(text.partition(".")[2])
