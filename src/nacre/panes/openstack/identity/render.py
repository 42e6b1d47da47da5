"""Identity's objects that are not rows: tokens and role assignments."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nacre.cloud.identity.assignments import Assignment
from nacre.cloud.identity.scopes import Facts, Named
from nacre.cloud.identity.tokens import Token
from nacre.panes.edge import times

_encoder = msgspec.json.Encoder()


def _with_domain(thing: Named, domain: Named | None) -> dict[str, Any]:
    return {"id": thing.id, "name": thing.name, "domain": {"id": domain.id, "name": domain.name} if domain else None}


def token(valid: Token, with_catalog: bool) -> bytes:
    """The body of https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token.

    What is the same for all tokens of a user in a scope is encoded once; only the head is each token's own.
    """
    facts = valid.facts
    rest = facts.rendered.get(with_catalog)
    if rest is None:
        rest = facts.rendered[with_catalog] = _encoder.encode(_facts(facts, with_catalog))
    head = {
        "methods": valid.methods,
        "audit_ids": valid.audit_ids,
        "expires_at": times.micros(valid.expires_at),
        "issued_at": times.micros(valid.issued_at),
    }
    return b'{"token":' + _encoder.encode(head)[:-1] + b"," + rest[1:] + b"}"


def _facts(facts: Facts, with_catalog: bool) -> dict[str, Any]:
    expires_at = times.micros(facts.password_expires_at)
    shown: dict[str, Any] = {"user": {**_with_domain(facts.user, facts.user_domain), "password_expires_at": expires_at}}
    kind = facts.scope.kind
    if kind == "unscoped":
        return shown
    if facts.target is not None and kind == "project":
        shown["project"] = _with_domain(facts.target, facts.target_domain)
        shown["is_domain"] = facts.is_domain
    elif facts.target is not None:
        shown["domain"] = {"id": facts.target.id, "name": facts.target.name}
    else:
        shown["system"] = {"all": True}
    shown["roles"] = [{"id": role.id, "name": role.name} for role in facts.roles]
    if facts.scope.delegation is not None and facts.delegation is not None:
        shown |= _delegation(facts.scope.delegation.kind, facts.delegation)
    if with_catalog:
        shown["catalog"] = facts.catalog
    return shown


def _delegation(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "trust":
        people = {f"{who}_user": {"id": row[f"{who}_user_id"]} for who in ("trustor", "trustee")}
        return {"OS-TRUST:trust": {"id": row["id"], "impersonation": row["impersonation"], **people}}
    if kind == "access_token":
        return {"OS-OAUTH1": {"access_token_id": row["id"], "consumer_id": row["consumer_id"]}}
    shown: dict[str, Any] = {"id": row["id"], "name": row["name"], "restricted": not row["unrestricted"]}
    if row["access_rules"]:
        shown["access_rules"] = [
            {name: rule[name] for name in ("id", "service", "method", "path")} for rule in row["access_rules"]
        ]
    return {"application_credential": shown}


def assignment(found: Assignment, names: Mapping[str, Mapping[str, Any]] | None, base_url: str) -> dict[str, Any]:
    """One element of GET /v3/role_assignments. `names` adds them (include_names)."""
    grant = found.grant
    scope: dict[str, Any]
    if grant.target_kind == "system":
        scope, place = {"system": {"all": True}}, "system"
    else:
        scope = {grant.target_kind: _named(grant.target_id, names)}
        place = f"{grant.target_kind}s/{grant.target_id}"
    root = f"{base_url}/v3"
    suffix = ""
    stored_in = place
    if grant.inherited or found.inherited_from:
        scope["OS-INHERIT:inherited_to"] = "projects"
        root, suffix = f"{base_url}/v3/OS-INHERIT", "/inherited_to_projects"
        if found.inherited_from:
            stored_in = f"{found.inherited_from[0]}s/{found.inherited_from[1]}"
    actor = f"groups/{found.via_group}" if found.via_group else f"{grant.actor_kind}s/{grant.actor_id}"
    links = {"assignment": f"{root}/{stored_in}/{actor}/roles/{found.prior_role_id or grant.role_id}{suffix}"}
    if found.via_group:
        links["membership"] = f"{base_url}/v3/groups/{found.via_group}/users/{grant.actor_id}"
    if found.prior_role_id:
        links["prior_role"] = f"{base_url}/v3/roles/{found.prior_role_id}"
    return {
        "role": _named(grant.role_id, names),
        grant.actor_kind: _named(grant.actor_id, names),
        "scope": scope,
        "links": links,
    }


def _named(ident: str, names: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    row = names.get(ident) if names is not None else None
    if names is None or row is None:
        return {"id": ident}
    shown = {"id": ident, "name": row["name"]}
    domain_id = row["domain_id"]
    if domain_id is not None:
        domain = names.get(domain_id)
        shown["domain"] = {"id": domain_id, "name": domain["name"] if domain else ""}
    return shown
