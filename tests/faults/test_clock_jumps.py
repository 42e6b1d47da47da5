"""A clock that jumps by an hour, ahead and back: nobody is taken for dead, and what is asked for comes to be. No lease looks at that clock."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.storm import Storm, delete_all, hold_against_promises, make_network
from tests.faults.test_rescheduling import POLICY, Containers
from tests.faults.test_simulated_kills import upload_image
from tests.processes import Processes, wait_for
from tests.support import Client

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
HOUR_S = 3600
JUMPS = (("api", HOUR_S), ("node", HOUR_S), ("api", -HOUR_S), ("node", -HOUR_S), ("api", 0), ("node", 0))
DONE_AT_LEAST = 5
REREAD_S = 1
"""How often a process looks whether its clock has jumped."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Processes]:
    """Two simulated hosts; the clocks of both processes are the test's to set, those that nobody can set are left alone."""
    assert LIBRARY is not None, "the Debian package faketime is missing"
    environment = {}
    for name in ("api", "node"):
        clock = tmp_path / f"clock-{name}"
        clock.write_text("+0\n")
        environment[name] = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": str(REREAD_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    cloud = Processes(tmp_path, simulate=2, cloud_id="c10c", environment=environment).up()
    yield cloud
    cloud.down()
    print(cloud.logs())


def jump(cloud: Processes, name: str, offset_s: int) -> None:
    Path(cloud.environment[name]["FAKETIME_TIMESTAMP_FILE"]).write_text(f"{offset_s:+d}\n")


def shown(client: Client) -> float:
    """What the API's clock shows, in seconds."""
    made = client("POST", "/image/v2/images", {"name": "now"}).json
    assert client("DELETE", f"/image/v2/images/{made['id']}").status == 204
    return datetime.fromisoformat(made["created_at"]).timestamp()


def test_servers_come_and_go_and_stay_where_they_are_whatever_the_clocks_show(cloud: Processes) -> None:
    client = cloud.login()
    image = upload_image(client)
    containers = Containers(client)
    names = [f"watched-{number}" for number in range(4)]
    for name in names:
        # It would be made anew elsewhere if its host were taken for dead.
        containers.create(name, POLICY)
    places = {name: containers.host(name) for name in names}
    storm = Storm(client, image, make_network(client), 1, servers_max=10)
    storm.start()
    for name, offset_s in JUMPS:
        jump(cloud, name, offset_s)
        if name == "api":
            wait_for(lambda: abs(shown(client) - time.time() - offset_s) < HOUR_S / 2, "the API's clock to jump")  # noqa: B023
        before = len(storm.promised), len(storm.deleted)
        wait_for(lambda: len(storm.promised) >= before[0] + DONE_AT_LEAST, "servers to come")  # noqa: B023
        wait_for(lambda: len(storm.deleted) >= before[1] + DONE_AT_LEAST, "servers to go")  # noqa: B023
        storm.stopping.wait(2 * REREAD_S)
    storm.finish()
    hold_against_promises(client, [storm], {"ACTIVE"})
    assert {name: containers.host(name) for name in names} == places
    log = (cloud.state / "log/api.log").read_text()
    assert "its host is lost" not in log
    assert "missing at once" not in log
    delete_all(client)
