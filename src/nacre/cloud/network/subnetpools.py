"""Subnet pools: https://docs.openstack.org/api-ref/network/v2/#subnet-pools-extension-subnetpools."""

import ipaddress
from collections.abc import Iterable

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import address_scopes, ipam, quotas, rbac
from nacre.cloud.network.common import Readable, forget_tags, project_of, stamped, touch
from nacre.cloud.network.tables import subnet_pools, subnets
from nacre.store import Page, Query

PREFIXES_MAX = 100
MIN_PREFIXLEN = {4: 8, 6: 64}
BITS = {4: 32, 6: 128}

_READ = Readable("Subnet pool", subnet_pools, rbac.visible(subnet_pools, "subnetpool"))
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    project_id = project_of(ctx, values)
    prefixes = _prefixes(values["prefixes"])
    version = prefixes[0].version
    lengths = _lengths(values, version)
    row = stamped(project_id, {**values, **lengths, "prefixes": [str(prefix) for prefix in prefixes], "ip_version": version})
    if row.get("is_default"):
        _check_default(conn, version)
    _check_scope(conn, ctx, row.get("address_scope_id"), {**row, "shared": bool(row.get("shared"))})
    conn.execute(subnet_pools.insert().values(row))
    rbac.share(conn, "subnetpool", row, on=bool(row.get("shared")))
    quotas.charge(conn, project_id, "subnetpool")
    return _READ.some(conn, subnet_pools.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    row = plain(conn, ctx, ident, owned=True)
    changes = dict(values)
    if "prefixes" in changes:
        changes["prefixes"] = _grown(row, changes["prefixes"])
    if {"min_prefixlen", "max_prefixlen", "default_prefixlen"} & changes.keys():
        changes |= _lengths({**row, **changes}, row["ip_version"])
    if changes.get("is_default") and not row["is_default"]:
        _check_default(conn, row["ip_version"])
    if "address_scope_id" in changes or "prefixes" in changes:
        _check_scope(conn, ctx, changes.get("address_scope_id", row["address_scope_id"]), {**row, **changes})
    touch(conn, subnet_pools, ident, changes)
    return get(conn, ctx, ident)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = plain(conn, ctx, ident, owned=True)
    if conn.execute(sa.select(subnets.c.id).where(subnets.c.subnetpool_id == ident).limit(1)).first() is not None:
        raise Conflict(
            f"Unable to delete subnet pool: Subnet pool {ident} has existing allocations.", code="SubnetPoolDeleteError"
        )
    conn.execute(subnet_pools.delete().where(subnet_pools.c.id == ident))
    rbac.forget(conn, "subnetpool", ident)
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "subnetpool")


def _check_scope(conn: sa.Connection, ctx: Context, scope_id: str | None, pool: Row) -> None:
    """A pool's scope is of its IP version, the pool's project's own or shared with it, and no other pool there has its prefixes."""
    if scope_id is None:
        return
    scope = address_scopes.plain(conn, ctx, scope_id)
    if scope["ip_version"] != pool["ip_version"]:
        raise Invalid(
            f"Illegal subnetpool association: subnetpool {pool['id']} cannot associate with address scope {scope_id} because "
            f"subnetpool ip_version is not {scope['ip_version']}.",
            field="address_scope_id",
            code="IllegalSubnetPoolIpVersionAssociation",
        )
    if pool["shared"] and not address_scopes.is_shared(conn, scope_id):
        raise Conflict(
            f"Illegal subnetpool association: a shared subnetpool cannot associate with the address scope {scope_id}, which is not.",
            code="IllegalSubnetPoolAssociationToAddressScope",
        )
    mine = [ipam.parse_cidr(text, "prefixes") for text in pool["prefixes"]]
    others = sa.select(subnet_pools.c.prefixes).where(
        subnet_pools.c.address_scope_id == scope_id, subnet_pools.c.id != pool["id"]
    )
    for prefixes in conn.execute(others).scalars():
        if any(_overlap(one, ipam.parse_cidr(text, "prefixes")) for one in mine for text in prefixes):
            raise Conflict(
                f"Impossible to associate subnetpool {pool['id']} with address scope {scope_id}: its prefixes overlap another's.",
                code="AddressScopePrefixConflict",
            )


def default_of(conn: sa.Connection, ctx: Context, version: int | None) -> str:
    """The default pool of an IP version. Raises Invalid when there is none."""
    where = [subnet_pools.c.is_default, subnet_pools.c.ip_version == (version or 4)]
    ident = conn.execute(sa.select(subnet_pools.c.id).where(*where)).scalar()
    if ident is None:
        raise Invalid("No default subnetpool found.", field="use_default_subnetpool")
    return str(ident)


def allocate(
    conn: sa.Connection,
    ctx: Context,
    ident: str,
    project_id: str,
    cidr: ipam.Cidr | None,
    prefixlen: int | None,
    version: int | None,
) -> ipam.Cidr:
    """A prefix of the pool that no subnet has: the one asked for, or the first free one of that length. Raises Invalid, Conflict."""
    row = plain(conn, ctx, ident)
    if version is not None and version != row["ip_version"]:
        raise Invalid(f"The subnet pool has IP version {row['ip_version']}.", field="ip_version")
    if cidr is not None and prefixlen is not None:
        raise Invalid("cidr and prefixlen must not be supplied together.", field="prefixlen", code="BadRequest")
    length = cidr.prefixlen if cidr is not None else (row["default_prefixlen"] if prefixlen is None else prefixlen)
    if not row["min_prefixlen"] <= length <= row["max_prefixlen"]:
        raise Invalid(
            f"Unable to allocate subnet with prefix length {length}, the pool allows {row['min_prefixlen']} to {row['max_prefixlen']}.",
            field="prefixlen",
            code="MinPrefixSubnetAllocationError" if length < row["min_prefixlen"] else "MaxPrefixSubnetAllocationError",
        )
    taken = [
        ipam.parse_cidr(text, "cidr")
        for text in conn.execute(sa.select(subnets.c.cidr).where(subnets.c.subnetpool_id == ident)).scalars()
    ]
    _check_quota(conn, row, project_id, length)
    prefixes = [ipam.parse_cidr(text, "prefixes") for text in row["prefixes"]]
    if cidr is None:
        return _first_free(prefixes, taken, length, ident)
    inside = any(_inside(cidr, prefix) for prefix in prefixes)
    if not inside or any(_overlap(cidr, other) for other in taken):
        raise Conflict(f"Failed to allocate subnet: Cannot allocate requested subnet {cidr}.", code="SubnetAllocationError")
    return cidr


def _first_free(prefixes: list[ipam.Cidr], taken: list[ipam.Cidr], length: int, ident: str) -> ipam.Cidr:
    """Walks from one taken prefix to the next, not over every possible one."""
    ends = sorted((int(other.network_address), int(other.broadcast_address)) for other in taken)
    for prefix in prefixes:
        if length < prefix.prefixlen:
            continue
        step = 1 << (BITS[prefix.version] - length)
        start, last = int(prefix.network_address), int(prefix.broadcast_address)
        for low, high in ends:
            if high < start:
                continue
            if low >= start + step:
                break
            start = -(-(high + 1) // step) * step
        if start + step - 1 <= last:
            address = ipaddress.IPv4Address(start) if prefix.version == 4 else ipaddress.IPv6Address(start)
            return ipaddress.ip_network(f"{address}/{length}")
    raise Conflict(
        f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length} in pool {ident}.",
        code="SubnetAllocationError",
    )


def _inside(cidr: ipam.Cidr, prefix: ipam.Cidr) -> bool:
    return (
        cidr.version == prefix.version
        and int(prefix.network_address) <= int(cidr.network_address)
        and int(cidr.broadcast_address) <= int(prefix.broadcast_address)
    )


def _overlap(one: ipam.Cidr, other: ipam.Cidr) -> bool:
    return int(one.network_address) <= int(other.broadcast_address) and int(other.network_address) <= int(one.broadcast_address)


def _check_quota(conn: sa.Connection, row: Row, project_id: str, length: int) -> None:
    """default_quota counts addresses for IPv4 and /64s for IPv6, for each project."""
    if row["default_quota"] is None:
        return
    unit = {4: 32, 6: 64}[row["ip_version"]]
    mine = conn.execute(
        sa.select(subnets.c.cidr).where(subnets.c.subnetpool_id == row["id"], subnets.c.project_id == project_id)
    ).scalars()
    lengths = [length, *(ipam.parse_cidr(text, "cidr").prefixlen for text in mine)]
    if sum(2 ** max(unit - each, 0) for each in lengths) > row["default_quota"]:
        raise Conflict("Per-tenant subnet pool prefix quota exceeded.", code="SubnetPoolQuotaExceeded")


def _prefixes(asked: Iterable[str]) -> list[ipam.Cidr]:
    prefixes = [ipam.parse_cidr(text, "prefixes", exact=False) for text in asked]
    if not prefixes:
        raise Invalid("A subnet pool needs prefixes.", field="prefixes", code="EmptySubnetPoolPrefixList")
    if len(prefixes) > PREFIXES_MAX:
        raise Invalid(f"A subnet pool has at most {PREFIXES_MAX} prefixes.", field="prefixes")
    if len({prefix.version for prefix in prefixes}) > 1:
        raise Invalid("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", field="prefixes", code="PrefixVersionMismatch")
    version = prefixes[0].version
    merged: Iterable[ipam.Cidr]
    if version == 4:
        merged = ipaddress.collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, ipaddress.IPv4Network))
    else:
        merged = ipaddress.collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, ipaddress.IPv6Network))
    return list(merged)


def _grown(row: Row, asked: list[str]) -> list[str]:
    """Prefixes may be added, not taken away."""
    prefixes = _prefixes(asked)
    for text in row["prefixes"]:
        old = ipam.parse_cidr(text, "prefixes")
        if not any(_inside(old, prefix) for prefix in prefixes):
            raise Invalid(
                "Illegal subnetpool update: existing prefixes must be a subset of the new ones.",
                field="prefixes",
                code="IllegalSubnetPoolPrefixUpdate",
            )
    return [str(prefix) for prefix in prefixes]


def _lengths(values: Row, version: int) -> Row:
    low = _or(values.get("min_prefixlen"), MIN_PREFIXLEN[version])
    high = _or(values.get("max_prefixlen"), BITS[version])
    default = _or(values.get("default_prefixlen"), low)
    for name, length in (("min_prefixlen", low), ("max_prefixlen", high), ("default_prefixlen", default)):
        if not 0 <= length <= BITS[version]:
            raise Invalid(f"Illegal prefix bounds: {name}={length}.", field=name, code="IllegalSubnetPoolPrefixBounds")
    if not low <= default <= high:
        raise Invalid(
            f"Illegal prefix bounds: min_prefixlen={low}, default_prefixlen={default}, max_prefixlen={high}.",
            field="default_prefixlen",
            code="IllegalSubnetPoolPrefixBounds",
        )
    return {"min_prefixlen": low, "max_prefixlen": high, "default_prefixlen": default}


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _check_default(conn: sa.Connection, version: int) -> None:
    taken = conn.execute(
        sa.select(subnet_pools.c.id).where(subnet_pools.c.is_default, subnet_pools.c.ip_version == version)
    ).scalar()
    if taken is not None:
        raise Invalid(f"A default subnetpool for this IP family has already been set: {taken}.", field="is_default")
