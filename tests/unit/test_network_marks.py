"""What hosts are told of limits, meters, address groups and forwarded ports: each change, and no more than that."""

from typing import Any

import sqlalchemy as sa

from nacre.cloud.context import internal
from nacre.cloud.network import (
    address_groups,
    floatingips,
    interfaces,
    metering,
    networks,
    port_forwardings,
    ports,
    qos,
    routers,
    security_group_rules,
    security_groups,
    subnets,
)
from nacre.protocol.networks import BandwidthLimit, Meter, MeterRule
from tests.unit.test_network_hosts import MEMBER, Host, boot, conn, tenant_network, two

__all__ = ["conn", "two"]

ADMIN = internal()


def limit(conn: sa.Connection, policy: Any, kbps: int, direction: str = "egress") -> Any:
    values = {"max_kbps": kbps, "max_burst_kbps": 0, "direction": direction}
    return qos.create_rule(conn, ADMIN, policy["id"], qos.BANDWIDTH_LIMIT, values)


def way_out(conn: sa.Connection, network: Any) -> Any:
    """An external network and a router that leads to it."""
    outside = networks.create(conn, ADMIN, {"project_id": "a", "external": True})
    subnets.create(conn, ADMIN, {"network_id": outside["id"], "ip_version": 4, "cidr": "203.0.113.0/24"})
    router = routers.create(conn, MEMBER, {"external_gateway_info": {"network_id": outside["id"]}})
    interfaces.add(conn, MEMBER, router["id"], subnet_id=network["v4"]["id"])
    return outside, router


def test_a_networks_policy_limits_its_guests_until_they_have_their_own(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, _ = two
    network = tenant_network(conn)
    slow, slower = [qos.create(conn, ADMIN, {"name": name, "project_id": "p", "shared": True}) for name in ("slow", "slower")]
    rule = limit(conn, slow, 1000)
    limit(conn, slower, 500, "ingress")
    port = boot(conn, "s1", "h1")[0]
    one.fetch()
    assert one.of("port")[port["id"]].limits == ()
    networks.update(conn, MEMBER, network["id"], {"qos_policy_id": slow["id"]})
    assert one.fetch()[("port", port["id"])].limits == (BandwidthLimit("egress", 1000, 0),)
    qos.update_rule(conn, ADMIN, slow["id"], qos.BANDWIDTH_LIMIT, rule["id"], {"max_kbps": 2000})
    changed = one.fetch()
    assert changed[("port", port["id"])].limits == (BandwidthLimit("egress", 2000, 0),)
    assert {kind for kind, _ in changed} == {"port"}
    ports.update(conn, MEMBER, port["id"], {"qos_policy_id": slower["id"]})
    assert one.fetch()[("port", port["id"])].limits == (BandwidthLimit("ingress", 500, 0),)
    ports.update(conn, MEMBER, port["id"], {"qos_policy_id": None})
    assert one.fetch()[("port", port["id"])].limits == (BandwidthLimit("egress", 2000, 0),)
    qos.delete_rule(conn, ADMIN, slow["id"], qos.BANDWIDTH_LIMIT, rule["id"])
    assert one.fetch()[("port", port["id"])].limits == ()


def test_a_floating_ips_policy_and_its_ports_reach_its_router(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, other = two
    network = tenant_network(conn)
    outside, router = way_out(conn, network)
    port = boot(conn, "s1", "h1")[0]
    policy = qos.create(conn, ADMIN, {"name": "slow", "project_id": "p", "shared": True})
    rule = limit(conn, policy, 1000)
    floating = floatingips.create(
        conn, MEMBER, {"floating_network_id": outside["id"], "port_id": port["id"], "qos_policy_id": policy["id"]}
    )
    one.fetch(), other.fetch()
    bearer = one if router["id"] in one.of("router") else other
    assert bearer.of("router")[router["id"]].floating_ips[0].limits == (BandwidthLimit("egress", 1000, 0),)
    qos.update_rule(conn, ADMIN, None, qos.BANDWIDTH_LIMIT, rule["id"], {"max_kbps": 3000})
    assert bearer.fetch()[("router", router["id"])].floating_ips[0].limits == (BandwidthLimit("egress", 3000, 0),)
    floatingips.update(conn, MEMBER, floating["id"], {"qos_policy_id": None})
    assert bearer.fetch()[("router", router["id"])].floating_ips[0].limits == ()
    floatingips.update(conn, MEMBER, floating["id"], {"port_id": None})
    values = {"protocol": "tcp", "external_port": 2222, "internal_port": 22, "port_id": port["id"]}
    led = port_forwardings.create(conn, MEMBER, floating["id"], values)
    seen = bearer.fetch()[("router", router["id"])]
    assert [(each.external_address, each.external_port, each.internal_port) for each in seen.forwards] == [
        (floating["floating_ip_address"], 2222, 22)
    ]
    port_forwardings.update(conn, MEMBER, floating["id"], led["id"], {"internal_port": 23})
    assert bearer.fetch()[("router", router["id"])].forwards[0].internal_port == 23
    port_forwardings.delete(conn, MEMBER, floating["id"], led["id"])
    assert bearer.fetch()[("router", router["id"])].forwards == ()


def test_meters_are_those_of_the_routers_project(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, other = two
    _, router = way_out(conn, tenant_network(conn))
    one.fetch(), other.fetch()
    bearer = one if router["id"] in one.of("router") else other
    label = metering.create(conn, ADMIN, {"name": "out", "project_id": "p", "shared": False})
    metering.create(conn, ADMIN, {"name": "not mine", "project_id": "x", "shared": False})
    assert bearer.fetch()[("router", router["id"])].meters == (Meter(label["id"]),)
    values = {"metering_label_id": label["id"], "direction": "egress", "source_ip_prefix": "10.0.0.0/24", "excluded": False}
    rule = metering.rules.create(conn, ADMIN, values)
    expected = Meter(label["id"], (MeterRule("egress", source="10.0.0.0/24"),))
    assert bearer.fetch()[("router", router["id"])].meters == (expected,)
    assert metering.places(conn, ADMIN, label["id"]) == [(bearer.ident, router["id"])]
    metering.rules.delete(conn, ADMIN, rule["id"])
    metering.delete(conn, ADMIN, label["id"])
    assert bearer.fetch()[("router", router["id"])].meters == ()


def test_an_address_group_reaches_the_hosts_whose_rules_name_it(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, other = two
    tenant_network(conn)
    web = security_groups.create(conn, MEMBER, {"name": "web", "stateful": False})
    offices = address_groups.create(conn, MEMBER, {"addresses": ["192.0.2.0/24"]})
    boot(conn, "s1", "h1", groups=(web["id"],))
    boot(conn, "s2", "h2")
    one.fetch(), other.fetch()
    assert one.of("security_group")[web["id"]].stateful is False
    values = {"security_group_id": web["id"], "direction": "ingress", "remote_address_group_id": offices["id"]}
    rule = security_group_rules.create(conn, MEMBER, values)
    told = one.fetch()
    assert told[("security_group", offices["id"])].members == ("192.0.2.0/24",)
    assert offices["id"] in {each.remote_group_id for each in told[("security_group", web["id"])].rules}
    address_groups.add_addresses(conn, MEMBER, offices["id"], ["198.51.100.1"])
    assert one.fetch()[("security_group", offices["id"])].members == ("192.0.2.0/24", "198.51.100.1/32")
    assert other.fetch() == {}
    security_group_rules.delete(conn, MEMBER, rule["id"])
    one.fetch()
    assert offices["id"] not in one.of("security_group")
