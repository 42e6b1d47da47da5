"""A network plugin of Docker's as its authors write them: a unix socket, a bridge in the host's namespace, a veth pair for each endpoint."""

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

SOCKETS = Path("/run/docker/plugins")
HOLD_S = 120.0


def ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check).stdout


class NetworkPlugin:
    """`calls` is its log; what it keeps of networks and endpoints it asks nobody, so a call too many is an error of its own."""

    def __init__(self) -> None:
        self.name = f"testnet{uuid.uuid4().hex[:5]}"
        self.socket = SOCKETS / f"{self.name}.sock"
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.networks: dict[str, str] = {}
        self.endpoints: dict[str, str] = {}
        self.wrong: dict[str, dict[str, Any]] = {}
        """Answers in place of the right one, by method."""
        self.held: dict[str, threading.Event] = {}
        """Methods whose answers wait."""
        self._server: _Server | None = None

    def log(self, endpoint: str) -> list[str]:
        return [method for method, body in list(self.calls) if body.get("EndpointID") == endpoint]

    def of_networks(self) -> list[str]:
        return [method for method, _ in list(self.calls) if method.endswith("Network")]

    def start(self) -> None:
        SOCKETS.mkdir(parents=True, exist_ok=True)
        self._server = _Server(str(self.socket), _Handler)
        self._server.plugin = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """It is dead; what it made stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None
        self.socket.unlink(missing_ok=True)

    def die(self) -> None:
        """Its socket file stays, and nobody listens."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """None is 404."""
        if method == "Plugin.Activate":
            return {"Implements": ["NetworkDriver"]}
        method = method.removeprefix("NetworkDriver.")
        if method == "EndpointOperInfo":
            self.calls.append((method, body))
            return None
        if method == "GetCapabilities":
            return {"Scope": "local"}
        self.calls.append((method, body))
        if method in self.wrong:
            return self.wrong[method]
        try:
            found: dict[str, Any] = getattr(self, f"_{method}")(**body) or {}
        except (KeyError, AssertionError, subprocess.CalledProcessError) as error:
            return {"Err": f"{method}: {error!r}"}
        if method in self.held:
            self.held[method].wait(HOLD_S)
        return found

    def _CreateNetwork(self, NetworkID: str, IPv4Data: list[Any], **more: Any) -> None:
        assert NetworkID not in self.networks
        bridge = f"tb{NetworkID[:8]}"
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", IPv4Data[0]["Gateway"], "dev", bridge)
        ip("link", "set", bridge, "up")
        self.networks[NetworkID] = bridge

    def _DeleteNetwork(self, NetworkID: str) -> None:
        ip("link", "del", self.networks[NetworkID])
        del self.networks[NetworkID]

    def _CreateEndpoint(
        self,
        NetworkID: str,
        EndpointID: str,
        Interface: dict[str, str],
        **more: Any,
    ) -> dict[str, Any]:
        assert EndpointID not in self.endpoints
        short = EndpointID[:8]
        ip("link", "add", f"to{short}", "type", "veth", "peer", "name", f"ti{short}")
        ip("link", "set", f"to{short}", "master", self.networks[NetworkID], "up")
        self.endpoints[EndpointID] = NetworkID
        return {"Interface": {}}

    def _DeleteEndpoint(self, NetworkID: str, EndpointID: str) -> None:
        assert self.endpoints[EndpointID] == NetworkID
        ip("link", "del", f"ti{EndpointID[:8]}")
        del self.endpoints[EndpointID]

    def _Join(self, NetworkID: str, EndpointID: str, **more: Any) -> dict[str, Any]:
        assert self.endpoints[EndpointID] == NetworkID
        shown = json.loads(ip("-j", "addr", "show", self.networks[NetworkID]))
        gateway = next(each["local"] for each in shown[0]["addr_info"] if each["family"] == "inet")
        return {
            "InterfaceName": {"SrcName": f"ti{EndpointID[:8]}", "DstPrefix": "wire"},
            "Gateway": gateway,
            "StaticRoutes": [{"Destination": "192.0.2.0/24", "RouteType": 0, "NextHop": gateway}],
        }

    def _Leave(self, NetworkID: str, EndpointID: str) -> None:
        assert self.endpoints[EndpointID] == NetworkID

    def clean(self) -> None:
        self.stop()
        for bridge in self.networks.values():
            ip("link", "del", bridge, check=False)
        for endpoint in self.endpoints:
            ip("link", "del", f"to{endpoint[:8]}", check=False)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    plugin: NetworkPlugin


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: Any) -> None:
        return None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.server.plugin.answer(self.path.removeprefix("/"), body)
        raw = json.dumps(found or {}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def network_plugin() -> Iterator[NetworkPlugin]:
    """One that listens, and leaves nothing."""
    plugin = NetworkPlugin()
    plugin.start()
    try:
        yield plugin
    finally:
        plugin.clean()
