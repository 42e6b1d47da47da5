"""Docker's volume plugin protocol, served: any Docker engine on a host of the cloud uses a project's volumes.

Source: Engine documentation, "Docker Plugin API" and "Volume plugins".

Volumes are made, listed and removed by the cloud's own API, on the host on which this runs. A Mount gives the directory of the volume, whose
files have the ids that the engine's containers see; who has it mounted is counted beside the node's own guests (`node.volumes.references`),
so that the node does not remove what an engine uses. Nothing is kept in memory: it may be killed and started again at any time.
"""

import contextlib
import http.server
import os
import re
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import click
import msgspec

from nacre.cli.client import ApiError, Client, read_clouds, send
from nacre.cli.state import State, say
from nacre.node.config import load
from nacre.node.volumes import locate
from nacre.node.volumes.references import References

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
NAMES = re.compile(r"nacre[a-zA-Z0-9_.-]*\.sock")
"""What the socket may be called: the node takes no plugin of such a name for a driver of its own volumes."""
MADE_WITHIN_S = 60.0
POLL_S = 0.1
BODY_BYTES_MAX = 1 << 20
USER_LENGTH_MAX = 128
API_TIMEOUT_S = 30.0

Answer = dict[str, Any]


class Refused(Exception):
    """The text is for `Err`."""


class Api:
    """The project's volumes, by the cloud's own Docker API. Thread-safe."""

    def __init__(self, state: State, project: str, url: str) -> None:
        self._url = f"{url}/docker"
        self._lock = threading.Lock()
        self._client = Client(project, _login(state, project))

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises Refused with the API's own words."""
        for attempt in (1, 2):
            try:
                with self._lock:
                    if not self._client.token:
                        self._client.authenticate()
                    token = self._client.token
                headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
                content = None if body is None else msgspec.json.encode(body)
                return send(method, self._url + path, headers, content, API_TIMEOUT_S).body
            except ApiError as error:
                if error.status != 401 or attempt == 2:
                    raise Refused(error.cause) from None
                with self._lock:
                    self._client.token = ""  # It has expired.
        raise AssertionError("two attempts end in an answer or an error")


def _login(state: State, project: str) -> dict[str, Any]:
    """An entry of clouds.yaml for the project, or the administrator's with the project in it."""
    clouds = read_clouds(state.clouds_yaml)
    for entry in clouds.values():
        if entry["auth"].get("project_name") == project:
            return dict(entry)
    admin = clouds["nacre-admin"]
    return {**admin, "auth": {**admin["auth"], "project_name": project}}


class Driver:
    """The protocol's methods: each takes the request's fields and gives the answer's. Raises Refused."""

    def __init__(self, api: Callable[..., Any], node_state: Path, hostname: str) -> None:
        self._api = api
        self._hostname = hostname
        self._folder = node_state / "volumes"
        self._references = References(self._folder / "references")
        self.methods: dict[str, Callable[[Answer], Answer]] = {
            "Plugin.Activate": lambda _: {"Implements": ["VolumeDriver"]},
            "VolumeDriver.Capabilities": lambda _: {"Capabilities": {"Scope": "local"}},
            "VolumeDriver.Create": self.create,
            "VolumeDriver.Remove": self.remove,
            "VolumeDriver.Mount": self.mount,
            "VolumeDriver.Unmount": self.unmount,
            "VolumeDriver.Path": self.path,
            "VolumeDriver.Get": self.get,
            "VolumeDriver.List": self.list_volumes,
        }

    def create(self, request: Answer) -> Answer:
        """On this host, and there; again: no change."""
        self._make(_name(request), request.get("Opts") or {})
        self._await_made(_name(request))
        return {}

    def remove(self, request: Answer) -> Answer:
        """The engine says that none of its containers uses it: what is counted for engines here is let go."""
        name = _name(request)
        ident = self._inspect(name)["Status"]["id"]
        for user in self._users(ident):
            self._references.drop(ident, user)
        self._api("DELETE", f"/volumes/{quote(name, safe='')}")
        return {}

    def mount(self, request: Answer) -> Answer:
        name = _name(request)
        self._make(name, {})
        ident = self._await_made(name)
        try:
            self._references.add(ident, _user(request))
            return {"Mountpoint": str(locate(self._folder, ident))}
        except FileNotFoundError:
            raise Refused(f"volume {name} is being removed") from None

    def unmount(self, request: Answer) -> Answer:
        self._references.drop(self._inspect(_name(request))["Status"]["id"], _user(request))
        return {}

    def path(self, request: Answer) -> Answer:
        return {"Mountpoint": self._mountpoint(self._inspect(_name(request))["Status"]["id"])}

    def get(self, request: Answer) -> Answer:
        name = _name(request)
        volume = self._inspect(name)
        status = volume["Status"]
        shown = {"Name": name, "CreatedAt": volume["CreatedAt"], "Status": {**status, "host": volume.get("Node", "")}}
        return {"Volume": {**shown, "Mountpoint": self._mountpoint(status["id"])}}

    def list_volumes(self, request: Answer) -> Answer:
        found = self._api("GET", "/volumes")["Volumes"]
        shown = [(volume["Name"], volume["Mountpoint"].rpartition("/")[2]) for volume in found]
        return {"Volumes": [{"Name": name, "Mountpoint": self._mountpoint(ident)} for name, ident in shown]}

    def _make(self, name: str, options: dict[str, str]) -> None:
        body = {"Name": name, "Driver": "nacre", "DriverOpts": {**options, "host": self._hostname}}
        self._api("POST", "/volumes/create", body)

    def _inspect(self, name: str) -> Answer:
        found: Answer = self._api("GET", f"/volumes/{quote(name, safe='')}")
        return found

    def _await_made(self, name: str) -> str:
        """The volume's id, as soon as the node of this host has made it."""
        deadline = time.monotonic() + MADE_WITHIN_S
        while True:
            status = self._inspect(name)["Status"]
            if status["state"] == "active" and self._references.is_open(status["id"]):
                return str(status["id"])
            if time.monotonic() > deadline or status.get("fault"):
                raise Refused(f"volume {name}: {status.get('fault') or f'its host did not make it within {MADE_WITHIN_S:.0f} s'}")
            time.sleep(POLL_S)

    def _mountpoint(self, ident: str) -> str:
        """Where it lies while an engine has it mounted, as the protocol wants it."""
        with contextlib.suppress(FileNotFoundError):
            if self._users(ident):
                return str(locate(self._folder, ident))
        return ""

    def _users(self, ident: str) -> list[str]:
        return [user for user in self._references.users(ident) if user.startswith("engine-")]


def _name(request: Answer) -> str:
    name = request.get("Name")
    if not isinstance(name, str) or not name:
        raise Refused("the request names no volume")
    return name


def _user(request: Answer) -> str:
    """The caller's own id for this mount, as the name of a file."""
    return "engine-" + re.sub(r"[^a-zA-Z0-9]", "_", str(request.get("ID") or "unknown"))[:USER_LENGTH_MAX]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    driver: Driver

    def do_POST(self) -> None:
        method = self.path.removeprefix("/")
        run = self.driver.methods.get(method)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(max(length, 0), BODY_BYTES_MAX))
        if run is None:
            self._answer(404, {"Err": f"there is no method {method}"})
            return
        try:
            request = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
            self._answer(200, {**run(request), **({} if method == "Plugin.Activate" else {"Err": ""})})
        except msgspec.DecodeError as error:
            self._answer(400, {"Err": f"the request is not a JSON object: {error}"})
        except (Refused, OSError) as error:
            self._answer(200, {"Err": str(error)})

    def _answer(self, status: int, body: Answer) -> None:
        content = msgspec.json.encode(body)
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "engine"

    def log_message(self, format: str, *args: Any) -> None:
        """What is asked is the engine's to log."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread per connection; the socket is root's alone."""

    daemon_threads = True

    def __init__(self, path: Path, driver: Driver) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_socket():
            _refuse_living(path)
            path.unlink()
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), type("Handler", (_Handler,), {"driver": driver}))
        finally:
            os.umask(umask)


def _refuse_living(path: Path) -> None:
    """Raises ClickException when somebody serves there already."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(str(path))
        raise click.ClickException(f"another process serves at {path} already")


def serve(state: State, project: str, path: Path) -> None:
    """Serve until SIGINT or SIGTERM. Raises ClickException."""
    cloud = state.require()
    if os.geteuid() != 0:
        raise click.ClickException("only root may give an engine the directories of volumes; run this with sudo")
    if not NAMES.fullmatch(path.name):
        raise click.ClickException(f"the socket's name must begin with nacre and end in .sock, not be {path.name}")
    node = load(state.node_config)
    api = Api(state, project, cloud.url)
    driver = Driver(api, node.state, node.hostname or socket.gethostname())
    try:
        api("GET", "/volumes")
    except Refused as error:
        raise click.ClickException(f"the volumes of project {project} cannot be had: {error}") from None
    server = Server(path, driver)

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    say(f"Docker engines on this host can use the volumes of project {project}: docker volume create -d {path.stem} NAME")
    try:
        server.serve_forever()
    finally:
        server.server_close()
        path.unlink(missing_ok=True)
