"""Whatever happens in whatever order: a node that fetches changes knows what one knows that fetches everything, and the books add up."""

import random

import pytest
import sqlalchemy as sa

from nacre.cloud.errors import Conflict, NotFound
from nacre.cloud.network import audit, security_group_rules, security_groups, servers
from nacre.cloud.network.servers import NetworkRequest
from nacre.cloud.network.tables import rules
from tests.unit.test_network_hosts import MEMBER, Host, add_host, boot, conn, tenant_network

__all__ = ["conn"]

STEPS = 150
SERVERS_MAX = 12


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_history(conn: sa.Connection, seed: int) -> None:
    chance = random.Random(seed)
    names = ["h1", "h2"]
    for name in names:
        add_host(conn, name)
    hosts = [Host(conn, name) for name in names]
    nets = [tenant_network(conn)["id"] for _ in range(2)]
    groups = [security_groups.create(conn, MEMBER, {"name": f"g{number}"})["id"] for number in range(3)]
    live: list[str] = []
    for step in range(STEPS):
        _step(conn, chance, f"s{step}", names, nets, groups, live)
        for host in hosts:
            if chance.random() < 0.5:
                host.fetch()
    for host in hosts:
        host.fetch()
    of_the_network = [found for found in audit.findings(conn) if not found[2].startswith("belongs to compute:")]
    assert of_the_network == []
    for server in live:
        servers.release(conn, server)
    for host in hosts:
        host.fetch()
        assert host.specs == {}


def _step(
    conn: sa.Connection, chance: random.Random, server: str, hosts: list[str], nets: list[str], groups: list[str], live: list[str]
) -> None:
    act = chance.random()
    try:
        if act < 0.4 and len(live) < SERVERS_MAX:
            wanted = tuple(chance.sample(groups, chance.randint(0, 2)))
            boot(conn, server, chance.choice(hosts), NetworkRequest(network_id=chance.choice(nets)), groups=wanted)
            live.append(server)
        elif act < 0.65 and live:
            servers.release(conn, live.pop(chance.randrange(len(live))))
        elif act < 0.8 and live:
            change = chance.choice([servers.add_group, servers.remove_group])
            change(conn, MEMBER, chance.choice(live), chance.choice(groups))
        elif act < 0.92:
            rule = {"security_group_id": chance.choice(groups), "direction": "ingress", "remote_group_id": chance.choice(groups)}
            security_group_rules.create(conn, MEMBER, rule)
        else:
            naming = sa.select(rules.c.id).where(rules.c.remote_group_id.is_not(None)).order_by(rules.c.created_at)
            found = conn.execute(naming).scalars().all()
            if found:
                security_group_rules.delete(conn, MEMBER, chance.choice(found))
    except (Conflict, NotFound):
        return
