"""Which services a container or server is, by the rules of Registrator (https://gliderlabs.github.io/registrator/latest/user/services/):

    one service per port that is published or exposed; its name is SERVICE_NAME, else the base of the image's name, with -PORT behind it
    where there are several. SERVICE_<port>_X is SERVICE_X for that port alone. SERVICE_TAGS, SERVICE_ID, SERVICE_IGNORE; SERVICE_CHECK_*
    is a check; every other SERVICE_X is metadata. They are read from the environment and, before that, from labels.

A server that Nova made has neither: its metadata stands for both, the ports are those that it names, and without any it is one service
under its own name. Several servers may have one name, so the id of a server's service has the server's id where a container's has its name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from nacre.cloud.collection import Row
from nacre.cloud.discovery.catalog import STATUSES
from nacre.cloud.discovery.checks import SCRIPTS_DISABLED, CheckSpec, define
from nacre.cloud.discovery.durations import nanoseconds
from nacre.cloud.errors import Invalid

PREFIX = "SERVICE_"
OWN = ("id", "name", "tags", "ignore")
"""What is no metadata of the service."""
INTERVAL_DEFAULT = "10s"
SERVICES_MAX = 256
"""Of one server."""
_COMMA = re.compile(r"(?<!\\),")

Ports = Sequence[tuple[int, str]]
"""(port, tcp or udp)."""


class Thing(Struct, frozen=True, kw_only=True):
    """A container or server that runs."""

    name: str
    image: str
    host: str
    address: str
    settings: Mapping[str, str]
    """The environment, with the labels over it; or a server's metadata."""
    ports: Ports
    server_id: str = ""
    """Of a server that Nova made."""


class Service(Struct, frozen=True):
    """`check` is (id, values of its row) or None."""

    id: str
    values: Row
    check: tuple[str, Row] | None = None


def services_of(thing: Thing) -> list[Service]:
    """All of them; no setting of a tenant's makes this fail."""
    ports = thing.ports
    if thing.server_id:
        ports = sorted({(int(port), "tcp") for port in map(_port_of, thing.settings) if port}) or [(0, "tcp")]
    made = {}
    for port, protocol in ports[:SERVICES_MAX]:
        service = _service(thing, port, protocol, several=len(ports) > 1)
        if service is not None:
            made[service.id] = service
    return list(made.values())


def _port_of(setting: str) -> str:
    """`8080` of SERVICE_8080_NAME, or nothing."""
    first = setting.removeprefix(PREFIX).partition("_")[0] if setting.startswith(PREFIX) else ""
    return first if first.isascii() and first.isdigit() and len(first) <= 5 and 0 < int(first) < 65536 else ""


def settings_of(settings: Mapping[str, str], port: int) -> tuple[dict[str, str], frozenset[str]]:
    """(what holds for this port, in lower case; the names of what is said for this port alone)."""
    general: dict[str, str] = {}
    own: dict[str, str] = {}
    for name, value in settings.items():
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower()
        number = _port_of(name)
        if not number:
            general[key] = value
        elif int(number) == port and "_" in key:
            own[key.partition("_")[2]] = value
    return {**general, **own}, frozenset(own)


def _service(thing: Thing, port: int, protocol: str, *, several: bool) -> Service | None:
    said, own = settings_of(thing.settings, port)
    if said.get("ignore"):
        return None
    name = said.get("name", "")
    if not name:
        name = thing.name if thing.server_id else thing.image.rpartition("/")[2].partition("@")[0].partition(":")[0] or thing.name
    if several and "name" not in own:
        name = f"{name}-{port}"
    parts = [thing.host, thing.server_id or thing.name, str(port), *(["udp"] if protocol == "udp" else [])]
    tags = [tag.replace("\\,", ",").strip() for tag in _COMMA.split(said.get("tags", "")) if tag.strip()]
    ident = said.get("id") or ":".join(parts)
    values = {
        "name": name,
        "tags": [*tags, *(["udp"] if protocol == "udp" else [])],
        "address": thing.address,
        "port": port,
        "meta": {key: value for key, value in said.items() if key not in OWN},
    }
    return Service(ident, values, _check(thing, port, ident, name, said))


def _check(thing: Thing, port: int, ident: str, name: str, said: Mapping[str, str]) -> tuple[str, Row] | None:
    """The first that is asked for of http, https, cmd, script, ttl, tcp and grpc. One that cannot be run is critical, and says why."""
    asked = next((kind for kind in KINDS if said.get(f"check_{kind}")), None)
    if asked is None:
        return None
    base = {"name": f"Service '{name}' check", "service_id": ident, "notes": ""}
    try:
        row = define(KINDS[asked](thing, port, said))
        if row["type"] != "ttl":
            for field in ("Interval", "Timeout"):
                nanoseconds(row["definition"].get(field, "0"), field)
        status = said.get("check_initial_status", "")
        return f"service:{ident}", {**base, **row, "status": status if status in STATUSES else "critical", "output": ""}
    except Invalid as error:
        return f"service:{ident}", {**base, "type": "", "definition": {}, "status": "critical", "output": error.message}


def _url(scheme: str) -> Any:
    def spec(thing: Thing, port: int, said: Mapping[str, str]) -> CheckSpec:
        path = said["check_http" if scheme == "http" else "check_https"]
        host = f"[{thing.address}]" if ":" in thing.address else thing.address
        url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
        method = said.get(f"check_{scheme}_method", "")
        return _timed(CheckSpec(http=url, method=method, tls_skip_verify=scheme == "https"), said)

    return spec


def _tcp(thing: Thing, port: int, said: Mapping[str, str]) -> CheckSpec:
    host = f"[{thing.address}]" if ":" in thing.address else thing.address
    return _timed(CheckSpec(tcp=f"{host}:{port}"), said)


def _timed(spec: CheckSpec, said: Mapping[str, str]) -> CheckSpec:
    return replace(spec, interval=said.get("check_interval") or INTERVAL_DEFAULT, timeout=said.get("check_timeout", ""))


def _script(thing: Thing, port: int, said: Mapping[str, str]) -> CheckSpec:
    raise Invalid(SCRIPTS_DISABLED)


KINDS: dict[str, Any] = {
    "http": _url("http"),
    "https": _url("https"),
    "cmd": _script,
    "script": _script,
    "ttl": lambda thing, port, said: CheckSpec(ttl=said["check_ttl"]),
    "tcp": _tcp,
    "grpc": lambda thing, port, said: CheckSpec(other="grpc"),
}
"""What may be asked for, in the order in which the first counts."""
