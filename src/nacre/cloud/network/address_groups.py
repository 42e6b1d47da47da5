"""Address groups: https://docs.openstack.org/api-ref/network/v2/#address-groups.

On a host an address group is a security group that has members and no rules: the same sets, filled by hand.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import ipam, marks, quotas, rbac
from nacre.cloud.network.common import Readable, forget_tags, project_of, stamped, touch
from nacre.cloud.network.tables import address_groups, rules
from nacre.store import Page, Query

ADDRESSES_MAX = 10_000

_READ = Readable(
    "Address group",
    address_groups,
    rbac.visible(address_groups, "address_group"),
    extra={"shared": rbac.with_all(address_groups, "address_group")},
)
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    project_id = project_of(ctx, values)
    row = stamped(project_id, {**values, "addresses": _prefixes(values.get("addresses") or [])})
    conn.execute(address_groups.insert(), row)
    quotas.charge(conn, project_id, "address_group")
    return _READ.some(conn, address_groups.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    plain(conn, ctx, ident, owned=True)
    touch(conn, address_groups, ident, values)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    """Raises Conflict while a security group rule names it."""
    row = plain(conn, ctx, ident, owned=True)
    if conn.execute(sa.select(rules.c.id).where(rules.c.remote_address_group_id == ident).limit(1)).first() is not None:
        raise Conflict(f"Address group {ident} is in use on one or more security group rules.", code="AddressGroupInUse")
    conn.execute(address_groups.delete().where(address_groups.c.id == ident))
    rbac.forget(conn, "address_group", ident)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "address_group")


def add_addresses(conn: sa.Connection, ctx: Context, ident: str, asked: Iterable[str]) -> Row:
    """Raises Invalid for an address that the group has already."""
    row = plain(conn, ctx, ident, owned=True)
    wanted = _prefixes(asked)
    there = [text for text in wanted if text in row["addresses"]]
    if there:
        raise Invalid(f"Addresses {there} already in address group {ident}.", field="addresses", code="AddressesAlreadyExist")
    return _replace(conn, ctx, ident, [*row["addresses"], *wanted])


def remove_addresses(conn: sa.Connection, ctx: Context, ident: str, asked: Iterable[str]) -> Row:
    """Raises Invalid for an address that the group does not have."""
    row = plain(conn, ctx, ident, owned=True)
    wanted = _prefixes(asked)
    missing = [text for text in wanted if text not in row["addresses"]]
    if missing:
        raise Invalid(f"Addresses {missing} not in address group {ident}.", field="addresses", code="AddressesNotFound")
    return _replace(conn, ctx, ident, [text for text in row["addresses"] if text not in wanted])


def _replace(conn: sa.Connection, ctx: Context, ident: str, addresses: list[str]) -> Row:
    _check_number(addresses)
    touch(conn, address_groups, ident, {"addresses": addresses})
    gathered = marks.Marks()
    marks.address_group_changed(conn, gathered, ident)
    gathered.flush(conn)
    return get(conn, ctx, ident)


def _prefixes(asked: Iterable[str]) -> list[str]:
    """The addresses in CIDR form, each once. Raises Invalid."""
    found = []
    for text in asked:
        address = ipam.parse_address(text.partition("/")[0], "addresses")
        cidr = ipam.parse_cidr(text if "/" in text else f"{address}/{address.max_prefixlen}", "addresses", exact=False)
        found.append(str(cidr))
    _check_number(found)
    return list(dict.fromkeys(found))


def _check_number(addresses: list[str]) -> None:
    if len(addresses) > ADDRESSES_MAX:
        raise Invalid(f"An address group has at most {ADDRESSES_MAX} addresses.", field="addresses")
