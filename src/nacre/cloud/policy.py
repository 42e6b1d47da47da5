"""The policy machinery. Each domain's `policies` holds its rows; together they are one table, name -> Rule.

The edge checks a route's row before the handler runs. Which *things* a caller sees (its project's, or all for an admin) is the
operations' matter: what is not visible is not found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may: anyone with a token (`role` None), or a role (and those above it: admin > manager > member > reader).

    `owner` names a path parameter that may stand in for the role: with `user_id`, a user may do it to itself.
    `project` names a path parameter that must be the caller's own project unless it is an admin.
    `also` is a role outside that ladder that may too (`service`, for what the services of a cloud ask of each other).
    `system` is a role that suffices on the system scope, `domain` one that suffices on a domain: what is outside of that domain does
    not exist for it then, which is the operations' matter again. `scoped`: without a project (or admin), the role counts for nothing.
    """

    role: str | None
    owner: str | None = None
    project: str | None = None
    also: str | None = None
    system: str | None = None
    domain: str | None = None
    scoped: bool = False

    def allows(self, context: Context, path: Mapping[str, str]) -> bool:
        if self.owner is not None and path.get(self.owner) == context.user_id:
            return True
        if context.system and self.system in context.roles:
            return True
        if context.domain_id is not None and self.domain in context.roles:
            return True
        if self.scoped and context.project_id is None and not context.is_admin:
            return False
        if self.project is not None and not context.sees(path.get(self.project)):
            return False
        return self.role is None or self.role in context.roles or self.also in context.roles


AUTHENTICATED = Rule(None)
READER = Rule("reader")
MEMBER = Rule("member")
MANAGER = Rule("manager")
ADMIN = Rule("admin")


def check(name: str, rule: Rule, context: Context, path: Mapping[str, str]) -> None:
    """Raises Forbidden with the row's name."""
    if not rule.allows(context, path):
        raise Forbidden(f"Policy doesn't allow {name} to be performed.", code="PolicyNotAuthorized", policy=name)
