"""Addresses: pools, gaps, exhaustion and EUI-64."""

from ipaddress import ip_address, ip_network

import pytest
import sqlalchemy as sa

from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.network import ipam, ports
from nacre.cloud.network.tables import fixed_ips, pools
from nacre.cloud.network.tables import subnets as subnets_table
from tests.unit.test_network_hosts import MEMBER, conn, tenant_network

__all__ = ["conn"]


def test_addresses_round_trip_in_order() -> None:
    texts = ["10.0.0.9", "10.0.0.10", "255.255.255.255"]
    keys = [ipam.key_of(ip_address(text)) for text in texts]
    assert sorted(keys) == keys
    assert [str(ipam.address_of(key)) for key in keys] == texts
    assert str(ipam.address_of(ipam.key_of(ip_address("2001:db8::ff")))) == "2001:db8::ff"


def test_default_pools_leave_out_what_hosts_may_not_have() -> None:
    def shown(cidr: str, gateway: str | None) -> list[str]:
        found = ipam.default_pools(ip_network(cidr), None if gateway is None else ip_address(gateway))
        return [f"{first}-{last}" for first, last in found]

    assert shown("10.0.0.0/24", "10.0.0.1") == ["10.0.0.2-10.0.0.254"]
    assert shown("10.0.0.0/24", "10.0.0.9") == ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.254"]
    assert shown("10.0.0.0/31", None) == ["10.0.0.0-10.0.0.1"]
    assert shown("10.0.0.0/32", "10.0.0.0") == []
    assert shown("2001:db8::/64", "2001:db8::1") == ["2001:db8::2-2001:db8::ffff:ffff:ffff:ffff"]


def test_eui64() -> None:
    assert str(ipam.eui64(ip_network("2001:db8::/64"), "fa:16:3e:01:02:03")) == "2001:db8::f816:3eff:fe01:203"


@pytest.mark.parametrize("text", ["", "10.0.0.256", "fe80::1%eth0", "10.0.0.010", "☃", "1" * 500])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid, match="gateway_ip"):
        ipam.parse_address(text, "gateway_ip")


def test_a_pool_is_used_up_and_freed_addresses_come_round_again(conn: sa.Connection) -> None:
    network = tenant_network(conn, "10.0.0.0/28")
    made = [ports.create(conn, MEMBER, {"network_id": network["id"]}) for _ in range(13)]
    addresses = [port["fixed_ips"][0]["ip_address"] for port in made]
    assert addresses == [f"10.0.0.{number}" for number in range(2, 15)]
    with pytest.raises(Conflict):
        ports.create(conn, MEMBER, {"network_id": network["id"]})
    conn.execute(fixed_ips.delete().where(fixed_ips.c.address.in_(["10.0.0.5", "10.0.0.12"])))
    taken = [ipam.take_next(conn, network["v4"]["id"], made[0]["id"]) for _ in range(3)]
    assert [str(address) for address in taken] == ["10.0.0.5", "10.0.0.12", "None"]


def test_what_was_just_freed_is_not_given_out_at_once(conn: sa.Connection) -> None:
    network = tenant_network(conn)
    first = ports.create(conn, MEMBER, {"network_id": network["id"]})
    ports.delete(conn, MEMBER, first["id"])
    second = ports.create(conn, MEMBER, {"network_id": network["id"]})
    assert second["fixed_ips"] != first["fixed_ips"]


def test_chosen_addresses_are_walked_around(conn: sa.Connection) -> None:
    network = tenant_network(conn)
    for number in (3, 4, 6):
        ports.create(conn, MEMBER, {"network_id": network["id"], "fixed_ips": [{"ip_address": f"10.0.0.{number}"}]})
    made = [ports.create(conn, MEMBER, {"network_id": network["id"]})["fixed_ips"][0]["ip_address"] for _ in range(3)]
    assert made == ["10.0.0.2", "10.0.0.5", "10.0.0.7"]


def test_an_address_costs_the_same_in_a_full_subnet(conn: sa.Connection) -> None:
    """Statements, not time: 3,000 addresses are taken, and the next one is found by as many looks as the first."""
    network = tenant_network(conn, "10.0.0.0/16")
    subnet_id = network["v4"]["id"]
    port = ports.create(conn, MEMBER, {"network_id": network["id"]})
    count = [0]
    sa.event.listen(conn.engine, "before_cursor_execute", lambda *_: count.__setitem__(0, count[0] + 1))
    ipam.take_next(conn, subnet_id, port["id"])
    cost, count[0] = count[0], 0
    base = int(ip_address("10.0.1.0"))
    rows = [ip_address(base + number) for number in range(3_000)]
    conn.execute(
        fixed_ips.insert(),
        [{"subnet_id": subnet_id, "key": ipam.key_of(each), "address": str(each), "port_id": port["id"]} for each in rows],
    )
    conn.execute(pools.update().where(pools.c.subnet_id == subnet_id).values(next_key=ipam.key_of(rows[-1] + 1)))
    count[0] = 0
    assert ipam.take_next(conn, subnet_id, port["id"]) == rows[-1] + 1
    assert count[0] == cost
    assert conn.execute(sa.select(sa.func.count()).select_from(subnets_table)).scalar() == 1
