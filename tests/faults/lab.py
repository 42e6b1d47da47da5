"""A lab of real hosts for tests of faults: `nacre lab`, its API, and what is found in its guests and in the kernel."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nacre.cli import processes
from nacre.cli.client import read_clouds
from nacre.cli.lab.layout import Lab as Layout
from nacre.cli.lab.layout import Place
from nacre.cli.state import State
from tests.node.test_first_steps import CLONE, traces
from tests.processes import free_port, free_ports, wait_for
from tests.support import Answer, Client

COMMAND_S = 300
HEADERS = {"OpenStack-API-Version": "compute 2.95"}
SETTLE_S = 120.0


class Lab:
    """A lab that runs, with an administrator's session."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.place = Place(directory)
        self.state = self.place.cloud
        """The cloud's own."""
        self.code = CLONE / "src"
        """The version by which commands are given."""

    def run(self, *words: str, expect: int = 0, store_url: str = "") -> str:
        """`nacre lab ...`; what it printed."""
        return self._command("lab", *words, "--state", str(self.dir), expect=expect, store_url=store_url)

    def nacre(self, *words: str, expect: int = 0) -> str:
        """Another command, about the lab's cloud."""
        return self._command(*words, "--state", str(self.state.dir), expect=expect)

    def again(self, name: str) -> None:
        """What runs on a host is stopped, and started by the version that `code` is; `api` is the machine itself."""
        state = self.host(name)
        start = ("up", "--detach") if name == "api" else ("join",)
        self._command("down", "--state", str(state.dir), expect=0)
        self._command(*start, "--state", str(state.dir), expect=0, enter=self.enter(name))

    def _command(self, *words: str, expect: int, store_url: str = "", enter: tuple[str, ...] = ()) -> str:
        line = [*enter, sys.executable, "-m", "nacre.cli", *words]
        env = {**os.environ, "PYTHONPATH": str(self.code), **({"NACRE_STORE": store_url} if store_url else {})}
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == expect, f"{' '.join(words)}\n{done.stdout}{done.stderr}{self.logs()}"
        return done.stdout + done.stderr

    @property
    def layout(self) -> Layout:
        return self.place.require()

    @property
    def url(self) -> str:
        return self.state.require().url

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all API processes."""
        cloud = self.state.require()
        return tuple(f"http://127.0.0.1:{cloud.port + number}" for number in range(cloud.processes))

    def login(self, cloud: str = "nacre-admin") -> Client:
        auth = read_clouds(self.state.clouds_yaml)[cloud]["auth"]
        domain = {"id": "default"}
        secret = {"user": {"name": auth["username"], "domain": domain, "password": auth["password"]}}
        scope = {"project": {"name": auth["project_name"], "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": secret}, "scope": scope}}
        answer: Answer = Client(self.url, "")("POST", "/identity/v3/auth/tokens", body)
        assert answer.status == 201, answer.body
        return Client(self.url, {k.lower(): v for k, v in answer.headers.items()}["x-subject-token"])

    def host(self, name: str) -> State:
        """The state directory of a host; `api` is the machine itself."""
        return self.state if name == "api" else self.place.host(name)

    def enter(self, name: str) -> tuple[str, ...]:
        """Before a command that shall run in a host's network."""
        return () if name == "api" else ("nsenter", f"--net=/run/netns/{self.layout.namespace(name)}")

    def inside(self, name: str, server: str, *words: str) -> tuple[str, ...]:
        """A command in the network of a guest of that host."""
        pid = (self.host(name).node / f"guests/{server}/pid").read_text().strip()
        return ("nsenter", "-t", pid, "-n", *words)

    def ends(self, name: str, process: str) -> None:
        """SIGKILL to the process `node`, `api` or `api-N`; returns when its supervisor has started another."""
        file = self.host(name).pid_file(process)
        former = processes.find(file)
        assert former is not None
        processes.signal_to(former, signal.SIGKILL)
        wait_for(lambda: processes.find(file) not in (None, former), f"a new {process} on {name}")

    def up(self) -> set[str]:
        """The names of the hosts that the cloud has a stream from."""
        rows = json.loads(self.nacre("host", "list", "-f", "json"))
        return {row["hostname"] for row in rows if row["alive"]}

    def left(self, name: str, thing_id: str) -> bool:
        """Whether a host still has a namespace of that network or router."""
        return any(thing_id in path.name and self.own_id(name) in path.name for path in Path("/run/netns").iterdir())

    def own_id(self, name: str) -> str:
        """What a host's names in the kernel carry."""
        return str(json.loads(self.host(name).cloud_file.read_text())["cloud_id"])

    def host_id(self, client: Client, name: str) -> str:
        """As the cloud knows a host; `api` is the machine itself."""
        rows = client("GET", "/nacre/v1/hosts").json["hosts"]
        return next(str(row["id"]) for row in rows if (not row["enrolled"] if name == "api" else row["hostname"] == name))

    def audited(self, client: Client) -> dict[str, Any]:
        """The audit's report, once nothing is pending and every host answers."""
        report: dict[str, Any] = wait_for(lambda: _sound(client), "nothing to be pending and every host to be asked")
        return report

    def logs(self) -> str:
        files = sorted(self.dir.glob("*/log/*.log")) if self.dir.exists() else []
        return "\n".join(f"== {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def _sound(client: Client) -> dict[str, Any] | None:
    report: dict[str, Any] = client("GET", "/nacre/v1/audit").json
    return report if not report["pending"] and not report["unreachable"] and not report["findings"] else None


class Room:
    """A project's network on a lab, and servers in it."""

    def __init__(self, lab: Lab, client: Client, name: str, cidr: str) -> None:
        self.lab, self.client = lab, client
        self.image = client("GET", "/image/v2/images?name=busybox").json["images"][0]["id"]
        self.network = self.post("network/v2.0/networks", "network", name=name)["id"]
        self.subnet = self.post("network/v2.0/subnets", "subnet", network_id=self.network, cidr=cidr, ip_version=4)["id"]

    def post(self, path: str, kind: str, **values: Any) -> dict[str, Any]:
        answer = self.client("POST", f"/{path}", {kind: values})
        assert answer.status in (200, 201, 202), answer.body
        made: dict[str, Any] = answer.json[kind]
        return made

    def open_doors(self) -> None:
        """Let every ICMP in, by the project's default group."""
        project = self.client("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": self.client.token}).json["token"]
        path = f"/network/v2.0/security-groups?name=default&project_id={project['project']['id']}"
        group = self.client("GET", path).json["security_groups"][0]["id"]
        rule = {"security_group_id": group, "direction": "ingress", "protocol": "icmp", "ethertype": "IPv4"}
        assert self.client("POST", "/network/v2.0/security-group-rules", {"security_group_rule": rule}).status in (201, 409)

    def boot(self, host: str, name: str = "guest", **more: Any) -> str:
        ident = self.ask(host, name, **more)
        wait_for(lambda: self.status(ident) == "ACTIVE", f"the server on {host} to run")
        return ident

    def ask(self, host: str, name: str, **more: Any) -> str:
        """For a server there; its id."""
        server = {
            "name": name,
            "imageRef": self.image,
            "flavorRef": "42",
            "networks": [{"uuid": self.network}],
            "availability_zone": f"nova:{host}",
            **more,
        }
        return str(self.post("compute/v2.1/servers", "server", **server)["id"])

    def status(self, server: str) -> str:
        return str(self.client("GET", f"/compute/v2.1/servers/{server}").json["server"]["status"])

    def port(self, server: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client("GET", f"/network/v2.0/ports?device_id={server}").json["ports"][0]
        return found

    def address(self, server: str) -> str:
        return str(self.port(server)["fixed_ips"][0]["ip_address"])

    def router(self, **values: Any) -> str:
        """From the external network to this one."""
        public = self.client("GET", "/network/v2.0/networks?router:external=true").json["networks"][0]["id"]
        gateway = {"network_id": public, **values.pop("gateway", {})}
        ident = str(self.post("network/v2.0/routers", "router", external_gateway_info=gateway, **values)["id"])
        path = f"/network/v2.0/routers/{ident}/add_router_interface"
        assert self.client("PUT", path, {"subnet_id": self.subnet}).status == 200
        return ident

    def floating(self, server: str) -> str:
        public = self.client("GET", "/network/v2.0/networks?router:external=true").json["networks"][0]["id"]
        values = {"floating_network_id": public, "port_id": self.port(server)["id"]}
        return str(self.post("network/v2.0/floatingips", "floatingip", **values)["floating_ip_address"])

    def bearer(self, router: str) -> str:
        """The name of the host that bears a router; empty for none."""
        found = self.client("GET", f"/network/v2.0/routers/{router}/l3-agents").json["agents"]
        return str(found[0]["host"]) if found else ""

    def place(self, router: str, host: str) -> None:
        """Give a router to a host, as an administrator does."""
        (former,) = self.client("GET", f"/network/v2.0/routers/{router}/l3-agents").json["agents"]
        path = f"/network/v2.0/agents/{former['id']}/l3-routers/{router}"
        assert self.client("DELETE", path).status == 204
        path = f"/network/v2.0/agents/{self.lab.host_id(self.client, host)}/l3-routers"
        # A host that has just come back is refused until the cloud has looked once more who is lost.
        wait_for(lambda: self.client("POST", path, {"router_id": router}).status == 201, f"{host} to take a router")


def reaches(address: str, *enter: str) -> bool:
    return subprocess.run([*enter, "ping", "-c", "1", "-W", "1", address], capture_output=True, check=False).returncode == 0


@contextmanager
def running(hosts: int = 3, store_url: str = "", processes: int = 1, code: Path | None = None) -> Iterator[Lab]:
    """A lab of its own, which leaves no trace. `store_url`: an empty PostgreSQL database, over which so many API processes serve. `code`:
    another version than this clone's."""
    with tempfile.TemporaryDirectory(prefix="nacre-lab-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        lab = Lab(Path(directory) / "lab")
        lab.code = code or lab.code
        ids: set[str] = set()
        try:
            port = free_port() if processes == 1 else free_ports(processes)
            several = ("--processes", str(processes)) if store_url else ()
            lab.run("up", "--hosts", str(hosts), "--port", str(port), *several, store_url=store_url)
            ids = ids_of(lab)
            yield lab
        finally:
            lab.run("down", "--purge")
        assert not lab.dir.exists()
        assert left_of(ids) == []
        assert directory not in Path("/proc/self/mountinfo").read_text()


def ids_of(lab: Lab) -> set[str]:
    """What a lab's names in the kernel carry."""
    hosts = {json.loads(file.read_text())["cloud_id"] for file in lab.dir.glob("*/cloud.json")}
    return hosts | {lab.layout.id}


def left_of(ids: set[str]) -> list[str]:
    """Links, tables, cgroups and namespaces that bear one of the ids."""
    pins = {f"namespace {path.name}" for path in Path("/run/netns").iterdir()} if Path("/run/netns").is_dir() else set()
    ours = re.compile(rf"\b(n|nl|nx|nlab|nacre-)({'|'.join(ids)})\b")
    return sorted(trace for trace in traces() | pins if ours.search(trace))
