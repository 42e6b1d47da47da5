"""Traits: those that follow from what hosts are, and those that an operator makes and gives to them.

https://docs.openstack.org/api-ref/placement/#traits
"""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.tables import custom_traits, hosts
from nacre.cloud.placement import rules
from nacre.cloud.placement.operations import provider
from nacre.cloud.placement.rules import Row
from nacre.store.schema import now

TRAITS_MAX = 100
"""So many may be given to a host."""
CUSTOM_MAX = 1000
"""So many may be made."""
NAME_CHARACTERS_MAX = 64


def names(conn: sa.Connection, ctx: Context) -> list[str]:
    """All there are."""
    made = conn.execute(sa.select(custom_traits.c.name).order_by(custom_traits.c.name)).scalars()
    return [*rules.TRAITS, *made]


def create(conn: sa.Connection, ctx: Context, name: str) -> bool:
    """Whether it is new. Raises Invalid."""
    known = names(conn, ctx)
    if name in known:
        return False
    if len(name) > NAME_CHARACTERS_MAX:
        raise Invalid(f"A trait's name has {NAME_CHARACTERS_MAX} characters at most.", field="name")
    if len(known) >= CUSTOM_MAX:
        raise Invalid(f"There are {CUSTOM_MAX} traits at most.", field="name")
    conn.execute(custom_traits.insert().values(name=name, created_at=now()))
    return True


def delete(conn: sa.Connection, ctx: Context, name: str) -> None:
    """Raises NotFound; Invalid for one that hosts have by themselves, Conflict for one that a host was given."""
    if name in rules.TRAITS:
        raise Invalid(f"Cannot delete standard trait {name}.", field="name")
    if name not in names(conn, ctx):
        raise NotFound(f"No such trait: {name}.")
    if any(name in given for given in conn.execute(sa.select(hosts.c.traits)).scalars()):
        raise Conflict(f"The trait {name} is in use by a resource provider.")
    conn.execute(custom_traits.delete().where(custom_traits.c.name == name))


def give(conn: sa.Connection, ctx: Context, uuid: str, wanted: Sequence[str], generation: int | None) -> Row:
    """Give a host these traits and no others. Raises NotFound, Invalid (no such trait), Conflict for a generation that it has no more."""
    row = provider(conn, ctx, uuid)
    if generation is not None and generation != row["generation"]:
        code = "placement.concurrent_update"
        raise Conflict("Resource provider's generation already changed. Please update the generation and try again.", code=code)
    unknown = sorted(set(wanted) - set(names(conn, ctx)))
    if unknown:
        raise Invalid(f"No such trait {', '.join(unknown)}.", field="traits")
    given = sorted(set(wanted) - set(rules.TRAITS))
    conn.execute(hosts.update().where(hosts.c.id == uuid).values(traits=given, updated_at=now()))
    fleet.changed(conn, uuid)
    return provider(conn, ctx, uuid)
