#!/usr/bin/env python3
"""A Socketplane-like adapter: containers that name one CIDR share one network, wherever they run.

    docker run -e SOCKETPLANE_CIDR="10.0.6.1/24" ...      the network's gateway and mask; the containers get 10.0.6.2, 10.0.6.3 ...
    docker run -e SP_NETWORK=web ...                      a network by its name

It speaks the Powerstrip protocol (version 1) on one side and the Engine API on the other, and knows nothing else: the network is made when
the first container asks for it; each container gets a network-only companion on it, and shares that one's network namespace.

    adapter.py --docker unix:///path/of/the/engine.sock --port 6675
"""

import argparse
import http.client
import ipaddress
import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMPANION_IMAGE = "busybox"
COMPANION_COMMAND = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
MTU = "1440"
API = "/v1.40"
ENGINE_TIMEOUT_S = 60.0
BODY_BYTES_MAX = 64 << 20


class EngineError(Exception):
    """The engine refused; the text is its own."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ENGINE_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ENGINE_TIMEOUT_S)
        self.sock.connect(self._path)


class Engine:
    """The few calls that the adapter makes."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    def call(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = ()) -> tuple[int, Any]:
        """(status, decoded answer). Raises EngineError on an error that is not among the allowed ones."""
        if self._url.scheme == "unix":
            connection: http.client.HTTPConnection = UnixConnection(self._url.path)
        else:
            connection = http.client.HTTPConnection(self._url.hostname or "127.0.0.1", self._url.port, timeout=ENGINE_TIMEOUT_S)
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, API + path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read(BODY_BYTES_MAX)
        finally:
            connection.close()
        decoded = json.loads(text) if text else None
        if answer.status >= 400 and answer.status not in allowed:
            raise EngineError(decoded.get("message", text.decode()) if isinstance(decoded, dict) else text.decode())
        return answer.status, decoded

    def ensure_network(self, name: str, cidr: ipaddress.IPv4Interface | None) -> None:
        """Make the network unless it is there. Who comes second finds what the first one made."""
        status, _ = self.call("GET", f"/networks/{name}", allowed=(404,))
        if status != 404:
            return
        wanted: dict[str, Any] = {"Name": name, "CheckDuplicate": True, "Options": {"com.docker.network.driver.mtu": MTU}}
        if cidr is not None:
            wanted["IPAM"] = {"Config": [{"Subnet": str(cidr.network), "Gateway": str(cidr.ip)}]}
        self.call("POST", "/networks/create", wanted, allowed=(409,))

    def start_companion(self, network: str) -> str:
        """A container that only holds a place on the network. Returns its id."""
        wanted = {
            "Image": COMPANION_IMAGE,
            "Cmd": COMPANION_COMMAND,
            "Labels": {"socketplane.companion": network},
            "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": "unless-stopped"}},
        }
        _, made = self.call("POST", "/containers/create", wanted)
        self.call("POST", f"/containers/{made['Id']}/start")
        return str(made["Id"])


def wanted_network(environment: list[str]) -> tuple[str, ipaddress.IPv4Interface | None] | None:
    """The network's name, and its gateway with the mask; None when the container asks for none. Raises ValueError."""
    values = dict(entry.split("=", 1) for entry in environment if "=" in entry)
    if "SOCKETPLANE_CIDR" in values:
        cidr = ipaddress.IPv4Interface(values["SOCKETPLANE_CIDR"].strip('"'))
        return f"socketplane-{cidr.network.network_address}-{cidr.network.prefixlen}", cidr
    if values.get("SP_NETWORK"):
        return f"socketplane-{values['SP_NETWORK']}", None
    return None


def before_create(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    """Give the container the network namespace of a companion on the network that it asks for."""
    body = json.loads(request["Body"] or "{}")
    wanted = wanted_network(body.get("Env") or [])
    if wanted is None:
        return request
    engine.ensure_network(*wanted)
    host_config = body.setdefault("HostConfig", {})
    host_config["NetworkMode"] = f"container:{engine.start_companion(wanted[0])}"
    body.pop("NetworkingConfig", None)
    return {**request, "Body": json.dumps(body)}


class Handler(BaseHTTPRequestHandler):
    """GET /v1/ping, POST /adapter."""

    engine: Engine

    def do_GET(self) -> None:
        if self.path == "/v1/ping":
            self._answer(200, b"pong", "text/plain")
        else:
            self._answer(404, b'{"message": "there is /v1/ping and /adapter"}')

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > BODY_BYTES_MAX:
            self._answer(413, b'{"message": "the body is too large"}')
            return
        try:
            hook = json.loads(self.rfile.read(length))
            answer = self._hook(hook)
        except (EngineError, OSError) as error:
            self._answer(500, json.dumps({"message": f"socketplane: {error}"}).encode())
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, json.dumps({"message": f"socketplane: {error}"}).encode())
        else:
            self._answer(200, json.dumps({"PowerstripProtocolVersion": 1, **answer}).encode())

    def _hook(self, hook: dict[str, Any]) -> dict[str, Any]:
        if hook["Type"] != "pre-hook":
            return {"ModifiedServerResponse": hook["ServerResponse"]}
        request = hook["ClientRequest"]
        if request["Request"].partition("?")[0].endswith("/containers/create"):
            request = before_create(self.engine, request)
        return {"ModifiedClientRequest": request}

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        print(format % arguments, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--docker", required=True, help="the engine itself, not the endpoint with adapters: unix://PATH or http://HOST:PORT"
    )
    parser.add_argument("--port", type=int, default=6675)
    arguments = parser.parse_args()
    Handler.engine = Engine(arguments.docker)
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler) as server:
        print(f"listening on 127.0.0.1:{arguments.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
