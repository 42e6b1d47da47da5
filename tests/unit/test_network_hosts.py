"""What reaches the hosts: marks, compilers and observations, over servers on two hosts."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.context import ROLE_IMPLIES, Context, internal
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.hosts import desired as marks
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.network import (
    bootstrap,
    desired,
    floatingips,
    interfaces,
    networks,
    observations,
    ports,
    routers,
    security_group_rules,
    security_groups,
    servers,
    subnets,
)
from nacre.cloud.network.placing import place_routers
from nacre.cloud.network.servers import NetworkRequest
from nacre.cloud.schema import metadata
from nacre.protocol.messages import Observation
from nacre.store import Query
from nacre.store.schema import now

MEMBER = Context("u", "default", project_id="p", roles=ROLE_IMPLIES["member"])
COMPILERS: dict[Any, Any] = {
    "network": desired.compile_networks,
    "security_group": desired.compile_security_groups,
    "port": desired.compile_ports,
    "router": desired.compile_routers,
    "guest": lambda conn, host_id, ids: {},
}


@pytest.fixture
def conn() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    sa.event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with engine.connect() as conn:
        metadata.create_all(conn)
        yield conn
    engine.dispose()


def add_host(conn: sa.Connection, ident: str) -> None:
    row = {"id": ident, "hostname": ident, "tunnel_ip": f"192.0.2.{ident[1:]}", "created_at": now(), "updated_at": now()}
    conn.execute(hosts.insert().values(row))


class Host:
    """A node's view: what it was told so far, by fetching since its last revision."""

    def __init__(self, conn: sa.Connection, ident: str) -> None:
        self.conn, self.ident, self.revision = conn, ident, 0
        self.specs: dict[tuple[str, str], Any] = {}

    def fetch(self) -> dict[tuple[str, str], Any]:
        """Takes what changed; afterwards it must be the same as a full fetch. Returns what came or changed."""
        news = marks.since(self.conn, COMPILERS, self.ident, self.revision)
        changed = {(item.kind, item.id): item.spec for item in news.items}
        self.specs.update(changed)
        for gone in news.gone:
            self.specs.pop((gone.kind, gone.id), None)
        self.revision = news.revision
        full = marks.since(self.conn, COMPILERS, self.ident, 0)
        assert self.specs == {(item.kind, item.id): item.spec for item in full.items}
        return changed

    def of(self, kind: str) -> dict[str, Any]:
        return {ident: spec for (other, ident), spec in self.specs.items() if other == kind}


@pytest.fixture
def two(conn: sa.Connection) -> tuple[Host, Host]:
    add_host(conn, "h1")
    add_host(conn, "h2")
    return Host(conn, "h1"), Host(conn, "h2")


def tenant_network(conn: sa.Connection, cidr: str = "10.0.0.0/24") -> Any:
    network = networks.create(conn, MEMBER, {"name": "n"})
    network["v4"] = subnets.create(conn, MEMBER, {"network_id": network["id"], "ip_version": 4, "cidr": cidr})
    return network


def boot(conn: sa.Connection, server: str, host: str, *requests: NetworkRequest, groups: tuple[str, ...] = ()) -> list[Any]:
    asked = servers.resolve(conn, MEMBER, list(requests) or None)
    return servers.allocate(
        conn,
        MEMBER,
        server_id=server,
        project_id="p",
        hostname=server,
        host_id=host,
        requests=asked,
        security_groups=list(groups),
    )


def test_servers_on_two_hosts_know_each_other(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, other = two
    network = tenant_network(conn)
    (first,) = boot(conn, "s1", "h1")
    one.fetch()
    other.fetch()
    assert set(one.of("network")) == {network["id"]}
    assert other.specs == {}
    (second,) = boot(conn, "s2", "h2")
    one.fetch()
    other.fetch()
    elsewhere = one.of("port")[second["id"]]
    assert (elsewhere.local, elsewhere.tunnel_ip, elsewhere.fixed_ips[0].address) == (False, "192.0.2.2", "10.0.0.3")
    assert other.of("port")[first["id"]].tunnel_ip == "192.0.2.1"
    assert other.of("port")[second["id"]].local
    (group,) = one.of("security_group").values()
    assert group.members == ("10.0.0.2", "10.0.0.3")
    servers.release(conn, "s1")
    one.fetch()
    other.fetch()
    assert one.specs == {}
    assert set(other.of("port")) == {second["id"]}
    assert next(iter(other.of("security_group").values())).members == ("10.0.0.3",)
    forgotten = marks.settle(conn, COMPILERS, "h1", "port", [first["id"], second["id"]])
    assert set(forgotten) == {first["id"], second["id"]}
    boot(conn, "s3", "h1")
    one.fetch()
    assert set(one.of("network")) == {network["id"]}


def test_a_rule_reaches_the_hosts_where_its_group_is_used(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, other = two
    tenant_network(conn)
    web = security_groups.create(conn, MEMBER, {"name": "web"})
    lb = security_groups.create(conn, MEMBER, {"name": "lb"})
    boot(conn, "s1", "h1", groups=("web",))
    (second,) = boot(conn, "s2", "h2", groups=(lb["id"],))
    one.fetch()
    other.fetch()
    rule = security_group_rules.create(
        conn, MEMBER, {"security_group_id": web["id"], "direction": "ingress", "protocol": "tcp", "remote_group_id": lb["id"]}
    )
    assert set(one.fetch()) == {("security_group", web["id"]), ("security_group", lb["id"])}
    assert other.fetch() == {}
    assert one.of("security_group")[lb["id"]].members == (second["fixed_ips"][0]["ip_address"],)
    assert one.of("security_group")[lb["id"]].rules == ()
    boot(conn, "s3", "h2", groups=("lb",))
    assert ("security_group", lb["id"]) in one.fetch()
    other.fetch()
    ports.update(conn, MEMBER, second["id"], {"fixed_ips": [{"ip_address": "10.0.0.99"}]})
    one.fetch()
    assert "10.0.0.99" in one.of("security_group")[lb["id"]].members
    other.fetch()
    security_group_rules.delete(conn, MEMBER, rule["id"])
    one.fetch()
    assert set(one.of("security_group")) == {web["id"]}
    servers.add_group(conn, MEMBER, "s1", "lb")
    one.fetch()
    assert len(one.of("security_group")[lb["id"]].rules) == 2
    servers.remove_group(conn, MEMBER, "s1", "lb")
    one.fetch()
    assert set(one.of("security_group")) == {web["id"]}
    with pytest.raises(NotFound):
        servers.remove_group(conn, MEMBER, "s1", "lb")


def test_a_router_waits_for_a_host_and_brings_its_networks(conn: sa.Connection) -> None:
    outside = bootstrap.ensure_external(
        conn, project_id="a", cidr="203.0.113.0/24", gateway="203.0.113.1", pool_start="203.0.113.10", pool_end="203.0.113.20"
    )
    private = bootstrap.ensure_demo(conn, "p")
    assert bootstrap.ensure_demo(conn, "p") == private
    router = routers.find(conn, MEMBER, Query()).rows[0]
    assert router["host_id"] is None
    add_host(conn, "h1")
    assert place_routers(conn, "h1") == 1
    assert place_routers(conn, "h1") == 0
    host = Host(conn, "h1")
    host.fetch()
    assert set(host.of("network")) == {outside, private}
    assert host.of("network")[outside].physical == "public"
    spec = host.of("router")[router["id"]]
    assert spec.gateway.addresses == ("203.0.113.10/24",)
    assert spec.gateway.nexthops == ("203.0.113.1",)
    assert [leg.addresses for leg in spec.interfaces] == [("10.0.0.1/24",)]
    assert set(host.of("port")) == {spec.gateway.port_id, spec.interfaces[0].port_id}
    (port,) = boot(conn, "s1", "h1")
    floating = floatingips.create(conn, MEMBER, {"floating_network_id": outside, "port_id": port["id"]})
    host.fetch()
    (each,) = host.of("router")[router["id"]].floating_ips
    assert (each.floating_address, each.fixed_address) == (floating["floating_ip_address"], "10.0.0.2")
    (shown,) = servers.addresses(conn, ["s1", "none"])["s1"]
    assert shown["floating_ips"] == [floating["floating_ip_address"]]
    assert (shown["network_name"], shown["security_groups"], shown["status"]) == ("private", ["default"], "DOWN")
    servers.release(conn, "s1")
    host.fetch()
    assert host.of("router")[router["id"]].floating_ips == ()
    assert floatingips.get(conn, MEMBER, floating["id"])["status"] == "DOWN"
    subnet_id = networks.get(conn, MEMBER, private)["subnets"][0]
    interfaces.remove(conn, MEMBER, router["id"], subnet_id=subnet_id)
    host.fetch()
    assert set(host.of("network")) == {outside}
    routers.delete(conn, MEMBER, router["id"])
    host.fetch()
    assert host.specs == {}


def test_observations_make_a_port_active(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    tenant_network(conn)
    (port,) = boot(conn, "s1", "h1")
    assert port["status"] == "DOWN"
    seen = Observation("port", port["id"], "active")
    assert observations.observe(conn, "h2", [seen]) == []
    assert observations.observe(conn, "h1", [seen]) == [port["id"]]
    assert observations.observe(conn, "h1", [seen]) == []
    assert ports.get(conn, MEMBER, port["id"])["status"] == "ACTIVE"
    ports.update(conn, MEMBER, port["id"], {"admin_state_up": False})
    assert ports.get(conn, MEMBER, port["id"])["status"] == "DOWN"
    observations.observe(conn, "h1", [Observation("port", port["id"], "error", fault="no bridge")])
    assert ports.get(conn, internal(), port["id"])["fault"] == "no bridge"


def test_a_users_own_port_outlives_its_server(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    one, _ = two
    network = tenant_network(conn)
    own = ports.create(conn, MEMBER, {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.50"}]})
    requests = (NetworkRequest(port_id=own["id"], tag="nic"), NetworkRequest(network_id=network["id"], fixed_ip="10.0.0.60"))
    rows = boot(conn, "s1", "h1", *requests)
    assert [row["fixed_ips"][0]["ip_address"] for row in rows] == ["10.0.0.50", "10.0.0.60"]
    assert rows[0]["device_owner"] == "compute:nova"
    (third,) = boot(conn, "s1", "h1", NetworkRequest(network_id=network["id"]))
    assert servers.ports_of(conn, ["s1"])["s1"] == [rows[0]["id"], rows[1]["id"], third["id"]]
    with pytest.raises(Conflict, match="in use"):
        servers.resolve(conn, MEMBER, [NetworkRequest(port_id=own["id"])])
    servers.detach(conn, MEMBER, "s1", third["id"])
    one.fetch()
    assert set(one.of("port")) == {rows[0]["id"], rows[1]["id"]}
    servers.release(conn, "s1")
    one.fetch()
    assert one.specs == {}
    kept = ports.get(conn, MEMBER, own["id"])
    assert (kept["device_id"], kept["host_id"], kept["device_owner"]) == ("", None, "")
    with pytest.raises(NotFound):
        ports.get(conn, MEMBER, rows[1]["id"])
    with pytest.raises(NotFound):
        servers.detach(conn, MEMBER, "s1", own["id"])


def test_which_network_a_server_gets_that_asks_for_none(conn: sa.Connection) -> None:
    assert servers.resolve(conn, MEMBER, None) == []
    with pytest.raises(Invalid):
        servers.resolve(conn, MEMBER, "auto")
    networks.create(conn, MEMBER, {"name": "without a subnet"})
    network = tenant_network(conn)
    assert servers.resolve(conn, MEMBER, None) == [NetworkRequest(network_id=network["id"])]
    assert servers.resolve(conn, MEMBER, "none") == []
    tenant_network(conn)
    with pytest.raises(Conflict, match="Multiple possible networks"):
        servers.resolve(conn, MEMBER, None)
    for wrong in (
        NetworkRequest(),
        NetworkRequest(network_id="no"),
        NetworkRequest(network_id=network["id"], fixed_ip="10.9.9.9"),
    ):
        with pytest.raises(Invalid):
            servers.resolve(conn, MEMBER, [wrong])
    with pytest.raises(NotFound):
        servers.resolve(conn, MEMBER, [NetworkRequest(port_id="no")])


def test_the_same_number_of_statements_for_one_and_for_many(conn: sa.Connection, two: tuple[Host, Host]) -> None:
    tenant_network(conn)
    for number in range(20):
        boot(conn, f"s{number}", "h1" if number % 2 else "h2")
    count = [0]

    def counted(*_: Any) -> None:
        count[0] += 1

    sa.event.listen(conn.engine, "before_cursor_execute", counted)
    ids = [port for held in servers.ports_of(conn, [f"s{n}" for n in range(20)]).values() for port in held]
    costs = []
    for some in (ids[:1], ids):
        count[0] = 0
        assert len(desired.compile_ports(conn, "h1", some)) == len(some)
        costs.append(count[0])
    assert costs[0] == costs[1] <= 3
    count[0] = 0
    assert all(servers.addresses(conn, [f"s{n}" for n in range(20)]).values())
    assert count[0] <= 3
