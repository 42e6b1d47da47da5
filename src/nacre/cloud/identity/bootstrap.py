"""What a cloud has from its first second: a domain, roles, two users with projects, the catalog, and keys. Running it again changes nothing."""

import asyncio
import itertools
from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.context import internal
from nacre.cloud.core import Settings
from nacre.cloud.identity import assignments, keys, passwords
from nacre.cloud.identity.assignments import SYSTEM, Grant
from nacre.cloud.identity.changes import changed
from nacre.cloud.identity.tables import (
    endpoints,
    fernet_keys,
    implied_roles,
    projects,
    regions,
    roles,
    services,
    users,
)
from nacre.store import Store
from nacre.store.schema import new_hex_id

DEFAULT_DOMAIN = "default"
LADDER = ("admin", "manager", "member", "reader")
"""Roles of which each implies the next."""
ROLES = (*LADDER, "service")
"""`service` is for what a cloud's services ask of each other."""
USERS: Mapping[str, tuple[str, str]] = {"admin": ("admin", "admin"), "demo": ("demo", "member")}
"""user -> (project, role)."""
CATALOG: Mapping[str, tuple[str, str]] = {
    "identity": ("keystone", "/identity"),
    "compute": ("nova", "/compute/v2.1"),
    "image": ("glance", "/image"),
    "network": ("neutron", "/network"),
    "placement": ("placement", "/placement"),
}
"""type -> (name, path under the base URL)."""
INTERFACES = ("public", "internal", "admin")


async def prepare(store: Store, settings: Settings, initial: Mapping[str, str]) -> None:
    """Bootstrap with these users' initial passwords (admin's and demo's). A user that is there keeps its password."""
    known = store.read_now(lambda conn: set(conn.execute(sa.select(users.c.name).where(users.c.name.in_(initial))).scalars()))
    hashes = {
        name: await asyncio.to_thread(passwords.hash_now, password, settings.password_cost)
        for name, password in initial.items()
        if name not in known
    }
    await store.write(bootstrap, settings, hashes)


def bootstrap(conn: sa.Connection, settings: Settings, hashes: Mapping[str, str]) -> None:
    """Idempotent. Endpoints follow the base URL."""
    default_domain(conn)
    made = default_roles(conn)
    for name, (project, role) in USERS.items():
        _user(conn, name, project, made[role], hashes.get(name))
    _catalog(conn, settings)
    if conn.execute(sa.select(fernet_keys.c.id)).first() is None:
        keys.rotate(conn, keys.wrapping_key(settings.state))
    changed(conn)


def _ensure(conn: sa.Connection, table: sa.Table, match: Mapping[str, object], values: Mapping[str, object]) -> str:
    """The id of the row that matches; it is made when it is not there."""
    where = [table.c[name] == value for name, value in match.items()]
    found = conn.execute(sa.select(table.c.id).where(*where)).scalar()
    if found is None:
        found = new_hex_id() if "id" not in match else str(match["id"])
        conn.execute(table.insert().values({"id": found, **match, **values}))
    return str(found)


def default_domain(conn: sa.Connection) -> None:
    values = {"name": "Default", "is_domain": True, "description": "The default domain"}
    _ensure(conn, projects, {"id": DEFAULT_DOMAIN}, values)


def default_roles(conn: sa.Connection) -> dict[str, str]:
    """name -> id."""
    made = {name: _ensure(conn, roles, {"name": name, "domain_id": None}, {}) for name in ROLES}
    for prior, implied in itertools.pairwise(LADDER):
        rule = {"prior_role_id": made[prior], "implied_role_id": made[implied]}
        where = [implied_roles.c[name] == value for name, value in rule.items()]
        if conn.execute(sa.select(implied_roles).where(*where)).first() is None:
            conn.execute(implied_roles.insert().values(rule))
    return made


def _user(conn: sa.Connection, name: str, project: str, role_id: str, password_hash: str | None) -> None:
    """A user with its role on its project; the admin has it on the system too."""
    ctx, home = internal(), {"domain_id": DEFAULT_DOMAIN}
    project_id = _ensure(conn, projects, {"name": project, **home}, {"parent_id": DEFAULT_DOMAIN})
    user_id = _ensure(conn, users, {"name": name, **home}, {"default_project_id": project_id, "password_hash": password_hash})
    assignments.add(conn, ctx, Grant("user", user_id, "project", project_id, role_id))
    if name == "admin":
        assignments.add(conn, ctx, Grant("user", user_id, "system", SYSTEM, role_id))


def _catalog(conn: sa.Connection, settings: Settings) -> None:
    _ensure(conn, regions, {"id": settings.region}, {})
    for service_type, (name, path) in CATALOG.items():
        service_id = _ensure(conn, services, {"type": service_type}, {"name": name})
        url = settings.base_url + path
        for interface in INTERFACES:
            match = {"service_id": service_id, "interface": interface, "region_id": settings.region}
            ident = _ensure(conn, endpoints, match, {"url": url})
            conn.execute(endpoints.update().where(endpoints.c.id == ident, endpoints.c.url != url).values(url=url))
