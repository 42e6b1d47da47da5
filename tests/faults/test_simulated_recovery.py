"""Kill -9 at random moments while servers are rescued and shelved, and back: each ends in a state that was asked for, and nothing is left."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.storm import make_network, settled
from tests.functional.test_compute_recovery import _image
from tests.processes import Processes, wait_for
from tests.support import Client

KILLS = 14
SERVERS = 4
SEED = 7
PAUSE_S_MAX = 0.4
BASE = "/compute/v2.1/servers"
STEPS: dict[str, tuple[str, ...]] = {
    "ACTIVE": ("rescue", "shelve"),
    "RESCUE": ("unrescue",),
    "SHELVED_OFFLOADED": ("unshelve",),
}
"""From a state at rest, what may be asked for."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    running = Processes(tmp_path, simulate=2, cloud_id="fa5e").up()
    yield running
    running.down()


class Unrest(threading.Thread):
    """Asks for the next step of a server at rest until it is told to stop."""

    def __init__(self, client: Client, servers: list[str]) -> None:
        super().__init__(daemon=True)
        self.client, self.servers = client, servers
        self.random = random.Random(SEED)
        self.taken = 0
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(0.02):
                self._step()
        except BaseException as error:
            self.error = error

    def _step(self) -> None:
        ident = self.random.choice(self.servers)
        try:
            shown = self.client("GET", f"{BASE}/{ident}").json["server"]
            steps = STEPS.get(shown["status"], ())
            if not steps or shown["OS-EXT-STS:task_state"] is not None:
                return
            answer = self.client("POST", f"{BASE}/{ident}/action", {self.random.choice(steps): None})
        except OSError:
            self.stopping.wait(0.05)  # The API is dead at this moment.
            return
        assert answer.status in (200, 202, 409, 503), answer.body
        self.taken += answer.status in (200, 202)


def test_no_server_is_lost_between_its_states(cloud: Processes) -> None:
    client = cloud.login()
    network, image = make_network(client), _image(client, "system")
    body: dict[str, Any] = {"imageRef": image, "flavorRef": "42", "networks": [{"uuid": network}]}
    made = [client("POST", BASE, {"server": {**body, "name": f"rest-{number}"}}) for number in range(SERVERS)]
    servers = [answer.json["server"]["id"] for answer in made]
    unrest, chance = Unrest(client, servers), random.Random(SEED)
    unrest.start()
    for _ in range(KILLS):
        unrest.stopping.wait(chance.random() * PAUSE_S_MAX)
        victim = chance.choice(("api", "node"))
        cloud.kill(victim)
        cloud.start(victim)
        wait_for(cloud.is_ready, "the cloud to come back")
    unrest.stopping.set()
    unrest.join()
    if unrest.error is not None:
        raise unrest.error
    assert unrest.taken > KILLS // 2, "there was no unrest"

    def at_rest() -> bool:
        found = client("GET", f"{BASE}/detail").json["servers"]
        assert len(found) == SERVERS
        assert not [one["fault"] for one in found if one["status"] == "ERROR"]
        return all(one["status"] in STEPS and one["OS-EXT-STS:task_state"] is None for one in found)

    wait_for(at_rest, "every server to be at rest")
    assert settled(client)["findings"] == []
    for ident in servers:
        assert client("DELETE", f"{BASE}/{ident}").status == 204
    wait_for(lambda: not client("GET", BASE).json["servers"], "all servers to be gone")
    wait_for(lambda: len(client("GET", "/image/v2/images").json["images"]) == 1, "the images to be gone")
    assert settled(client)["findings"] == []
