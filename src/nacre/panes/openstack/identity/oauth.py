"""OS-OAUTH1: consumers, and the tokens that lead to a login of theirs. https://docs.openstack.org/api-ref/identity/v3-ext/#os-oauth1-api."""

import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote, urlencode

import msgspec
import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Invalid, Unauthorized
from nacre.cloud.identity import oauth
from nacre.panes.edge import Call, Reply, Route, times
from nacre.panes.edge.resource import envelope
from nacre.panes.openstack.identity.delegations import RoleRef
from nacre.panes.openstack.identity.dialect import DIALECT, members
from nacre.panes.openstack.identity.resources import CONSUMERS, ROLES
from nacre.panes.openstack.query import parse_limit
from nacre.store import Query

FORM = "application/x-www-form-urlencoded"
_PAIR = re.compile(r'([A-Za-z_]+)="([^"]*)"')
PARAMETERS_MAX = 64


def signed(call: Call) -> oauth.Signed:
    """The request as its Authorization header signs it (RFC 5849, 3.5.1). Raises Unauthorized, Invalid."""
    scheme, _, rest = call.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "oauth":
        raise Unauthorized("The request you have made requires authentication.", code="Unauthorized")
    pairs = [(name, unquote(value)) for name, value in _PAIR.findall(rest)]
    names = [name for name, _ in pairs]
    if len(pairs) > PARAMETERS_MAX or len(set(names)) != len(names):
        raise Invalid("The Authorization header names a parameter twice, or too many.", field="Authorization")
    header = dict(pairs)
    protocol = [(name, value) for name, value in pairs if name not in ("realm", "oauth_signature")]
    url = call.cloud.settings.base_url + call.request.rel_url.raw_path
    parameters = (*protocol, *call.query.items())
    return oauth.Signed(call.request.method, url, parameters, header.get("oauth_signature", ""))


def _form(row: Row) -> Reply:
    shown = {"oauth_token": row["id"], "oauth_token_secret": row["secret"], "oauth_expires_at": times.micros(row["expires_at"])}
    return Reply(urlencode(shown).encode(), 201, content_type=FORM)


async def create_consumer(call: Call) -> Reply:
    """The secret is shown this once."""
    sent = envelope(await call.body(dict[str, Any]), "consumer")
    row = await call.write(oauth.consumers.create, CONSUMERS.values(DIALECT, call, sent, "create"))
    return Reply({"consumer": {**DIALECT.one(call, CONSUMERS, row), "secret": row["secret"]}}, 201)


async def request_token(call: Call) -> Reply:
    """No token of Identity's is needed: the consumer signs."""
    request, project_id = await _fresh(call, oauth.check_consumer), call.request.headers.get("Requested-Project-Id", "")
    return _form(await call.cloud.store.write(oauth.request_token, request, project_id))


async def access_token(call: Call) -> Reply:
    return _form(await call.cloud.store.write(oauth.access_token, await _fresh(call, oauth.check_exchange)))


async def _fresh(call: Call, check: Callable[[sa.Connection, oauth.Signed], None]) -> oauth.Signed:
    """The request, good and for the first time. Raises Unauthorized, and what the check does."""
    request = signed(call)
    call.cloud.store.read_now(check, request)
    if not await call.cloud.store.write(oauth.first_use, request):
        raise Unauthorized("The request you have made requires authentication.", code="Unauthorized")
    return request


class AuthorizeBody(msgspec.Struct):
    roles: Annotated[list[RoleRef], msgspec.Meta(max_length=64)]


async def authorize(call: Call) -> Reply:
    body = await call.body(AuthorizeBody)
    wanted = msgspec.to_builtins(body.roles)
    return Reply({"token": {"oauth_verifier": await call.write(oauth.authorize, call.path["request_token_id"], wanted)}})


def _token(call: Call, row: Row) -> dict[str, Any]:
    href = f"{call.base_url}/v3/users/{row['user_id']}/OS-OAUTH1/access_tokens/{row['id']}"
    return {
        **{name: row[name] for name in ("id", "consumer_id", "project_id")},
        "authorizing_user_id": row["user_id"],
        "expires_at": times.micros(row["expires_at"]),
        "links": {"self": href, "roles": f"{href}/roles"},
    }


async def list_tokens(call: Call) -> Reply:
    query = Query(limit=parse_limit(call.query), marker=call.query.get("marker"))
    page = await call.read(oauth.list_of_user, call.path["user_id"], query)
    return Reply({"access_tokens": [_token(call, row) for row in page.rows], "links": DIALECT.links(call, page)})


async def show_token(call: Call) -> Reply:
    return Reply({"access_token": _token(call, await call.read(oauth.get, call.path["user_id"], call.path["access_token_id"]))})


async def delete_token(call: Call) -> Reply:
    await call.write(oauth.delete, call.path["user_id"], call.path["access_token_id"])
    return Reply(status=204)


async def list_roles(call: Call) -> Reply:
    row = await call.read(oauth.get, call.path["user_id"], call.path["access_token_id"])
    return Reply({"roles": [DIALECT.one(call, ROLES, role) for role in row["roles"]], "links": members(call)})


async def show_role(call: Call) -> Reply:
    path = call.path
    role = await call.read(oauth.get_role, path["user_id"], path["access_token_id"], path["role_id"])
    return Reply({"role": DIALECT.one(call, ROLES, role)})


_ROOT = "/v3/OS-OAUTH1"
_OWN = "/v3/users/{user_id}/OS-OAUTH1/access_tokens"
_ONE = _OWN + "/{access_token_id}"
ROUTES: tuple[Route, ...] = (
    Route("POST", _ROOT + "/consumers", create_consumer, "identity:create_consumer", "Create a consumer"),
    Route("POST", _ROOT + "/request_token", request_token, None, "Create a request token"),
    Route(
        "PUT", _ROOT + "/authorize/{request_token_id}", authorize, "identity:authorize_request_token", "Authorize a request token"
    ),
    Route("POST", _ROOT + "/access_token", access_token, None, "Create an access token"),
    Route("GET", _OWN, list_tokens, "identity:list_access_tokens", "List a user's access tokens"),
    Route("GET", _ONE, show_token, "identity:get_access_token", "Show an access token"),
    Route("DELETE", _ONE, delete_token, "identity:delete_access_token", "Delete an access token"),
    Route("GET", _ONE + "/roles", list_roles, "identity:list_access_token_roles", "List the roles of an access token"),
    Route("GET", _ONE + "/roles/{role_id}", show_role, "identity:get_access_token_role", "Show a role of an access token"),
)
