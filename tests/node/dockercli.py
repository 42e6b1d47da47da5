"""The docker CLI on a real cloud: one host, a socket for each project, busybox for everybody."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import free_port

CLONE = Path(__file__).resolve().parents[2]
COMMAND_S = 180


@dataclass
class Done:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Site:
    """A cloud that `nacre up` made, with the clients that are pointed at it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "cloud"
        self.port = free_port()
        self.env = {**os.environ, "PYTHONPATH": f"{CLONE / 'src'}"}
        for name in ("DOCKER_CONTEXT", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            self.env.pop(name, None)
        # A CLI that reads nobody's configuration.
        self.env["DOCKER_CONFIG"] = str(directory / "docker-config")
        self._hosts: dict[str, str] = {}

    def nacre(self, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """`arguments` are the subcommand's words; `--state` and the options follow."""
        command = [sys.executable, "-m", "nacre.cli", *arguments, "--state", str(self.state), *options]
        return self.good(command, self.env).out

    def docker(self, *arguments: str, project: str = "demo", stdin: str = "") -> Done:
        """`docker ...`, however it ends."""
        return run(["docker", *arguments], {**self.env, "DOCKER_HOST": self.host(project)}, stdin)

    def say(self, *arguments: str, project: str = "demo") -> str:
        """`docker ...`, which must succeed: its output without the space around it."""
        return self.good(["docker", *arguments], {**self.env, "DOCKER_HOST": self.host(project)}).out.strip()

    def inspect(self, name: str, project: str = "demo") -> Any:
        return json.loads(self.say("inspect", name, project=project))[0]

    def host(self, project: str) -> str:
        """DOCKER_HOST, as `nacre docker env` has it."""
        if project not in self._hosts:
            said = self.nacre("docker", "env", options=("--project", project, "--format", "json"))
            self._hosts[project] = json.loads(said)["DOCKER_HOST"]
        return self._hosts[project]

    def openstack(self, *arguments: str, cloud: str = "nacre") -> Any:
        """`openstack ... -f json`, decoded; None where it says nothing."""
        env = {**self.env, "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml"), "OS_CLOUD": cloud}
        client = str(Path(sys.executable).parent / "openstack")
        out = self.good([client, *arguments], env).out
        return json.loads(out) if out.strip().startswith(("[", "{")) else None

    @staticmethod
    def good(command: list[str], env: dict[str, str]) -> Done:
        done = run(command, env)
        assert done.code == 0, f"{' '.join(command)}\n{done.out}{done.err}"
        return done


def run(command: list[str], env: dict[str, str], stdin: str = "") -> Done:
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def has_client(name: str) -> bool:
    return shutil.which(name) is not None


@contextmanager
def site(prefix: str, *options: str) -> Iterator[Site]:
    """A cloud that leaves no trace."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        made = Site(Path(directory))
        try:
            made.nacre("up", options=("--detach", "--port", str(made.port), *options))
            yield made
        finally:
            made.nacre("down", options=("--purge",))
        assert not made.state.exists()
        assert directory not in Path("/proc/self/mountinfo").read_text()
