"""What trusts, application credentials and OAuth's access tokens share: a project, some of a user's roles, an end."""

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Forbidden, Invalid, NotFound
from nacre.cloud.identity import access_rules
from nacre.cloud.identity import roles as role_operations
from nacre.cloud.identity.assignments import effective_roles
from nacre.cloud.identity.tables import (
    application_credential_roles,
    application_credentials,
    oauth_access_token_roles,
    oauth_access_tokens,
    projects,
    roles,
    trust_roles,
    trusts,
    users,
)
from nacre.store.schema import now

Kind = Literal["trust", "application_credential", "access_token"]
_TABLES: dict[Kind, tuple[sa.Table, sa.Table, str]] = {
    "trust": (trusts, trust_roles, "trust_id"),
    "application_credential": (application_credentials, application_credential_roles, "application_credential_id"),
    "access_token": (oauth_access_tokens, oauth_access_token_roles, "access_token_id"),
}


def named_roles(conn: sa.Connection, wanted: list[Mapping[str, str]], held: Mapping[str, str]) -> list[str]:
    """The ids of roles given by id or (global) name. Raises Invalid, NotFound, Forbidden for one that the user does not have."""
    found = []
    for role in wanted:
        column, value = (roles.c.id, role["id"]) if "id" in role else (roles.c.name, role.get("name"))
        if value is None:
            raise Invalid("A role needs an id or a name.", field="roles")
        ident = conn.execute(sa.select(roles.c.id).where(column == value, roles.c.domain_id.is_(None))).scalar()
        if ident is None:
            raise NotFound.of("role", value)
        if ident not in held:
            raise Forbidden(f"The user does not have the role {value} there.", field="roles")
        found.append(ident)
    return list(dict.fromkeys(found))


def roles_of(conn: sa.Connection, kind: Kind, ident: str) -> list[Row]:
    _, links, column = _TABLES[kind]
    select = sa.select(roles).join(links, links.c.role_id == roles.c.id).where(links.c[column] == ident).order_by(roles.c.name)
    return [dict(row) for row in conn.execute(select).mappings()]


def resolve(conn: sa.Connection, kind: Kind, ident: str, user_id: str, project_id: str) -> tuple[Row | None, dict[str, str]]:
    """(the row, the roles that it gives): those that it names and whose they are still has. (None, {}) once it is gone or over."""
    table = _TABLES[kind][0]
    found = conn.execute(sa.select(table).where(table.c.id == ident, table.c.project_id == project_id)).mappings().first()
    row = dict(found or {})
    if not row or (row["expires_at"] is not None and row["expires_at"] <= now()):
        return None, {}
    giver, taker = (row["trustor_user_id"], acting_user(row)) if kind == "trust" else (row["user_id"], row["user_id"])
    if user_id != taker or not all(_alive(conn, person) for person in _people(kind, row)):
        return None, {}
    wanted = role_operations.expand(role_operations.inferences(conn), {role["id"] for role in roles_of(conn, kind, ident)})
    held = effective_roles(conn, giver, "project", project_id)
    if kind == "application_credential":
        row["access_rules"] = access_rules.of_credential(conn, ident)
    return row, {role_id: name for role_id, name in held.items() if role_id in wanted}


def acting_user(trust: Mapping[str, Any]) -> str:
    """Who a token of the trust is of."""
    return str(trust["trustor_user_id"] if trust["impersonation"] else trust["trustee_user_id"])


def _people(kind: Kind, row: Mapping[str, Any]) -> set[str]:
    return {row["trustor_user_id"], row["trustee_user_id"]} if kind == "trust" else {row["user_id"]}


def _alive(conn: sa.Connection, user_id: str) -> bool:
    """Whether a user is enabled, and so is its domain."""
    select = sa.select(users.c.id).join(projects, projects.c.id == users.c.domain_id)
    return conn.execute(select.where(users.c.id == user_id, users.c.enabled, projects.c.enabled)).first() is not None
