"""A directory that Tempest works in: its configuration, filled in with what the cloud has, and the list of tests."""

import json
import os
import signal
import string
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from nacre.cli import busybox
from nacre.cli.client import ApiError, Client, connect
from nacre.cli.conformance.results import Results, gather
from nacre.cli.facts import fetched
from nacre.cli.images import register
from nacre.cli.state import State, say

TEMPLATE = Path(__file__).with_name("tempest.conf")
REPORT = Path(__file__).with_name("subunit_report.py")
IMAGE = "busybox"
SSH_IMAGE = "debian-bookworm"
SECOND_IMAGE = "conformance"
SSH_MEMORY_MB = 256
"""What a whole init system and an ssh server need."""
PREPARE_WAIT_S = 120.0
"""How long `tempest init`, and reading the results, may take."""
RUN_WAIT_S = 4 * 3600.0
"""A run that takes longer hangs."""
STOP_WAIT_S = 20.0
TRIAL_WAIT_S = 60.0
STILL_TRYING = "it is still being tried"
"""What a node says until it has tried whether guests can move while they run."""
LAST_LINES_MAX = 40


class _Quiet(SimpleHTTPRequestHandler):
    """Tempest's own lines are enough."""

    def log_message(self, format: str, *args: object) -> None: ...


def moves_live(state: State) -> bool:
    """Whether every host has tried that it can checkpoint and restore a guest; those that have just begun are still at it."""
    deadline = time.monotonic() + TRIAL_WAIT_S
    while True:
        said = [host["facts"].get("live_migration", {}) for host in fetched(state.dir)]
        if not any(fact.get("reason") == STILL_TRYING for fact in said) or time.monotonic() > deadline:
            return bool(said) and all(fact.get("possible") is True for fact in said)
        time.sleep(0.5)


@dataclass(frozen=True)
class Workspace:
    """The directory that Tempest runs in, and the environment it sees."""

    directory: Path
    """Is made by `init`."""
    tempest_bin: Path
    """The `bin` of Tempest's environment."""
    ssh: bool = False
    """Servers are made from an image with an ssh server, and Tempest logs in to them."""

    web: str = ""
    """Where `served` serves the images that are to be imported."""

    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES_MAX))
    """The end of what Tempest wrote."""

    @property
    def shared(self) -> Path:
        """What others may read: nothing but images."""
        return self.directory / "web"

    @property
    def env(self) -> dict[str, str]:
        """Tempest notes its workspaces in the home directory: it gets one of its own. No proxy stands between it and the cloud."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTHON"))}
        return {**kept, "HOME": str(self.directory), "PATH": f"{self.tempest_bin}:/usr/bin:/bin", "no_proxy": "*"}

    def init(self) -> None:
        """Make the directory, and Tempest's own in it."""
        self.directory.mkdir(mode=0o700)
        self.shared.mkdir()
        self._tempest(self.directory, "init", "ws")

    def all_tests(self) -> list[str]:
        """The ids of all tests that this Tempest has."""
        lines = self._tempest(self.directory / "ws", "run", "--list-tests").splitlines()
        return [line for line in lines if line.startswith("tempest.")]

    def _tempest(self, directory: Path, *arguments: str) -> str:
        command = [str(self.tempest_bin / "tempest"), *arguments]
        done = subprocess.run(
            command, cwd=directory, env=self.env, capture_output=True, text=True, timeout=PREPARE_WAIT_S, check=False
        )
        if done.returncode:
            raise click.ClickException(f"tempest {arguments[0]} failed:\n{done.stderr.strip()[-2000:]}")
        return done.stdout

    def configure(self, state: State, ids: list[str]) -> None:
        """The configuration, and the list to load."""
        client = connect(state)
        filled = string.Template(TEMPLATE.read_text()).substitute(self.values(state, client))
        configuration = self.directory / "ws/etc/tempest.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(filled)
        (self.directory / "ids.txt").write_text("".join(f"{test_id}\n" for test_id in ids))

    def values(self, state: State, client: Client) -> dict[str, str]:
        """What the template leaves open. Makes a second image, whose bytes scenario tests upload too."""
        image_file = self.shared / "tiny.img"
        with image_file.open("wb") as target:
            busybox.write_tar(target)
        image_alt = register(client, SECOND_IMAGE, image_file, {"os_distro": "busybox"})
        name = SSH_IMAGE if self.ssh else IMAGE
        images = client.get("image", f"/images?status=active&name={name}")["images"]
        if not images:
            raise click.ClickException(f"the cloud has no image {name}: `nacre image build` makes it")
        flavor, flavor_alt = two_flavors(client, SSH_MEMORY_MB if self.ssh else 0)
        public = client.get("network", "/networks?router:external=true")["networks"]
        if not public:
            raise click.ClickException("the cloud has no external network")
        extensions = client.get("network", "/extensions")["extensions"]
        has = {service: str(service in client.endpoints).lower() for service in ("block-storage", "object-store")}
        return {
            "url": client.auth["auth_url"].removesuffix("/identity/v3"),
            "password": client.auth["password"],
            "image": images[0]["id"],
            "image_alt": image_alt,
            "image_file": str(image_file),
            "http_image": f"{self.web}/{image_file.name}",
            "flavor": flavor,
            "flavor_alt": flavor_alt,
            "hosts": str(len(client.get("compute", "/os-hypervisors")["hypervisors"])),
            "public_network": public[0]["id"],
            "public_network_name": public[0]["name"],
            "network_extensions": ",".join(sorted(extension["alias"] for extension in extensions)),
            "has_volumes": has["block-storage"],
            "has_objects": has["object-store"],
            "has_ssh": str(self.ssh).lower(),
            "has_import": str(has_import(client)).lower(),
            "live_migration": str(moves_live(state)).lower(),
        }

    @contextmanager
    def served(self) -> Iterator["Workspace"]:
        """The same workspace, its images served on a port of loopback meanwhile."""
        handler = partial(_Quiet, directory=str(self.shared))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield replace(self, web=f"http://127.0.0.1:{server.server_port}")
            finally:
                server.shutdown()
                thread.join()

    def run(self, concurrency: int) -> None:
        """Runs the listed tests, each one's line to stderr as it ends. Failures are in the results, not in an exception."""
        listed = str(self.directory / "ids.txt")
        command = [str(self.tempest_bin / "tempest"), "run", "--load-list", listed, "--concurrency", str(concurrency)]
        # A session of its own: when this one is interrupted, the workers end with their parent, and before the cloud does.
        process = subprocess.Popen(
            command,
            cwd=self.directory / "ws",
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        began = time.monotonic()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                self.last_words.append(line.rstrip())
                if line.startswith("{"):
                    say(line.rstrip())
                if time.monotonic() - began > RUN_WAIT_S:
                    raise click.ClickException(f"Tempest took longer than {RUN_WAIT_S / 3600:.0f} hours")
            process.wait()
        finally:
            end_group(process)

    def results(self, ids: list[str]) -> Results:
        """What became of each test. Raises ClickException, with Tempest's last words, when it ran none."""
        # stestr keeps its results in a format of its own; this gives them as a subunit v2 stream, and 1 when a test failed.
        stestr = [str(self.tempest_bin / "stestr"), "last", "--subunit"]
        stream = subprocess.run(
            stestr, cwd=self.directory / "ws", env=self.env, capture_output=True, timeout=PREPARE_WAIT_S, check=False
        ).stdout
        reading = [str(self.tempest_bin / "python"), "-I", str(REPORT)]
        done = subprocess.run(reading, input=stream, stdout=subprocess.PIPE, timeout=PREPARE_WAIT_S, check=True)
        reported: list[dict[str, Any]] = json.loads(done.stdout)
        if not reported:
            raise click.ClickException("Tempest ran no test:\n" + "\n".join(self.last_words))
        return gather(ids, reported)


def has_import(client: Client) -> bool:
    """Whether the Image API takes images by import."""
    try:
        return bool(client.get("image", "/info/import")["import-methods"]["value"])
    except ApiError:
        return False


def two_flavors(client: Client, memory_mb_min: int) -> tuple[str, str]:
    """The smallest flavor with that much memory, and the next one that a server may be resized to."""
    flavors = [f for f in client.get("compute", "/flavors/detail")["flavors"] if f["ram"] >= memory_mb_min]
    flavors.sort(key=lambda flavor: (flavor["ram"], flavor["disk"]))
    for larger in flavors[1:]:
        if larger["ram"] > flavors[0]["ram"] and larger["disk"] >= flavors[0]["disk"]:
            return flavors[0]["id"], larger["id"]
    raise click.ClickException("the cloud needs two flavors, one larger than the other")


def end_group(process: "subprocess.Popen[str]") -> None:
    """Ends Tempest and its workers, which share a process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            continue
