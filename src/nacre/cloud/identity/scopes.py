"""What a token says beyond its own bytes: the user, the scope's names, the roles there and the catalog, as the store has them now."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from nacre.cloud.errors import Unauthorized
from nacre.cloud.identity import delegations
from nacre.cloud.identity.assignments import SYSTEM, effective_roles
from nacre.cloud.identity.services import catalog
from nacre.cloud.identity.tables import projects, users

ScopeKind = Literal["unscoped", "project", "domain", "system"]


class Delegation(NamedTuple):
    """What a token rests on, an access token being OAuth's: it has that project and those roles, and no others."""

    kind: Literal["trust", "application_credential", "access_token"]
    id: str


class Scope(NamedTuple):
    kind: ScopeKind = "unscoped"
    id: str = ""
    delegation: Delegation | None = None


UNSCOPED = Scope()
SYSTEM_SCOPE = Scope("system", SYSTEM)


class Named(NamedTuple):
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Facts:
    """About one user in one scope. `catalog` is None for unscoped tokens."""

    user: Named
    user_domain: Named
    tokens_valid_from: float
    scope: Scope
    target: Named | None
    """The project or domain of the scope."""
    target_domain: Named | None
    """The project's domain."""
    is_domain: bool
    roles: tuple[Named, ...]
    role_names: frozenset[str]
    catalog: list[dict[str, Any]] | None
    password_expires_at: float | None = None
    delegation: dict[str, Any] | None = None
    """The row of the trust or application credential."""
    rendered: dict[bool, bytes] = field(default_factory=dict, compare=False)
    """What the pane made of this, with and without the catalog."""


class NotAuthenticated(Unauthorized):
    """One wording for every cause, so that it tells nobody which names exist."""

    def __init__(self, reason: str = "") -> None:
        super().__init__("The request you have made requires authentication.", code="Unauthorized")
        self.reason = reason
        """For the log, never for the client."""


_domains = projects.alias("domains")
_user = (
    sa.select(
        users.c.id,
        users.c.name,
        users.c.tokens_valid_from,
        users.c.password_expires_at,
        users.c.domain_id,
        _domains.c.name.label("domain_name"),
    )
    .join(_domains, _domains.c.id == users.c.domain_id)
    .where(users.c.id == sa.bindparam("ident"), users.c.enabled, _domains.c.enabled)
)
_target = (
    sa.select(projects.c.id, projects.c.name, projects.c.is_domain, projects.c.domain_id, _domains.c.name.label("domain_name"))
    .join(_domains, _domains.c.id == projects.c.domain_id, isouter=True)
    .where(projects.c.id == sa.bindparam("ident"), projects.c.enabled, sa.or_(projects.c.is_domain, _domains.c.enabled))
)


def resolve(conn: sa.Connection, user_id: str, scope: Scope) -> Facts:
    """Raises NotAuthenticated when the user, its domain or the scope is not there or disabled, or the user has no role there."""
    user = conn.execute(_user, {"ident": user_id}).first()
    if user is None:
        raise NotAuthenticated("no such user, or it is disabled")
    who = Named(user.id, user.name)
    home, expires_at = Named(user.domain_id, user.domain_name), user.password_expires_at
    if scope.kind == "unscoped":
        return Facts(who, home, user.tokens_valid_from, scope, None, None, False, (), frozenset(), None, expires_at)
    target = target_domain = None
    is_domain = False
    if scope.kind != "system":
        row = conn.execute(_target, {"ident": scope.id}).first()
        if row is None or (scope.kind == "domain" and not row.is_domain):
            raise NotAuthenticated("no such scope, or it is disabled")
        target, is_domain = Named(row.id, row.name), row.is_domain
        target_domain = None if row.domain_id is None else Named(row.domain_id, row.domain_name)
    delegated = None
    if scope.delegation is None:
        found = effective_roles(conn, user_id, scope.kind, scope.id)
    else:
        delegated, found = delegations.resolve(conn, scope.delegation.kind, scope.delegation.id, user_id, scope.id)
    if not found:
        raise NotAuthenticated("the user has no role in that scope")
    roles = tuple(Named(ident, name) for ident, name in sorted(found.items(), key=lambda item: item[1]))
    shown = catalog(conn, user_id, scope.id if scope.kind == "project" else None)
    return Facts(
        who,
        home,
        user.tokens_valid_from,
        scope,
        target,
        target_domain,
        is_domain,
        roles,
        frozenset(found.values()),
        shown,
        expires_at,
        delegated,
    )
