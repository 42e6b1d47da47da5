"""Tags: https://docs.openstack.org/api-ref/network/v2/#standard-attributes-tag-extension."""

from collections.abc import Sequence
from types import ModuleType

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.network import (
    floatingips,
    networks,
    ports,
    qos,
    routers,
    security_group_rules,
    security_groups,
    subnetpools,
    subnets,
)
from nacre.cloud.network.tables import tags

TAGGED: dict[str, ModuleType] = {
    "networks": networks,
    "subnets": subnets,
    "ports": ports,
    "routers": routers,
    "floatingips": floatingips,
    "subnetpools": subnetpools,
    "security-groups": security_groups,
    "security-group-rules": security_group_rules,
    "policies": qos,
}
"""The collections (as their paths name them) whose things can have tags."""
TAGS_MAX = 50
LENGTH_MAX = 255


def get(conn: sa.Connection, ctx: Context, collection: str, ident: str) -> list[str]:
    TAGGED[collection].plain(conn, ctx, ident)
    return _tags(conn, ident)


def has(conn: sa.Connection, ctx: Context, collection: str, ident: str, tag: str) -> None:
    """Raises NotFound when it has not."""
    if tag not in get(conn, ctx, collection, ident):
        raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")


def replace(conn: sa.Connection, ctx: Context, collection: str, ident: str, wanted: Sequence[str]) -> list[str]:
    """All the tags that it has from now on."""
    TAGGED[collection].plain(conn, ctx, ident, owned=True)
    conn.execute(tags.delete().where(tags.c.resource_id == ident))
    return _add(conn, ident, wanted)


def add(conn: sa.Connection, ctx: Context, collection: str, ident: str, tag: str) -> None:
    TAGGED[collection].plain(conn, ctx, ident, owned=True)
    if tag not in _tags(conn, ident):
        _add(conn, ident, [tag])


def remove(conn: sa.Connection, ctx: Context, collection: str, ident: str, tag: str) -> None:
    TAGGED[collection].plain(conn, ctx, ident, owned=True)
    if conn.execute(tags.delete().where(tags.c.resource_id == ident, tags.c.tag == tag)).rowcount == 0:
        raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")


def clear(conn: sa.Connection, ctx: Context, collection: str, ident: str) -> None:
    replace(conn, ctx, collection, ident, [])


def _tags(conn: sa.Connection, ident: str) -> list[str]:
    return list(conn.execute(sa.select(tags.c.tag).where(tags.c.resource_id == ident).order_by(tags.c.tag)).scalars())


def _add(conn: sa.Connection, ident: str, wanted: Sequence[str]) -> list[str]:
    for tag in wanted:
        if not tag or len(tag) > LENGTH_MAX or "," in tag:
            raise Invalid(f"A tag has 1 to {LENGTH_MAX} characters and no comma: '{tag[:80]}'.", field="tags")
    rows = [{"resource_id": ident, "tag": tag} for tag in dict.fromkeys(wanted)]
    if rows:
        conn.execute(tags.insert(), rows)
    found = _tags(conn, ident)
    if len(found) > TAGS_MAX:
        raise Invalid(f"A resource has at most {TAGS_MAX} tags.", field="tags")
    return found
