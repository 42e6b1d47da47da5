"""Docker's volumes over HTTP and with Docker's own client: names, profiles, snapshots, filters, use by containers, tenants, quotas."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nacre.cloud.containers.tables import events
from nacre.cloud.context import ROLE_IMPLIES, Context
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.hosts import operations as hosts
from nacre.cloud.hosts.compilers import COMPILERS
from nacre.cloud.hosts.desired import since
from nacre.cloud.volumes import audit, observations, quotas, use
from nacre.cloud.volumes.operations import VolumeSpec, create
from nacre.cloud.volumes.placing import note_drivers
from nacre.cloud.volumes.tables import volumes
from nacre.protocol.messages import Capacity, Hello, Observation
from nacre.protocol.volumes import VolumeState
from nacre.store import Store
from tests.support import ACTORS, Client, NoHosts, RunningCloud

V = "/docker/v1.50/volumes"
FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
DEMO = Context("b" * 32, "default", project_id=ACTORS["member"].project_id, roles=ROLE_IMPLIES["member"])


class TwoHosts(NoHosts):
    """Both give signs of life; each volume takes a thousand bytes."""

    async def dial(self, host_id: str, kind: str, ident: str, params: dict[str, Any]) -> bytes:
        return json.dumps(dict.fromkeys(params["ids"], 1000)).encode()

    def alive(self) -> frozenset[str]:
        return frozenset({FIRST, SECOND})


def hello(host_id: str, name: str) -> Hello:
    return Hello(1, 1, host_id, name, "b", Capacity(8, 65536, 100), ("container",), "container", {})


@pytest.fixture(scope="module")
def written(cloud: RunningCloud) -> Iterator[Callable[..., Any]]:
    """`written(fn, ...)` runs `fn(conn, ...)` in a write transaction. Two hosts are there."""
    store = Store(cloud.store_url)

    def write(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return asyncio.run(store.write(fn, *args, **kwargs))

    cloud.cloud.hosts = TwoHosts()
    write(hosts.register, hello(FIRST, "one"))
    write(hosts.register, hello(SECOND, "two"))
    yield write
    store.close()


@pytest.fixture(autouse=True)
def clean(written: Callable[..., Any]) -> None:
    """No test sees another one's volumes."""
    written(lambda conn: conn.execute(volumes.delete()))


def made(member: Client, name: str, driver: str = "", **options: str) -> Any:
    answer = member("POST", f"{V}/create", {"Name": name, "Driver": driver, "DriverOpts": options})
    assert answer.status == 201, answer.body
    return member("GET", f"{V}/{name}").json


def refused(member: Client, name: str, driver: str = "", **options: str) -> tuple[int, str]:
    answer = member("POST", f"{V}/create", {"Name": name, "Driver": driver, "DriverOpts": options})
    return answer.status, answer.json["message"]


def test_a_volume_with_a_profile_is_the_same_volume_by_every_name(member: Client) -> None:
    gold = made(member, "myVol@gold", "flocker")
    assert (gold["Name"], gold["Driver"], gold["Status"]["profile"]) == ("myVol@gold", "flocker", "gold")
    assert gold["Mountpoint"] == f"/flocker/{gold['Status']['id']}"
    assert made(member, "myVol@gold", "flocker")["Status"]["id"] == gold["Status"]["id"]
    assert made(member, "myVol")["Status"]["id"] == gold["Status"]["id"]
    assert made(member, "myVol@gold", "flocker", profile="gold")["Status"]["id"] == gold["Status"]["id"]
    assert refused(member, "myVol@silver") == (
        409,
        "create myVol@silver: conflict: volume myVol@gold exists already, with profile gold",
    )
    assert member("GET", f"{V}/myVol@silver").status == 404, "a name that asks for another profile is not its name"
    assert made(member, "plain@default")["Status"]["profile"] == "default"
    status, message = refused(member, "other@platinum")
    assert status == 400
    assert "gold, silver, bronze, default" in message
    status, message = refused(member, "a/b")
    assert (status, "includes invalid characters for a local volume name" in message) == (400, True)


def test_options_are_profile_size_and_host_and_nothing_else(member: Client, written: Callable[..., Any]) -> None:
    silver = made(member, "silver", "nacre", profile="silver", size="100MiB", host="two")
    assert silver["Options"] == {"profile": "silver", "size": "100MiB", "host": "two"}
    assert silver["Status"]["size"] == 100 << 20
    wanted = written(lambda conn: since(conn, COMPILERS, SECOND, 0))
    (spec,) = [item.volume for item in wanted.items if item.volume is not None]
    assert (spec.size_bytes, spec.read_iops, spec.write_bytes_s, spec.driver) == (100 << 20, 3000, 128 << 20, "local")
    assert refused(member, "x", device="/dev/sda") == (
        400,
        'create x: invalid option: "device"; known are profile, size and host',
    )
    assert refused(member, "x", size="many")[0] == 400
    assert refused(member, "x", host="three") == (404, "create x: there is no host three")


def test_a_snapshot_is_named_by_the_beginning_of_an_id(member: Client, written: Callable[..., Any]) -> None:
    source = made(member, "demoVol@gold", host="one")["Status"]
    copy = made(member, f"demoVol-snap@snapshot-{source['id'][:8]}")["Status"]
    assert (copy["snapshot_of"], copy["profile"]) == (source["id"], "gold")
    assert copy["id"] != source["id"]
    again = made(member, f"demoVol-snap@snapshot-{source['id'][:8]}")["Status"]
    assert again["id"] == copy["id"]
    status, message = refused(member, "x@snapshot-ffffffffffff")
    assert (status, message) == (404, 'create x@snapshot-ffffffffffff: no volume has an id that begins with "ffffffffffff"')
    assert refused(member, "x@snapshot-zz")[0] == 400

    def alike(conn: sa.Connection) -> None:
        for ident in ("abcd1234-0000-4000-8000-000000000001", "abcd1234-0000-4000-8000-000000000002"):
            row = create(conn, DEMO, VolumeSpec(f"v{ident[-1]}"), alive=None)
            conn.execute(volumes.update().where(volumes.c.id == row["id"]).values(id=ident))

    written(alike)
    status, message = refused(member, "x@snapshot-abcd1234")
    assert status == 409
    assert "abcd1234-0000-4000-8000-000000000001 (v1), abcd1234-0000-4000-8000-000000000002 (v2)" in message
    # The source stays until its copy has been made.
    assert member("DELETE", f"{V}/demoVol").status == 409
    written(observations.observe, FIRST, [Observation("volume", copy["id"], "active", volume=VolumeState("btrfs", True))])
    assert member("DELETE", f"{V}/demoVol").status == 204


def test_a_container_lands_where_its_volumes_lie(member: Client, written: Callable[..., Any]) -> None:
    made(member, "data")

    def lands(conn: sa.Connection, binds: list[str], host_id: str) -> Any:
        mounts, fixed = use.for_container(conn, DEMO, binds, [], "", alive=None)
        use.place(conn, DEMO, mounts, host_id)
        return mounts, fixed

    mounts, fixed = written(lands, ["data:/data"], SECOND)
    assert fixed is None, "nobody has used it: it may still go anywhere"
    assert member("GET", f"{V}/data").json["Node"] == "two"
    (shown,) = written(use.describe, mounts)
    ident = mounts[0].volume_id
    assert shown["Source"] == f"/nacre/{ident}"
    assert list(shown.values()) == ["volume", "data", f"/nacre/{ident}", "/data", "local", "z", True, ""]
    assert written(lands, ["data:/elsewhere:ro,nocopy"], SECOND)[1] == SECOND
    assert refused(member, "data", host="one") == (409, "volume data is on host two, not on one")
    with pytest.raises(Conflict, match="volume data is on host two, not on one"):
        written(lands, ["data:/data"], FIRST)
    written(lands, ["far:/data"], FIRST)
    with pytest.raises(Conflict, match=r"no host has all volumes of the container: .*data on two"):
        written(lands, ["data:/data", "far:/far"], FIRST)


def test_mounts_in_all_their_forms(written: Callable[..., Any]) -> None:
    def parsed(conn: sa.Connection, *args: Any, **kwargs: Any) -> Any:
        return use.for_container(conn, DEMO, *args, **kwargs)[0]

    body = {
        "Type": "volume",
        "Source": "deep",
        "Target": "/deep/../deep",
        "ReadOnly": True,
        "VolumeOptions": {
            "NoCopy": True,
            "Subpath": "a/b",
            "Labels": {"k": "v"},
            "DriverConfig": {"Name": "nacre", "Options": {}},
        },
    }
    tmpfs = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 511}}
    found = written(
        parsed,
        ["one:/one", "/srv:/srv:ro", "/anonymous"],
        [body, tmpfs],
        "",
        anonymous=["/one", "/own"],
        tmpfs={"/run": "size=1m,mode=755"},
    )
    by_target = {mount.target: mount for mount in found}
    assert list(by_target) == ["/one", "/srv", "/anonymous", "/deep", "/t", "/run", "/own"]
    assert (by_target["/srv"].kind, by_target["/srv"].host_path, by_target["/srv"].read_only) == ("host", "/srv", True)
    assert (by_target["/deep"].subpath, by_target["/deep"].copy_up, by_target["/deep"].read_only) == ("a/b", False, True)
    assert (by_target["/run"].size_bytes, by_target["/run"].mode) == (1 << 20, 0o755)
    for binds in (["one:/x", "two:/x"], ["one:relative"], ["one:/x:nonsense"], ["one:/"], [""], ["a:b:c:d"], ["one:/x:rshared"]):
        with pytest.raises(Invalid):
            written(parsed, binds, [], "")
    for wrong in (
        {"Type": "npipe", "Target": "/x"},
        {"Type": "bind", "Source": "x", "Target": "/x"},
        {"Type": "volume", "Target": "x"},
    ):
        with pytest.raises(Invalid):
            written(parsed, [], [wrong], "")


def test_anonymous_volumes_go_with_their_container_and_named_ones_stay(member: Client, written: Callable[..., Any]) -> None:
    def run(conn: sa.Connection) -> Any:
        mounts, _ = use.for_container(conn, DEMO, ["keep:/keep", "/scratch"], [], "", anonymous=["/image"])
        use.place(conn, DEMO, mounts, FIRST)
        return mounts

    mounts = written(run)
    assert len(member("GET", V).json["Volumes"]) == 3
    written(use.release, DEMO, "server", mounts)
    assert [volume["Name"] for volume in member("GET", V).json["Volumes"]] == ["keep"]
    left = written(lambda conn: since(conn, COMPILERS, FIRST, 0))
    assert len([gone for gone in left.gone if gone.kind == "volume"]) >= 2


def test_a_removed_volume_frees_its_name_at_once_and_goes_when_its_host_says_so(
    member: Client, written: Callable[..., Any]
) -> None:
    first = made(member, "data", host="one")["Status"]["id"]
    assert member("DELETE", f"{V}/data").status == 204
    missing = member("GET", f"{V}/data")
    assert (missing.status, missing.json["message"]) == (404, "get data: no such volume")
    assert member("DELETE", f"{V}/data").status == 404
    assert member("DELETE", f"{V}/data?force=1").status == 204
    second = made(member, "data", host="one")["Status"]["id"]
    assert second != first
    written(
        observations.observe,
        FIRST,
        [Observation("volume", first, "gone"), Observation("volume", second, "error", fault="no disk")],
    )
    assert written(lambda conn: conn.execute(sa.select(volumes.c.id)).scalars().all()) == [second]
    assert member("GET", f"{V}/data").json["Status"]["fault"] == "no disk"
    told = written(lambda conn: conn.execute(sa.select(events.c.action).where(events.c.actor_id == "data")).scalars().all())
    assert told[-3:] == ["create", "destroy", "create"]
    assert written(audit.findings) == []


def test_lists_are_filtered_and_pruned(member: Client) -> None:
    made(member, "web-data", "flocker")
    answer = member("POST", f"{V}/create", {"Name": "db-data", "Labels": {"tier": "db", "keep": ""}})
    assert answer.status == 201
    nameless = member("POST", f"{V}/create", {}).json["Name"]
    assert len(nameless) == 64

    def names(**filters: Any) -> list[str]:
        return [one["Name"] for one in member("GET", f"{V}?filters={json.dumps(filters).replace(' ', '')}").json["Volumes"]]

    assert names(name=["data"]) == ["db-data", "web-data"]
    assert names(driver={"flocker": True}) == ["web-data"]
    assert names(label=["tier=db"]) == names(label={"keep": True}) == ["db-data"]
    assert names(dangling=["false"]) == []
    assert len(names(dangling=["true"])) == 3
    assert member("GET", V + '?filters={"size":["1"]}').status == 400
    assert member("POST", f"{V}/prune").json == {"VolumesDeleted": [nameless], "SpaceReclaimed": 1000}
    every = member("POST", V + '/prune?filters={"all":["true"],"label!":["keep"]}').json
    assert every["VolumesDeleted"] == ["web-data"]


def test_volumes_are_the_projects_own(member: Client, other: Client, reader: Client) -> None:
    mine = made(member, "shared-name")["Status"]["id"]
    assert other("GET", f"{V}/shared-name").status == 404
    assert made(other, "shared-name")["Status"]["id"] != mine
    assert refused(other, f"theft@snapshot-{mine[:8]}")[0] == 404
    assert other("DELETE", f"{V}/shared-name").status == 204
    assert reader("GET", f"{V}/shared-name").status == 200
    assert reader("DELETE", f"{V}/shared-name").status == 403
    assert member("GET", f"{V}/shared-name").status == 200


def test_a_plugin_of_a_host_is_used_and_one_that_nobody_has_is_not(member: Client, written: Callable[..., Any]) -> None:
    assert refused(member, "x", "rexray") == (
        404,
        'create x: error looking up volume plugin rexray: plugin "rexray" not found',
    )
    written(note_drivers, SECOND, ["local", "nacre", "rexray", "flocker"])
    far = made(member, "any@all", "rexray", iops="7")
    assert (far["Node"], far["Options"]) == ("two", {"iops": "7"})
    wanted = written(lambda conn: since(conn, COMPILERS, SECOND, 0))
    (spec,) = [item.volume for item in wanted.items if item.volume is not None and item.volume.driver == "rexray"]
    assert (spec.name, spec.options) == (f"any@all.{spec.id}", {"iops": "7"})
    assert made(member, "real", "flocker")["Node"] == "two"
    written(note_drivers, SECOND, [])
    assert refused(member, "y", "rexray")[0] == 404


def test_quotas_hold_for_number_and_size(member: Client, written: Callable[..., Any]) -> None:
    written(quotas.set_limits, DEMO, quotas.DEFAULT_CLASS, {"volumes": 2})
    written(quotas.set_limits, DEMO, DEMO.project_id, {"bytes": 3 << 30})
    try:
        made(member, "a", size="2G")
        status, message = refused(member, "b", size="2G")
        assert status == 403
        assert message.startswith("Quota exceeded for bytes of volumes")
        made(member, "b", size="1G")
        assert refused(member, "c")[0] == 403
    finally:
        written(quotas.set_limits, DEMO, quotas.DEFAULT_CLASS, {"volumes": 1000})
        written(quotas.set_limits, DEMO, DEMO.project_id, {"bytes": -1})


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker's client")
def test_the_docker_client_makes_shows_and_removes_volumes(cloud: RunningCloud, member: Client, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"HttpHeaders": {"X-Auth-Token": cloud.tokens["member"]}}))
    env = {**os.environ, "DOCKER_HOST": cloud.base_url.replace("http", "tcp") + "/docker", "DOCKER_CONFIG": str(tmp_path)}

    def docker(*words: str) -> str:
        done = subprocess.run(["docker", "volume", *words], env=env, capture_output=True, text=True, timeout=60)
        return (done.stdout + done.stderr).strip()

    assert docker("create", "-d", "flocker", "-o", "profile=gold", "myVol@gold") == "myVol@gold"
    assert docker("ls", "--format", "{{.Driver}} {{.Name}}") == "flocker myVol@gold"
    assert json.loads(docker("inspect", "myVol@gold"))[0]["Status"]["profile"] == "gold"
    assert docker("rm", "myVol@gold") == "myVol@gold"
    assert "no such volume" in docker("rm", "myVol@gold")
    assert docker("prune", "--force", "--all").startswith("Total reclaimed space: 0B"), "nothing is left to prune"
