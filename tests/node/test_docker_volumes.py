"""Volumes with the docker CLI on a real cloud: names, profiles, snapshots, sizes, and when they go."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.dockercli import Site, has_client, site
from tests.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not has_client("docker"), reason="there is no docker CLI on this machine")]

FOREVER = "while :; do sleep 1000; done"
BRONZE_IOPS = 500
WRITES = 1500
"""More than bronze allows in a second, few enough to take no longer than three."""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Site]:
    with site("nacre-volumes-cli-") as made:
        yield made


@pytest.fixture(autouse=True)
def clean(cloud: Site) -> Iterator[None]:
    """Each story begins and ends without containers and volumes."""
    yield
    left = cloud.say("ps", "-aq").split()
    if left:
        cloud.say("rm", "-f", *left)
    cloud.say("volume", "prune", "-af")
    assert cloud.say("volume", "ls", "-q") == ""


def run(cloud: Site, name: str, *arguments: str, script: str) -> None:
    cloud.say("run", "-d", "--name", name, *arguments, "busybox", "sh", "-c", f"{script}; touch /done; {FOREVER}")


def status(cloud: Site, name: str) -> Any:
    return json.loads(cloud.say("volume", "inspect", name))[0]["Status"]


def folder(cloud: Site, name: str) -> Path:
    """Where the volume lies on its host."""
    ident = status(cloud, name)["id"]
    roots = (cloud.state / "node" / "volumes" / name for name in ("pool", "directory"))
    places: list[Path] = [root / ident for root in roots if (root / ident).is_dir()]
    assert len(places) == 1
    return places[0]


def text(path: Path, words: int = 1) -> list[str]:
    """What a container writes there, as soon as there are so many words."""
    wait_for(lambda: path.exists() and len(path.read_text().split()) >= words, f"{words} words in {path}")
    return path.read_text().split()


def names(cloud: Site, *arguments: str) -> set[str]:
    return set(cloud.say("volume", "ls", "-q", *arguments).split())


def test_a_volume_outlives_its_container_and_is_kept_while_one_uses_it(cloud: Site) -> None:
    run(cloud, "writer", "-v", "data:/data", script="echo hello > /data/greeting")
    assert text(folder(cloud, "data") / "greeting") == ["hello"]
    assert cloud.inspect("writer")["Mounts"][0] == {
        "Type": "volume",
        "Name": "data",
        "Source": f"/nacre/{status(cloud, 'data')['id']}",
        "Destination": "/data",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    used = cloud.docker("volume", "rm", "data")
    assert (used.code, "volume is in use - [" + cloud.inspect("writer")["Id"] in used.err) == (1, True)
    assert cloud.say("ps", "--filter", "volume=data", "--format", "{{.Names}}") == "writer"
    assert cloud.say("ps", "--filter", "volume=other", "--format", "{{.Names}}") == ""
    cloud.say("rm", "-f", "writer")
    run(
        cloud,
        "reader",
        "-v",
        "data:/elsewhere:ro",
        "-v",
        "out:/out",
        script="cp /elsewhere/* /out; touch /elsewhere/x || echo no > /out/refused",
    )
    assert text(folder(cloud, "out") / "greeting") == ["hello"]
    assert text(folder(cloud, "out") / "refused") == ["no"]
    cloud.say("rm", "-f", "reader")
    where = folder(cloud, "data")
    cloud.say("volume", "rm", "data")
    wait_for(lambda: not where.exists(), "the volume gone from its host")


def test_a_copy_has_what_its_source_had(cloud: Site) -> None:
    cloud.say("volume", "create", "-d", "flocker", "-o", "profile=gold", "--label", "com.docker.compose.project=shop", "demoVol")
    run(cloud, "first", "--volume-driver", "flocker", "-v", "demoVol@gold:/data", script="echo before > /data/word")
    text(folder(cloud, "demoVol") / "word")
    shown = cloud.say("inspect", "--format={{.Mounts}}", "first")
    ident = status(cloud, "demoVol")["id"]
    assert shown == f"[{{volume demoVol /flocker/{ident} /data flocker z true }}]"
    run(
        cloud,
        "second",
        "-e",
        "affinity:container==first",
        "-v",
        f"copy@snapshot-{ident[:8]}:/data",
        script="cat /data/word > /data/seen",
    )
    (folder(cloud, "demoVol") / "word").write_text("after")
    assert text(folder(cloud, "copy") / "seen") == ["before"]
    assert not (folder(cloud, "demoVol") / "seen").exists()
    assert (status(cloud, "copy")["snapshot_of"], status(cloud, "copy")["profile"]) == (ident, "gold")
    assert names(cloud, "--filter", "label=com.docker.compose.project=shop") == {"demoVol"}
    assert names(cloud, "--filter", "dangling=true") == set()


def test_a_profile_limits_and_a_size_is_not_exceeded(cloud: Site) -> None:
    """The time that bronze needs has a lower bound only: a busy machine makes it longer."""
    timed = "cut -d' ' -f1 /proc/uptime >> /data/times"
    write = f"dd if=/dev/zero of=/data/file bs=4k count={WRITES} oflag=direct conv=notrunc"
    run(cloud, "slow", "-v", "slow@bronze:/data", script=f"{timed}; {write}; {timed}")
    begun, ended = map(float, text(folder(cloud, "slow") / "times", words=2))
    if status(cloud, "slow")["throttled"]:
        assert ended - begun >= WRITES / BRONZE_IOPS * 0.8

    cloud.say("volume", "create", "-o", "size=8M", "small")
    fill = "dd if=/dev/zero of=/data/file bs=1M count=64 2>/out/error; echo $? > /out/status; touch /out/alive"
    run(cloud, "full", "-v", "small:/data", "-v", "out:/out", script=fill)
    if status(cloud, "small")["size_limited"]:
        assert text(folder(cloud, "out") / "status") == ["1"]
        assert "quota exceeded" in (folder(cloud, "out") / "error").read_text()
        assert sum(path.stat().st_size for path in folder(cloud, "small").iterdir()) <= 8 << 20
    wait_for(lambda: (folder(cloud, "out") / "alive").exists(), "the other volume to take what comes")
    assert cloud.say("inspect", "full", "--format", "{{.State.Status}}") == "running"


def test_volumes_without_a_name_go_with_their_container(cloud: Site) -> None:
    cloud.say("run", "--rm", "-d", "--name", "short", "-v", "/own", "-v", "keep:/keep", "busybox", "true")
    wait_for(lambda: names(cloud) == {"keep"}, "--rm to take what has no name")
    run(cloud, "long", "-v", "/own", "-v", "keep:/keep", script="echo x > /own/x")
    run(
        cloud,
        "other",
        "--volumes-from",
        "long:ro",
        "-v",
        "out:/out",
        script="ls /own > /out/seen; touch /own/y || echo no >> /out/seen",
    )
    assert text(folder(cloud, "out") / "seen", words=2) == ["x", "no"]
    cloud.say("rm", "-f", "-v", "long")
    assert len(names(cloud)) == 3, "another container uses it"
    cloud.say("rm", "-f", "-v", "other")
    assert names(cloud) == {"keep", "out"}
    cloud.say("volume", "prune", "-f")
    assert names(cloud) == {"keep", "out"}, "a prune without --all leaves names alone"
    cloud.say("volume", "prune", "-af")
    assert names(cloud) == set()


def test_a_mount_may_say_how_its_volume_is_made(cloud: Site) -> None:
    mount = "type=volume,src=fine,dst=/m,volume-driver=nacre,volume-opt=profile=silver,volume-opt=size=16M,volume-label=a=b,volume-nocopy"
    run(cloud, "maker", "--mount", mount, script="mkdir -p /m/deep/er; echo x > /m/deep/er/x")
    text(folder(cloud, "fine") / "deep/er/x")
    found = status(cloud, "fine")
    assert (found["profile"], found["size"]) == ("silver", 16 << 20)
    deep = "type=volume,src=fine,dst=/m,volume-subpath=deep/er,readonly"
    run(cloud, "below", "--mount", deep, "-v", "out:/out", script="ls /m > /out/seen")
    assert text(folder(cloud, "out") / "seen") == ["x"]
    wrong = cloud.docker("run", "-d", "-v", "fine@gold:/m", "busybox", "true")
    assert "exists already, with profile silver" in wrong.err
    assert "no volume has an id that begins with" in cloud.docker("run", "-d", "-v", "x@snapshot-ffff:/m", "busybox", "true").err


@pytest.mark.skipif(not shutil.which("btrfs"), reason="needs btrfs-progs")
def test_a_guest_makes_no_subvolume_in_its_volume(cloud: Site) -> None:
    """What is in a subvolume of its own would not count towards the volume's size."""
    run(cloud, "guest", "-v", "tools:/tools", "-v", "data:/data", script="true")
    if status(cloud, "data")["backend"] != "btrfs":
        pytest.skip("no btrfs on this machine")
    tool, tools = str(shutil.which("btrfs")), folder(cloud, "tools")
    needed = re.findall(r"/\S+", subprocess.run(["ldd", tool], capture_output=True, text=True, check=True).stdout)
    for path in (tool, *needed):
        shutil.copy(path, tools / Path(path).name)
    loader = next(Path(path).name for path in needed if "/ld-" in path)
    ours = f"/tools/{loader} --library-path /tools /tools/btrfs subvolume"
    script = f"{ours} create /data/a 2>/data/created; {ours} snapshot /data /data/b 2>/data/copied; touch /data/done"
    run(cloud, "maker", "-v", "tools:/tools", "-v", "data:/data", script=script)
    wait_for(lambda: (folder(cloud, "data") / "done").exists(), "the guest to have tried")
    assert {path.name for path in folder(cloud, "data").iterdir()} == {"created", "copied", "done"}
    assert "Operation not permitted" in (folder(cloud, "data") / "created").read_text()
