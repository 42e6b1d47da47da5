"""OAuth 1.0a: a consumer acts with some of a user's roles on a project, once the user has authorized it.

    consumer -> request token -> the user authorizes it (verifier) -> access token -> tokens of Identity, method oauth1

https://docs.openstack.org/api-ref/identity/v3-ext/#os-oauth1-api and RFC 5849. Requests are signed with HMAC-SHA1 and two secrets.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha1, sha256
from typing import NamedTuple
from urllib.parse import quote

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound, Unauthorized
from nacre.cloud.identity import once
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.changes import changed, merged, refuse_delegated, require
from nacre.cloud.identity.delegations import named_roles, roles_of
from nacre.cloud.identity.tables import (
    oauth_access_token_roles,
    oauth_access_tokens,
    oauth_consumers,
    oauth_request_tokens,
    projects,
    users,
)
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id, now

REQUEST_LIFE_S = 8 * 3600.0
ACCESS_LIFE_S = 24 * 3600.0
"""As Keystone's request_token_duration and access_token_duration."""
SKEW_S = 900.0
"""How far a request's clock may be from ours."""
CLOCKS_S = 600.0
"""How far clocks of API processes may be from one another."""
VERIFIER_CHARACTERS = 8


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    if "secret" in values["extra"]:
        raise Invalid("A consumer's secret is made here, and shown once.", field="secret")
    return {**values, "secret": secrets.token_hex(16)}


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    if "secret" in (changes.get("extra") or {}):
        raise Invalid("A consumer's secret cannot be changed.", field="secret")
    return merged(row, changes)


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    """The tokens that it has been given end with it."""
    changed(conn)


consumers = Collection(
    kind="consumer",
    table=oauth_consumers,
    listing=Listing(sa.select(oauth_consumers), columns_of(oauth_consumers, "id"), key=oauth_consumers.c.id),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
)


class Signed(NamedTuple):
    """A request as it was signed: `url` without its query; `parameters` the query's and the protocol's, without the signature."""

    method: str
    url: str
    parameters: tuple[tuple[str, str], ...]
    signature: str

    def get(self, name: str) -> str:
        """A parameter of the protocol. Raises Invalid when it is not there."""
        for key, value in self.parameters:
            if key == name:
                return value
        raise Invalid(f"The Authorization header lacks {name}.", field=name)


def _escaped(text: str) -> str:
    return quote(text, safe="-._~")


def signature(request: Signed, consumer_secret: str, token_secret: str = "") -> str:
    """RFC 5849, 3.4: the base string, signed."""
    pairs = sorted((_escaped(name), _escaped(value)) for name, value in request.parameters)
    normal = "&".join(f"{name}={value}" for name, value in pairs)
    base = "&".join((request.method, _escaped(request.url), _escaped(normal)))
    key = f"{_escaped(consumer_secret)}&{_escaped(token_secret)}"
    return base64.b64encode(hmac.new(key.encode(), base.encode(), sha1).digest()).decode()


def first_use(conn: sa.Connection, request: Signed) -> bool:
    """A signed request is good once (RFC 5849, 3.3). For one whose signature was found good: what nobody signed is not worth remembering.

    Raises Invalid for a request without nonce and timestamp; False for one of another time, or that came before.
    """
    consumer, nonce, moment = (request.get(f"oauth_{name}") for name in ("consumer_key", "nonce", "timestamp"))
    if not moment.isdecimal() or len(moment) > 12 or abs(int(moment) - now()) > SKEW_S:
        return False
    key = sha256("\0".join((consumer, moment, nonce)).encode("utf-8", "surrogatepass")).hexdigest()
    return once.first_use(conn, "oauth", key, 0, 2 * SKEW_S + CLOCKS_S)


def _check(conn: sa.Connection, request: Signed, token_secret: str = "") -> str:
    """The consumer's id. Raises Unauthorized when the signature is not its."""
    if request.get("oauth_signature_method") != "HMAC-SHA1":
        raise Invalid("oauth_signature_method must be HMAC-SHA1.", field="oauth_signature_method")
    consumer_id = request.get("oauth_consumer_key")
    secret = conn.execute(sa.select(oauth_consumers.c.secret).where(oauth_consumers.c.id == consumer_id)).scalar()
    expected = signature(request, secret or "", token_secret)
    if secret is None or not hmac.compare_digest(expected.encode(), request.signature.encode("utf-8", "surrogatepass")):
        raise Unauthorized("The request you have made requires authentication.", code="Unauthorized")
    return consumer_id


def check_consumer(conn: sa.Connection, request: Signed) -> None:
    """Raises Unauthorized for a request for a request token that is not its consumer's."""
    _check(conn, request)


def check_exchange(conn: sa.Connection, request: Signed) -> None:
    """Raises Unauthorized for a request for an access token that was not signed with both secrets, NotFound for no request token."""
    _check(conn, request, _alive(conn, request.get("oauth_token"))["secret"])


def request_token(conn: sa.Connection, request: Signed, project_id: str) -> Row:
    """A new one for a consumer that wants to act on a project. Raises Unauthorized, NotFound."""
    consumer_id = _check(conn, request)
    require(conn, projects, "project", project_id, projects.c.is_domain.is_(False))
    conn.execute(oauth_request_tokens.delete().where(oauth_request_tokens.c.expires_at < now()))
    row = {"id": new_hex_id(), "secret": secrets.token_hex(16), "expires_at": now() + REQUEST_LIFE_S}
    conn.execute(oauth_request_tokens.insert().values(**row, consumer_id=consumer_id, project_id=project_id, role_ids=[]))
    return row


def authorize(conn: sa.Connection, ctx: Context, ident: str, wanted: list[Mapping[str, str]]) -> str:
    """The user gives a request token some of its roles on that project. Returns the verifier. Raises NotFound, Forbidden, Invalid."""
    refuse_delegated(ctx)
    row = _alive(conn, ident)
    if not wanted:
        raise Invalid("At least one role is needed.", field="roles")
    role_ids = named_roles(conn, wanted, effective_roles(conn, ctx.user_id, "project", row["project_id"]))
    verifier = secrets.token_hex(VERIFIER_CHARACTERS // 2)
    values = {"verifier": verifier, "user_id": ctx.user_id, "role_ids": role_ids}
    conn.execute(oauth_request_tokens.update().where(oauth_request_tokens.c.id == ident).values(values))
    return verifier


def _alive(conn: sa.Connection, ident: str) -> Row:
    row = require(conn, oauth_request_tokens, "request token", ident)
    if row["expires_at"] <= now():
        raise NotFound.of("request token", ident)
    return row


def access_token(conn: sa.Connection, request: Signed) -> Row:
    """The authorized request token gives way to an access token. Raises Unauthorized, NotFound."""
    row = _alive(conn, request.get("oauth_token"))
    consumer_id = _check(conn, request, row["secret"])
    given = request.get("oauth_verifier").encode("utf-8", "surrogatepass")
    good = row["verifier"] is not None and hmac.compare_digest(row["verifier"].encode(), given)
    if not good or row["consumer_id"] != consumer_id:
        raise Unauthorized("The request you have made requires authentication.", code="Unauthorized")
    made = {"id": new_hex_id(), "secret": secrets.token_hex(16), "expires_at": now() + ACCESS_LIFE_S}
    known = {name: row[name] for name in ("consumer_id", "project_id", "user_id")}
    conn.execute(oauth_access_tokens.delete().where(oauth_access_tokens.c.expires_at < now()))
    conn.execute(oauth_access_tokens.insert().values(**made, **known))
    roles = [{"access_token_id": made["id"], "role_id": role_id} for role_id in row["role_ids"]]
    conn.execute(oauth_access_token_roles.insert(), roles)
    conn.execute(oauth_request_tokens.delete().where(oauth_request_tokens.c.id == row["id"]))
    return made


def bearer(conn: sa.Connection, request: Signed) -> Row:
    """The access token by which a consumer signs its login. Raises Unauthorized."""
    table = oauth_access_tokens
    row = conn.execute(sa.select(table).where(table.c.id == request.get("oauth_token"))).mappings().first()
    consumer_id = _check(conn, request, row["secret"] if row else "")
    if row is None or row["consumer_id"] != consumer_id or row["expires_at"] <= now():
        raise Unauthorized("The request you have made requires authentication.", code="Unauthorized")
    return dict(row)


_listing = Listing(sa.select(oauth_access_tokens), columns_of(oauth_access_tokens, "id"), key=oauth_access_tokens.c.id)


def list_of_user(conn: sa.Connection, ctx: Context, user_id: str, query: Query) -> Page:
    require(conn, users, "user", user_id)
    return find(conn, _listing, query, oauth_access_tokens.c.user_id == user_id)


def get(conn: sa.Connection, ctx: Context, user_id: str, ident: str) -> Row:
    """With its `roles`. Raises NotFound."""
    row = require(conn, oauth_access_tokens, "access token", ident, oauth_access_tokens.c.user_id == user_id)
    return {**row, "roles": roles_of(conn, "access_token", ident)}


def get_role(conn: sa.Connection, ctx: Context, user_id: str, ident: str, role_id: str) -> Row:
    """Raises NotFound."""
    roles: Iterable[Row] = get(conn, ctx, user_id, ident)["roles"]
    for role in roles:
        if role["id"] == role_id:
            return role
    raise NotFound.of("role", role_id)


def delete(conn: sa.Connection, ctx: Context, user_id: str, ident: str) -> None:
    """Tokens that rest on it end with it. Raises NotFound, Forbidden."""
    if ctx.user_id != user_id and not ctx.is_admin:
        raise Forbidden("Only the user itself may delete its access tokens.")
    refuse_delegated(ctx)
    get(conn, ctx, user_id, ident)
    conn.execute(oauth_access_tokens.delete().where(oauth_access_tokens.c.id == ident))
    changed(conn, user_id)
