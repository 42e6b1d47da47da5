"""Consul's own clients against a project's agent: py-consul, unmodified."""

import asyncio
import http.client
import re
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import consul
import pytest

from nacre.cloud.discovery import kv, sweeping
from nacre.panes.docker.sites import Sites
from tests.functional import consuls
from tests.processes import wait_for
from tests.support import RunningCloud


@pytest.fixture(scope="module", autouse=True)
def leases(cloud: RunningCloud) -> Iterator[None]:
    with consuls.sweeping_of(cloud):
        yield


@pytest.fixture
def mine(cloud: RunningCloud) -> Iterator[consul.Consul]:
    """The member's project, emptied afterwards."""
    client = consuls.client(cloud, "member")
    yield client
    client.kv.delete("", recurse=True)
    for service in client.agent.services():
        client.agent.service.deregister(service)


@pytest.fixture
def theirs(cloud: RunningCloud) -> consul.Consul:
    return consuls.client(cloud, "other")


def test_a_project_has_so_many_keys_at_the_most(
    mine: consul.Consul, theirs: consul.Consul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv, "KEYS_MAX", 2)
    assert mine.kv.put("one", "1")
    assert mine.kv.put("two", "2")
    with pytest.raises(consul.ConsulException, match="2 keys already"):
        mine.kv.put("three", "3")
    assert mine.kv.put("two", "changed")
    assert theirs.kv.put("one", "1"), "each project has its own"
    assert theirs.kv.delete("one")
    assert mine.kv.delete("one")
    assert mine.kv.put("three", "3")


ODD_KEYS = (
    "a//b",
    "with space",
    "ä/ö\N{PILL}",
    "100%",
    "a%2Fb",
    "q?x=1&y",
    "#hash",
    "plus+plus",
    "semi;colon",
    "x" * 2000,
    "日本語/",
)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_kept_as_it_was_written(mine: consul.Consul, key: str) -> None:
    assert mine.kv.put(key, b"\x00\xff" + key.encode(), flags=2**64 - 1)
    index, entry = mine.kv.get(key)
    assert (entry["Key"], entry["Value"], entry["Flags"]) == (key, b"\x00\xff" + key.encode(), 2**64 - 1)
    assert int(index) == entry["ModifyIndex"] == entry["CreateIndex"]
    assert mine.kv.delete(key)
    assert mine.kv.get(key)[1] is None


def test_dots_and_slashes_are_letters_like_others(cloud: RunningCloud) -> None:
    """py-consul's HTTP library tidies such paths; others send them as they are."""
    member = cloud.client("member")
    for key in ("dots/../x", "./.", "..", "/", "//leading", "x/"):
        assert member("PUT", f"/v1/kv/{key}", b"v").json is True
        assert member("GET", f"/v1/kv/{key}").json[0]["Key"] == key
        assert member("GET", f"/v1/kv/{key}?raw").body == b"v"
        assert member("DELETE", f"/v1/kv/{key}").json is True
        gone = member("GET", f"/v1/kv/{key}")
        assert (gone.status, gone.body) == (404, b"")
    assert member("PUT", "/v1/kv/", b"v").status == 400


def test_keys_are_listed_by_prefix_and_up_to_a_separator(mine: consul.Consul) -> None:
    for key in ("web/a", "web/b/c", "web/b/d", "web", "wea", "other"):
        assert mine.kv.put(key, key)
    assert [each["Key"] for each in mine.kv.get("we", recurse=True)[1]] == ["wea", "web", "web/a", "web/b/c", "web/b/d"]
    assert mine.kv.get("web/", keys=True, separator="/")[1] == ["web/a", "web/b/"]
    assert mine.kv.get("nothing", keys=True)[1] is None
    assert mine.kv.delete("web/b", recurse=True)
    assert mine.kv.get("web/", keys=True)[1] == ["web/a"]


def test_check_and_set(mine: consul.Consul) -> None:
    assert mine.kv.put("one", "1", cas=7) is False
    assert mine.kv.put("one", "1", cas=0) is True
    assert mine.kv.put("one", "2", cas=0) is False
    index = mine.kv.get("one")[1]["ModifyIndex"]
    assert mine.kv.put("one", "2", cas=index - 1) is False
    assert mine.kv.put("one", "2", cas=index) is True
    assert mine.kv.delete("one", cas=index) is False
    assert mine.kv.delete("one", cas=mine.kv.get("one")[1]["ModifyIndex"]) is True


def test_an_index_never_falls_and_a_write_of_the_same_changes_nothing(mine: consul.Consul) -> None:
    mine.kv.put("tree/a", "1")
    first = int(mine.kv.get("tree/", recurse=True)[0])
    mine.kv.put("tree/a", "1")
    assert int(mine.kv.get("tree/", recurse=True)[0]) == first
    mine.kv.put("tree/b", "1")
    second = int(mine.kv.get("tree/", recurse=True)[0])
    mine.kv.delete("tree/b")
    third = int(mine.kv.get("tree/", recurse=True)[0])
    assert first < second < third


def test_a_lock_is_its_sessions(mine: consul.Consul) -> None:
    first = mine.session.create(name="first", lock_delay=0)
    second = mine.session.create(name="second", lock_delay=0)
    assert mine.kv.put("lock", "first", acquire=first)
    assert not mine.kv.put("lock", "second", acquire=second)
    assert mine.kv.put("lock", "first again", acquire=first)
    held = mine.kv.get("lock")[1]
    assert (held["LockIndex"], held["Session"], held["Value"]) == (1, first, b"first again")
    assert not mine.kv.put("lock", "", release=second)
    assert mine.session.destroy(first)
    assert "Session" not in mine.kv.get("lock")[1]
    assert mine.kv.put("lock", "second", acquire=second)
    assert mine.kv.get("lock")[1]["LockIndex"] == 2
    assert mine.kv.put("lock", "", release=second)
    assert {each["Name"] for each in mine.session.list()[1]} == {"second"}
    assert mine.session.info(first)[1] is None
    mine.session.destroy(second)
    with pytest.raises(consul.NotFound):
        mine.session.renew(second)


def test_a_session_that_deletes_and_one_with_a_delay(mine: consul.Consul) -> None:
    deleting = mine.session.create(behavior="delete", lock_delay=0)
    assert mine.kv.put("ephemeral", "x", acquire=deleting)
    mine.session.destroy(deleting)
    assert mine.kv.get("ephemeral")[1] is None
    delayed, patient = mine.session.create(lock_delay=2), mine.session.create()
    assert mine.kv.put("slow", "x", acquire=delayed)
    mine.session.destroy(delayed)
    assert not mine.kv.put("slow", "y", acquire=patient)
    wait_for(lambda: mine.kv.put("slow", "y", acquire=patient), "the lock-delay to be over")
    mine.session.destroy(patient)


def test_one_of_two_candidates_dies_and_the_other_leads(mine: consul.Consul, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of Consul's own guide on leader elections, with leases of a second, that a test can wait for."""
    monkeypatch.setattr(sweeping, "TTL_TIMES", 0.1)

    def candidate(name: str, go_on: threading.Event) -> str:
        session = mine.session.create(name=name, ttl=10, lock_delay=0)
        while not mine.kv.put("leader", name, acquire=session):
            mine.session.renew(session)
            index, entry = mine.kv.get("leader")
            if entry and entry.get("Session"):
                mine.kv.get("leader", index=index, wait="500ms")
        while not go_on.wait(0.3):
            mine.session.renew(session)
        return session

    dying, healthy = threading.Event(), threading.Event()
    dying.set()
    with ThreadPoolExecutor(2) as threads:
        # The first one leads, and says nothing more.
        first = threads.submit(candidate, "first", dying).result(60)
        second = threads.submit(candidate, "second", healthy)
        wait_for(lambda: mine.kv.get("leader")[1]["Value"] == b"second", "the second to lead")
        assert mine.session.info(first)[1] is None
        held = mine.kv.get("leader")[1]
        assert held["LockIndex"] == 2
        healthy.set()
        assert held["Session"] == second.result(60)
        mine.session.destroy(held["Session"])


def test_a_ttl_check_that_is_silent_is_critical(mine: consul.Consul) -> None:
    assert mine.agent.check.register("heart", check=consul.Check.ttl("1s"))
    assert mine.agent.check.ttl_pass("heart")
    assert mine.agent.checks()["heart"]["Status"] == "passing"
    wait_for(lambda: mine.agent.checks()["heart"]["Output"] == "TTL expired", "the TTL to expire")
    assert mine.agent.checks()["heart"]["Status"] == "critical"
    assert mine.agent.check.ttl_warn("heart", notes="again")
    assert mine.agent.check.deregister("heart")


def test_a_transaction_happens_whole_or_not_at_all(mine: consul.Consul) -> None:
    def op(verb: str, key: str, **more: object) -> dict[str, object]:
        return {"KV": {"Verb": verb, "Key": key, **more}}

    done = mine.txn.put([op("set", "t/a", Value="MQ=="), op("set", "t/b", Value="Mg=="), op("get", "t/a"), op("delete", "t/b")])
    values = [each["KV"]["Value"] for each in done["Results"]]
    assert values == [None, None, "MQ=="]
    assert mine.kv.get("t/", keys=True)[1] == ["t/a"]
    index = mine.kv.get("t/a")[1]["ModifyIndex"]
    with pytest.raises(consul.exceptions.ClientError, match=r"409.*\"OpIndex\":1.*index is stale"):
        mine.txn.put([op("set", "t/c", Value="MQ=="), op("cas", "t/a", Index=index + 1, Value="MQ==")])
    assert mine.kv.get("t/", keys=True)[1] == ["t/a"]
    assert mine.kv.get("t/a")[0] == str(index)
    with pytest.raises(consul.exceptions.ClientError, match=r"413.*too many operations"):
        mine.txn.put([op("get", "t/a")] * 129)


def test_values_have_a_limit(mine: consul.Consul) -> None:
    assert mine.kv.put("big", b"x" * 512 * 1024)
    with pytest.raises(consul.exceptions.ClientError, match="413"):
        mine.kv.put("big", b"x" * (512 * 1024 + 1))


def test_five_hundred_wait_for_one_write(mine: consul.Consul) -> None:
    mine.kv.put("watched", "0")
    index = mine.kv.get("watched")[0]
    ready = threading.Barrier(501)

    def wait(_: int) -> tuple[bytes, str]:
        ready.wait(60)
        seen, entry = mine.kv.get("watched", index=index, wait="120s")
        return entry["Value"], seen

    with ThreadPoolExecutor(500) as threads:
        waiting = [threads.submit(wait, number) for number in range(500)]
        ready.wait(60)
        mine.kv.put("unrelated", "1")
        mine.kv.put("watched", "1")
        answers = {each.result(120) for each in waiting}
    assert answers == {(b"1", mine.kv.get("watched")[0])}


def test_what_is_unrelated_does_not_wake(mine: consul.Consul) -> None:
    mine.kv.put("a", "1")
    index = mine.kv.get("a")[0]
    for number in range(5):
        mine.kv.put(f"b/{number}", "x")
        mine.agent.service.register(f"s{number}")
    assert mine.kv.get("a", index=index, wait="300ms") == (index, mine.kv.get("a")[1])


def test_a_service_with_a_ttl_check(mine: consul.Consul) -> None:
    assert mine.agent.service.register(
        "web",
        service_id="web-1",
        port=8080,
        address="10.0.0.7",
        tags=["v1", "blue"],
        check=consul.Check.ttl("60s"),
        meta={"k": "v"},
    )
    (instance,) = mine.health.service("web")[1]
    assert (instance["Service"]["Port"], instance["Service"]["Tags"], instance["Service"]["Meta"]) == (
        8080,
        ["v1", "blue"],
        {"k": "v"},
    )
    assert [check["Status"] for check in instance["Checks"]] == ["passing", "critical"]
    index, nobody = mine.health.service("web", passing=True)
    assert nobody == []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(mine.health.service, "web", passing=True, index=index, wait="60s")
        assert mine.agent.check.ttl_pass("service:web-1", notes="fine")
        assert [each["Service"]["ID"] for each in waiting.result(60)[1]] == ["web-1"]
    assert mine.health.service("web", passing=True, tag="green")[1] == []
    assert mine.catalog.services()[1]["web"] == ["v1", "blue"]
    assert mine.catalog.service("web")[1][0]["ServiceAddress"] == "10.0.0.7"
    assert mine.agent.services()["web-1"]["Service"] == "web"
    assert mine.agent.service.maintenance("web-1", True, "repairs")
    assert mine.health.service("web", passing=True)[1] == []
    assert mine.agent.service.maintenance("web-1", False)
    assert len(mine.health.service("web", passing=True)[1]) == 1
    assert mine.agent.service.deregister("web-1")
    assert mine.health.service("web")[1] == []
    assert mine.agent.checks() == {}


def test_what_is_not_served_is_refused_and_not_forgotten(cloud: RunningCloud) -> None:
    member = cloud.client("member")
    for path in ("/v1/kv/a", "/v1/session/list", "/v1/event/list"):
        filtered = member("GET", f"{path}?filter=Name%20==%20x")
        assert (filtered.status, filtered.body[:44]) == (400, b"Failed to create boolean expression evaluato")
    for path in ("/v1/health/service/web", "/v1/catalog/nodes", "/v1/agent/services", "/v1/health/state/any"):
        assert member("GET", f"{path}?filter=Nme%20==%20x").body.endswith(b'Selector "Nme" is not valid')
        for name in ("near", "ns", "peer"):
            assert member("GET", f"{path}?{name}=a").status == 400


def test_lists_are_filtered_by_expressions(cloud: RunningCloud, mine: consul.Consul) -> None:
    member = cloud.client("member")
    assert mine.agent.service.register("api", "api-1", tags=["v1", "blue"], port=80, meta={"env": "qa", "a b": "c"})
    assert mine.agent.service.register("api", "api-2", tags=["v2"], port=81, meta={"env": "prod"}, check=consul.Check.ttl("60s"))

    def found(path: str, expression: str) -> Any:
        answer = member("GET", f"/v1/{path}?filter={urllib.parse.quote(expression)}")
        assert answer.status == 200, answer.body
        return answer.json

    both, one, two = {"api-1", "api-2"}, {"api-1"}, {"api-2"}
    for expression, expected in (
        ('Meta.env == "qa"', one),
        ("Meta.env != qa", two),
        ('Meta["a b"] == `c`', one),
        ('Meta.nothing != "x"', both),
        ("Meta.nothing is empty and Tags is not empty", both),
        ("blue in Tags", one),
        ('"blue" not in Tags and Service == api', two),
        ('Tags contains "v2"', two),
        ("a in Service and not (Port == 81)", one),
        ("Service matches `^a.i$` and Port != 80 or Meta.env == qa", both),
        ("Service not matches `^a`", set()),
        ("not not EnableTagOverride == false and Weights.Passing == 1", both),
    ):
        assert set(found("agent/services", expression)) == expected, expression
        assert {each["Service"]["ID"] for each in found("health/service/api", _below("Service.", expression))} == expected
        assert set(found("catalog/node/nacre", expression)["Services"]) == expected
    assert [each["ServiceID"] for each in found("catalog/service/api", 'ServiceMeta.env == "prod"')] == ["api-2"]
    assert found("catalog/services", "v1 in ServiceTags") == {"api": ["v1", "blue"]}
    assert [each["CheckID"] for each in found("health/checks/api", 'Status == "critical"')] == ["service:api-2"]
    assert [each["CheckID"] for each in found("health/state/any", "ServiceName != ``")] == ["service:api-2"]
    assert list(found("agent/checks", "ServiceID == `api-2`")) == ["service:api-2"]
    assert [each["Node"] for each in found("catalog/nodes", "Node == nacre")] == ["nacre"]
    assert found("agent/members", "Name == nobody") == []
    for wrong in (
        "Meta.env ==",
        "Service = api",
        "(Service == api",
        "Port == x",
        "Service matches `(`",
        "Tags == v1",
        '"a',
        "a" * 5000,
    ):
        refused = member("GET", f"/v1/agent/services?filter={urllib.parse.quote(wrong)}")
        assert (refused.status, refused.body[:44]) == (400, b"Failed to create boolean expression evaluato"), wrong
    assert member("GET", f"/v1/agent/services?filter={'(' * 4000}").status == 400
    stranger = cloud.client("other")
    assert stranger("GET", "/v1/agent/services?filter=Service%20==%20api").json == {}


def _below(prefix: str, expression: str) -> str:
    """The expression about a field of an entry's."""
    return re.sub(r"\b(Meta|Tags|Service|Port|EnableTagOverride|Weights)\b", lambda found: prefix + found[0], expression)


def test_a_script_is_refused(mine: consul.Consul) -> None:
    with pytest.raises(consul.exceptions.BadRequest, match="Scripts are disabled on this agent"):
        mine.agent.check.register("s", check=consul.Check.script(["true"], "10s"))


def test_a_node_of_ones_own(mine: consul.Consul) -> None:
    assert mine.catalog.register(
        "db", "10.1.1.1", service={"Service": "pg", "Port": 5432}, check={"name": "up", "status": "passing"}
    )
    assert {node["Node"] for node in mine.catalog.nodes()[1]} == {"nacre", "db"}
    assert mine.catalog.node("db")[1]["Services"]["pg"]["Port"] == 5432
    holder = mine.session.create(node="db", checks=["up"], lock_delay=0)
    assert mine.kv.put("of-db", "x", acquire=holder)
    assert mine.catalog.register("db", "10.1.1.1", check={"name": "up", "status": "critical"})
    assert mine.session.info(holder)[1] is None
    assert "Session" not in mine.kv.get("of-db")[1]
    assert mine.catalog.deregister("db")
    assert mine.catalog.service("pg")[1] == []


def test_events(mine: consul.Consul) -> None:
    index, before = mine.event.list("deploy")
    assert before == []
    mine.event.fire("deploy", "now")
    _, found = mine.event.list("deploy", index=index, wait="60s")
    assert [(each["Name"], each["Payload"]) for each in found] == [("deploy", b"now")]


def test_two_projects_see_nothing_of_each_other(mine: consul.Consul, theirs: consul.Consul) -> None:
    mine.kv.put("secret", "mine")
    mine.agent.service.register("hidden")
    session = mine.session.create()
    assert theirs.kv.get("secret")[1] is None
    assert "hidden" not in theirs.catalog.services()[1]
    assert theirs.session.info(session)[1] is None
    assert theirs.session.list()[1] == []
    with pytest.raises(consul.exceptions.BadRequest, match="invalid session"):
        theirs.kv.put("lock", "x", acquire=session)
    theirs.session.destroy(session)
    assert mine.session.info(session)[1]["ID"] == session
    assert theirs.event.list()[1] == []
    mine.session.destroy(session)


def test_who_is_not_known_is_let_in_nowhere(cloud: RunningCloud) -> None:
    stranger = consul.Consul(port=int(cloud.base_url.rpartition(":")[2]), token="forged")
    with pytest.raises(consul.ACLPermissionDenied):
        stranger.kv.get("x")
    with pytest.raises(consul.ACLPermissionDenied):
        consuls.client(cloud, "reader").kv.put("x", "y")
    assert consuls.client(cloud, "reader").kv.get("x")[1] is None


def test_an_application_credential_is_a_token_that_lasts(cloud: RunningCloud) -> None:
    made = cloud.client("member")(
        "POST", f"/identity/v3/users/{'b' * 32}/application_credentials", {"application_credential": {"name": "consul"}}
    )
    credential = made.json["application_credential"]
    client = consuls.with_token(cloud, f"{credential['id']}:{credential['secret']}")
    assert client.kv.put("by-credential", "x")
    with pytest.raises(consul.ACLPermissionDenied):
        consuls.with_token(cloud, f"{credential['id']}:wrong").kv.get("by-credential")
    gone = cloud.client("member")("DELETE", f"/identity/v3/users/{'b' * 32}/application_credentials/{credential['id']}")
    assert gone.status == 204
    with pytest.raises(consul.ACLPermissionDenied):
        client.kv.get("by-credential")


def test_a_projects_socket_needs_no_token(cloud: RunningCloud, mine: consul.Consul) -> None:
    with tempfile.TemporaryDirectory() as directory:
        site = Sites(cloud.cloud, Path(directory))
        asyncio.run_coroutine_threadsafe(site.start(), cloud.loop).result(30)
        mine.kv.put("by-token", "x")
        connection = http.client.HTTPConnection("project")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{directory}/{'1' * 32}.sock")
        connection.request("GET", "/v1/kv/by-token?raw")
        assert connection.getresponse().read() == b"x"
        connection.request("GET", "/_ping")
        assert connection.getresponse().read() == b"OK"
        connection.close()
        asyncio.run_coroutine_threadsafe(site.close(), cloud.loop).result(30)
        cloud.cloud.closing.remove(site.close)
