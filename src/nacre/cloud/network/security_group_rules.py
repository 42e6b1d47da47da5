"""Security group rules: https://docs.openstack.org/api-ref/network/v2/#security-group-rules-security-group-rules."""

import ipaddress

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.network import address_groups, ipam, marks, quotas, security_groups
from nacre.cloud.network.common import Readable, forget_tags, own_rows, project_of, stamped
from nacre.cloud.network.tables import rules
from nacre.store import Page, Query

PROTOCOLS: dict[str, int] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
"""The names that Neutron knows (IANA's protocol numbers)."""
IPV6_ONLY = frozenset({41, 43, 44, 58, 59, 60})
WITH_PORTS = frozenset({6, 17, 33, 132, 136})
ICMP = frozenset({1, 58})
SAME = (
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
)

_READ = Readable("Security group rule", rules, own_rows(rules))
get = _READ.get
plain = _READ.plain


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    return _READ.find(conn, ctx, query)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    values = dict(values)
    try:
        group = security_groups.plain(conn, ctx, values["security_group_id"], owned=True)
    except NotFound:
        raise NotFound(f"Security group {values['security_group_id']} does not exist", code="SecurityGroupNotFound") from None
    values["project_id"] = values.get("project_id") or group["project_id"]
    project_id = project_of(ctx, values)
    checked = check(values)
    remote = checked["remote_group_id"]
    if remote is not None:
        security_groups.existing(conn, ctx, group["project_id"], [remote])
    if checked["remote_address_group_id"] is not None:
        address_groups.plain(conn, ctx, checked["remote_address_group_id"])
        remote = checked["remote_address_group_id"]
    _refuse_duplicate(conn, checked)
    row = stamped(project_id, checked)
    conn.execute(rules.insert(), row)
    quotas.charge(conn, project_id, "security_group_rule")
    gathered = marks.Marks()
    marks.rules_changed(conn, gathered, group["id"], remote)
    gathered.flush(conn)
    return _READ.some(conn, rules.c.id == row["id"])[0]


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    """Raises Invalid: a rule is not changed, it is made anew."""
    plain(conn, ctx, ident, owned=True)
    raise Invalid("Cannot update attributes of a security group rule.", field=next(iter(values), "security_group_rule"))


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    row = plain(conn, ctx, ident, owned=True)
    conn.execute(rules.delete().where(rules.c.id == ident))
    forget_tags(conn, ident)
    quotas.refund(conn, row["project_id"], "security_group_rule")
    gathered = marks.Marks()
    marks.rules_changed(conn, gathered, row["security_group_id"], row["remote_group_id"] or row["remote_address_group_id"])
    gathered.flush(conn)


def check(values: Row) -> Row:
    """A rule as a client sends it, made whole and regular. Raises Invalid with Neutron's names."""
    row = {name: values.get(name) for name in (*SAME, "security_group_id", "description")}
    row["description"] = row["description"] or ""
    row["ethertype"] = _ethertype(row["ethertype"])
    row["protocol"] = protocol = _protocol(row["protocol"])
    number = None if protocol is None else PROTOCOLS.get(protocol, -1) if not protocol.isdigit() else int(protocol)
    if number in IPV6_ONLY and row["ethertype"] == "IPv4":
        raise Invalid(
            f"Invalid ethertype IPv4 for protocol {protocol}.",
            field="ethertype",
            code="SecurityGroupEthertypeConflictWithProtocol",
        )
    if sum(row[name] is not None for name in ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")) > 1:
        raise Invalid(
            "Only remote_ip_prefix, remote_group_id or remote_address_group_id may be provided.",
            field="remote_ip_prefix",
            code="SecurityGroupMultipleRemoteEntitySpecified",
        )
    row["remote_ip_prefix"] = _prefix(row)
    _check_ports(row, protocol, number)
    return row


def _ethertype(text: str | None) -> str:
    for name, _ in security_groups.VERSIONS:
        if (text or "IPv4").lower() == name.lower():
            return name
    raise Invalid(
        f"Security group rule for ethertype '{text}' not supported. Allowed values are ['IPv4', 'IPv6'].",
        field="ethertype",
        code="SecurityGroupRuleInvalidEtherType",
    )


def _protocol(value: str | int | None) -> str | None:
    """A name in lower case, or a number from 0 to 255 as text; None for any."""
    if value is None or value == "" or str(value).lower() == "any":
        return None
    text = str(value).lower()
    if text in PROTOCOLS or (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255):
        return text if text in PROTOCOLS else str(int(text))
    raise Invalid(
        f"Security group rule protocol {value} not supported. Only protocol values {sorted(PROTOCOLS)} and integer "
        "representations [0 to 255] are supported.",
        field="protocol",
        code="SecurityGroupRuleInvalidProtocol",
    )


def _prefix(row: Row) -> str | None:
    """As it was asked for: the bits of a host stay, and are shown again, and count for nothing (see `normalized`)."""
    text = row["remote_ip_prefix"]
    if text is None:
        return None
    address = ipam.parse_address(text.partition("/")[0], "remote_ip_prefix")
    cidr = ipam.parse_cidr(text if "/" in text else f"{address}/{address.max_prefixlen}", "remote_ip_prefix", exact=False)
    if f"IPv{cidr.version}" != row["ethertype"]:
        raise Invalid(
            f"Conflicting value ethertype {row['ethertype']} for CIDR {text}.",
            field="ethertype",
            code="SecurityGroupRuleParameterConflict",
        )
    return f"{address}/{cidr.prefixlen}"


def normalized(prefix: str | None) -> str | None:
    """The prefix without the bits of a host, as it is compared with addresses (Neutron's normalized_cidr)."""
    return None if prefix is None else str(ipaddress.ip_network(prefix, strict=False))


def _check_ports(row: Row, protocol: str | None, number: int | None) -> None:
    low, high = row["port_range_min"], row["port_range_max"]
    if low is None and high is None:
        return
    if number in ICMP:
        for name, value in (("port_range_min", low), ("port_range_max", high)):
            if value is not None and not 0 <= value <= 255:
                raise Invalid(
                    f"Invalid value for ICMP {'type' if name.endswith('min') else 'code'} ({name}) {value}. It must be 0 to 255.",
                    field=name,
                    code="SecurityGroupInvalidIcmpValue",
                )
        if low is None:
            raise Invalid(
                f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
                field="port_range_min",
                code="SecurityGroupMissingIcmpType",
            )
        return
    if number is None:
        raise Invalid(
            "Must also specify protocol if port range is given.", field="protocol", code="SecurityGroupProtocolRequiredWithPorts"
        )
    if number not in WITH_PORTS:
        raise Invalid(
            f"Invalid port range for protocol {protocol}: it has no ports.",
            field="port_range_min",
            code="SecurityGroupInvalidProtocolForPort",
        )
    for name, value in (("port_range_min", low), ("port_range_max", high)):
        if value is not None and not 1 <= value <= 65_535:
            raise Invalid(f"Invalid value for port {value} ({name})", field=name, code="SecurityGroupInvalidPortValue")
    if low is None or high is None or low > high:
        raise Invalid(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max",
            field="port_range_min",
            code="SecurityGroupInvalidPortRange",
        )


def _refuse_duplicate(conn: sa.Connection, row: Row) -> None:
    where = [rules.c[name].is_(None) if row[name] is None else rules.c[name] == row[name] for name in SAME]
    found = conn.execute(sa.select(rules.c.id).where(rules.c.security_group_id == row["security_group_id"], *where)).scalar()
    if found is not None:
        raise Conflict(f"Security group rule already exists. Rule id is {found}.", code="SecurityGroupRuleExists")
