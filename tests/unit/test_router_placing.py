"""Which host bears a router, and what the cloud's own machine is told of those elsewhere."""

from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import audit, floatingips, forwards, interfaces, networks, placing, routers, subnets
from nacre.cloud.network.tables import routers as routers_table
from nacre.protocol.networks import HostRoute
from tests.unit.test_network_hosts import MEMBER, Host, add_host, boot, conn, tenant_network
from tests.unit.test_network_marks import ADMIN

__all__ = ["conn"]


@pytest.fixture
def three(conn: sa.Connection) -> dict[str, Host]:
    """The cloud's own machine h1, h2 and h3 with a device outside, h4 without one."""
    for ident in ("h1", "h2", "h3", "h4"):
        add_host(conn, ident)
    conn.execute(hosts.update().where(hosts.c.id != "h1").values(enrolled=True))
    conn.execute(hosts.update().where(hosts.c.id.in_(("h2", "h3"))).values(external=True))
    return {ident: Host(conn, ident) for ident in ("h1", "h2", "h3", "h4")}


def outside(conn: sa.Connection) -> str:
    network = networks.create(conn, ADMIN, {"project_id": "a", "external": True, "physical": "public"})
    subnets.create(conn, ADMIN, {"network_id": network["id"], "ip_version": 4, "cidr": "203.0.113.0/24"})
    return str(network["id"])


def router(conn: sa.Connection, public: str, cidr: str, **values: Any) -> str:
    """With a leg in a new tenant network."""
    snat = values.pop("snat", True)
    gateway = {"network_id": public, "enable_snat": snat}
    made = routers.create(conn, ADMIN, {"project_id": "p", "external_gateway_info": gateway, **values})
    interfaces.add(conn, MEMBER, made["id"], subnet_id=tenant_network(conn, cidr)["v4"]["id"])
    return str(made["id"])


def bearer(conn: sa.Connection, ident: str) -> str | None:
    found: str | None = conn.execute(sa.select(routers_table.c.host_id).where(routers_table.c.id == ident)).scalar()
    return found


def row(conn: sa.Connection, ident: str) -> dict[str, Any]:
    return dict(conn.execute(sa.select(routers_table).where(routers_table.c.id == ident)).mappings().one())


def presence(conn: sa.Connection) -> list[Any]:
    return list(audit._presence(conn))


def test_they_are_spread_over_those_that_reach_the_outside(conn: sa.Connection, three: dict[str, Host]) -> None:
    public = outside(conn)
    made = [router(conn, public, f"10.{number}.0.0/24") for number in range(6)]
    assert bearer(conn, made[0]) == "h1", "where there are as many, the cloud's own machine"
    assert sorted(str(bearer(conn, ident)) for ident in made) == ["h1", "h1", "h2", "h2", "h3", "h3"]
    conn.execute(hosts.update().where(hosts.c.id == "h2").values(enabled=False))
    conn.execute(hosts.update().where(hosts.c.id == "h3").values(acceptance="failed"))
    assert bearer(conn, router(conn, public, "10.9.0.0/24")) == "h1"
    assert presence(conn) == []


def test_the_own_machine_keeps_the_outside_and_leads_to_what_is_not_hidden(conn: sa.Connection, three: dict[str, Host]) -> None:
    public = outside(conn)
    own, other = three["h1"], three["h2"]
    plain, hidden = router(conn, public, "10.1.0.0/24", snat=False), router(conn, public, "10.2.0.0/24")
    for ident in (plain, hidden):
        placing.move(conn, row(conn, ident), "h2")
    own.fetch(), other.fetch()
    assert own.of("router") == {}
    assert other.of("router").keys() == {plain, hidden}
    assert presence(conn) == []
    address = other.of("router")[plain].gateway.addresses[0].partition("/")[0]
    assert own.of("network")[public].ways == (HostRoute("10.1.0.0/24", address),)
    assert other.of("network")[public].ways == (), "it bears no gateway address"
    routers.update(conn, ADMIN, plain, {"admin_state_up": False})
    own.fetch()
    assert own.of("network")[public].ways == ()
    routers.update(conn, ADMIN, plain, {"admin_state_up": True})
    placing.move(conn, row(conn, plain), "h1")
    own.fetch(), other.fetch()
    assert own.of("network")[public].ways == (), "its own host leads there by itself"
    assert other.of("router").keys() == {hidden}
    for ident in (plain, hidden):
        for leg in routers.interfaces(conn, ident):
            interfaces.remove(conn, MEMBER, ident, subnet_id=leg["subnet_id"])
        routers.delete(conn, MEMBER, ident)
    own.fetch(), other.fetch()
    assert own.specs == other.specs == {}
    assert presence(conn) == []


def test_what_is_ha_leaves_a_lost_host_with_all_that_is_its_own(conn: sa.Connection, three: dict[str, Host]) -> None:
    public = outside(conn)
    movable = router(conn, public, "10.1.0.0/24", ha=True)
    port = boot(conn, "s1", "h4")[0]
    standing = router(conn, public, "10.2.0.0/24")
    floating = floatingips.create(conn, MEMBER, {"floating_network_id": public, "port_id": port["id"]})
    for ident in (movable, standing):
        placing.move(conn, row(conn, ident), "h2")
    for host in three.values():
        host.fetch()
    assert not placing.due(conn, frozenset())
    assert placing.due(conn, frozenset({"h2"}))
    placing.note_lost(conn, frozenset({"h2"}))
    assert placing.rescue(conn) == [(movable, "h1")]
    assert not placing.due(conn, frozenset({"h2"}))
    assert (bearer(conn, movable), bearer(conn, standing)) == ("h1", "h2")
    three["h1"].fetch(), three["h2"].fetch()
    borne = three["h1"].of("router")[movable]
    assert [each.floating_address for each in borne.floating_ips] == [floating["floating_ip_address"]]
    assert borne.ha
    assert movable not in three["h2"].of("router"), "when it returns it is told"
    assert bearer(conn, router(conn, public, "10.3.0.0/24")) != "h2"
    placing.note_lost(conn, frozenset())
    assert presence(conn) == []


def test_a_published_port_is_the_own_machines_and_keeps_its_router_there(conn: sa.Connection, three: dict[str, Host]) -> None:
    public = outside(conn)
    ident = router(conn, public, "10.1.0.0/24", ha=True)
    port = boot(conn, "s1", "h4")[0]
    placing.move(conn, row(conn, ident), "h3")
    forwards.publish(conn, "p", port["id"], [forwards.Wanted("tcp", 80)])
    assert bearer(conn, ident) == "h1"
    placing.note_lost(conn, frozenset({"h1"}))
    assert placing.rescue(conn) == []
    three["h1"].fetch(), three["h3"].fetch()
    assert ident in three["h1"].of("router")
    assert three["h3"].specs == {}
    assert presence(conn) == []
