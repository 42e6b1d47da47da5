"""A real Docker engine uses the cloud's volumes by the plugin protocol that `nacre docker volume-plugin` serves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not all(map(shutil.which, ("docker", "dockerd"))), reason="needs Docker's client and engine"),
]

CLONE = Path(__file__).resolve().parents[2]
PLUGIN = f"nacre-{uuid.uuid4().hex[:6]}"
SOCKET = Path(f"/run/docker/plugins/{PLUGIN}.sock")
BUSYBOX = Path("/bin/busybox")
WAIT_S = 120.0


def nacre(*arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}
    command = [sys.executable, "-m", "nacre.cli", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}
    with log.open("wb") as output:
        started = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(WAIT_S)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A running cloud in `cloud`, with room for an engine beside it."""
    parent = Path(tempfile.mkdtemp(prefix="nacre-test-", dir="/var/tmp"))
    parent.chmod(0o755)
    nacre("up", "--detach", "--state", str(parent / "cloud"))
    yield parent
    nacre("down", "--purge", "--state", str(parent / "cloud"))
    shutil.rmtree(parent)


@contextmanager
def engine(place: Path) -> Iterator[str]:
    """The address of a dockerd in namespaces of its own."""
    address = f"unix://{place}/docker.sock"
    own = f"--data-root {place}/data --exec-root {place}/exec --pidfile {place}/docker.pid"
    daemon = f"ip link set lo up; exec dockerd --storage-driver overlay2 --iptables=false --bridge=none {own} -H {address}"
    with process(place / "dockerd.log", "unshare", "-m", "-n", "--propagation", "private", "sh", "-c", daemon):
        wait_for(lambda: subprocess.run(["docker", "-H", address, "version"], capture_output=True).returncode == 0, "the engine")
        yield address


def served(place: Path) -> tuple[str, ...]:
    return (
        sys.executable,
        "-m",
        "nacre.cli",
        "docker",
        "volume-plugin",
        "--state",
        str(place / "cloud"),
        "--socket",
        str(SOCKET),
    )


def test_an_engine_makes_uses_and_removes_volumes_of_the_cloud(place: Path) -> None:
    with process(place / "plugin.log", *served(place)) as first, engine(place) as address:
        wait_for(SOCKET.is_socket, "the plugin's socket")

        def docker(*words: str, code: int = 0) -> str:
            done = subprocess.run(["docker", "-H", address, *words], capture_output=True, text=True, timeout=WAIT_S)
            assert done.returncode == code, f"{words}: {done.stdout}{done.stderr} {(place / 'dockerd.log').read_text()[-2000:]}"
            return (done.stdout + done.stderr).strip()

        (place / "root" / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, place / "root" / "bin" / "busybox")
        subprocess.run(["tar", "-C", str(place / "root"), "-cf", str(place / "root.tar"), "."], check=True)
        docker("import", str(place / "root.tar"), "bb:1")

        docker("volume", "create", "-d", PLUGIN, "-o", "profile=silver", "-o", "size=20M", "shared@silver")
        assert docker("volume", "ls", "-f", f"driver={PLUGIN}", "--format", "{{.Name}}") == "shared@silver"
        status = json.loads(docker("volume", "inspect", "shared@silver"))[0]["Status"]
        assert (status["profile"], status["size"], status["state"]) == ("silver", 20 << 20, "active")

        run = ("run", "--network", "none", "-v", "shared@silver:/data")
        docker(
            *run,
            "--rm",
            "bb:1",
            "/bin/busybox",
            "sh",
            "-c",
            "echo hello > /data/greeting; /bin/busybox chown 33:33 /data/greeting",
        )
        (written,) = (place / "cloud" / "node" / "volumes").glob(f"*/{status['id']}/greeting")
        assert (written.read_text(), written.stat().st_uid) == ("hello\n", 33), "as the engine's containers see it"

        # A container of the cloud's own on the same host reads what the engine's wrote, and the other way round.
        ours = json.loads(nacre("docker", "env", "--state", str(place / "cloud"), "--project", "demo", "--format", "json"))
        cloud = {"DOCKER_HOST": ours["DOCKER_HOST"], "PATH": os.environ["PATH"]}
        answer = ("-v", "shared:/data", "busybox", "sh", "-c", "cat /data/greeting /data/greeting > /data/answer")
        subprocess.run(["docker", "run", "-d", "--name", "reader", *answer], env=cloud, check=True, timeout=WAIT_S)
        said = written.with_name("answer")
        wait_for(lambda: said.exists() and said.read_text() == "hello\nhello\n", "the container's answer")
        assert docker(*run, "--rm", "bb:1", "/bin/busybox", "cat", "/data/answer") == "hello\nhello"
        subprocess.run(["docker", "rm", "-f", "reader"], env=cloud, check=True, timeout=WAIT_S)

        docker(*run, "-d", "--name", "user", "bb:1", "/bin/busybox", "sleep", "1000")
        references = place / "cloud" / "node" / "volumes" / "references" / status["id"]
        assert [path.name[:7] for path in references.iterdir()] == ["engine-"]
        assert "volume is in use" in docker("volume", "rm", "shared@silver", code=1)
        # The plugin may die and come back: it keeps nothing in memory.
        first.kill()
        first.wait()
        with process(place / "plugin-again.log", *served(place)):
            wait_for(lambda: "Docker engines" in (place / "plugin-again.log").read_text(), "the plugin once more")
            docker("rm", "-f", "user")
            assert list(references.iterdir()) == []
            assert docker("volume", "create", "-d", PLUGIN, "shared@gold", code=1).endswith("exists already, with profile silver")
            docker("volume", "rm", "shared@silver")
            wait_for(lambda: not written.parent.exists(), "the volume gone from its host")
    assert "0 findings" in nacre("audit", "--state", str(place / "cloud"))
