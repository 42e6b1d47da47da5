"""The plan: which hosts are left, in which order, and in which words the scheduler gives up."""

from typing import Any

import pytest

from nacre.cloud.scheduler import Conditions, Dependency, HostView, Neighbour, NoValidHost, Request, parse_all, plan


def host(number: int, **values: Any) -> HostView:
    given: dict[str, Any] = {
        "id": f"id-{number}",
        "hostname": f"node-{number}",
        "enabled": True,
        "alive": True,
        "availability_zone": "nova",
        "runtimes": frozenset({"container"}),
        "vcpus": 16,
        "memory_mb": 16_000,
        "disk_gb": 100,
        "claimed_vcpus": 0,
        "claimed_memory_mb": 0,
        "claimed_disk_gb": 0,
        "guests": 0,
    }
    return HostView(**given | values)


def request(**values: Any) -> Request:
    conditions = {
        name: parse_all(texts) for name in ("constraints", "affinities", "whitelists") if (texts := values.pop(name, ()))
    }
    conditions |= {
        name: values.pop(name) for name in ("dependencies", "exposed", "same_host", "different_host") if name in values
    }
    return Request(1, 1000, 1, frozenset({"container"}), conditions=Conditions(**conditions), **values)


def names(hosts: list[HostView]) -> list[str]:
    return [each.hostname for each in hosts]


HOSTS = [
    host(
        1, labels={"storage": "ssd", "zone": "east"}, facts={"virtual": "kvm", "is_virtual": True, "system_overload_10min": "03"}
    ),
    host(2, labels={"storage": "disk"}, facts={"virtual": "physical", "is_virtual": False, "system_overload_10min": "44"}),
    host(3, facts={"virtual": "virtualbox", "is_virtual": True, "system_overload_10min": "15"}, guests=1),
]


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (["storage==ssd"], ["node-1"]),
        (["storage!=ssd"], ["node-2", "node-3"]),
        (["storage==*"], ["node-1", "node-2", "node-3"]),
        (["storage==ssd", "is_virtual==True"], ["node-1"]),
        (["node==node-2"], ["node-2"]),
        (["node==id-3"], ["node-3"]),
        (["node!=/node-[12]/"], ["node-3"]),
        (["system_overload_10min==/[0-2][0-5]/"], ["node-1", "node-3"]),
        (["virtual=virtualbox"], ["node-3"]),
        (["ostype==linux"], ["node-1", "node-2", "node-3"]),
        (["storage==~tape"], ["node-1", "node-2", "node-3"]),
        (["storage==~ssd"], ["node-1"]),
        (["storage==~ssd", "node==node-2"], ["node-2"]),
    ],
)
def test_constraints(constraints: list[str], expected: list[str]) -> None:
    assert names(plan(HOSTS, request(constraints=constraints))) == expected


def test_built_in_labels_cannot_be_overridden_but_any_other_hides_the_fact() -> None:
    facts = {"operatingsystem": "Debian", "os": {"distro": {"description": "Debian GNU/Linux 12 (bookworm)"}}, "rack": "a"}
    hosts = [host(1, facts=facts, labels={"operatingsystem": "Plan9", "rack": "b", "node": "node-9"})]
    for satisfied in ("operatingsystem==Debian", "operatingsystem==Debian*12*", "rack==b", "node==node-1"):
        assert plan(hosts, request(constraints=[satisfied]))
    for unsatisfied in ("operatingsystem==Plan9", "rack==a", "node==node-9"):
        with pytest.raises(NoValidHost):
            plan(hosts, request(constraints=[unsatisfied]))


DB = Neighbour(("db-uuid", "d" * 64), "db", ("img-1", "redis:7", "redis"), {"tier": "data"})
WEB = Neighbour(("web-uuid", "e" * 64), "web", ("img-2", "registry:5000/nginx:1", "registry:5000/nginx"), {"tier": "front"})
PEOPLED = [host(1, neighbours=(DB,), guests=1), host(2, neighbours=(WEB,), guests=1), host(3)]


@pytest.mark.parametrize(
    ("affinities", "expected"),
    [
        (["container==db"], ["node-1"]),
        (["container==" + "e" * 64], ["node-2"]),
        (["container!=db"], ["node-3", "node-2"]),
        (["container!=*"], ["node-3"]),
        (["image==redis"], ["node-1"]),
        (["image==redis:7"], ["node-1"]),
        (["image==/nginx/"], ["node-2"]),
        (["image==img-2"], ["node-2"]),
        (["tier==front"], ["node-2"]),
        (["tier!=front"], ["node-3", "node-1"]),
        (["container==~nobody"], ["node-3", "node-1", "node-2"]),
        (["container==db", "image!=~redis"], ["node-1"]),
    ],
)
def test_affinities(affinities: list[str], expected: list[str]) -> None:
    assert names(plan(PEOPLED, request(affinities=affinities))) == expected


def test_whitelist_dependencies_and_novas_hints() -> None:
    assert names(plan(PEOPLED, request(whitelists=["any==node-2|node-9"]))) == ["node-2"]
    link = Dependency("--link=db:database", "db")
    assert names(plan(PEOPLED, request(dependencies=(link,)))) == ["node-1"]
    assert names(plan(PEOPLED, request(dependencies=(Dependency("--net=container:eeee", "eeee"),)))) == ["node-2"]
    assert names(plan(PEOPLED, request(same_host=("web-uuid", "gone")))) == ["node-2"]
    assert names(plan(PEOPLED, request(different_host=("web-uuid",)))) == ["node-3", "node-1"]
    with pytest.raises(NoValidHost, match="3 not fulfilling all dependencies: --link=db:database --volumes-from=web"):
        plan(PEOPLED, request(dependencies=(link, Dependency("--volumes-from=web", "web"))))


def test_slots_and_ports_of_the_host_mode() -> None:
    full = host(1, labels={"containerslots": "2"}, guests=2)
    assert names(plan([full, host(2, labels={"containerslots": "many"}, guests=50)], request())) == ["node-2"]
    with pytest.raises(NoValidHost) as failure:
        plan([full], request())
    assert failure.value.docker == (
        "Unable to find a node that satisfies the following conditions \n[available container slots]"
        "\nunable to find a node with enough open slots"
    )
    holder = host(1, neighbours=(Neighbour(("x",), "x", exposed=("80/tcp",)),))
    assert names(plan([holder, host(2)], request(exposed=("80/tcp",)))) == ["node-2"]


def test_the_failure_names_the_expression_that_nobody_satisfies() -> None:
    constraints = ["architecture!=arm", "virtual==vmware", "storage==ssd"]
    with pytest.raises(NoValidHost) as failure:
        plan(HOSTS, request(constraints=constraints, affinities=["container!=x"]))
    assert str(failure.value) == "No valid host was found. Of 3 hosts: 3 not satisfying the constraint virtual==vmware."
    assert failure.value.docker == (
        "Unable to find a node that satisfies the following conditions "
        "\n[available container slots]"
        "\n[container!=x (soft=false)]"
        "\n[architecture!=arm virtual==vmware storage==ssd]"
        "\nunable to find a node that satisfies the constraint virtual==vmware"
    )


def test_other_failures_in_swarms_words() -> None:
    def words(*hosts: HostView) -> str:
        with pytest.raises(NoValidHost) as failure:
            plan(hosts, request())
        return failure.value.docker

    assert words() == "No nodes available in the cluster"
    assert words(host(1, alive=False), host(2, enabled=False)) == "No healthy node available in the cluster"
    assert words(host(1, alive=False), host(2, memory_mb=999)) == "no resources available to schedule container"


def test_strategies() -> None:
    hosts = [
        host(1, claimed_memory_mb=8000, guests=2),
        host(2, claimed_memory_mb=12_000, guests=1),
        host(3, claimed_memory_mb=8000, guests=1),
    ]
    assert names(plan(hosts, request())) == ["node-3", "node-1", "node-2"]
    assert names(plan(hosts, request(strategy="binpack"))) == ["node-2", "node-1", "node-3"]
    assert {names(plan(hosts, request(strategy="random")))[0] for _ in range(200)} == {"node-1", "node-2", "node-3"}
