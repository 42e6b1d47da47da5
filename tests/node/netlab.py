"""A laboratory for the data plane's tests: a driver on this very kernel, guests that are plain namespaces, and real packets."""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from nacre.node.config import NodeConfig
from nacre.node.dns import NameService
from nacre.node.dns.upstream import HostServers
from nacre.node.metadata import MetadataService
from nacre.node.network import LinuxNetworkDriver, purge
from nacre.protocol.guests import Guest
from nacre.protocol.messages import Gone, Item, Observation
from nacre.protocol.names import NameAnswer
from nacre.protocol.networks import (
    FixedIp,
    FloatingIp,
    Network,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)

WAIT_S = 60.0
"""A generous bound for what takes milliseconds; no test judges by it."""
PING_INTERVAL_S = 0.005
ON_THEIR_WAY_MAX = 100
"""So many packets of a ping may be without an answer when it ends: on a busy machine they wait for their turn."""

Spec = Network | Port | Router | SecurityGroup


def new_id() -> str:
    return str(uuid.uuid4())


def item(spec: Spec, revision: int = 1) -> Item:
    if isinstance(spec, Network):
        return Item("network", spec.id, revision, network=spec)
    if isinstance(spec, Port):
        return Item("port", spec.id, revision, port=spec)
    if isinstance(spec, Router):
        return Item("router", spec.id, revision, router=spec)
    return Item("security_group", spec.id, revision, security_group=spec)


def rule(direction: str, version: int = 4, **fields: object) -> SecurityGroupRule:
    return SecurityGroupRule(new_id(), direction, version, **fields)  # type: ignore[arg-type]


def egress() -> tuple[SecurityGroupRule, ...]:
    """What every new group of the Networking API begins with."""
    return (rule("egress", 4), rule("egress", 6))


def open_group() -> SecurityGroup:
    return SecurityGroup(new_id(), (*egress(), rule("ingress", 4), rule("ingress", 6)))


def command(*words: str, stdin: str | None = None) -> str:
    """What a command of the host's prints. Raises CalledProcessError."""
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True, timeout=WAIT_S * 2).stdout


async def eventually(what: Callable[[], Awaitable[bool]] | Callable[[], bool], says: str) -> None:
    """Wait until it is so; the bound is generous and only there for a thing that never comes."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    while loop.time() < end:
        found = what()
        if await found if not isinstance(found, bool) else found:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {says}")


class Machine:
    """A guest: a network namespace, and commands inside it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> Path:
        return Path("/run/netns", self.name)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], check=check, capture_output=True, text=True, timeout=WAIT_S * 2
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def pings(self, address: str, *, count: int = 2, source: str | None = None) -> bool:
        """Whether any answer comes. Blocking: to be called in a thread while the driver serves."""
        by = ["-I", source] if source else []
        return self.run("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "1", *by, address, check=False).returncode == 0

    def start_outside(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of the host's own, which ends with this guest."""
        self.processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return self.processes[-1]

    def serve(self, port: int, text: str = "hello", *, v6: bool = False) -> None:
        """A TCP server that answers each connection with the text and then echoes."""
        process = self.start(sys.executable, "-c", SERVER, str(port), text, "6" if v6 else "4")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def fetch(self, address: str, port: int, *, timeout: float = 1.5) -> str | None:
        """What a server says, or None when no connection comes about."""
        found = self.run(sys.executable, "-c", CLIENT, address, str(port), str(timeout), check=False)
        return found.stdout if found.returncode == 0 else None

    def get(self, url: str) -> tuple[int, str]:
        """An HTTP status and body; status 0 when there is no answer."""
        found = self.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", url, check=False)
        body, _, status = found.stdout.rpartition("\n")
        return int(status or 0), body

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Pinging:
    """A ping that goes on until it is asked what it lost. It writes to a file: in a full pipe it would stand still."""

    def __init__(
        self, start: Callable[..., "subprocess.Popen[bytes]"], address: str, interval_s: float = PING_INTERVAL_S
    ) -> None:
        self._told = tempfile.NamedTemporaryFile(prefix="nacre-ping-")  # noqa: SIM115 - it is read when the ping has ended
        script = 'exec ping -n -i "$1" "$2" >"$3"'
        self._process = start("sh", "-c", script, "sh", str(interval_s), address, self._told.name)

    def lost(self) -> int:
        """End it. How many of its packets found no answer, those aside that were still on their way."""
        with self._told:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=WAIT_S)
            told = Path(self._told.name).read_text()
        found = re.search(r"(\d+) packets transmitted", told)
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", told)}
        assert found, told
        assert len(answered) > 5, told
        last = max(answered)
        assert int(found[1]) - last <= ON_THEIR_WAY_MAX, "the answers ended long before the questions"
        return last - len(answered)


SERVER = """
import socket, sys, threading
family = socket.AF_INET6 if sys.argv[3] == "6" else socket.AF_INET
server = socket.create_server(("", int(sys.argv[1])), family=family)
print("ready", flush=True)
def talk(client):
    with client:
        client.sendall(sys.argv[2].encode() + b"\\n")
        while data := client.recv(4096):
            client.sendall(data)
while True:
    threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()
"""

CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as s:
    print(s.makefile().readline().strip(), end="")
"""


class Lab:
    """A driver and its guests. One cloud with an id of its own; two labs can be on one kernel."""

    def __init__(self, state: Path) -> None:
        self.config = NodeConfig(
            host_id=new_id(),
            cloud_id=secrets.token_hex(2),
            state_dir=str(state),
            gateway_socket="",
            api_uid=os.getuid(),
            tunnel_ip="127.0.0.1",
        )
        self.guests: dict[tuple[str, str], Guest] = {}
        self.machines: list[Machine] = []
        self.items: dict[str, Item] = {}
        self.plugs: dict[str, tuple[Machine, str]] = {}
        self.control: dict[tuple[str, str, str], NameAnswer] = {}
        """What the control plane answers: by (port, name, type). What is not here finds it away; of servers elsewhere it knows none."""
        self.resolv_conf = state / "resolv.conf"
        self.driver = self.new_driver()

    def new_driver(self) -> LinuxNetworkDriver:
        metadata = MetadataService(lambda network, ip: self.guests.get((network, ip)))
        return LinuxNetworkDriver(self.config, metadata, NameService(self._ask, HostServers(self.resolv_conf)))

    async def _ask(self, port_id: str, name: str, rtype: str) -> NameAnswer:
        if name.endswith(".nacre"):
            return NameAnswer(found=False)
        if (port_id, name, rtype) not in self.control:
            raise ConnectionRefusedError("the control plane is away")
        return self.control[port_id, name, rtype]

    async def restart(self) -> list[Observation]:
        """Another process takes over: it knows nothing but what it is told."""
        await self.driver.close()
        self.driver = self.new_driver()
        await self.driver.start()
        return await self.driver.apply(list(self.items.values()), [], full=True)

    async def apply(self, *specs: Spec, ok: bool = True) -> list[Observation]:
        items = [item(spec) for spec in specs]
        self.items.update({found.id: found for found in items})
        observed = await self.driver.apply(items, [], full=False)
        if ok:
            assert [(o.id, o.state, o.fault) for o in observed] == [(o.id, "active", "") for o in observed], observed
            assert {o.id for o in observed} >= {found.id for found in items}
        return observed

    async def gone(self, *specs: Spec) -> None:
        items = [item(spec) for spec in specs]
        for found in items:
            self.items.pop(found.id, None)
        observed = await self.driver.apply([], [Gone(found.kind, found.id, 2) for found in items], full=False)
        assert {(o.id, o.state) for o in observed} >= {(found.id, "gone") for found in items}, observed

    def machine(self) -> Machine:
        machine = Machine(f"t{self.config.cloud_id}-{secrets.token_hex(3)}")
        self.machines.append(machine)
        return machine

    async def guest(self, port: Port, interface: str = "eth0") -> Machine:
        """Apply the port and plug it into a new guest."""
        await self.apply(port)
        return await self.plug(port, interface)

    async def guest_despite(self, port: Port, interface: str = "eth0") -> Machine:
        """The same where other things of the cloud are in error."""
        await self.apply(port, ok=False)
        return await self.plug(port, interface)

    async def plug(self, port: Port, interface: str = "eth0") -> Machine:
        machine = self.machine()
        plugged = await self.driver.plug(port.id, machine.path, interface)
        assert (plugged.mac, plugged.interface) == (port.mac, interface)
        self.plugs[port.id] = (machine, interface)
        return machine

    async def close(self) -> None:
        for machine in self.machines:
            machine.close()
        await self.driver.close()
        await purge(self.config)


@contextlib.asynccontextmanager
async def laboratory(state: Path) -> AsyncIterator[Lab]:
    lab = Lab(state)
    await lab.driver.start()
    try:
        yield lab
    finally:
        await lab.close()


def network(cidr: str = "10.0.0.0/24", cidr6: str | None = "fd00:a::/64", *, vni: int | None = None, **fields: object) -> Network:
    """A tenant network with the first address of each subnet as its gateway."""
    subnets = [Subnet(new_id(), cidr, 4, gateway_ip=cidr.rsplit(".", 1)[0] + ".1")]
    if cidr6:
        subnets.append(Subnet(new_id(), cidr6, 6, gateway_ip=cidr6.partition("/")[0] + "1"))
    number = vni if vni is not None else int(secrets.token_hex(3), 16)
    return Network(new_id(), number, 1450, tuple(subnets), **fields)  # type: ignore[arg-type]


def port(on: Network, host: int, *group_ids: str, **fields: object) -> Port:
    """A port with the host-th address of each subnet."""
    ips = []
    for subnet in on.subnets:
        base = subnet.cidr.partition("/")[0]
        ips.append(FixedIp(subnet.id, f"{base.rsplit('.', 1)[0]}.{host}" if subnet.version == 4 else f"{base}{host:x}"))
    mac = "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
    return Port(new_id(), on.id, mac, tuple(ips), security_groups=group_ids, **fields)  # type: ignore[arg-type]


def router(inner: list[Network], outer: Network, host: int, *floating: tuple[str, str], **fields: object) -> Router:
    """A router with the gateway addresses of the inner networks and the host-th address of the outer one."""
    legs = []
    for found in inner:
        legs.append(
            RouterInterface(
                new_id(), found.id, _mac(), tuple(f"{s.gateway_ip}/{s.cidr.partition('/')[2]}" for s in found.subnets)
            )
        )
    own = port(outer, host)
    lengths = [subnet.cidr.partition("/")[2] for subnet in outer.subnets]
    addresses = tuple(f"{ip.address}/{length}" for ip, length in zip(own.fixed_ips, lengths, strict=True))
    nexthops = tuple(subnet.gateway_ip for subnet in outer.subnets if subnet.gateway_ip)
    gateway = RouterGateway(own.id, outer.id, own.mac, addresses, nexthops)
    fips = tuple(FloatingIp(new_id(), outside, inside) for outside, inside in floating)
    return Router(new_id(), tuple(legs), gateway, floating_ips=fips, **fields)  # type: ignore[arg-type]


def _mac() -> str:
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def in_laboratory(story: Callable[[Lab], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that is told a laboratory of its own."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            async with laboratory(tmp_path) as lab:
                await story(lab)

        asyncio.run(run())

    test.__name__, test.__doc__, test.__module__ = story.__name__, story.__doc__, story.__module__
    return test
