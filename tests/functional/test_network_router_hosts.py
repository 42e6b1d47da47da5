"""Which host bears a router, seen and changed by an administrator; and routers that are `ha`. On two simulated hosts."""

from collections.abc import Iterator

import pytest

from tests.processes import Processes
from tests.support import Client

NET = "/network/v2.0"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("state"), simulate=2, cloud_id="40ba").up()
    yield running
    running.down()


@pytest.fixture
def admin(cloud: Processes) -> Client:
    return cloud.login()


@pytest.fixture
def demo(cloud: Processes) -> Client:
    return cloud.login("demo", "demo")


def public(client: Client) -> str:
    return str(client("GET", f"{NET}/networks?router:external=true").json["networks"][0]["id"])


def router(client: Client, **values: object) -> str:
    body = {"router": {"external_gateway_info": {"network_id": public(client)}, **values}}
    answer = client("POST", f"{NET}/routers", body)
    assert answer.status == 201, answer.body
    return str(answer.json["router"]["id"])


def bearers(client: Client, ident: str) -> list[str]:
    return [agent["id"] for agent in client("GET", f"{NET}/routers/{ident}/l3-agents").json["agents"]]


def test_routers_are_spread_and_an_administrator_moves_them(admin: Client) -> None:
    one, other = router(admin), router(admin)
    assert bearers(admin, one) != bearers(admin, other), "the second router went where there were fewer"
    (here,), (there,) = bearers(admin, one), bearers(admin, other)
    listed = admin("GET", f"{NET}/agents/{here}/l3-routers").json["routers"]
    assert [each["id"] for each in listed] == [one]
    taken = admin("POST", f"{NET}/agents/{there}/l3-routers", {"router_id": one})
    assert (taken.status, taken.json["NeutronError"]["type"]) == (409, "RouterHostedByL3Agent")
    wrong = admin("DELETE", f"{NET}/agents/{there}/l3-routers/{one}")
    assert (wrong.status, wrong.json["NeutronError"]["type"]) == (409, "RouterNotHostedByL3Agent")
    assert admin("DELETE", f"{NET}/agents/{here}/l3-routers/{one}").status == 204
    assert bearers(admin, one) == []
    for _ in range(2):
        added = admin("POST", f"{NET}/agents/{there}/l3-routers", {"router_id": one})
        assert (added.status, added.json) == (201, None)
    assert bearers(admin, one) == [there]
    gateway = admin("GET", f"{NET}/ports?device_id={one}").json["ports"][0]
    assert gateway["binding:host_id"] == there
    assert admin("POST", f"{NET}/agents/{there}/l3-routers", {"router_id": "none"}).status == 404
    assert admin("POST", f"{NET}/agents/none/l3-routers", {"router_id": one}).status == 404
    assert admin("POST", f"{NET}/agents/{there}/l3-routers", {}).status == 400


def test_it_is_no_tenants_affair(admin: Client, demo: Client) -> None:
    own = router(demo)
    (agent,) = bearers(admin, own)
    assert demo("GET", f"{NET}/routers/{own}/l3-agents").status == 403
    assert demo("GET", f"{NET}/agents/{agent}/l3-routers").status == 403
    assert demo("POST", f"{NET}/agents/{agent}/l3-routers", {"router_id": own}).status == 403
    assert demo("DELETE", f"{NET}/agents/{agent}/l3-routers/{own}").status == 403
    assert demo("POST", f"{NET}/routers", {"router": {"ha": True}}).status == 403
    assert demo("PUT", f"{NET}/routers/{own}", {"router": {"ha": True}}).status == 403
    assert "ha" not in demo("GET", f"{NET}/routers/{own}").json["router"]


def test_ha_is_an_administrators_and_changes_while_the_router_is_down(admin: Client) -> None:
    ident = router(admin, ha=True)
    path = f"{NET}/routers/{ident}"
    assert admin("GET", path).json["router"]["ha"] is True
    assert ident in [each["id"] for each in admin("GET", f"{NET}/routers?ha=true").json["routers"]]
    refused = admin("PUT", path, {"router": {"ha": False}})
    assert refused.status == 400
    assert "admin_state_up to False" in refused.json["NeutronError"]["message"]
    assert admin("PUT", path, {"router": {"ha": False, "admin_state_up": True}}).status == 400
    assert admin("PUT", path, {"router": {"admin_state_up": False}}).status == 200
    assert admin("PUT", path, {"router": {"ha": False}}).json["router"]["ha"] is False
    assert admin("PUT", path, {"router": {"ha": "perhaps"}}).status == 400
