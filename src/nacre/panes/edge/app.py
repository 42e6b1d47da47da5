"""The HTTP server: services' tables become an aiohttp application, and every request walks the same road.

request id -> route -> microversion -> token -> policy row -> handler -> reply. An error anywhere is rendered in the service's dialect.
"""

import logging
import re
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from nacre.cloud import errors
from nacre.cloud.context import AccessRule, Context
from nacre.cloud.core import Cloud
from nacre.cloud.policy import check
from nacre.panes.edge.call import BODY_BYTES_MAX, Call, Reply
from nacre.panes.edge.microversion import NotAcceptable, Version
from nacre.panes.edge.route import Route, Service
from nacre.store import NotStorable, StoreError

log = logging.getLogger("nacre.edge")

STATUS_OF: dict[type[errors.CloudError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.OverQuota: 403,
    errors.NotFound: 404,
    NotAcceptable: 406,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.Unsupported: 415,
    errors.Unavailable: 503,
}


class MethodNotAllowed(errors.CloudError):
    """The path exists, the method on it does not: 405."""


STATUS_OF[MethodNotAllowed] = 405
SERVER_OPTIONS: dict[str, Any] = {"handler_cancellation": False, "auto_decompress": False}
"""For the AppRunner that serves the application. Bodies are not unpacked: a small one could become too big for the memory, and a
broken one would break off the connection."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NO_VERSION = Version(0, 0)
ANYTHING = r"/{tail:[\s\S]*}"
"""Every path below a prefix, also one with a line end in it."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What is in no name: it could neither be shown again nor stand in a header."""
_encoder = msgspec.json.Encoder()


def build(cloud: Cloud, services: Sequence[Service]) -> web.Application:
    """An application that serves the services' tables."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    mount(app, cloud, services)
    return app


def mount(app: web.Application, cloud: Cloud, services: Sequence[Service]) -> None:
    """Add the services' tables to an application."""
    for service in services:
        by_path: dict[str, dict[str, list[Route]]] = {}
        for route in service.routes:
            by_path.setdefault(route.path, {}).setdefault(route.method, []).append(route)
        for path, methods in by_path.items():
            _add(app, cloud, service, path, methods, frozen=False)
            if service.trailing_slash and path + "/" not in by_path:
                _add(app, cloud, service, path + "/", methods, frozen=False)
            if service.version_path:
                _add(app, cloud, service, service.version_path + path, methods, frozen=False)
            alias = service.alias(path)
            if alias is not None and alias not in by_path:
                _add(app, cloud, service, alias, methods, frozen=True)
        app.router.add_route("*", service.prefix + ANYTHING, _not_found(service))


def _add(
    app: web.Application, cloud: Cloud, service: Service, path: str, methods: dict[str, list[Route]], *, frozen: bool
) -> None:
    resource = app.router.add_resource(service.prefix + path)
    for method in METHODS:
        routes = methods.get(method)
        handler = _endpoint(cloud, service, routes, frozen) if routes else _not_allowed(service, tuple(methods))
        resource.add_route(method, handler)


def _endpoint(cloud: Cloud, service: Service, routes: list[Route], frozen: bool) -> Any:
    microversions = service.microversions

    async def serve(request: web.Request) -> web.StreamResponse:
        request_id = _request_id(request)
        version = NO_VERSION
        try:
            if _CONTROL.search(request.path):
                raise errors.Invalid("The path holds a control character.", field="path")
            if microversions is not None:
                version = microversions.minimum if frozen else microversions.requested(request.headers)
            route = _pick(routes, version)
            context = await _authorize(cloud, service, route, request, request_id)
            call = Call(cloud, service, route, request, request_id, version, context)
            reply = await route.handler(call)
        except errors.CloudError as error:
            reply = error_reply(service, error, request_id)
        except NotStorable as error:
            reply = error_reply(service, errors.Invalid(str(error)), request_id)
        except StoreError as error:
            log.error("%s %s%s %s", request_id, service.prefix, routes[0].path, error)
            reply = error_reply(service, errors.Unavailable(f"The store is not available: {error}"), request_id)
        except (ConnectionError, TimeoutError):
            raise
        except web.HTTPException:
            raise
        except Exception:
            # The path as the table has it: what is in its place may be a secret.
            log.exception("%s %s %s%s failed", request_id, request.method, service.prefix, routes[0].path)
            reply = error_reply(
                service, errors.CloudError("Unexpected failure; the log has it under this request id."), request_id
            )
        return _respond(service, reply, request_id, version)

    return serve


def _request_id(request: web.Request) -> str:
    """The id under which everything that this request causes is known, down to the node. A caller's own global id is not taken for ours."""
    return f"req-{uuid.uuid4()}"


def _pick(routes: list[Route], version: Version) -> Route:
    for route in routes:
        if (route.since is None or version >= route.since) and (route.until is None or version <= route.until):
            return route
    raise errors.NotFound("The resource could not be found.", code="NotFound")


async def _authorize(cloud: Cloud, service: Service, route: Route, request: web.Request, request_id: str) -> Context | None:
    if route.policy is None:
        return None
    if service.authenticate is not None:
        known = service.authenticate(cloud, request, request_id)
        context = known if isinstance(known, Context) else await known
    else:
        token = request.headers.get("X-Auth-Token")
        if not token:
            raise errors.Unauthorized("The request you have made requires authentication.")
        context = cloud.authenticate(token, request_id)
    if context.access_rules is not None:
        _hold_against_rules(context.access_rules, service, request)
    check(route.policy, service.policies[route.policy], context, request.match_info)
    return context


def _hold_against_rules(rules: tuple[AccessRule, ...], service: Service, request: web.Request) -> None:
    """A rule's path is the service's own, or begins with the prefix under which the service is found here. Raises Unauthorized, as
    OpenStack's middleware does."""
    paths = (request.path, request.path.removeprefix(service.prefix))
    if not any(rule.matches(service.service_type, request.method, paths) for rule in rules):
        raise errors.Unauthorized("The application credential's access rules do not allow this request.")


def error_reply(service: Service, error: errors.CloudError, request_id: str) -> Reply:
    """The error in the service's own shape."""
    status = _status(service, error)
    body, content_type = service.errors(error, status, request_id)
    reply = Reply(body, status, content_type=content_type)
    if status == 401:
        reply.headers["WWW-Authenticate"] = error.details.get("challenge", 'Keystone uri="/identity/v3"')
    if status == 405:
        reply.headers["Allow"] = ", ".join(error.details["allowed"])
    return reply


def _status(service: Service, error: errors.CloudError) -> int:
    own = service.status_of or {}
    for kind in type(error).__mro__:
        if kind in own:
            return own[kind]
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return 500


def _respond(service: Service, reply: Reply, request_id: str, version: Version) -> web.StreamResponse:
    response, microversions = reply.response, service.microversions if version is not NO_VERSION else None
    if response is not None and response.prepared:
        return response
    if response is None:
        body = reply.body
        if body is None:
            response = web.Response(status=reply.status)
        else:
            data = body if isinstance(body, bytes) else _encoder.encode(body)
            response = web.Response(body=data, status=reply.status, content_type=reply.content_type)
    headers = response.headers
    headers.update(service.headers)
    headers.update(reply.headers)
    headers["X-Openstack-Request-Id"] = request_id
    if microversions is not None:
        if microversions.legacy_header:
            headers["X-Compute-Request-Id"] = request_id
            headers[microversions.legacy_header] = str(version)
        headers["OpenStack-API-Version"] = f"{microversions.service_type} {version}"
        headers["Vary"] = "OpenStack-API-Version" + (f", {microversions.legacy_header}" if microversions.legacy_header else "")
    return response


def _not_allowed(service: Service, allowed: tuple[str, ...]) -> Any:
    async def refuse(request: web.Request) -> web.StreamResponse:
        request_id = _request_id(request)
        error = MethodNotAllowed(f"The method {request.method} is not allowed for this resource.", allowed=allowed)
        return _respond(service, error_reply(service, error, request_id), request_id, NO_VERSION)

    return refuse


def _not_found(service: Service) -> Any:
    async def refuse(request: web.Request) -> web.StreamResponse:
        request_id = _request_id(request)
        error = errors.NotFound("The resource could not be found.", code="HTTPNotFound")
        return _respond(service, error_reply(service, error, request_id), request_id, NO_VERSION)

    return refuse
