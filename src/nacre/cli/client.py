"""A small OpenStack client for the CLI's own needs: Keystone's password authentication, then JSON over the catalog's endpoints.

Only the standard library (and PyYAML for clouds.yaml), so that commands start fast.
"""

import http.client
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import click

from nacre.cli.state import State

TIMEOUT_S = 60.0
"""How long one request may take."""


class ApiError(click.ClickException):
    """An answer of 400 or more, or none at all (status 0)."""

    def __init__(self, status: int, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause or message
        """The server's own words alone."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """Decoded JSON, or the text of another type."""


def send(
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    content: bytes | BinaryIO | Iterable[bytes] | None = None,
    timeout_s: float = TIMEOUT_S,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """One request. Raises ApiError with the server's own words for an answer of 400 or more, and with status 0 when nobody answers."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body=content, headers=headers or {})
        answer = connection.getresponse()
        raw = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ApiError(0, f"{method} {url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    body: Any = raw.decode(errors="replace")
    if answer.headers.get_content_type() == "application/json" and raw:
        body = json.loads(raw)
    if answer.status >= 400:
        words = cause(body)
        raise ApiError(answer.status, f"{method} {url}: {answer.status} {words}", words)
    return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)


def cause(body: Any) -> str:
    """The message in an error's body, whichever service's shape it has."""
    if isinstance(body, dict):
        if isinstance(body.get("message"), str):
            return str(body["message"])
        for value in body.values():
            if isinstance(value, dict) and "message" in value:
                return str(value["message"])
        return json.dumps(body)
    return str(body).strip()[:500]


class Client:
    """A project's session. The token is fetched with the first request."""

    def __init__(self, cloud: str, config: dict[str, Any]) -> None:
        self.cloud = cloud
        self.auth: dict[str, str] = config["auth"]
        self.region = config.get("region_name", "RegionOne")
        self.token = ""
        self.project_id = ""
        self.endpoints: dict[str, str] = {}
        self._places = ("", "")

    def go_by(self, public: str, local: str) -> None:
        """Ask at another place than clients are told."""
        self._places = (public, local)
        self.auth = {**self.auth, "auth_url": self._local(self.auth["auth_url"])}

    def _local(self, url: str) -> str:
        public, local = self._places
        return local + url.removeprefix(public) if public and url.startswith(public) else url

    def authenticate(self) -> None:
        auth = self.auth
        password = {
            "user": {"name": auth["username"], "password": auth["password"], "domain": {"name": auth["user_domain_name"]}}
        }
        scope = {"project": {"name": auth["project_name"], "domain": {"name": auth["project_domain_name"]}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
        headers = {"Content-Type": "application/json"}
        reply = send("POST", f"{auth['auth_url']}/auth/tokens", headers, json.dumps(body).encode())
        self.token = reply.headers["x-subject-token"]
        token = reply.body["token"]
        self.project_id = token["project"]["id"]
        for service in token["catalog"]:
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public" and endpoint["region_id"] == self.region:
                    self.endpoints[service["type"]] = self._local(endpoint["url"].rstrip("/"))

    def url(self, service: str, path: str) -> str:
        """`path` begins after the service's version (`/servers`)."""
        if not self.token:
            self.authenticate()
        if service not in self.endpoints:
            raise ApiError(
                0, f"the catalog has no service of type {service}; it has {', '.join(sorted(self.endpoints)) or 'none'}"
            )
        base = self.endpoints[service]
        version = {"image": "/v2", "network": "/v2.0", "identity": "/v3"}.get(service, "")
        return f"{base}{'' if base.endswith(version) else version}{path}"

    def request(self, method: str, service: str, path: str, body: Any = None) -> Any:
        """A JSON request; returns the decoded body."""
        url = self.url(service, path)
        headers = {"X-Auth-Token": self.token, "Accept": "application/json"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        return send(method, url, headers, content).body

    def get(self, service: str, path: str) -> Any:
        return self.request("GET", service, path)

    def post(self, service: str, path: str, body: Any) -> Any:
        return self.request("POST", service, path, body)

    def upload(self, service: str, path: str, file: BinaryIO, size_bytes: int) -> None:
        """PUTs a file's bytes, as a stream."""
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        send("PUT", self.url(service, path), headers, file, timeout_s=600.0)


def connect(state: State, cloud: str = "nacre-admin") -> Client:
    """A session of one of the clouds in the state directory's clouds.yaml."""
    client = Client(cloud, read_clouds(state.clouds_yaml)[cloud])
    known = state.load()
    if known is not None and known.public_url:
        # What balances among the API processes may not be there yet, or any more: this machine's own is.
        client.go_by(known.public_url, known.url)
    return client


def read_clouds(path: Path) -> dict[str, Any]:
    import yaml

    try:
        clouds: dict[str, Any] = yaml.safe_load(path.read_text())["clouds"]
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
    return clouds
