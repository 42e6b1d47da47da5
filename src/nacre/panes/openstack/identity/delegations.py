"""Trusts (OS-TRUST), application credentials and their access rules: what a user lets others do in its name."""

import secrets
from typing import Annotated, Any, Literal

import msgspec

from nacre.cloud.collection import Row
from nacre.cloud.errors import Forbidden, Invalid
from nacre.cloud.identity import access_rules, application_credentials, trusts
from nacre.panes.edge import Call, Reply, Route, times
from nacre.panes.edge.call import convert
from nacre.panes.edge.resource import envelope
from nacre.panes.openstack.identity.dialect import DIALECT, identity_of, members
from nacre.panes.openstack.identity.resources import ROLES, Id, Name255
from nacre.panes.openstack.query import parse_limit
from nacre.store import Criterion, Query

SECRET_BYTES = 64
RULES_MAX = 128
RULE_SHOWN = ("id", "service", "method", "path")


class RoleRef(msgspec.Struct, omit_defaults=True):
    id: Id | None = None
    name: Name255 | None = None


class TrustBody(msgspec.Struct):
    trustor_user_id: Id
    trustee_user_id: Id
    impersonation: bool
    project_id: Id | None = None
    expires_at: str | None = None
    remaining_uses: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    roles: list[RoleRef] = []
    allow_redelegation: bool = False
    redelegation_count: int | None = None


class RuleBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A rule that is there, by id, or one in full."""

    id: Id | None = None
    service: Name255 | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    path: Annotated[str, msgspec.Meta(max_length=128, pattern="^/")] | None = None


class CredentialBody(msgspec.Struct):
    name: Name255
    description: str | None = None
    secret: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None = None
    expires_at: str | None = None
    roles: list[RoleRef] | None = None
    unrestricted: bool = False
    access_rules: Annotated[list[RuleBody], msgspec.Meta(max_length=RULES_MAX)] | None = None


def _query(call: Call, *names: str) -> Query:
    criteria = tuple(Criterion(name, "eq", call.query[name]) for name in names if name in call.query)
    return Query(criteria=criteria, limit=parse_limit(call.query), marker=call.query.get("marker"))


def _moment(text: str | None) -> float | None:
    return None if text is None else times.parse(text, "expires_at")


def _trust(call: Call, row: Row, summary: bool = False) -> dict[str, Any]:
    href = f"{call.base_url}/v3/OS-TRUST/trusts/{row['id']}"
    names = ("id", "trustor_user_id", "trustee_user_id", "project_id", "impersonation", "remaining_uses")
    shown: dict[str, Any] = {name: row[name] for name in names}
    shown |= {
        "expires_at": times.micros(row["expires_at"]),
        "deleted_at": None,
        "redelegation_count": 0,
        "redelegated_trust_id": None,
    }
    shown["links"] = {"self": href}
    if not summary:
        shown["roles"] = [DIALECT.one(call, ROLES, role) for role in row["roles"]]
        shown["roles_links"] = {"self": f"{href}/roles", "previous": None, "next": None}
    return shown


async def create_trust(call: Call) -> Reply:
    body = convert(envelope(await call.body(dict[str, Any]), "trust"), TrustBody)
    if body.allow_redelegation or body.redelegation_count:
        raise Forbidden("Trusts are not delegated further.", field="allow_redelegation")
    values = {
        name: getattr(body, name)
        for name in ("trustor_user_id", "trustee_user_id", "impersonation", "project_id", "remaining_uses")
    }
    values |= {"expires_at": _moment(body.expires_at), "roles": msgspec.to_builtins(body.roles)}
    return Reply({"trust": _trust(call, await call.write(trusts.create, values))}, 201)


async def list_trusts(call: Call) -> Reply:
    query = _query(call, "trustor_user_id", "trustee_user_id")
    page = await call.read(trusts.list_trusts, query)
    return Reply({"trusts": [_trust(call, row, summary=True) for row in page.rows], "links": DIALECT.links(call, page)})


async def show_trust(call: Call) -> Reply:
    return Reply({"trust": _trust(call, await call.read(trusts.get, call.path["trust_id"]))})


async def delete_trust(call: Call) -> Reply:
    await call.write(trusts.delete, call.path["trust_id"])
    return Reply(status=204)


async def list_trust_roles(call: Call) -> Reply:
    row = await call.read(trusts.get, call.path["trust_id"])
    return Reply({"roles": [DIALECT.one(call, ROLES, role) for role in row["roles"]], "links": members(call)})


async def show_trust_role(call: Call) -> Reply:
    role = await call.read(trusts.get_role, call.path["trust_id"], call.path["role_id"])
    return Reply({"role": DIALECT.one(call, ROLES, role)})


def _credential(call: Call, row: Row) -> dict[str, Any]:
    names = ("id", "name", "description", "project_id", "user_id", "unrestricted")
    shown: dict[str, Any] = {name: row[name] for name in names}
    shown["expires_at"] = times.micros(row["expires_at"], suffix="")
    shown["roles"] = [{name: role[name] for name in ("id", "name", "domain_id")} for role in row["roles"]]
    shown["system"] = None
    if row["access_rules"]:
        shown["access_rules"] = [{name: rule[name] for name in RULE_SHOWN} for rule in row["access_rules"]]
    shown["links"] = {"self": f"{call.base_url}/v3/users/{row['user_id']}/application_credentials/{row['id']}"}
    return shown


async def create_credential(call: Call) -> Reply:
    """The secret is shown this once."""
    body = convert(envelope(await call.body(dict[str, Any]), "application_credential"), CredentialBody)
    for rule in body.access_rules or ():
        if rule.id is None and None in (rule.service, rule.method, rule.path):
            raise Invalid("An access rule needs an id, or a service, a method and a path.", field="access_rules")
    secret = body.secret or secrets.token_urlsafe(SECRET_BYTES)
    values: Row = {name: getattr(body, name) for name in ("name", "description", "unrestricted")}
    values |= {"user_id": call.path["user_id"], "expires_at": _moment(body.expires_at)}
    values["roles"] = None if body.roles is None else msgspec.to_builtins(body.roles)
    values["access_rules"] = msgspec.to_builtins(body.access_rules or [])
    values["secret_hash"] = await identity_of(call).passwords.hash(secret)
    row = await call.write(application_credentials.create, values)
    return Reply({"application_credential": {**_credential(call, row), "secret": secret}}, 201)


async def list_credentials(call: Call) -> Reply:
    page = await call.read(application_credentials.list_of_user, call.path["user_id"], _query(call, "name"))
    shown = [_credential(call, row) for row in page.rows]
    return Reply({"application_credentials": shown, "links": DIALECT.links(call, page)})


async def show_credential(call: Call) -> Reply:
    row = await call.read(application_credentials.get, call.path["user_id"], call.path["application_credential_id"])
    return Reply({"application_credential": _credential(call, row)})


async def delete_credential(call: Call) -> Reply:
    await call.write(application_credentials.delete, call.path["user_id"], call.path["application_credential_id"])
    return Reply(status=204)


def _rule(call: Call, row: Row) -> dict[str, Any]:
    href = f"{call.base_url}/v3/users/{row['user_id']}/access_rules/{row['id']}"
    return {**{name: row[name] for name in RULE_SHOWN}, "links": {"self": href}}


async def list_rules(call: Call) -> Reply:
    page = await call.read(access_rules.list_of_user, call.path["user_id"], _query(call, "service", "method", "path"))
    return Reply({"access_rules": [_rule(call, row) for row in page.rows], "links": DIALECT.links(call, page)})


async def show_rule(call: Call) -> Reply:
    row = await call.read(access_rules.get, call.path["user_id"], call.path["access_rule_id"])
    return Reply({"access_rule": _rule(call, row)})


async def delete_rule(call: Call) -> Reply:
    await call.write(access_rules.delete, call.path["user_id"], call.path["access_rule_id"])
    return Reply(status=204)


_TRUSTS = "/v3/OS-TRUST/trusts"
_TRUST = _TRUSTS + "/{trust_id}"
_OWN = "/v3/users/{user_id}/application_credentials"
_ONE = _OWN + "/{application_credential_id}"
_RULES = "/v3/users/{user_id}/access_rules"
_RULE = _RULES + "/{access_rule_id}"
ROUTES: tuple[Route, ...] = (
    Route("POST", _TRUSTS, create_trust, "identity:create_trust", "Create a trust"),
    Route("GET", _TRUSTS, list_trusts, "identity:list_trusts", "List trusts"),
    # Keystone serves the list with a slash at its end too, and clients ask for it so.
    Route("GET", _TRUSTS + "/", list_trusts, "identity:list_trusts", "List trusts"),
    Route("GET", _TRUST, show_trust, "identity:get_trust", "Show a trust"),
    Route("DELETE", _TRUST, delete_trust, "identity:delete_trust", "Delete a trust"),
    Route("GET", _TRUST + "/roles", list_trust_roles, "identity:list_roles_for_trust", "List the roles of a trust"),
    Route("GET", _TRUST + "/roles/{role_id}", show_trust_role, "identity:get_role_for_trust", "Show a role of a trust"),
    Route("HEAD", _TRUST + "/roles/{role_id}", show_trust_role, "identity:get_role_for_trust", "Check a role of a trust"),
    Route("POST", _OWN, create_credential, "identity:create_application_credential", "Create an application credential"),
    Route("GET", _OWN, list_credentials, "identity:list_application_credentials", "List a user's application credentials"),
    Route("GET", _ONE, show_credential, "identity:get_application_credential", "Show an application credential"),
    Route("DELETE", _ONE, delete_credential, "identity:delete_application_credential", "Delete an application credential"),
    Route("GET", _RULES, list_rules, "identity:list_access_rules", "List a user's access rules"),
    Route("GET", _RULE, show_rule, "identity:get_access_rule", "Show an access rule"),
    Route("DELETE", _RULE, delete_rule, "identity:delete_access_rule", "Delete an access rule"),
)
