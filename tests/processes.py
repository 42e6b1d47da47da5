"""A cloud as two processes, started and killed by a test."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.postgres import on_postgresql, shared
from tests.support import Answer, Client

READY_S = 60.0
WAIT_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, bound_s: float = WAIT_S) -> Any:
    """The condition's value as soon as it is true. The bound is generous: no verdict hangs on time being short."""
    end = time.monotonic() + bound_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {bound_s:.0f} s in vain for {what}")
        time.sleep(0.05)


def free_ports(count: int) -> int:
    """The first of so many in a row that are free, below those that the kernel gives to connections."""
    while True:
        first = random.randrange(20_000, 30_000)
        if all(_is_free(first + number) for number in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class Processes:
    """An API process and a node over a state directory of the test's. `simulate` 0 makes a real host (needs root)."""

    state: Path
    simulate: int = 1
    cloud_id: str = "7e57"
    external: str = "198.18.77"
    port: int = field(default_factory=free_port)
    store_url: str = ""
    """A PostgreSQL database; empty: what NACRE_TEST_STORE says."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    """By process: what its environment has on top of the test's."""

    def __post_init__(self) -> None:
        for name in ("api", "node", "run", "log"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        socket_path = str(self.state / "run/gateway.sock")
        self._write(
            "bootstrap",
            {"admin_password": "admin-secret", "demo_password": "demo-secret"},
        )
        self._write(
            "api",
            {
                "state_dir": str(self.state / "api"),
                "cloud_id": self.cloud_id,
                "port": self.port,
                "public_url": self.url,
                "gateway_socket": socket_path,
                "node_uids": [os.getuid()],
                "external": {
                    "cidr": f"{self.external}.0/24",
                    "gateway": f"{self.external}.1",
                    "allocation_start": f"{self.external}.10",
                    "allocation_end": f"{self.external}.250",
                },
                "bootstrap_file": str(self.state / "run/bootstrap.json"),
                "store_file": self._store_file(),
            },
        )
        self._write(
            "node",
            {
                "host_id": f"{self.cloud_id}0000-0000-4000-8000-000000000000",
                "cloud_id": self.cloud_id,
                "state_dir": str(self.state / "node"),
                "gateway_socket": socket_path,
                "api_uid": os.getuid(),
                "hostname": f"host-{self.cloud_id}",
                "simulated_hosts": self.simulate,
                "facts": [str(self.state / "facts.d")],
            },
        )

    def _store_file(self) -> str:
        """Of the database that was given, or of a new one where tests run on PostgreSQL; empty for SQLite."""
        if not self.store_url and not on_postgresql():
            return ""
        path = self.state / "run/store"
        path.write_text(self.store_url or shared().database())
        return str(path)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.state / f"run/{name}.json").write_text(json.dumps(content))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str) -> None:
        """Start `api`, `node`, or another node (`node-NAME`) whose configuration the test has written."""
        with (self.state / f"log/{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", f"nacre.{name.partition('-')[0]}", "--config", str(self.state / f"run/{name}.json")],
                env={**os.environ, **self.environment.get(name, {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait(30)

    def up(self) -> "Processes":
        """Start both and wait until the hosts are there."""
        self.start("api")
        self.start("node")
        wait_for(self.is_ready, "the cloud to serve", READY_S)
        return self

    def up_with_one_away(self) -> "Processes":
        """As `up`, with one more simulated host in a process of its own, `node-away`."""
        node = json.loads((self.state / "run/node.json").read_text())
        self._write("node-away", {**node, "simulated_hosts": 1, "simulated_first": self.simulate})
        self.simulate += 1
        self.start("node-away")
        return self.up()

    def is_ready(self) -> bool:
        """Whether the API serves and every host has its stream."""
        return self._hosts_up() >= max(1, self.simulate)

    def is_serving(self) -> bool:
        """Whether the API answers, with or without hosts."""
        return self._hosts_up() >= 0

    def _hosts_up(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as response:
                return int(json.load(response)["hosts_up"])
        except OSError:
            return -1

    def down(self) -> None:
        for name in tuple(self.running):
            self.kill(name, signal.SIGTERM)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted((self.state / "log").iterdir()))

    def login(self, user: str = "admin", project: str = "admin") -> Client:
        """A client with a token that the real Identity has issued."""
        domain = {"id": "default"}
        secret = {"user": {"name": user, "domain": domain, "password": f"{user}-secret"}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": secret},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer: Answer = Client(self.url, "")("POST", "/identity/v3/auth/tokens", body)
        assert answer.status == 201, answer.body
        return Client(self.url, {k.lower(): v for k, v in answer.headers.items()}["x-subject-token"])
