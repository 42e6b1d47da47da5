"""The docker CLI and docker-py on a real cloud: what people type, and what they compare it with."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker as docker_py
import pytest

from tests.node.dockercli import Site, has_client, run, site
from tests.processes import free_port, wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

RUNS, RUNS_AT_ONCE = 40, 8


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-docker-", "--docker-tls", str(free_port())) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(cloud: Site) -> Iterator[None]:
    """Each story begins and ends without containers."""
    yield
    left = cloud.say("ps", "-aq").split()
    if left:
        cloud.say("rm", "-f", *left)


def names(cloud: Site, *arguments: str) -> set[str]:
    return set(cloud.say("ps", "--format", "{{.Names}}", *arguments).split())


def shown(cloud: Site, name: str, template: str) -> str:
    return cloud.say("inspect", name, "--format", template)


EXITS = {
    "a word": (("busybox", "echo", "hi"), 0),
    "its own status": (("busybox", "sh", "-c", "exit 3"), 3),
    "no such program": (("busybox", "nosuch"), 127),
    "a folder": (("busybox", "/etc"), 126),
    "no such image": (("--pull", "never", "nosuch:tag"), 125),
    "no such flag": (("--nosuch", "busybox"), 125),
}


@pytest.mark.parametrize("story", EXITS)
def test_run_ends_with_the_status_that_docker_gives(cloud: Site, story: str) -> None:
    arguments, code = EXITS[story]
    done = cloud.docker("run", "--rm", *arguments)
    assert done.code == code, done
    assert done.out == ("hi\n" if code == 0 else "")
    wait_for(lambda: names(cloud, "-a") == set(), "--rm to leave nothing")


@pytest.mark.parametrize("flags", [(), ("-i",)], ids=["without stdin", "with stdin"])
def test_short_runs_at_once_all_come_to_their_end(cloud: Site, flags: tuple[str, ...]) -> None:
    """A start comes at any moment of the creation, and an end at any moment of the start."""
    command = ("cat",) if flags else ("echo", "hi")
    cloud.host("demo")
    with ThreadPoolExecutor(RUNS_AT_ONCE) as threads:
        done = list(threads.map(lambda _: cloud.docker("run", "--rm", *flags, "busybox", *command, stdin="hi\n"), range(RUNS)))
    assert [(one.code, one.out) for one in done] == [(0, "hi\n")] * RUNS
    wait_for(lambda: names(cloud, "-a") == set(), "--rm to leave nothing")


def test_a_container_from_create_to_rm(cloud: Site) -> None:
    ident = cloud.say("create", "--name", "web", "--hostname", "www", "-e", "A=b", "-l", "tier=front", "busybox", "sleep", "1000")
    assert shown(cloud, "web", "{{.State.Status}} {{.Config.Hostname}} {{.HostConfig.RestartPolicy.Name}}") == "created www no"
    cloud.say("start", "web")
    assert shown(cloud, "web", '{{.Id}} {{.State.Running}} {{index .Config.Labels "tier"}}') == f"{ident} true front"
    assert cloud.say("exec", "web", "sh", "-c", "echo $A $(hostname)") == "b www"
    cloud.say("pause", "web")
    assert "(Paused)" in cloud.say("ps", "--format", "{{.Status}}")
    assert "unpaused first" in cloud.docker("rm", "web").err
    cloud.say("unpause", "web")
    cloud.say("rename", "web", "front")
    assert names(cloud) == {"front"}
    cloud.say("kill", "front")
    assert cloud.say("wait", "front") == "137"
    assert cloud.docker("kill", "front").code == 1
    cloud.say("start", "front")
    cloud.say("restart", "-t", "1", "front")
    assert shown(cloud, ident[:10], "{{.State.Running}}") == "true"
    refused = cloud.docker("rm", "front")
    assert refused.code == 1
    assert "cannot remove container" in refused.err
    cloud.say("rm", "-f", "front")
    assert f"No such container: {ident}" in cloud.docker("start", ident).err


def test_a_list_by_filters(cloud: Site) -> None:
    cloud.say("run", "-d", "--name", "web", "-l", "tier=front", "busybox", "sleep", "1000")
    cloud.say("run", "-d", "--name", "db", "-l", "tier=back", "busybox", "sleep", "1000")
    cloud.say("run", "--name", "job", "-l", "tier=back", "busybox", "true")
    cloud.docker("run", "--name", "bad", "busybox", "sh", "-c", "exit 4")
    expected = {
        (): {"web", "db"},
        ("-a",): {"web", "db", "job", "bad"},
        ("-f", "label=tier=back"): {"db"},
        ("-a", "-f", "label=tier=back"): {"db", "job"},
        ("-f", "status=exited"): {"job", "bad"},
        ("-a", "-f", "exited=4"): {"bad"},
        ("-f", "name=^w"): {"web"},
        ("-a", "-f", "since=db"): {"job", "bad"},
        ("-a", "-f", "before=db"): {"web"},
        ("-f", "ancestor=busybox"): {"web", "db"},
        ("-n", "1"): {"bad"},
        ("-f", "ancestor=nosuch"): set(),
    }
    assert {arguments: names(cloud, *arguments) for arguments in expected} == expected
    assert cloud.docker("ps", "-f", "nosuch=1").code == 1
    assert "Deleted Containers" in cloud.say("container", "prune", "-f")
    assert names(cloud, "-a") == {"web", "db"}


def test_other_limits_and_another_restart_policy(cloud: Site) -> None:
    cloud.say("run", "-d", "--name", "web", "-m", "64m", "busybox", "sleep", "1000")
    cloud.say("update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--restart", "always", "web")
    template = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}"
    assert shown(cloud, "web", template) == f"{128 << 20} 500000000 always"
    (server,) = cloud.openstack("server", "list", "-f", "json")
    size = cloud.openstack("server", "show", server["ID"], "-f", "json")["flavor"]
    assert size["ram"] == 128 if isinstance(size, dict) else "ram='128'" in size
    wrong = cloud.docker("update", "-m", "1m", "web")
    assert "Minimum memory limit allowed is 6MB" in wrong.err


def test_a_container_that_fails_is_started_again_as_often_as_it_may(cloud: Site) -> None:
    cloud.say("run", "-d", "--name", "failing", "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 5")
    wait_for(lambda: shown(cloud, "failing", "{{.State.Status}} {{.RestartCount}}") == "exited 2", "the last try")
    # The stream ends by itself, a moment after everything was told: `--until 0s` would be cut to the whole second before.
    until = str(int(time.time()) + 2)
    line = "{{.Action}} {{.Actor.Attributes.exitCode}}"
    told = cloud.say("events", "--since", "10m", "--until", until, "-f", "container=failing", "--format", line).splitlines()
    assert told[0].startswith("create")
    assert [text for text in told if text.startswith("die")] == ["die 5"] * 3
    assert cloud.say("wait", "failing") == "5"


def test_a_name_is_taken_once(cloud: Site) -> None:
    ident = cloud.say("create", "--name", "web", "busybox", "true")
    again = cloud.docker("create", "--name", "web", "busybox", "true")
    assert again.code == 1
    assert f'The container name "/web" is already in use by container "{ident}"' in again.err


def test_two_tenants_do_not_see_each_other(cloud: Site) -> None:
    ident = cloud.say("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    for ref in (ident, "web", ident[:12]):
        for verb in ("inspect", "stop", "start", "rm", "logs", "kill"):
            done = cloud.docker(verb, ref, project="admin")
            assert done.code != 0, (verb, ref)
            assert "No such" in done.err, (verb, done.err)
    assert cloud.say("ps", "-aq", project="admin") == ""
    assert ident not in cloud.say("events", "--since", "10m", "--until", "0s", project="admin")
    assert cloud.say("create", "--name", "web", "busybox", "true", project="admin")
    cloud.say("rm", "web", project="admin")


def test_by_tls_as_the_user_of_a_certificate(cloud: Site, tmp_path: Path) -> None:
    asked = ("--project", "demo", "--user", "demo", "--tls", str(tmp_path / "demo"), "--format", "json")
    env = {**cloud.env, **json.loads(cloud.nacre("docker", "env", options=asked))}
    assert (tmp_path / "demo" / "key.pem").stat().st_mode & 0o777 == 0o600

    said = run(["docker", "run", "-i", "--name", "by-tls", "busybox", "sh", "-c", "cat; echo the end"], env, "its input\n")
    assert (said.code, said.out) == (0, "its input\nthe end\n"), "a client that ended its input is answered all the same"
    assert "by-tls" in names(cloud, "--all")
    assert "by-tls" not in cloud.docker("ps", "--all", project="admin").out

    (mine,) = json.loads(cloud.nacre("docker", "certificates", "list", options=("--format", "json")))
    cloud.nacre("docker", "env", options=asked)
    assert len(json.loads(cloud.nacre("docker", "certificates", "list", options=("--format", "json")))) == 1, "what is good stays"
    cloud.nacre("docker", "certificates", "revoke", options=(mine["serial"],))
    said = run(["docker", "ps"], env)
    assert said.code == 1
    assert "the certificate was revoked" in said.err
    cloud.nacre("docker", "env", options=asked)
    assert run(["docker", "ps"], env).code == 0, "another took its place"


def test_what_hands_over_the_host_is_allowed_by_name(cloud: Site) -> None:
    asked = ("run", "--rm", "-v", "/etc/hostname:/mine:ro", "busybox", "cat", "/mine")
    refused = cloud.docker(*asked)
    assert refused.code == 125
    assert "docker:host_paths" in refused.err
    cloud.nacre("docker", "allow", "docker:host_paths", options=("--project", "demo"))
    with open("/etc/hostname") as file:
        assert cloud.say(*asked) == file.read().strip()
    cloud.nacre("docker", "forbid", "docker:host_paths", options=("--project", "demo"))
    assert "docker:host_paths" in cloud.docker(*asked).err


def test_a_quota_holds_for_both_panes(cloud: Site) -> None:
    cloud.say("create", "--name", "one", "busybox", "true")
    cloud.openstack("quota", "set", "--instances", "1", "demo", cloud="nacre-admin")
    try:
        over = cloud.docker("create", "busybox", "true")
        assert over.code == 1
        assert "Quota exceeded for instances" in over.err
    finally:
        cloud.openstack("quota", "set", "--instances", "100", "demo", cloud="nacre-admin")


def test_both_panes_agree_at_every_step(cloud: Site) -> None:
    """`openstack server` and `docker` on the same things: after each command both lists say the same."""

    def agree() -> dict[str, str]:
        """name -> Nova's status, as both see it."""
        servers = {row["Name"]: (row["ID"], row["Status"]) for row in cloud.openstack("server", "list", "-f", "json")}
        seen = [json.loads(line) for line in cloud.say("ps", "-a", "--no-trunc", "--format", "json").splitlines()]
        assert {row["Names"] for row in seen} == set(servers)
        for row in seen:
            ident, status = servers[row["Names"]]
            assert row["ID"].startswith(ident.replace("-", ""))
            assert status == {"running": "ACTIVE", "paused": "PAUSED"}.get(row["State"], "SHUTOFF"), (row, status)
        return {name: status for name, (_, status) in servers.items()}

    def server(verb: str, name: str, status: str) -> None:
        cloud.openstack("server", verb, name)
        wait_for(lambda: cloud.openstack("server", "show", name, "-f", "json")["status"] == status, f"{name} to be {status}")

    flavor = cloud.openstack("flavor", "list", "-f", "json")[0]["Name"]
    cloud.say("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert agree() == {"web": "ACTIVE"}
    cloud.openstack("server", "create", "vm", "--image", "busybox", "--flavor", flavor, "--nic", "none", "--wait", "-f", "json")
    assert agree() == {"web": "ACTIVE", "vm": "ACTIVE"}
    server("stop", "web", "SHUTOFF")
    assert agree() == {"web": "SHUTOFF", "vm": "ACTIVE"}
    cloud.say("start", "web")
    cloud.say("pause", "vm")
    assert agree() == {"web": "ACTIVE", "vm": "PAUSED"}
    server("unpause", "vm", "ACTIVE")
    cloud.say("stop", "-t", "1", "vm")
    assert agree() == {"web": "ACTIVE", "vm": "SHUTOFF"}
    cloud.openstack("server", "set", "--name", "www", "web")
    cloud.say("rename", "vm", "box")
    assert agree() == {"www": "ACTIVE", "box": "SHUTOFF"}
    cloud.openstack("server", "delete", "--wait", "www")
    assert agree() == {"box": "SHUTOFF"}
    cloud.say("rm", "box")
    assert agree() == {}


def test_docker_py(cloud: Site) -> None:
    client = docker_py.DockerClient(base_url=cloud.host("demo"), timeout=60)
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker_py.errors.ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "exit 4"], remove=True)
    assert error.value.exit_status == 4
    made = client.containers.run("busybox", ["sleep", "1000"], name="web", labels={"a": "b"}, detach=True, mem_limit="64m")
    assert [each.name for each in client.containers.list(filters={"label": ["a=b"]})] == ["web"]
    assert made.exec_run(["echo", "in"]) == (0, b"in\n")
    made.update(mem_limit="128m", memswap_limit="128m")
    made.stop(timeout=1)
    made.reload()
    assert (made.status, made.attrs["HostConfig"]["Memory"]) == ("exited", 128 << 20)
    made.remove()
    with pytest.raises(docker_py.errors.NotFound):
        made.reload()
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"
    with pytest.raises(docker_py.errors.APIError, match="not a swarm manager"):
        client.services.list()
    told = list(client.events(since=0, until=client.info()["NCPU"], decode=True))
    assert told == []
    client.close()
