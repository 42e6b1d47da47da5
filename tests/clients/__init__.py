"""Clients that nobody of us wrote: each has an environment of its own, and sees nothing of the one that the tests run in.

An environment that cannot be made fails the tests that need it. It costs once, on two cores: Libcloud 3 s, Ansible 11 s, Rally 20 s.
"""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from nacre.cli.pinned import Environment, Wheel
from tests.images import layer
from tests.processes import Processes

HERE = Path(__file__).parent
COLLECTION = Wheel("ansible==12.3.0", "ansible_collections/openstack")
"""All of `ansible` is half a gigabyte of collections, and this one is not to be had on its own."""
LIBCLOUD = Environment("libcloud", HERE / "libcloud.txt")
ANSIBLE = Environment("ansible", HERE / "ansible.txt", parts=(COLLECTION,))
RALLY = Environment("rally", HERE / "rally.txt")
COMMAND_WAIT_S = 600.0
IMAGE_BYTES = layer({"etc/hostname": "tiny\n"})


@dataclass
class Desk:
    """A directory that somebody works in, who has one of these environments and has heard of no other cloud."""

    home: Path
    environment: Environment
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, *arguments: str) -> str:
        """What a program of the environment prints. It must end well."""
        programs = self.environment.ensure()
        foreign = ("OS_", "PYTHON", "ANSIBLE_", "RALLY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        mine = {"HOME": str(self.home), "PATH": f"{programs}:/usr/bin:/bin", "no_proxy": "*", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [str(programs / command), *arguments],
            cwd=self.home,
            env={**kept, **mine, **self.variables},
            capture_output=True,
            text=True,
            timeout=COMMAND_WAIT_S,
        )
        assert done.returncode == 0, f"{command} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def add_image(processes: Processes, name: str = "tiny") -> None:
    """An image that everybody may boot."""
    admin = processes.login()
    image = {"name": name, "visibility": "public", "disk_format": "raw", "container_format": "docker"}
    made = admin("POST", "/image/v2/images", image)
    assert made.status == 201, made.body
    put = admin("PUT", f"/image/v2/images/{made.json['id']}/file", IMAGE_BYTES, {"Content-Type": "application/octet-stream"})
    assert put.status == 204, put.body
