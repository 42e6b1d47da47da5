"""How Tutum's API speaks: who asks, lists in pages, errors as one text."""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import CloudError, Forbidden, Invalid, Unauthorized
from nacre.cloud.identity.authentication import ANY_SCOPE, Password, Reference, ScopeWanted, by_secret, log_in
from nacre.panes.edge import Call, Reply

Row = dict[str, Any]

DEFAULT_DOMAIN = "default"
LIMIT_DEFAULT, LIMIT_MAX = 25, 100
NAMESPACE_PATH = r"/{namespace:(?!service/|stack/|container/)[A-Za-z0-9][A-Za-z0-9_.-]*}"
"""A project's name or id, before every path."""
_ID = re.compile(r"[0-9a-f]{32}")


def render_error(error: CloudError, status: int, request_id: str) -> tuple[Any, str]:
    return {"error": error.message}, "application/json"


def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context | Awaitable[Context]:
    """Basic with USER:PASSWORD (of the domain Default) or an application credential's ID:SECRET, or a token in X-Auth-Token."""
    namespace = request.match_info.get("namespace", "")
    scheme, _, proof = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return _basic(cloud, proof.strip(), namespace, request_id)
    token = request.headers.get("X-Auth-Token", "")
    if not token:
        raise Unauthorized("Authentication is needed: Basic USER:PASSWORD, or X-Auth-Token")
    return _checked(cloud.authenticate(token, request_id), namespace)


async def _basic(cloud: Cloud, proof: str, namespace: str, request_id: str) -> Context:
    try:
        name, colon, secret = base64.b64decode(proof, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Unauthorized("The Authorization header cannot be read") from None
    if not name or not colon:
        raise Unauthorized("The Authorization header cannot be read")
    if _ID.fullmatch(name):
        return _checked(await by_secret(cloud.store, cloud.identity, name, secret, request_id), namespace)
    password = Password(Reference(name=name, domain=Reference(id=DEFAULT_DOMAIN)), secret)
    _, token = await log_in(cloud.store, cloud.identity, (password,), _scope(namespace))
    return _checked(token.context(request_id), namespace)


def _scope(namespace: str) -> ScopeWanted:
    """The namespace's project; without one the user's default project."""
    if not namespace:
        return ANY_SCOPE
    if _ID.fullmatch(namespace):
        return ScopeWanted(project=Reference(id=namespace))
    return ScopeWanted(project=Reference(name=namespace, domain=Reference(id=DEFAULT_DOMAIN)))


def _checked(context: Context, namespace: str) -> Context:
    if context.project_id is None:
        raise Unauthorized("A project is needed: a namespace in the path, or a project-scoped token")
    if namespace and namespace not in (context.project_id, context.project_name):
        raise Forbidden(f"The namespace {namespace} is not the credential's project")
    return context


def number(call: Call, name: str, default: int, maximum: int) -> int:
    """A parameter as a number without a sign. Raises Invalid."""
    text = call.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Invalid(f"{name}: a number is needed", field=name)
    return min(int(text), maximum)


def page(call: Call, rows: list[Any], shown: Callable[[Any], Row]) -> Reply:
    """One page of the rows, and where the next one is."""
    limit = number(call, "limit", LIMIT_DEFAULT, LIMIT_MAX) or LIMIT_MAX
    offset = number(call, "offset", 0, 1 << 30)

    def at(place: int) -> str | None:
        if not 0 <= place < max(1, len(rows)) or place == offset:
            return None
        query = {**{name: text for name, text in call.query.items() if name not in ("limit", "offset")}}
        return str(call.request.rel_url.with_query({**query, "limit": str(limit), "offset": str(place)}))

    meta = {
        "limit": limit,
        "offset": offset,
        "total_count": len(rows),
        "next": at(offset + limit) if offset + limit < len(rows) else None,
        "previous": at(max(0, offset - limit)) if offset else None,
    }
    return Reply({"meta": meta, "objects": [shown(row) for row in rows[offset : offset + limit]]})
