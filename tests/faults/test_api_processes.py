"""Several API processes over one PostgreSQL: any of them is killed, or stands still, while servers come and go through all of them."""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nacre.cli.balancing import haproxy
from tests.faults.several import APIS, hosts_up, is_whole, processes, running, url_of
from tests.faults.storm import statuses, weather
from tests.faults.test_simulated_kills import upload_image
from tests.postgres import Cluster
from tests.processes import Processes, free_port, wait_for
from tests.support import Balanced, Client

KILLS = 16
PAUSE_S_MAX = 0.5


@pytest.fixture
def cloud(server: Cluster, tmp_path: Path) -> Iterator[Processes]:
    with running(tmp_path, server.database()) as made:
        yield made


def test_a_storm_through_processes_that_die_and_stand_still(cloud: Processes) -> None:
    first = cloud.login()
    client = Balanced(first.base_url, first.token, (url_of(cloud, "api-2"),))
    chance = random.Random(KILLS)
    image = upload_image(first)

    def kill_one() -> None:
        if chance.random() < 0.5:
            wait_for(lambda: is_whole(cloud), "every process to have a stream of every host")
        time.sleep(chance.random() * PAUSE_S_MAX)
        victim = chance.choice((*APIS, "node"))
        cloud.kill(victim)
        # The other one answers meanwhile.
        survivor = Client(url_of(cloud, APIS[victim == "api"]), first.token)
        assert survivor("GET", "/compute/v2.1/servers").status == 200
        cloud.start(victim)
        wait_for(lambda: all(hosts_up(cloud, name) >= 0 for name in APIS), "both to serve")

    def halt_one() -> None:
        """It is struck out while it stands still, and ends when it goes on: whoever supervises it starts it again."""
        wait_for(lambda: is_whole(cloud), "every process to have a stream of every host")
        victim = cloud.running["api-2"]
        address = url_of(cloud, "api-2").removeprefix("http://")
        victim.send_signal(signal.SIGSTOP)
        wait_for(lambda: address not in processes(first), "the process that stands still to be struck out")
        row = next(iter(processes(first).values()))
        wait_for(lambda: next(iter(processes(first).values()))["leads"], "the other one to lead")
        assert row["state"] == "up"
        victim.send_signal(signal.SIGCONT)
        assert victim.wait(60) == 0
        cloud.running.pop("api-2")
        cloud.start("api-2")
        wait_for(lambda: is_whole(cloud), "it to be back")

    harms = [kill_one] * (KILLS // 2) + [halt_one] + [kill_one] * (KILLS // 2)
    weather(cloud, client, image, harms, servers_max=30, allowed={"ACTIVE"})
    assert statuses(first) == {}
    assert sum(row["leads"] for row in processes(first).values()) == 1


def test_one_after_the_other_is_restarted_behind_haproxy_and_no_request_fails(cloud: Processes, tmp_path: Path) -> None:
    first = cloud.login()
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(haproxy(list(processes(first).values()), f"127.0.0.1:{port}", None))
    balancer = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(config)])
    client = Client(f"http://127.0.0.1:{port}", first.token)
    asking = Asking(client)
    try:
        wait_for(lambda: is_answered(client), "HAProxy to serve")
        asking.start()
        for name in (*APIS, *APIS):
            cloud.kill(name, signal.SIGTERM)
            cloud.start(name)
            wait_for(lambda: is_whole(cloud), "every process to have a stream of every host")
            # HAProxy looks once a second, and sends nothing to the other one's place before it has seen this one.
            seen = asking.answered
            wait_for(lambda seen=seen: asking.answered > seen + 100, "requests to go on")
            time.sleep(2)
    finally:
        asking.stopping.set()
        asking.join()
        balancer.terminate()
        balancer.wait(10)
    assert asking.failed == []


def is_answered(client: Client) -> bool:
    try:
        return client("GET", "/healthz").status == 200
    except OSError:
        return False


class Asking(threading.Thread):
    """Reads and writes, one after the other, until it is told to stop; remembers what was not answered as it should be."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.answered = 0
        self.failed: list[object] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            for method, path, body, status in (
                ("GET", "/compute/v2.1/servers", None, 200),
                ("PATCH", "/identity/v3/regions/RegionOne", {"region": {"description": str(self.answered)}}, 200),
            ):
                try:
                    answer = self.client(method, path, body)
                except OSError as error:
                    self.failed.append(error)
                    continue
                self.answered += 1
                if answer.status != status:
                    self.failed.append((method, answer.status, answer.body[:200]))
