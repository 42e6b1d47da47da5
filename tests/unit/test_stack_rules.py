"""What is to be done for a service, from what is wanted and what is there."""

from typing import Any

from nacre.cloud.stacks.rules import Host, Member, Wanted, allowed, in_link_order, plan, stack_state, state_of, tiers

HOSTS = [Host(id=name, hostname=name, usable=True, guests=guests) for name, guests in (("a", 3), ("b", 1), ("c", 1))]


def member(number: int, status: Any = "running", **values: Any) -> Member:
    return Member(**{"server_id": f"s{number}", "number": number, "revision": 1, "status": status, **values})


def verbs(wanted: dict[str, Any], *members: Member, hosts: Any = ()) -> list[str]:
    made = plan(Wanted(**{"intent": "running", "target": 2, "revision": 1, **wanted}), members, hosts)
    return [f"{each.verb} {each.server_id or each.number}{'@' + each.host_id if each.host_id else ''}" for each in made]


def test_to_the_target_and_no_further() -> None:
    assert verbs({}) == ["create 1", "create 2"]
    assert verbs({}, member(2)) == ["create 1"]
    assert verbs({}, member(1), member(2), member(3), member(4)) == ["remove s3", "remove s4"]
    assert verbs({}, member(1), member(2)) == []
    assert len(verbs({"target": 500})) == 20


def test_one_by_one() -> None:
    assert verbs({"sequential": True}) == ["create 1"]
    assert verbs({"sequential": True}, member(1, "starting")) == []
    assert verbs({"sequential": True, "revision": 2}, member(1), member(2)) == ["remove s1", "create 1"]
    assert verbs({"sequential": True, "revision": 2}, member(1, "starting", revision=2), member(2)) == []


def test_what_ended_by_itself() -> None:
    ended = {"status": "stopped", "exit_code": 1}
    assert verbs({"target": 1}, member(1, **ended)) == []
    assert verbs({"target": 1, "autorestart": "ON_FAILURE"}, member(1, **ended)) == ["start s1"]
    assert verbs({"target": 1, "autorestart": "ON_FAILURE"}, member(1, "stopped")) == []
    assert verbs({"target": 1, "autorestart": "ALWAYS"}, member(1, "stopped", by_user=True)) == []
    assert verbs({"target": 1}, member(1, "stopped", by_user=True, due=True)) == ["start s1"]
    assert verbs({"target": 1, "autodestroy": "ON_SUCCESS"}, member(1, "stopped")) == ["destroy s1"]
    assert verbs({"target": 1, "autodestroy": "ON_SUCCESS"}, member(1, **ended)) == []
    assert verbs({"target": 1, "autorestart": "ON_FAILURE"}, member(1, "gone", there=False, destroyed=True)) == []
    assert verbs({"target": 1, "autorestart": "ALWAYS"}, member(1, "gone", there=False)) == ["remove s1", "create 1"]


def test_going_and_stopping() -> None:
    assert verbs({"intent": "gone"}, member(1), member(2, "leaving", there=False)) == ["forget s2", "remove s1"]
    assert verbs({"intent": "stopped"}, member(1), member(2, "stopped")) == ["stop s1"]
    assert verbs({"intent": "created"}) == []


def test_every_node_follows_the_hosts() -> None:
    every = {"strategy": "EVERY_NODE"}
    assert verbs(every, hosts=HOSTS) == ["create 1@a", "create 2@b", "create 3@c"]
    assert verbs(every, member(1, host_id="b"), member(2, host_id="gone"), hosts=HOSTS) == [
        "remove s2",
        "create 2@a",
        "create 3@c",
    ]


def test_tiers_and_tags() -> None:
    assert tiers(HOSTS, "EMPTIEST_NODE", {}) == [["b", "c"], ["a"]]
    assert tiers(HOSTS, "HIGH_AVAILABILITY", {"b": 2, "a": 1}) == [["c"], ["a"], ["b"]]
    tagged = Host(id="d", hostname="d", usable=True, labels={"tags": "web,ssd", "rack": "7"}, zone="nova")
    assert allowed([tagged, *HOSTS], ["web", "ssd", "rack", "rack=7", "nova", "d"]) == [tagged]
    assert allowed([tagged], ["rack=8"]) == []


def test_states() -> None:
    assert state_of("created", "", []) == "Not running"
    assert state_of("running", "scaling", [member(1)]) == "Scaling"
    assert state_of("running", "", [member(1), member(2, "stopped")]) == "Partly running"
    assert state_of("running", "", [member(1, "gone")]) == "Terminated"
    assert state_of("running", "", [member(1), member(2, "leaving")]) == "Running"
    assert stack_state(["Running", "Stopped"]) == "Partly running"
    assert stack_state(["Running", "Scaling"]) == "Running"
    assert stack_state(["Running", "Redeploying"]) == "Redeploying"


def test_what_is_linked_to_comes_first() -> None:
    assert in_link_order({"web": ["app"], "app": ["db", "gone"], "db": []}) == ["db", "app", "web"]
    assert sorted(in_link_order({"a": ["b"], "b": ["a"]})) == ["a", "b"]
