"""PostgreSQL is restarted, crashes and drops connections while servers come and go: nothing is lost, and nobody is told what is not so."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.storm import weather
from tests.faults.test_simulated_kills import upload_image
from tests.postgres import Cluster
from tests.processes import Processes, wait_for

HARMS = 24
HOSTS = 3
PAUSE_S_MAX = 0.5


@pytest.fixture
def cloud(server: Cluster, tmp_path: Path) -> Iterator[Processes]:
    cloud = Processes(tmp_path, simulate=HOSTS, store_url=server.database()).up()
    yield cloud
    cloud.down()
    print(cloud.logs())


def test_a_storm_over_a_database_that_comes_and_goes(cloud: Processes, server: Cluster) -> None:
    client = cloud.login()
    chance = random.Random(HARMS)
    api = cloud.running["api"].pid

    def harm() -> None:
        time.sleep(chance.random() * PAUSE_S_MAX)
        if chance.random() < 0.6:
            server.kill_backends()
            return
        server.stop(chance.choice(("fast", "immediate")))
        time.sleep(chance.random() * PAUSE_S_MAX)
        server.start()
        wait_for(lambda: client("GET", "/compute/v2.1/servers").status == 200, "the store to be found again")

    weather(cloud, client, upload_image(client), [harm] * HARMS, servers_max=30, allowed={"ACTIVE"})
    assert cloud.running["api"].pid == api
    assert cloud.running["api"].poll() is None, "the API process lives through all of it"


def test_a_storm_while_the_primary_dies_and_its_standby_takes_over(tmp_path: Path) -> None:
    primary = Cluster()
    standby = Cluster(primary)
    path = primary.url("").partition("@")[0]
    database = primary.database().rpartition("/")[2]
    places = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"{path}@{places}/{database}?target_session_attrs=read-write"
    cloud = Processes(tmp_path, simulate=HOSTS, store_url=url)
    try:
        cloud.up()
        client = cloud.login()

        def fail_over() -> None:
            time.sleep(3)
            primary.stop("immediate")
            standby.promote()
            wait_for(lambda: client("GET", "/compute/v2.1/servers").status == 200, "the store to be found again")
            time.sleep(3)

        weather(cloud, client, upload_image(client), [fail_over], servers_max=30, allowed={"ACTIVE"})
    finally:
        cloud.down()
        print(cloud.logs())
        standby.close()
        primary.close()
