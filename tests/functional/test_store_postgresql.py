"""A cloud whose store is PostgreSQL, by the commands that people type: from the first start, moved from SQLite, restarted under it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from nacre.cli.client import ApiError, Client, connect
from nacre.cli.state import State
from tests.postgres import PASSWORD, Cluster
from tests.processes import free_port, wait_for

CLONE = Path(__file__).resolve().parents[2]
COMMAND_S = 180


def nacre(*arguments: str, code: int = 0, store: str = "") -> str:
    """Run the command; its output, both streams."""
    env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"} | ({"NACRE_STORE": store} if store else {})
    command = [sys.executable, "-m", "nacre.cli", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A state directory that the cloud's own user can reach."""
    parent = Path(tempfile.mkdtemp(prefix="nacre-test-", dir="/var/tmp"))
    parent.chmod(0o755)
    yield parent / "cloud"
    nacre("down", "--purge", "--state", str(parent / "cloud"))
    shutil.rmtree(parent)


def servers_of(client: Client) -> dict[str, str]:
    return {server["name"]: server["status"] for server in client.get("compute", "/servers/detail")["servers"]}


def boot(client: Client, name: str) -> None:
    image = client.get("image", "/images")["images"][0]["id"]
    flavor = client.get("compute", "/flavors")["flavors"][0]["id"]
    network = client.get("network", "/networks?name=public")["networks"][0]["id"]
    server = {"name": name, "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
    client.post("compute", "/servers", {"server": server})


def world_readable(place: Path, word: str) -> list[str]:
    return [
        str(path)
        for path in place.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o004 and word in path.read_text(errors="replace")
    ]


def command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


def test_a_cloud_over_postgresql_from_its_first_start_to_its_end(server: Cluster, place: Path) -> None:
    url = server.database()
    up = ("up", "--state", str(place), "--port", str(free_port()), "--simulate", "2", "--detach")
    refused = nacre(*up, "--store", url, code=1)
    assert "can be read by everybody" in refused
    assert not (place / "cloud.json").exists()
    nacre(*up, store=url)
    state = State(place)
    shown = nacre("store", "show", "--state", str(place))
    assert PASSWORD not in shown
    assert "postgresql://nacre@127.0.0.1" in shown
    assert not (state.api / "nacre.sqlite").exists()
    client = connect(state)
    boot(client, "one")
    wait_for(lambda: servers_of(client) == {"one": "ACTIVE"}, "the server")
    assert world_readable(place, PASSWORD) == []
    assert PASSWORD not in command_lines()
    assert PASSWORD not in (state.log_file("api")).read_text()
    # PostgreSQL goes and comes back: requests are told so in the dialect's own shape, and all is as it was.
    server.stop("immediate")
    with pytest.raises(ApiError, match="store is not available") as refusal:
        servers_of(client)
    assert refusal.value.status == 503
    server.start()
    wait_for(lambda: serves(client), "the store")
    assert servers_of(client) == {"one": "ACTIVE"}
    boot(client, "two")
    wait_for(lambda: servers_of(client) == {"one": "ACTIVE", "two": "ACTIVE"}, "both servers")
    nacre("audit", "--state", str(place))
    # A second cloud does not get what is the first one's, until that one is gone.
    other = ("up", "--state", str(place.parent / "other"), "--port", str(free_port()), "--simulate", "1", "--detach")
    assert "not empty" in nacre(*other, store=url, code=1)
    nacre("down", "--purge", "--state", str(place))
    nacre(*other, store=url)
    nacre("down", "--purge", "--state", str(place.parent / "other"))


def test_a_cloud_moves_from_sqlite_to_postgresql_and_its_servers_do_not_notice(server: Cluster, place: Path) -> None:
    there = ("--state", str(place))
    up = ("up", *there, "--port", str(free_port()), "--simulate", "2", "--detach")
    nacre(*up)
    state = State(place)
    boot(connect(state), "one")
    wait_for(lambda: servers_of(connect(state)) == {"one": "ACTIVE"}, "the server")
    url = server.database()
    assert "the cloud runs" in nacre("store", "move", *there, store=url, code=1)
    nacre("down", *there)
    assert "store move" in nacre(*up, store=url, code=1)
    full = server.database()
    with psycopg.connect(full, autocommit=True) as conn:
        conn.execute("CREATE TABLE hosts (id text)")
    assert "not empty" in nacre("store", "move", *there, store=full, code=1)
    # A move that was interrupted after its commit: the cloud still has its old store, and the next one ends it.
    kept = state.cloud_file.read_text()
    nacre("store", "move", *there, store=url)
    state.cloud_file.write_text(kept)
    (state.api / "moved.sqlite").rename(state.api / "nacre.sqlite")
    assert " rows of " in nacre("store", "move", *there, store=url)
    assert "nothing to do" in nacre("store", "move", *there, store=url)
    nacre("up", *there, "--detach")
    assert PASSWORD not in nacre("store", "show", *there)
    assert not (state.api / "nacre.sqlite").exists()
    wait_for(lambda: servers_of(connect(state)) == {"one": "ACTIVE"}, "the server")
    boot(connect(state), "two")
    wait_for(lambda: servers_of(connect(state)) == {"one": "ACTIVE", "two": "ACTIVE"}, "both servers")
    nacre("audit", *there)


def serves(client: Client) -> bool:
    try:
        servers_of(client)
    except ApiError:
        return False
    return True
