"""Faults of a lab of three hosts and two API processes over PostgreSQL: links and hosts cut off, processes killed, power cuts, the database
restarted and failed over, a full disk, a clock that jumps, in a storm.

Afterwards every server is as it was asked to be or in ERROR with its cause, nothing is left over, and the audit of all hosts says so.
"""

import contextlib
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nacre.cli.client import ApiError, send
from tests.faults.lab import Lab, Room, reaches, running
from tests.faults.pinging import Pinging
from tests.faults.storm import HEADERS, REFUSALS, statuses
from tests.postgres import Cluster
from tests.processes import wait_for
from tests.support import Balanced, Client

pytestmark = pytest.mark.root
BOOTS = 200
ALIVE_MAX = 12
DEADLINE_S = 400.0
"""Longer than a transition may take before its server is in ERROR."""


PROCESSES = 2
EVACUATED = 0.4
"""Share of the storm's servers that are to be made anew elsewhere when their host is lost."""
DISK_MB = 96
"""Of a host whose disk becomes full."""
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


class Database:
    """A primary and its standby."""

    def __init__(self) -> None:
        self.primary = Cluster()
        self.standby = Cluster(self.primary)
        path, database = self.primary.url("").partition("@")[0], self.primary.database().rpartition("/")[2]
        places = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        self.url = f"{path}@{places}/{database}?target_session_attrs=read-write"

    def restart(self) -> None:
        """As after a crash."""
        self.primary.stop("immediate")
        self.primary.start()

    def fail_over(self) -> None:
        self.primary.stop("immediate")
        self.standby.promote()

    def close(self) -> None:
        self.standby.close()
        self.primary.close()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    made = Database()
    yield made
    made.close()


@pytest.fixture(scope="module")
def lab(database: Database) -> Iterator[Lab]:
    with running(hosts=3, store_url=database.url, processes=PROCESSES) as made:
        yield made


def test_a_cut_link_between_two_hosts_is_the_guests_alone(lab: Lab) -> None:
    """The third host's guests reach both; both hosts stay up; what is asked of them is done; and it is healed without anybody's help."""
    client = lab.login()
    room = Room(lab, client, "cut", "10.20.0.0/24")
    room.open_doors()
    guests = {host: room.boot(host) for host in ("h1", "h2", "h3")}
    at = {host: room.address(guest) for host, guest in guests.items()}
    wait_for(lambda: reaches(at["h2"], *lab.inside("h1", guests["h1"])), "the guests to reach each other")
    lab.run("cut", "h1", "h2")
    assert not reaches(at["h2"], *lab.inside("h1", guests["h1"]))
    assert reaches(at["h3"], *lab.inside("h1", guests["h1"]))
    assert reaches(at["h3"], *lab.inside("h2", guests["h2"]))
    more = room.boot("h2", "during")
    assert lab.up() >= {"h1", "h2", "h3"}
    lab.run("heal")
    wait_for(lambda: reaches(at["h2"], *lab.inside("h1", guests["h1"])), "the cut to be healed")
    gone(client, [*guests.values(), more])
    lab.audited(client)


def gone(client: Client, servers: list[str]) -> None:
    for ident in servers:
        assert client("DELETE", f"/compute/v2.1/servers/{ident}").status in (204, 404)
    wait_for(lambda: not set(statuses(client)) & set(servers), "the servers to be gone", DEADLINE_S)


def test_a_host_cut_off_from_the_api_loses_no_packet_of_its_guests(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "partition", "10.21.0.0/24")
    room.open_doors()
    one, two = room.boot("h1"), room.boot("h2")
    address = room.address(two)
    wait_for(lambda: reaches(address, *lab.inside("h1", one)), "the guests to reach each other")
    pinging = Pinging(*lab.inside("h1", one), address)
    lab.run("cut", "h1", "api")
    wait_for(lambda: "h1" not in lab.up(), "the cloud to miss h1")
    said = lab.nacre("audit", "--settle", "0", expect=1)
    assert "Without a stream: h1" in said
    # What is asked meanwhile is done when the host is back.
    assert client("DELETE", f"/compute/v2.1/servers/{one}").status == 204
    time.sleep(1)
    assert pinging.lost() == 0
    lab.run("heal")
    wait_for(lambda: "h1" in lab.up(), "h1 to be back")
    gone(client, [one, two])
    lab.audited(client)


def test_restarts_of_node_api_and_database_lose_no_packet(lab: Lab, database: Database) -> None:
    client = lab.login()
    room = Room(lab, client, "restarts", "10.22.0.0/24")
    room.open_doors()
    one, two = room.boot("h1"), room.boot("h2")
    address = room.address(two)
    wait_for(lambda: reaches(address, *lab.inside("h1", one)), "the guests to reach each other")
    pinging = Pinging(*lab.inside("h1", one), address)
    for host, process in (("h1", "node"), ("h2", "node"), ("api", "node"), ("api", "api"), ("api", "api-2")):
        lab.ends(host, process)
        wait_for(lambda: hosts_up(lab) == 4, f"all to be up after the {process} on {host}")
    database.restart()
    wait_for(lambda: finds_store(lab, client), "every API process to find the database again")
    wait_for(lambda: hosts_up(lab) == 4, "all to be up after the database")
    assert pinging.lost() == 0
    gone(client, [one, two])
    lab.audited(client)


def finds_store(lab: Lab, client: Client) -> bool:
    try:
        return all(Client(url, client.token)("GET", "/compute/v2.1/servers").status == 200 for url in lab.urls)
    except OSError:
        return False


def hosts_up(lab: Lab) -> int:
    try:
        return int(send("GET", f"{lab.url}/healthz").body["hosts_up"])
    except ApiError:
        return -1


def test_a_narrow_underlay_is_told_and_new_networks_fit_it(lab: Lab) -> None:
    client = lab.login()
    room = Room(lab, client, "wide", "10.24.0.0/24")
    assert client("GET", f"/network/v2.0/networks/{room.network}").json["network"]["mtu"] == 1450
    room.open_doors()
    servers = [room.boot(host) for host in ("h1", "h2")]
    lab.audited(client)
    cable, switch = lab.layout.link("h2"), lab.layout.switch
    # A switch on the way takes less than the hosts believe: only a packet can find that.
    subprocess.run(["ip", "-n", switch, "link", "set", cable, "mtu", "1400"], check=True)
    said = lab.nacre("audit", expect=1)
    assert f"the way to {lab.layout.address('h2')} does not carry packets of 1500 bytes" in said
    subprocess.run(["ip", "-n", switch, "link", "set", cable, "mtu", "1500"], check=True)
    lab.audited(client)
    # A host says what its own device takes.
    own = ["ip", "-n", lab.layout.namespace("h2"), "link", "set", cable, "mtu"]
    path = f"/nacre/v1/hosts/{lab.host_id(client, 'h2')}"
    for mtu in (1400, 1500):
        subprocess.run([*own, str(mtu)], check=True)
        lab.ends("h2", "node")
        wait_for(lambda mtu=mtu: client("GET", path).json["host"]["underlay_mtu"] == mtu, "the host to say so")
        made = room.post("network/v2.0/networks", "network", name=f"fits-{mtu}")
        assert made["mtu"] == mtu - 50
        refused = client("POST", "/network/v2.0/networks", {"network": {"mtu": mtu - 49}})
        assert refused.status == 400, refused.body
    gone(client, servers)
    lab.audited(client)


class Storm(threading.Thread):
    """`BOOTS` boots over all hosts, each deleted again sooner or later."""

    def __init__(self, client: Client, room: Room) -> None:
        super().__init__(daemon=True)
        self.client, self.room = client, room
        self.random = random.Random(BOOTS)
        self.promised: list[str] = []
        self.deleted: set[str] = set()
        self.doubtful: set[str] = set()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while len(self.promised) < BOOTS:
                self._turn()
                time.sleep(0.05)
        except BaseException as error:
            self.error = error

    def _turn(self) -> None:
        try:
            living = [ident for ident in self.promised if ident not in self.deleted]
            if len(living) >= ALIVE_MAX or (living and self.random.random() < 0.4):
                self._take_back(self.random.choice(living))
            else:
                self._boot()
        except OSError:
            time.sleep(0.1)  # The API is dead at this moment: what was not answered was not promised.

    def _boot(self) -> None:
        server = {"name": "storm", "imageRef": self.room.image, "flavorRef": "42", "networks": [{"uuid": self.room.network}]}
        if self.random.random() < EVACUATED:
            server["metadata"] = {"nacre:evacuate": "true"}
        answer = self.client("POST", "/compute/v2.1/servers", {"server": server}, HEADERS)
        assert answer.status == 202 or answer.status in REFUSALS, answer.body
        if answer.status == 202:
            self.promised.append(answer.json["server"]["id"])

    def _take_back(self, ident: str) -> None:
        self.doubtful.add(ident)
        answer = self.client("DELETE", f"/compute/v2.1/servers/{ident}")
        if answer.status != 503:
            self.doubtful.discard(ident)
        assert answer.status in (204, 404) or answer.status in REFUSALS, answer.body
        if answer.status in (204, 404):
            self.deleted.add(ident)


class FullDisk:
    """A small disk for a host's guests, which can be filled up."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        self._path = lab.host(host).node / "guests"
        self._enough = threading.Event()
        self._filling = threading.Thread()

    def plug(self) -> None:
        """Before there are any."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=711", "tmpfs", str(self._path)], check=True)
        self._lab.ends(self._host, "node")

    def fill(self) -> None:
        """And keep it full: guests that go leave room."""
        self._filling = threading.Thread(target=self._fill, daemon=True)
        self._filling.start()

    def _fill(self) -> None:
        with (self._path / ".full").open("wb", buffering=0) as file:
            while not self._enough.wait(0.02):
                for size in (1 << 20, 1 << 12):
                    with contextlib.suppress(OSError):
                        while file.write(bytes(size)) == size:
                            pass

    def empty(self) -> None:
        self._enough.set()
        self._filling.join()
        (self._path / ".full").unlink()

    def unplug(self) -> None:
        """Once there are none any more."""
        subprocess.run(["umount", str(self._path)], check=True)
        self._lab.ends(self._host, "node")


class Clock:
    """Of a host's node, to be set by the test; those that nobody can set are left alone."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        self._file = lab.dir.parent / f"clock-{host}"

    def put_in(self) -> None:
        """The host is switched off and on again."""
        assert LIBRARY is not None, "the Debian package faketime is missing"
        self.jump(0)
        self._lab.run("kill", self._host)
        path = self._lab.host(self._host).supervisor_config
        config = json.loads(path.read_text())
        config["children"][0]["env"] |= {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        path.write_text(json.dumps(config))
        self._lab.run("start", self._host)

    def jump(self, offset_s: int) -> None:
        self._file.write_text(f"{offset_s:+d}\n")


def test_nothing_is_lost_or_leaked_in_a_storm_with_every_fault(lab: Lab, database: Database) -> None:
    """200 boots with their deletes through both API processes, while everything that can fail does so, one after the other."""
    client = lab.login()
    lift_quotas(client)
    room = Room(lab, client, "storm", "10.23.0.0/22")
    room.open_doors()
    disk = FullDisk(lab, "h2")
    disk.plug()
    storm = Storm(Balanced(client.base_url, client.token, lab.urls[1:]), room)
    storm.start()
    faults = every_fault(lab, database, disk, storm)
    for number, fault in enumerate(faults, 1):
        moment = number * BOOTS // (len(faults) + 1)
        wait_for(lambda moment=moment: len(storm.promised) >= moment or storm.error, "the storm to go on", DEADLINE_S)
        if storm.error:
            break
        fault()
    storm.join(DEADLINE_S)
    if storm.error is not None:
        raise storm.error
    assert not storm.is_alive()
    wait_for(lambda: hosts_up(lab) == 4, "all hosts to be back")
    shown = wait_for(lambda: settled(client), "every server to be settled", DEADLINE_S)
    causes = {ident: cause(client, ident) for ident, status in shown.items() if status == "ERROR"}
    assert all(causes.values()), causes
    for ident in storm.promised:
        if ident in storm.deleted:
            assert ident not in shown, f"{ident} was deleted and is {shown[ident]}"
        elif ident in shown or ident not in storm.doubtful:
            assert shown.get(ident) in ("ACTIVE", "ERROR"), f"{ident} was promised and is {shown.get(ident)}"
    counts = {status: list(shown.values()).count(status) for status in set(shown.values())}
    print(f"{len(storm.promised)} boots, {len(storm.deleted)} deletes; what stayed: {counts}, {set(causes.values())}")
    lab.audited(client)
    gone(client, list(shown))
    disk.unplug()
    wait_for(lambda: hosts_up(lab) == 4, "all hosts to be back")
    lab.audited(client)


def lift_quotas(client: Client) -> None:
    quota = {"quota_set": dict.fromkeys(("instances", "cores", "ram"), -1)}
    token = client("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": client.token}).json["token"]
    assert client("PUT", f"/compute/v2.1/os-quota-sets/{token['project']['id']}", quota).status == 200
    assert client("PUT", f"/network/v2.0/quotas/{token['project']['id']}", {"quota": {"port": -1}}).status == 200


def every_fault(lab: Lab, database: Database, disk: FullDisk, storm: Storm) -> list[Callable[[], Any]]:
    """In the order in which they are done; h3 is away until what was to be evacuated from it is elsewhere."""
    client, clock = lab.login(), Clock(lab, "h1")

    def come_back() -> None:
        wait_for(lambda: not evacuable(client, "h3"), "what was on h3 to be made anew elsewhere", DEADLINE_S)
        lab.run("start", "h3")

    return [
        lambda: lab.run("cut", "h1", "h2"),
        lambda: lab.ends("h1", "node"),
        lambda: lab.run("kill", "h3"),
        lambda: lab.ends("api", "api"),
        disk.fill,
        lambda: storm.promised.extend(refused_for_space(storm.room, client)),
        lambda: lab.run("cut", "h2", "api"),
        database.restart,
        lambda: lab.run("heal"),
        lambda: lab.ends("api", "api-2"),
        disk.empty,
        lambda: lab.ends("h2", "node"),
        clock.put_in,
        lambda: clock.jump(3600),
        come_back,
        lambda: (lab.run("cut", "h2", "api"), lab.run("cut", "h3", "api")),
        lambda: lab.run("heal"),
        lambda: clock.jump(0),
        lambda: fail_over(lab, database, storm.room, client),
    ]


def fail_over(lab: Lab, database: Database, room: Room, client: Client) -> None:
    """Of the database, and no packet between two guests is lost by it."""
    one, two = room.boot("h2", "steady"), room.boot("h3", "steady")
    address = room.address(two)
    wait_for(lambda: reaches(address, *lab.inside("h2", one)), "the guests to reach each other")
    pinging = Pinging(*lab.inside("h2", one), address)
    database.fail_over()
    wait_for(lambda: finds_store(lab, client), "every API process to find the database again")
    assert pinging.lost() == 0


def refused_for_space(room: Room, client: Client) -> list[str]:
    """Servers that h2 was asked for, until its full disk has kept one from starting."""
    asked: list[str] = []
    while len(asked) < 10:
        asked.append(ident := room.ask("h2", "full"))
        status = wait_for(lambda ident=ident: room.status(ident).replace("BUILD", ""), "a server to be settled", DEADLINE_S)
        if status == "ERROR":
            assert "No space left" in cause(client, ident)
            return asked
    raise AssertionError("the disk is not full")


def evacuable(client: Client, host: str) -> list[str]:
    """The servers there that are to be evacuated, and are wanted."""
    answer = client("GET", "/compute/v2.1/servers/detail?limit=1000").json["servers"]
    there = [each for each in answer if each["OS-EXT-SRV-ATTR:host"] == host and each["OS-EXT-STS:task_state"] != "deleting"]
    return [each["id"] for each in there if "nacre:evacuate" in each["metadata"]]


def settled(client: Client) -> dict[str, str] | None:
    """The servers' statuses once none is on its way; asked for what was deleted until it is gone."""
    answer = client("GET", "/compute/v2.1/servers/detail?limit=1000").json["servers"]
    underway = [each for each in answer if each["status"] == "BUILD" or each["OS-EXT-STS:task_state"]]
    return None if underway else {each["id"]: each["status"] for each in answer}


def cause(client: Client, ident: str) -> str:
    return str(client("GET", f"/compute/v2.1/servers/{ident}").json["server"].get("fault", {}).get("message", ""))
