"""Who asks: a bearer token (Identity's own, also from /v2/token), or Basic with a user's password or an application credential.

The user of a Basic login is NAME (of the default domain), DOMAIN/NAME, a user's id, or an application credential's id. The project is the one
that the repository is called after, where the user has a role there, else the user's default project.
Source: https://distribution.github.io/distribution/spec/auth/token/
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import time
from contextlib import suppress

from aiohttp import web

from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Forbidden, Unauthorized
from nacre.cloud.identity.authentication import ANY_SCOPE, Password, Proof, Reference, ScopeWanted, Secret, log_in
from nacre.cloud.registry import repositories
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import seconds

SERVICE = "nacre"
LOGINS_MAX = 1024
LOGIN_S_MAX = 60.0
"""So long a Basic login that was checked is not checked again: each blob of a push is a request, and a password costs tens of milliseconds."""
BASIC_BYTES_MAX = 4096
_ID = re.compile(r"[0-9a-f]{32}")
_REPOSITORY = re.compile(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)/")

_secret = os.urandom(32)
_logins: dict[bytes, tuple[float, str]] = {}
"""A keyed hash of (Authorization, project) -> until when (monotonic), token."""


def challenge(request: web.Request) -> str:
    """Where a client gets a token, and for what."""
    match = _REPOSITORY.match(request.path)
    actions = "pull" if request.method in ("GET", "HEAD") else "pull,push"
    scope = f',scope="repository:{match[1]}:{actions}"' if match and repositories.NAME.fullmatch(match[1]) else ""
    return f'Bearer realm="{request.scheme}://{request.host}/v2/token",service="{SERVICE}"{scope}'


async def authenticate(cloud: Cloud, request: web.Request, request_id: str) -> Context:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    try:
        if scheme.lower() == "basic":
            match = _REPOSITORY.match(request.path)
            return cloud.authenticate(await token_of(cloud, value, match[1] if match else ""), request_id)
        token = value.strip() if scheme.lower() == "bearer" else request.headers.get("X-Auth-Token", "")
        if not token:
            raise Unauthorized("authentication required")
        return cloud.authenticate(token, request_id)
    except Unauthorized as error:
        raise Unauthorized(error.message, code="UNAUTHORIZED", challenge=challenge(request)) from None


def _proof(basic: str) -> Proof:
    """Raises Unauthorized."""
    try:
        text = base64.b64decode(basic.strip().encode(), validate=True)[:BASIC_BYTES_MAX].decode()
    except (binascii.Error, ValueError):
        raise Unauthorized("the Authorization header is not understood") from None
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise Unauthorized("authentication required")
    if _ID.fullmatch(user):
        return Secret(Reference(id=user), None, password)
    domain, slash, name = user.partition("/")
    if slash:
        return Password(Reference(name=name, domain=Reference(name=domain)), password)
    return Password(Reference(name=user, domain=Reference(id="default")), password)


async def token_of(cloud: Cloud, basic: str, repository: str) -> str:
    """A token for the login, in the project of the repository where the user has a role there. Raises Unauthorized."""
    project = repository.partition("/")[0]
    key = hmac.digest(_secret, f"{project}\0{basic}".encode(), hashlib.sha256)
    known = _logins.get(key)
    if known is not None and known[0] > time.monotonic():
        with suppress(Unauthorized):
            cloud.authenticate(known[1], "")
            return known[1]
    token = await _log_in(cloud, _proof(basic), project)
    if len(_logins) >= LOGINS_MAX:
        del _logins[next(iter(_logins))]
    _logins[key] = (time.monotonic() + LOGIN_S_MAX, token)
    return token


async def _log_in(cloud: Cloud, proof: Proof, project: str) -> str:
    proofs = (proof,)
    if isinstance(proof, Secret):
        try:
            return (await log_in(cloud.store, cloud.identity, proofs, ANY_SCOPE))[0]
        except Unauthorized:
            proofs = (Password(Reference(id=proof.credential.id), proof.secret),)
    wanted = cloud.store.read_now(_project_of, project) if project else None
    if wanted is not None:
        with suppress(Unauthorized, Forbidden):
            return (await log_in(cloud.store, cloud.identity, proofs, ScopeWanted(project=Reference(id=wanted))))[0]
    try:
        return (await log_in(cloud.store, cloud.identity, proofs, ANY_SCOPE))[0]
    except Forbidden as error:
        raise Unauthorized(error.message) from None


def _project_of(conn: object, project: str) -> str | None:
    return repositories.project_of(conn, Context("", ""), project)  # type: ignore[arg-type]


async def token(call: Call) -> Reply:
    """A bearer token for a Basic login (or for a token in X-Auth-Token): Identity's own, in the project of the asked scope."""
    scheme, _, value = call.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("authentication required", code="UNAUTHORIZED", challenge='Basic realm="nacre"')
    try:
        text = await token_of(call.cloud, value, _repository_of(call.query.getall("scope", [])))
    except Unauthorized as error:
        raise Unauthorized(error.message, code="UNAUTHORIZED", challenge='Basic realm="nacre"') from None
    issued = call.cloud.authenticate(text, call.request_id).token
    left = max(60, int(issued.expires_at - time.time()))
    return Reply({"token": text, "access_token": text, "expires_in": left, "issued_at": seconds(issued.issued_at)})


def _repository_of(scopes: list[str]) -> str:
    """The repository to which a push is asked, else the first one (a mount names two)."""
    found = []
    for text in " ".join(scopes).split():
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and repositories.NAME.fullmatch(name):
            found.append((("push" not in actions.split(",")), name))
    return min(found, key=lambda entry: entry[0])[1] if found else ""
