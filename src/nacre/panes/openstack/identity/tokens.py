"""Authentication: https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management."""

from typing import Any

from nacre.cloud.errors import Forbidden, NotFound, Unauthorized
from nacre.cloud.identity import assignments, authentication, projects
from nacre.cloud.identity.services import catalog
from nacre.cloud.identity.tokens import Token
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.openstack.identity import render, schemas
from nacre.panes.openstack.identity.dialect import DIALECT, identity_of, members
from nacre.panes.openstack.identity.oauth import signed
from nacre.panes.openstack.identity.resources import DOMAINS, PROJECTS
from nacre.panes.openstack.query import parse_boolean

CALLER_HEADERS = {"Vary": "X-Auth-Token"}
KNOWS_RULES = "OpenStack-Identity-Access-Rules"


def _wants_catalog(call: Call) -> bool:
    return not ("nocatalog" in call.query and parse_boolean(call.query["nocatalog"], "nocatalog"))


async def issue(call: Call) -> Reply:
    body = (await call.body(schemas.AuthBody)).auth
    proofs, scope = schemas.proofs(body.identity, lambda: signed(call)), schemas.scope(body.scope)
    text, token = await authentication.log_in(call.cloud.store, identity_of(call), proofs, scope)
    return Reply(_rendered(token, _wants_catalog(call)), 201, {"X-Subject-Token": text, **CALLER_HEADERS})


def _rendered(token: Token, with_catalog: bool) -> bytes:
    data = token.rendered.get(with_catalog)
    if data is None:
        data = token.rendered[with_catalog] = render.token(token, with_catalog)
    return data


def _subject(call: Call) -> tuple[str, Token]:
    """The token that the call is about: one's own, or any for an admin, a system reader or a service. Raises NotFound for one that is not valid."""
    text = call.request.headers.get("X-Subject-Token")
    if not text:
        raise NotFound("The request needs the header X-Subject-Token.", code="NotFound")
    try:
        token = identity_of(call).tokens.validate(text)
    except Unauthorized:
        raise NotFound("Could not find token.", code="TokenNotFound") from None
    context = call.context
    may = context.is_admin if call.request.method == "DELETE" else context.sees_all or "service" in context.roles
    if token.facts.user.id != context.user_id and not may:
        raise Forbidden(f"You are not authorized to perform the requested action: {call.route.policy}.")
    if token.access_rules and KNOWS_RULES not in call.request.headers and call.request.method != "DELETE":
        # Who does not say that it will hold requests against the rules gets to know of no such token.
        raise NotFound("Could not find token.", code="TokenNotFound")
    return text, token


async def validate(call: Call) -> Reply:
    text, token = _subject(call)
    return Reply(_rendered(token, _wants_catalog(call)), 200, {"X-Subject-Token": text, **CALLER_HEADERS})


async def check(call: Call) -> Reply:
    text, _ = _subject(call)
    return Reply(None, 200, {"X-Subject-Token": text, **CALLER_HEADERS})


async def revoke(call: Call) -> Reply:
    _, token = _subject(call)
    await identity_of(call).tokens.revoke(token)
    return Reply(status=204)


async def show_catalog(call: Call) -> Reply:
    facts = call.context.token.facts
    if facts.catalog is None:
        raise Forbidden("An unscoped token has no catalog.")
    shown = await call.read(lambda conn, ctx: catalog(conn, ctx.user_id, ctx.project_id))
    return Reply({"catalog": shown, "links": members(call)})


async def own_projects(call: Call) -> Reply:
    rows = await call.read(lambda conn, ctx: projects.rows_of(conn, ctx, assignments.projects_of(conn, ctx.user_id)))
    return Reply({"projects": [DIALECT.one(call, PROJECTS, row) for row in rows], "links": members(call)})


async def own_domains(call: Call) -> Reply:
    rows = await call.read(lambda conn, ctx: projects.rows_of(conn, ctx, assignments.domains_of(conn, ctx.user_id)))
    return Reply({"domains": [DIALECT.one(call, DOMAINS, row) for row in rows], "links": members(call)})


async def own_system(call: Call) -> Reply:
    roles = await call.read(lambda conn, ctx: assignments.effective_roles(conn, ctx.user_id, "system", assignments.SYSTEM))
    shown: list[dict[str, Any]] = [{"all": True}] if roles else []
    return Reply({"system": shown, "links": members(call)})


_OWN = "identity:get_auth_%s"
ROUTES: tuple[Route, ...] = (
    Route("POST", "/v3/auth/tokens", issue, None, "Authenticate"),
    Route("GET", "/v3/auth/tokens", validate, "identity:validate_token", "Validate a token and show what it says"),
    Route("HEAD", "/v3/auth/tokens", check, "identity:check_token", "Check a token"),
    Route("DELETE", "/v3/auth/tokens", revoke, "identity:revoke_token", "Revoke a token"),
    *(
        Route(method, f"/v3/auth/{what}", handler, _OWN % what, f"Show the {what} of one's token or of oneself")
        for what, handler in (
            ("catalog", show_catalog),
            ("projects", own_projects),
            ("domains", own_domains),
            ("system", own_system),
        )
        for method in ("GET", "HEAD")
    ),
)
