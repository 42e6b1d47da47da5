"""Addresses: parsing, allocation pools, and giving them out. Pure functions first, then those of a connection.

An address is taken by inserting its row: (subnet, address) is the table's key, so nothing is given out twice. Each pool remembers
where its last search ended, so that the next address is usually free and found without looking at the others; freed ones come
round again when the pool's end is reached.
"""

import ipaddress
import itertools
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network.tables import fixed_ips, pools
from nacre.store import Prepared

Address = IPv4Address | IPv6Address
Cidr = IPv4Network | IPv6Network

MAC_PREFIX = "fa:16:3e"
MAC_ATTEMPTS_MAX = 16
KEYS_PER_LOOK = 128
"""Taken addresses that one statement fetches while a gap is searched."""
AUTO_MODES = frozenset({"slaac", "dhcpv6-stateless"})


def parse_address(text: str, field: str) -> Address:
    """Raises Invalid, also for a zone index (fe80::1%eth0)."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f"Invalid input for {field}. Reason: '{text}' is not a valid IP address.", field=field) from None


def parse_cidr(text: str, field: str, *, exact: bool = True) -> Cidr:
    """A prefix with its length. With `exact`, bits beyond it are refused. Raises Invalid."""
    try:
        if "/" not in text or "%" in text:
            raise ValueError
        cidr = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"Invalid input for {field}. Reason: '{text}' is not a valid IP subnet.", field=field) from None
    if exact and ipaddress.ip_address(text.partition("/")[0]) != cidr.network_address:
        raise Invalid(
            f"Invalid input for {field}. Reason: '{text}' isn't a recognized IP subnet cidr, '{cidr}' is recommended.",
            field=field,
        )
    return cidr


def key_of(address: Address) -> str:
    """Hex digits of fixed width: text in the order of numbers."""
    return f"{int(address):0{8 if address.version == 4 else 32}x}"


def address_of(key: str) -> Address:
    return IPv4Address(int(key, 16)) if len(key) == 8 else IPv6Address(int(key, 16))


def normal_mac(text: str, field: str = "mac_address") -> str:
    """Lower case with colons. Raises Invalid for what is no unicast address."""
    digits = text.lower().replace("-", ":").split(":")
    valid = len(digits) == 6 and all(len(pair) == 2 and set(pair) <= set("0123456789abcdef") for pair in digits)
    if not valid or int(digits[0], 16) & 1 or digits == ["00"] * 6:
        raise Invalid(f"Invalid input for {field}. Reason: '{text}' is not a valid MAC address.", field=field)
    return ":".join(digits)


def new_mac() -> str:
    tail = secrets.token_bytes(3)
    return MAC_PREFIX + "".join(f":{byte:02x}" for byte in tail)


def eui64(cidr: Cidr, mac: str) -> IPv6Address:
    """The address that SLAAC makes of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(int(cidr.network_address) | int.from_bytes(interface, "big"))


def is_auto(subnet: Row) -> bool:
    """Whether hosts make their addresses in this subnet themselves (SLAAC)."""
    return subnet["ip_version"] == 6 and subnet["ipv6_address_mode"] in AUTO_MODES


def first_usable(cidr: Cidr) -> Address:
    """The address after the network's (for IPv6 the subnet-router anycast, RFC 4291 2.6.1), unless there are no others."""
    return cidr.network_address + (1 if cidr.num_addresses > 2 else 0)


def last_usable(cidr: Cidr) -> Address:
    reserved = 1 if cidr.version == 4 and cidr.num_addresses > 2 else 0
    return cidr.broadcast_address - reserved


def usable(cidr: Cidr, address: Address) -> bool:
    return address.version == cidr.version and int(first_usable(cidr)) <= int(address) <= int(last_usable(cidr))


Range = tuple[Address, Address]


def default_pools(cidr: Cidr, gateway: Address | None) -> list[Range]:
    """All that is usable, without the gateway."""
    first, last = first_usable(cidr), last_usable(cidr)
    if gateway is None or not int(first) <= int(gateway) <= int(last):
        return [(first, last)]
    ranges: list[Range] = []
    if gateway != first:
        ranges.append((first, gateway - 1))
    if gateway != last:
        ranges.append((gateway + 1, last))
    return ranges


def check_pools(cidr: Cidr, gateway: Address | None, asked: Sequence[dict[str, str]]) -> list[Range]:
    """Pools as a client sends them. Raises Invalid, or Conflict when they overlap or hold the gateway."""
    ranges: list[Range] = []
    for pool in asked:
        first, last = (parse_address(pool[end], "allocation_pools") for end in ("start", "end"))
        if first.version != cidr.version or last.version != cidr.version or int(last) < int(first):
            raise Invalid(
                f"The allocation pool {first}-{last} is not valid.", field="allocation_pools", code="InvalidAllocationPool"
            )
        if not (usable(cidr, first) and usable(cidr, last)):
            raise Invalid(
                f"The allocation pool {first}-{last} spans beyond the subnet cidr {cidr}.",
                field="allocation_pools",
                code="OutOfBoundsAllocationPool",
            )
        if gateway is not None and int(first) <= int(gateway) <= int(last):
            raise Conflict(
                f"Gateway ip {gateway} conflicts with allocation pool {first}-{last}.", code="GatewayConflictWithAllocationPools"
            )
        ranges.append((first, last))
    ranges.sort(key=lambda pool: int(pool[0]))
    for (first, last), (following, end) in itertools.pairwise(ranges):
        if int(following) <= int(last):
            raise Conflict(
                f"Found overlapping allocation pools: {first}-{last} {following}-{end} for subnet {cidr}.",
                code="OverlappingAllocationPools",
            )
    return ranges


def set_pools(conn: sa.Connection, subnet_id: str, ranges: Iterable[Range]) -> None:
    conn.execute(pools.delete().where(pools.c.subnet_id == subnet_id))
    rows = [
        {
            "subnet_id": subnet_id,
            "position": position,
            "first_key": key_of(first),
            "last_key": key_of(last),
            "next_key": key_of(first),
        }
        for position, (first, last) in enumerate(ranges)
    ]
    if rows:
        conn.execute(pools.insert(), rows)


_TAKE = Prepared(fixed_ips.insert())
_POOLS = Prepared(sa.select(pools).where(pools.c.subnet_id == sa.bindparam("subnet")).order_by(pools.c.position))
_TURN = Prepared(
    pools.update()
    .where(pools.c.subnet_id == sa.bindparam("subnet"), pools.c.position == sa.bindparam("at"))
    .values(next_key=sa.bindparam("following"))
)
_TAKEN = Prepared(
    sa.select(fixed_ips.c.key)
    .where(
        fixed_ips.c.subnet_id == sa.bindparam("subnet"),
        fixed_ips.c.key >= sa.bindparam("low"),
        fixed_ips.c.key <= sa.bindparam("high"),
    )
    .order_by(fixed_ips.c.key)
    .limit(sa.bindparam("look"))
)


def take(conn: sa.Connection, subnet_id: str, port_id: str, address: Address, position: int = 0) -> None:
    """Take this address. Raises Conflict when it is another port's."""
    try:
        _TAKE.run(conn, subnet_id=subnet_id, key=key_of(address), address=str(address), port_id=port_id, position=position)
    except sa.exc.IntegrityError:
        raise Conflict(
            f"IP address {address} already allocated in subnet {subnet_id}.", code="IpAddressAlreadyAllocated", field="fixed_ips"
        ) from None


def take_next(conn: sa.Connection, subnet_id: str, port_id: str, position: int = 0) -> Address | None:
    """Take the next free address of the subnet's pools; None when there is none."""
    for pool in _pools_of(conn, subnet_id):
        key = _free_key(conn, subnet_id, pool)
        if key is None:
            continue
        address = address_of(key)
        take(conn, subnet_id, port_id, address, position)
        following = key_of(address + 1) if key < pool["last_key"] else pool["first_key"]
        _TURN.run(conn, subnet=subnet_id, at=pool["position"], following=following)
        return address
    return None


def has_free(conn: sa.Connection, subnet_id: str) -> bool:
    """Whether the subnet's pools have a free address."""
    return any(_free_key(conn, subnet_id, pool) is not None for pool in _pools_of(conn, subnet_id))


def _pools_of(conn: sa.Connection, subnet_id: str) -> list[Row]:
    return _POOLS.rows(conn, subnet=subnet_id)


def _free_key(conn: sa.Connection, subnet_id: str, pool: Row) -> str | None:
    """From where the last search ended to the pool's end, then from its beginning."""
    key = _gap(conn, subnet_id, pool["next_key"], pool["last_key"])
    if key is None and pool["next_key"] > pool["first_key"]:
        key = _gap(conn, subnet_id, pool["first_key"], pool["last_key"])
    return key


def _gap(conn: sa.Connection, subnet_id: str, start: str, end: str) -> str | None:
    """The first free key of start..end. Runs through as many taken ones as lie before it, in slices."""
    candidate, last, width = int(start, 16), int(end, 16), len(start)
    look = 1
    while candidate <= last:
        taken = _TAKEN.scalars(conn, subnet=subnet_id, low=f"{candidate:0{width}x}", high=end, look=look)
        seen = 0
        for key in taken:
            seen += 1
            if int(key, 16) != candidate:
                return f"{candidate:0{width}x}"
            candidate += 1
        if seen < look:
            break
        look = KEYS_PER_LOOK
    return f"{candidate:0{width}x}" if candidate <= last else None
