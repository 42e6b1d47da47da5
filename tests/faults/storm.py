"""A storm of creates and deletes, to be survived; for simulated and real hosts alike."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.processes import Processes, wait_for
from tests.support import Client

HEADERS = {"OpenStack-API-Version": "compute 2.37"}
BREATH_S = 0.03
"""Between two calls of a storm: what is deleted while the node is dead waits for it, and must not pile up without end."""
WHOLE = 0.6
"""Share of the kills that hit a cloud in the midst of its work; the others hit one that is still on its way up."""
PAUSE_S_MAX = 0.6
SWEEP_S = 60.0
"""Longer than every sweeper that repairs needs."""
REFUSALS = (409, 503)
"""What a cloud in trouble may say: the port's network is gone, the store is not there. Anything else is a defect."""


class Storm(threading.Thread):
    """Creates and deletes servers until it is told to stop; remembers what was promised (202) and what was taken back (204)."""

    def __init__(self, client: Client, image: str, network: str, seed: int, servers_max: int) -> None:
        super().__init__(daemon=True)
        self.client, self.image, self.network = client, image, network
        self.servers_max = servers_max
        self.random = random.Random(seed)
        self.promised: set[str] = set()
        self.deleted: set[str] = set()
        self.doubtful: set[str] = set()
        """A delete was asked for and never answered, or with "the store is not there": it may have been done."""
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(BREATH_S):
                self._one()
        except BaseException as error:
            self.error = error

    def _one(self) -> None:
        try:
            if len(self.promised) - len(self.deleted) >= self.servers_max or self.random.random() < 0.45:
                self._delete_one()
            else:
                self._create_one()
        except OSError:
            # The API is dead at this moment: what was not answered was not promised.
            self.stopping.wait(0.05)

    def _create_one(self) -> None:
        server = {"name": "storm", "imageRef": self.image, "flavorRef": "42", "networks": [{"uuid": self.network}]}
        answer = self.client("POST", "/compute/v2.1/servers", {"server": server}, HEADERS)
        assert answer.status == 202 or answer.status in REFUSALS, answer.body
        if answer.status == 202:
            self.promised.add(answer.json["server"]["id"])

    def _delete_one(self) -> None:
        living = sorted(self.promised - self.deleted)
        if not living:
            return
        ident = self.random.choice(living)
        self.doubtful.add(ident)
        answer = self.client("DELETE", f"/compute/v2.1/servers/{ident}")
        if answer.status != 503:
            self.doubtful.discard(ident)
        assert answer.status in (204, 404) or answer.status in REFUSALS, answer.body
        if answer.status in (204, 404):
            self.deleted.add(ident)

    def finish(self) -> None:
        self.stopping.set()
        self.join()
        if self.error is not None:
            raise self.error


def make_network(client: Client) -> str:
    token = client("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": client.token}).json["token"]
    quota = {"quota": {"port": -1}}
    assert client("PUT", f"/network/v2.0/quotas/{token['project']['id']}", quota).status == 200
    network = client("POST", "/network/v2.0/networks", {"network": {"name": "storm"}}).json["network"]["id"]
    subnet = {"network_id": network, "cidr": "10.77.0.0/22", "ip_version": 4}
    assert client("POST", "/network/v2.0/subnets", {"subnet": subnet}).status == 201
    return str(network)


def statuses(client: Client) -> dict[str, str]:
    answer = client("GET", "/compute/v2.1/servers/detail?limit=1000")
    return {server["id"]: server["status"] for server in answer.json["servers"]}


def sound(client: Client) -> dict[str, Any] | None:
    """The audit's report once nothing is pending any more."""
    report: dict[str, Any] = client("GET", "/nacre/v1/audit").json
    return report if report["pending"] == 0 and not report["unreachable"] else None


def settled(client: Client) -> dict[str, Any]:
    """The audit's report, after the sweepers have had a turn: they set right what a kill left of things derived from others."""
    end = time.monotonic() + SWEEP_S
    while True:
        report: dict[str, Any] = wait_for(lambda: sound(client), "nothing to be pending")
        if not report["findings"] or time.monotonic() > end:
            return report
        time.sleep(1)


def kill_in_a_storm(cloud: Processes, client: Client, image: str, *, kills: int, servers_max: int, allowed: set[str]) -> None:
    """Kill the API or the node at random moments of a storm; then hold everything against what was promised."""
    chance = random.Random(kills)

    def kill_one() -> None:
        victim = chance.choice(("api", "node", "node"))
        if chance.random() < WHOLE:
            wait_for(cloud.is_ready, "the cloud to be whole before the next kill")
        time.sleep(chance.random() * PAUSE_S_MAX)
        cloud.kill(victim)
        cloud.start(victim)
        if victim == "api":
            wait_for(cloud.is_serving, "the API to come back")

    weather(cloud, client, image, [kill_one] * kills, servers_max=servers_max, allowed=allowed)


def weather(
    cloud: Processes, client: Client, image: str, harms: Sequence[Callable[[], None]], *, servers_max: int, allowed: set[str]
) -> None:
    """A storm during which these harms are done, one after the other; then everything is held against what was promised."""
    network = make_network(client)
    storms = [Storm(client, image, network, seed, servers_max) for seed in range(2)]
    for storm in storms:
        storm.start()
    for harm in harms:
        harm()
    for storm in storms:
        storm.finish()
    wait_for(cloud.is_ready, "the cloud to come back")
    assert sum(len(storm.promised) for storm in storms) > len(harms) // 4, "the storm was a calm"
    hold_against_promises(client, storms, allowed)
    delete_all(client)


def delete_all(client: Client) -> None:
    """Every server goes, and nothing is left of any."""
    for ident in statuses(client):
        client("DELETE", f"/compute/v2.1/servers/{ident}")
    wait_for(lambda: not statuses(client), "all servers to be gone")
    report = settled(client)
    assert report["findings"] == [], report


def hold_against_promises(client: Client, storms: list[Storm], allowed: set[str]) -> None:
    wait_for(lambda: "BUILD" not in statuses(client).values(), "every server to be settled")
    report = settled(client)
    assert report["findings"] == [], report
    shown = statuses(client)
    for storm in storms:
        for ident in storm.promised:
            if ident in storm.deleted:
                assert ident not in shown, f"{ident} was deleted and is {shown[ident]}"
            elif ident in shown or ident not in storm.doubtful:
                assert shown.get(ident) in allowed, f"{ident} was promised and is {shown.get(ident)}"
