"""Who asks: the outcome of authentication, handed to every operation."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

ROLE_IMPLIES: dict[str, frozenset[str]] = {
    "admin": frozenset({"admin", "manager", "member", "reader"}),
    "manager": frozenset({"manager", "member", "reader"}),
    "member": frozenset({"member", "reader"}),
    "reader": frozenset({"reader"}),
}


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One kind of request: a service's type, a method, and a path in which `*` or `{name}` stands for one segment and `**` for any."""

    service: str
    method: str
    path: str

    def matches(self, service: str, method: str, paths: tuple[str, ...]) -> bool:
        if (self.service, self.method) != (service, method):
            return False
        pattern = _pattern(self.path)
        return any(pattern.fullmatch(path) for path in paths)


_WILD = re.compile(r"(\*\*|\*|\{[^{}/]*\})")


@lru_cache(maxsize=1024)
def _pattern(path: str) -> re.Pattern[str]:
    parts = _WILD.split(path)
    text = "".join((".*" if part == "**" else "[^/]+") if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(text, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Context:
    """`roles` holds the implied ones too. At most one of project_id, domain_id and system is set: the token's scope."""

    user_id: str
    user_domain_id: str
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    roles: frozenset[str] = frozenset()
    request_id: str = ""
    user_name: str = ""
    project_name: str = ""
    access_rules: tuple["AccessRule", ...] | None = None
    """What alone the token may be used for, where it rests on an application credential that says so; None is no such limit."""
    token: Any = field(default=None, compare=False, repr=False)
    """What Identity knows of the token (its own struct), for the calls that are about the token itself."""

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    @property
    def sees_all(self) -> bool:
        """Whether things of every domain may be looked at: an admin's, and a reader's of the whole system."""
        return self.is_admin or (self.system and "reader" in self.roles)

    def sees(self, project_id: str | None) -> bool:
        """Whether things of that project exist for this caller: its own, or any for an admin."""
        return self.is_admin or (project_id is not None and project_id == self.project_id)


def internal(request_id: str = "") -> Context:
    """The cloud itself (bootstrap, sweepers): an admin of the system without a user."""
    return Context(user_id="", user_domain_id="", system=True, roles=ROLE_IMPLIES["admin"], request_id=request_id)
